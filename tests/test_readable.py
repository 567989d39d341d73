"""Files that are not there or cannot be opened: one line that says what is there instead, and what to name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from preimage.port.pickles import SUFFIXES
from preimage.readable import UnreadableError, find_file


def unreadable(path: Path, match: str) -> None:
    with pytest.raises(UnreadableError, match=match) as caught:
        find_file(path, SUFFIXES)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value).splitlines()) == 1


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    for name in ("gone.pt", "gone/a.pt", "a\0.pt"):
        unreadable(tmp_path / name, "no such file. Name a downloaded checkpoint")
    with pytest.raises(UnreadableError, match=r"^~nobody-of-this-name/a\.pt: no such file"):
        find_file("~nobody-of-this-name/a.pt", SUFFIXES)
    unreadable(tmp_path / ("a" * 300), "cannot be read .File name too long")
    unreadable(tmp_path, "is a folder, and no such file lies in it; name a downloaded checkpoint")
    for name in ("notes.txt", "b.PTH", "a.pt"):
        (tmp_path / name).touch()
    (tmp_path / "c.pkl").mkdir()
    unreadable(tmp_path, r"is a folder; name one file in it: a\.pt, b\.PTH\.$")
    for i in range(3):
        (tmp_path / f"d{i}.safetensors").touch()
    unreadable(tmp_path, r"a\.pt, b\.PTH, d0\.safetensors, … \(5 in all\)\.$")
    os.mkfifo(tmp_path / "pipe.pt")
    unreadable(tmp_path / "pipe.pt", "is no ordinary file")


def test_a_file_and_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.pt").write_bytes(b"12345")
    assert find_file(tmp_path / "a.pt", SUFFIXES) == (tmp_path / "a.pt", 5)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_file("~/a.pt", ()) == (tmp_path / "a.pt", 5)
