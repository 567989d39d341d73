"""Files out and in again: names that are safe, and nothing half written."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from PIL import Image

from preimage import files as module
from preimage.errors import InputError, OutputError
from preimage.files import (
    append_line,
    plain_name,
    read_jsonl,
    read_provenance,
    save_png,
    write_text_atomic,
)
from preimage.image import read_image, to_uint8

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RGB[:, :, 0]


def planes(array: np.ndarray) -> torch.Tensor:
    """(h, w, 3) bytes as the tensor they should be read as."""
    return torch.from_numpy(array.astype(np.float32)).permute(2, 0, 1) / 255


# ------------------------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("face", "face"),
        ("face [1] é 顔", "face [1] é 顔"),
        ("..", "_"),
        (".", "_"),
        ("...x", "_x"),
        (".hidden", "_hidden"),
        ("", "_"),
        ("a/../b", "a_.._b"),
        ("a\\b:c", "a_b_c"),
        ("tab\there\x00", "tab_here_"),
        ("end. .", "end_"),
        ("run.yaml", "_run.yaml"),
        ("SUMMARY.jsonl", "_SUMMARY.jsonl"),
        ("nul", "_nul"),
        ("Com1.x", "_Com1.x"),
        ("surrogate\udc80", "surrogate_"),
    ],
)
def test_plain_names(name, plain):
    assert plain_name(name) == plain
    assert plain_name(plain) == plain


@given(st.text())
def test_any_name_becomes_a_plain_one(name):
    plain = plain_name(name)
    assert plain_name(plain) == plain
    assert len(plain.encode()) <= 150
    assert Path("out", plain).parent == Path("out")
    assert Path("out", plain).resolve().parent == Path("out").resolve()


# ---------------------------------------------------------------------------------------------------------- writing


def test_png_round_trip(tmp_path):
    path = tmp_path / "new" / "folder" / "a.png"
    text = {"method": "pulse", "prior": "Größe ∞ 顔", "operator": '{"scale": 8}\n' * 500}
    save_png(path, planes(RGB), text)
    assert torch.equal(read_image(path).pixels, planes(RGB))
    assert read_provenance(path) == text
    assert os.listdir(path.parent) == ["a.png"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_png_of_grey_and_bytes(tmp_path):
    grey = torch.from_numpy(GREY.copy())
    for image in (grey, grey[None], grey.float() / 255):
        save_png(tmp_path / "a.png", image)
        assert torch.equal(to_uint8(read_image(tmp_path / "a.png").pixels), grey.expand(3, -1, -1))
    assert read_provenance(tmp_path / "a.png") == {}


def test_png_refuses_what_is_no_picture(tmp_path):
    for bad in (
        torch.full((3, 2, 2), torch.nan),
        torch.zeros(4, 2, 2),
        torch.zeros(3, 0, 2),
        torch.zeros(3, 2, 2).long(),
    ):
        with pytest.raises(InputError):
            save_png(tmp_path / "a.png", bad)
    assert os.listdir(tmp_path) == []


WRITERS = {
    "png": lambda path: save_png(path, planes(RGB)),
    "text": lambda path: write_text_atomic(path, "new"),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space left.*free some space"),
        (PermissionError(errno.EACCES, "Permission denied"), "make the folder writable, or choose another"),
        (OSError(errno.EROFS, "Read-only file system"), "make the folder writable"),
        (OSError(errno.EIO, "Input/output error"), "choose another output folder"),
    ],
)
def test_failed_writes_leave_the_old_file_and_no_litter(tmp_path, monkeypatch, write, call, error, message):
    path = tmp_path / "a.png"
    path.write_text("old")

    def fail(*_):
        raise error

    monkeypatch.setattr(module.os, call, fail)
    with pytest.raises(OutputError, match=rf"{path}: cannot be written .*{message}"):
        write(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.png"]


def test_disk_full_in_the_middle_of_the_data(tmp_path, monkeypatch):
    def half(self, file, **_):
        file.write(b"\x89PNG")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", half)
    with pytest.raises(OutputError, match=r"a\.png: cannot be written \(no space"):
        save_png(tmp_path / "a.png", planes(RGB))
    assert os.listdir(tmp_path) == []


def test_interruption_leaves_no_litter(tmp_path, monkeypatch):
    monkeypatch.setattr(module.os, "fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_text_atomic(tmp_path / "a", "x")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("write", [*WRITERS.values(), lambda path: append_line(path, "x")])
def test_places_that_cannot_hold_a_file(tmp_path, write):
    (tmp_path / "file").write_text("keep")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=r"folder: cannot be written .*is a folder"):
        write(tmp_path / "folder")
    with pytest.raises(OutputError, match=r"file/a\.png: cannot be written .*choose another output folder"):
        write(tmp_path / "file" / "a.png")
    assert (tmp_path / "file").read_text() == "keep"
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_long_names_can_be_written(tmp_path):
    write_text_atomic(tmp_path / ("x" * 255), "fits")
    with pytest.raises(OutputError, match=r"cannot be written .*too long"):
        write_text_atomic(tmp_path / ("x" * 256), "does not")


def test_text_is_utf8_without_translation(tmp_path):
    write_text_atomic(tmp_path / "a", "ü\n")
    assert (tmp_path / "a").read_bytes() == "ü\n".encode()


def test_jsonl_round_trip(tmp_path):
    path = tmp_path / "d" / "summary.jsonl"
    assert read_jsonl(path) == []
    records = [{"seed": i, "name": "顔"} for i in range(3)]
    for record in records:
        append_line(path, json.dumps(record, ensure_ascii=False))
    assert read_jsonl(path) == records
    with pytest.raises(ValueError, match="one line"):
        append_line(path, "a\nb")
    with pytest.raises(InputError, match="cannot be read"):
        read_jsonl(tmp_path)


def test_jsonl_survives_an_interruption_at_any_byte(tmp_path):
    path = tmp_path / "a.jsonl"
    records = [{"name": "顔", "n": {"x": 1}}, {"name": "b", "n": 22}]
    whole = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
    first = whole.index(b"\n") + 1
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        complete = (cut >= first - 1) + (cut >= len(whole) - 1)
        assert read_jsonl(path) == records[:complete]
        append_line(path, '{"next": 1}')
        assert read_jsonl(path) == [*records[:complete], {"next": 1}]


def test_append_reports_a_full_disk(tmp_path, monkeypatch):
    append_line(tmp_path / "a", "{}")
    error = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(module.os, "fsync", lambda _: (_ for _ in ()).throw(error))
    with pytest.raises(OutputError, match=r"a: cannot be written .*free some space.*written so far is kept"):
        append_line(tmp_path / "a", "{}")
