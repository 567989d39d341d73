"""Who fills a folder: equal settings together, different ones never, dead runs do not count."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from preimage.errors import InputError, OutputError
from preimage.locks import Holder
from preimage.processes import host, start_of


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()


def claim(folder, pid, **changes):
    about = {"pid": pid, "host": host(), "started": start_of(pid), "since": 1, "settings": "a", **changes}
    path = folder / f".run-{about['host']}-{pid}-00000000.lock"
    path.write_text(json.dumps(about))
    return path


def test_other_settings_are_refused_and_equal_ones_are_not(tmp_path, sleeper):
    theirs = claim(tmp_path, sleeper.pid)
    with pytest.raises(InputError, match=rf"filled with other settings by another run \(process {sleeper.pid}\)"):
        Holder(tmp_path, "b")
    assert list(tmp_path.iterdir()) == [theirs]
    with Holder(tmp_path, "a") as ours:
        assert not ours.alone
        assert len(list(tmp_path.iterdir())) == 2
    assert list(tmp_path.iterdir()) == [theirs]
    with pytest.raises(InputError, match="is being filled by another run"):
        Holder(tmp_path, "a", exclusive=True)


def test_dead_runs_do_not_hold_a_folder(tmp_path, sleeper):
    claim(tmp_path, sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    with Holder(tmp_path, "b") as ours:
        assert ours.alone
        assert list(tmp_path.iterdir()) == [ours.path]
    assert not list(tmp_path.iterdir())


def test_a_number_that_went_to_another_process_does_not_count(tmp_path, sleeper):
    if not start_of(sleeper.pid):
        pytest.skip("this system does not tell when a process started")
    claim(tmp_path, sleeper.pid, started="1")
    with Holder(tmp_path, "b") as ours:
        assert ours.alone


def test_another_machine_is_believed(tmp_path):
    path = claim(tmp_path, 1, host="0" * 8 if host() != "0" * 8 else "1" * 8)
    with pytest.raises(InputError, match=rf"process 1 of another machine.*delete {path.name}"):
        Holder(tmp_path, "b")


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"pid": "x"}', "[" * 5000,
        '{"pid": true, "host": "x", "started": "", "since": 1, "settings": "a"}',
    ],
)  # fmt: skip
def test_what_is_no_claim_is_swept_away(tmp_path, text):
    (tmp_path / ".run-x.lock").write_text(text)
    with Holder(tmp_path, "b") as ours:
        assert ours.alone


def test_the_later_of_two_that_start_at_once_gives_way(tmp_path, sleeper):
    claim(tmp_path, sleeper.pid, since=2**62)  # saw us, or will: it is the later one
    with Holder(tmp_path, "b") as ours:
        assert not ours.alone


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another output folder"):
        Holder(tmp_path / "file", "a")
