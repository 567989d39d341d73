"""The README's commands and snippets run as they are printed."""

from __future__ import annotations

import re
import shlex
import subprocess
import zipfile
from pathlib import Path

import pytest

from preimage.cli import main
from preimage.files import save_png
from preimage.weights import load_prior

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", TEXT, re.S)
# these install things or run the test suite itself (the Makefile's own text is checked below), or answer until they are interrupted
NOT_HERE = ("make ", "git clone", "pip install", "cd ", "preimage explore")


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty folder with the examples where the README expects them."""
    for name in ("examples", "benchmarks", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:  # "your own aligned faces": imagined ones
        for i, picture in enumerate(load_prior().sample(range(3)).clamp(0, 1)):
            save_png(tmp_path / f"{i}.png", (picture * 255).round() / 255)
            archive.write(tmp_path / f"{i}.png", f"{i}.png")
    monkeypatch.setenv("PREIMAGE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands() -> list[str]:
    lines = [line.split("  #")[0].strip() for kind, block in BLOCKS if kind == "bash" for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def test_the_commands_run_in_the_order_they_are_printed(workplace):
    ran = 0
    for command in commands():
        if command.startswith(NOT_HERE):
            continue
        words = shlex.split(command)
        assert words[0] == "preimage", f"README prints a command that no test runs: {command}"
        assert main(words[1:]) == 0, command
        ran += 1
    assert ran >= 5


def test_the_snippets_run(workplace):
    snippets = [block for kind, block in BLOCKS if kind == "python"]
    assert snippets
    names: dict[str, object] = {}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), names)


def test_the_two_commands_exist():
    printed = subprocess.run(
        ["make", "-n", "demo", "test"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "make demo" in TEXT
    assert "make test" in TEXT
    assert "preimage upsample examples" in printed
    assert "pytest" in printed


def test_links_and_pictures_exist():
    targets = re.findall(r"\]\(([^)#]+)\)", TEXT)
    missing = [t for t in targets if not t.startswith("http") and not (ROOT / t).exists()]
    assert not missing
