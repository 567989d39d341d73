"""Starting and ending the page."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from preimage.cli import main
from preimage.errors import InputError, MethodError, OutputError
from preimage.processes import host
from preimage.serve import server as module
from preimage.serve.server import MOST_BYTES, serve, start
from preimage.serve.tabs import MOST_TABS, Tabs

FACE = Path(__file__).parents[2] / "examples" / "face0.png"


def status(url: str, **given) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, **given)) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_others_need_a_password():
    with pytest.raises(InputError, match="--password"):
        start(host="0.0.0.0")


def test_a_password_closes_the_door(tmp_path):
    found = start(FACE, password="sesame")
    try:
        assert status(f"{found.url}config") == 401
        assert status(f"{found.url}gradio_api/file={found.root}/face0.png") == 401
        wrong, right = (
            urllib.parse.urlencode({"username": "me", "password": p}).encode() for p in ("simsim", "sesame")
        )
        assert status(f"{found.url}login", data=wrong) == 400
        assert status(f"{found.url}login", data=right) == 200
    finally:
        found.close()
    assert not found.root.exists()


def test_the_browser_is_told_to_ask_nobody_else_and_files_outside_are_kept(server):
    with urllib.request.urlopen(server.url) as answer:
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        page = answer.read().decode()
    assert "fonts.googleapis" not in page
    assert "cdnjs" not in page
    config = json.load(urllib.request.urlopen(f"{server.url}config"))
    assert not config["analytics_enabled"]
    assert config["max_file_size"] == MOST_BYTES
    images = [c for c in config["components"] if c["type"] in ("image", "gallery", "imageslider", "imageeditor")]
    assert len(images) >= 8
    assert {c["props"]["format"] for c in images} == {"png"}
    for secret in ("/etc/passwd", str(Path(__file__).resolve()), str(FACE.resolve())):
        assert status(f"{server.url}gradio_api/file={secret}") in (403, 404)


def test_what_cannot_be_started_says_so_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = dict(os.environ)
    with pytest.raises(MethodError, match="unknown"):
        start(method="magic")
    with pytest.raises(InputError, match="no such file"):
        start(tmp_path / "nobody.png")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OutputError, match="--port"):
            start(port=taken.getsockname()[1])
    assert not list(tmp_path.glob("preimage-*"))
    assert dict(os.environ) == before


def test_the_command_says_where_and_ends_clean(monkeypatch, capsys):
    started = []

    def waiting(self):
        started.append(self)
        assert status(self.url) == 200
        raise KeyboardInterrupt

    monkeypatch.setattr(module.Server, "wait", waiting)
    assert main(["explore", str(FACE), "--no-browser", "--method", "bicubic"]) == 130
    assert "127.0.0.1" in capsys.readouterr().out
    assert not started[0].root.exists()


def test_an_end_by_signal_removes_its_files_and_a_start_those_of_the_killed(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = signal.getsignal(signal.SIGTERM)
    died = subprocess.Popen(["true"])
    died.wait()
    dead = tmp_path / f"preimage-{host()}-{died.pid}-abc"
    dead.mkdir()
    mine = tmp_path / f"preimage-{host()}-{os.getpid()}-abc"
    mine.mkdir()

    def waiting(self):
        assert self.root.is_dir()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    monkeypatch.setattr(module.Server, "wait", waiting)
    try:
        with pytest.raises(SystemExit):
            serve(browser=False, method="bicubic")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert list(tmp_path.glob("preimage-*")) == [mine]


def test_a_method_is_loaded_once_and_idle_tabs_are_forgotten(tmp_path):
    tabs = Tabs(tmp_path, "bicubic")
    first = tabs.of("tab 0")
    first.explorer.open(FACE)
    list(first.explorer.draw())
    file = Path(first.file_of(first.explorer.now.cards[0]))
    assert file.is_file()
    assert tabs.of("tab 1").explorer.method is first.explorer.method
    assert tabs.of("tab 1").explorer is not first.explorer
    tabs.of("tab 1")
    assert tabs.of("tab 0") is first
    for i in range(2, MOST_TABS + 1):
        tabs.of(f"tab {i}")
    assert len(tabs) == MOST_TABS
    assert tabs.of("tab 0") is first  # tab 1 was idle longest
    tabs.close("tab 0")
    assert not file.exists()
