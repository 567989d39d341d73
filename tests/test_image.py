"""Pictures in and out: exact bytes, every odd format, every message, and nothing half written."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import stat
import struct
import zlib
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from PIL import Image

from preimage import image as module
from preimage.errors import InputError, OutputError
from preimage.image import (
    append_line,
    as_picture,
    candidate_grid,
    check_lr,
    contact_sheet,
    find_images,
    heatmap,
    read_image,
    read_jsonl,
    read_provenance,
    save_png,
    to_uint8,
    unique_stems,
    write_text_atomic,
)

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RGB[:, :, 0]


def planes(array: np.ndarray) -> torch.Tensor:
    """(h, w, 3) bytes as the tensor they should be read as."""
    return torch.from_numpy(array.astype(np.float32)).permute(2, 0, 1) / 255


def raw_png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG written by hand, for what Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# ---------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("extension", ["png", "bmp", "tiff", "ppm"])
def test_lossless_formats_are_read_byte_exact(tmp_path, extension):
    Image.fromarray(RGB).save(tmp_path / f"a.{extension}")
    picture = read_image(tmp_path / f"a.{extension}")
    assert picture.pixels.dtype == torch.float32
    assert picture.pixels.is_contiguous()
    assert torch.equal(picture.pixels, planes(RGB))
    assert picture.notes == ()
    assert picture.path == tmp_path / f"a.{extension}"
    assert not picture.rounded


def test_every_byte_is_exactly_k_over_255_and_comes_back(tmp_path):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(levels).save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png").pixels
    assert torch.equal(pixels[0].flatten(), torch.arange(256).float() / 255)
    assert torch.equal(to_uint8(pixels)[1].flatten(), torch.arange(256, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("mode", "note"),
    [
        ("L", "grey converted to RGB"),
        ("1", "1-bit converted to RGB"),
        ("P", "palette converted to RGB"),
        ("CMYK", "CMYK converted to RGB"),
        ("YCbCr", "YCbCr converted to RGB"),
    ],
)
def test_other_modes(tmp_path, mode, note):
    picture = Image.fromarray(RGB).convert(mode)
    path = tmp_path / "a.tiff"
    picture.save(path)
    with Image.open(path) as stored:
        expected = planes(np.array(stored.convert("RGB")))
    read = read_image(path)
    assert torch.equal(read.pixels, expected)
    assert read.notes == (note,)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_opaque_alpha_is_dropped_unchanged(tmp_path, mode):
    picture = Image.fromarray(RGB).convert(mode)
    picture.save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    assert torch.equal(read.pixels, planes(np.array(picture.convert("RGB"))))
    assert "alpha channel dropped" in read.notes


def test_transparency_is_composited_on_white(tmp_path):
    rgba = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    rgba[0, 0, 3], rgba[0, 1, 3] = 0, 128
    Image.fromarray(rgba).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    bytes_ = to_uint8(read.pixels).permute(1, 2, 0).numpy()
    exact = RGB[0, 1] * (128 / 255) + 255 - 128
    assert (bytes_[0, 0] == 255).all()
    assert np.abs(bytes_[0, 1] - exact).max() <= 0.5
    assert (bytes_[1:] == RGB[1:]).all()
    assert read.notes == ("2 transparent pixels composited on white",)


def test_transparent_palette_and_colour_key(tmp_path):
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), mode="L").convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(tmp_path / "p.png", transparency=0)
    read = read_image(tmp_path / "p.png")
    assert to_uint8(read.pixels)[:, 0].T.tolist() == [[255, 255, 255], [40, 50, 60]]
    assert read.notes == ("palette converted to RGB", "1 transparent pixels composited on white")
    Image.fromarray(np.array([[9, 8]], np.uint8)).save(tmp_path / "l.png", transparency=9)
    assert to_uint8(read_image(tmp_path / "l.png").pixels)[0].tolist() == [[255, 8]]


def test_wholly_transparent_is_refused(tmp_path):
    Image.new("RGBA", (2, 2)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: every pixel is transparent; flatten"):
        read_image(tmp_path / "a.png")


def test_16_bit_grey_rounds_to_nearest(tmp_path):
    values = np.array([[0, 128, 129, 257, 65535, 65407, 30000]], np.uint16)
    for extension in ("png", "tiff"):
        Image.fromarray(values).save(tmp_path / f"a.{extension}")
        read = read_image(tmp_path / f"a.{extension}")
        assert to_uint8(read.pixels)[2].tolist() == np.rint(values / 257).tolist()
        assert read.notes == ("16-bit reduced to 8 bits", "grey converted to RGB")


def test_16_bit_colour_keeps_the_upper_byte(tmp_path):
    row = b"\0" + struct.pack(">6H", 0x80FF, 255, 256, 65535, 0x7FFF, 1)
    (tmp_path / "a.png").write_bytes(raw_png(2, 1, 16, 2, row))
    read = read_image(tmp_path / "a.png")
    assert to_uint8(read.pixels)[:, 0].T.tolist() == [[128, 0, 1], [255, 127, 0]]
    assert read.notes == ("16-bit reduced to 8 bits",)


def test_float_and_32_bit_grey(tmp_path):
    Image.fromarray(np.array([[0, 0.5, 1]], np.float32)).save(tmp_path / "f.tiff")
    assert to_uint8(read_image(tmp_path / "f.tiff").pixels)[0].tolist() == [[0, 128, 255]]
    for bad in (np.array([[2.0]], np.float32), np.array([[np.nan]], np.float32), np.array([[70000]], np.int32)):
        Image.fromarray(bad).save(tmp_path / "bad.tiff")
        with pytest.raises(InputError, match=r"bad\.tiff: grey values outside"):
            read_image(tmp_path / "bad.tiff")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", ["png", "tiff"])
def test_exif_orientation(tmp_path, orientation, extension):
    # Oracle: how row 0 and column 0 of the file are to be shown (EXIF 2.3, tag 0x0112).
    shown = {
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.transpose(1, 0, 2),
        6: RGB.transpose(1, 0, 2)[:, ::-1],
        7: RGB.transpose(1, 0, 2)[::-1, ::-1],
        8: RGB.transpose(1, 0, 2)[::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(tmp_path / f"a.{extension}", exif=exif)
    read = read_image(tmp_path / f"a.{extension}")
    assert torch.equal(read.pixels, planes(shown))
    assert read.notes == (() if orientation == 1 else ("rotated by its EXIF orientation",))


def test_broken_exif_does_not_matter(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff", quality=95)
    assert read_image(tmp_path / "a.jpg").pixels.shape == (3, 5, 7)


def test_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (3, 3), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    read = read_image(tmp_path / "a.gif")
    assert read.pixels[:, 0, 0].tolist() == [1, 0, 0]
    assert read.notes[0] == "first of 3 frames used"


def bytes_of(fmt: str, size: int = 64) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, format=fmt)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.png", b"", r"is empty \(0 bytes\)"),
        ("text.png", b"these are words\n", "is text, not a picture; give a PNG"),
        ("noise.png", bytes(range(256)), "is not a picture of a known format; give a PNG"),
        ("photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC photo.*export it as JPEG or PNG"),
        ("page.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is text, not a picture"),
        ("head.png", bytes_of("PNG")[:20], "damaged"),
        ("half.png", bytes_of("PNG")[:6000], "truncated or damaged"),
        ("half.jpg", bytes_of("JPEG")[:2500], "truncated or damaged"),
        ("half.webp", bytes_of("WEBP")[:1500], "damaged"),
        ("half.tiff", bytes_of("TIFF")[:6000], "damaged"),
        ("half.bmp", bytes_of("BMP")[:6000], "truncated or damaged"),
        ("zero.png", raw_png(0, 1, 8, 2, b"\0"), "holds no pixels"),
        ("zero.ppm", b"P6 0 0 255\n", "holds no pixels"),
        ("bomb.png", raw_png(60_000, 60_000, 8, 2, b""), "far too many pixels"),
        ("wide.png", raw_png(20_000, 300, 8, 2, b""), "20000×300 pixels, more than 8192 on a side; crop"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_bad_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"^{tmp_path}/{name}: .*{message}"):
        read_image(tmp_path / name)


def test_max_side_is_a_parameter(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", max_side=7).pixels.shape == (3, 5, 7)
    with pytest.raises(InputError, match=r"a\.png: 7×5 pixels, more than 6"):
        read_image(tmp_path / "a.png", max_side=6)


def test_names_that_are_no_files(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "file").write_text("x")
    for name, message in [
        ("gone.png", "gone.png: no such file; check the name"),
        (".", "is a folder, not a picture"),
        ("pipe.png", "pipe.png: is not a regular file"),
        ("file/a.png", "a.png: (no such file|cannot be reached)"),
        ("x" * 300, "(no such file|cannot be reached)"),
        ("a\0b.png", "(no such file|cannot be reached)"),
    ]:
        with pytest.raises(InputError, match=message):
            read_image(tmp_path / name)
        with pytest.raises(InputError, match=message):
            read_provenance(tmp_path / name)
    Image.fromarray(RGB).save(tmp_path / "locked.png")
    monkeypatch.setattr(Image, "open", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "denied")))
    with pytest.raises(InputError, match=r"locked\.png: no permission to read"):
        read_image(tmp_path / "locked.png")


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM"]), st.integers(0, 10**6), st.binary(max_size=9)
)
def test_damage_never_lets_another_error_out(tmp_path_factory, fmt, place, patch):
    content = bytearray(bytes_of(fmt, 12))
    place %= len(content)
    content[place : place + len(patch)] = patch
    path = tmp_path_factory.mktemp("damage") / "a"
    path.write_bytes(bytes(content))
    with contextlib.suppress(InputError):
        assert read_image(path, max_side=64).pixels.shape[0] == 3


# ---------------------------------------------------------------------------------------------- pictures from Python


@pytest.mark.parametrize(
    "x",
    [
        planes(RGB),
        planes(RGB)[None],
        planes(RGB).double(),
        planes(RGB).requires_grad_(),
        torch.from_numpy(RGB).permute(2, 0, 1),
        RGB,
        RGB[None],
        RGB / 255,
        np.ascontiguousarray(RGB.transpose(2, 0, 1)),
        (RGB / 255).astype(">f4"),
        RGB[:, ::-1][:, ::-1],
        Image.fromarray(RGB),
    ],
)
def test_as_picture_forms(x):
    picture = as_picture(x)
    assert torch.equal(picture.pixels, planes(RGB))
    assert not picture.pixels.requires_grad
    assert not picture.rounded
    assert picture.notes == ()
    assert as_picture(picture) is picture


@pytest.mark.parametrize(
    "x", [GREY, GREY[:, :, None], torch.from_numpy(GREY), torch.from_numpy(GREY)[None], GREY / 255]
)
def test_as_picture_grey(x):
    picture = as_picture(x)
    assert torch.equal(picture.pixels, planes(np.repeat(GREY[:, :, None], 3, 2)))
    assert picture.notes == ("grey converted to RGB",)


def test_as_picture_takes_paths_and_does_not_alias(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    assert torch.equal(check_lr(str(tmp_path / "a.png")), planes(RGB))
    original = planes(RGB).clone()
    check_lr(original).zero_()
    assert torch.equal(original, planes(RGB))


def test_ambiguous_shapes_follow_the_library():
    numbers = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    assert torch.equal(as_picture(numbers).pixels, planes(numbers))
    assert torch.equal(as_picture(torch.from_numpy(numbers)).pixels, torch.from_numpy(numbers).float() / 255)


def test_values_between_levels_are_rounded_with_a_flag():
    x = planes(RGB).clone()
    x[0, 0, 0] = 10.4 / 255
    picture = as_picture(x)
    assert picture.rounded
    assert picture.notes == ("values rounded to 8 bits",)
    assert float(picture.pixels[0, 0, 0]) == np.float32(10) / np.float32(255)
    assert not as_picture(planes(RGB) + 1e-7).rounded


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.full((3, 2, 2), torch.nan), "holds NaN or infinity"),
        (np.full((2, 2, 3), np.inf), "holds NaN or infinity"),
        (torch.full((3, 2, 2), 200.0), "200 to 200.*looks like 0 to 255: divide by 255"),
        (torch.linspace(-1, 1, 12).reshape(3, 2, 2), r"looks like \[-1, 1\]: use \(x \+ 1\) / 2"),
        (torch.linspace(0, 1.05, 12).reshape(3, 2, 2), r"clamp\(0, 1\)"),
        (torch.zeros(3, 2, 2, dtype=torch.int64), "holds torch.int64; convert to uint8"),
        (np.zeros((2, 2, 3), bool), "holds bool; convert to uint8"),
        (np.zeros((2, 2, 3), object), "holds object"),
        (torch.zeros(2, 3, 4, 4), "a batch of 2; give one picture at a time"),
        (torch.zeros(3, 0, 4), "holds no pixels"),
        (torch.zeros(5), r"shape \(5,\) is not a picture; give \(3, h, w\)"),
        (torch.zeros(4, 8, 8), "drop the alpha channel"),
        (np.zeros((8, 8, 4), np.uint8), "drop the alpha channel"),
        (torch.zeros(8, 8, 3), r"x.permute\(2, 0, 1\)"),
        ([[0.0]], "is a list; give a tensor"),
        (None, "is a NoneType"),
    ],
)
def test_check_lr_refuses(x, message):
    with pytest.raises(InputError, match=f"^lr: .*{message}"):
        check_lr(x)


def test_as_picture_hides_pillow_errors(tmp_path):
    (tmp_path / "a.png").write_bytes(bytes_of("PNG")[:6000])
    with Image.open(tmp_path / "a.png") as lazy, pytest.raises(InputError, match=r"^face: Pillow cannot decode it"):
        as_picture(lazy, name="face")


@given(st.floats(-1, 2, width=32))
def test_to_uint8_is_the_nearest_level(value):
    level = int(to_uint8(torch.tensor(value)))
    assert abs(level - min(max(value, 0), 1) * 255) <= 0.5001


def test_to_uint8_rounds_halves_up_and_passes_bytes():
    assert to_uint8(torch.tensor([0.5, 1.5, 2.5]) / 255).tolist() == [1, 2, 3]
    assert to_uint8(torch.tensor([7], dtype=torch.uint8)).tolist() == [7]


# ---------------------------------------------------------------------------------------------------- finding inputs


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("p/b.png", "p/a.JPG", "p/.hidden.png", "p/notes.txt", "p/deep/c.png", "q/a.png", "face[1].png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_find_images(photos):
    cases = {
        ("p",): ["p/a.JPG", "p/b.png"],
        ("q", "p/b.png", "p"): ["q/a.png", "p/b.png", "p/a.JPG"],
        ("p/*",): ["p/a.JPG", "p/b.png"],
        ("**/*.png",): ["face[1].png", "p/b.png", "p/deep/c.png", "q/a.png"],
        ("face[1].png",): ["face[1].png"],
        ("p/notes.txt",): ["p/notes.txt"],
        (str(photos / "p/b.png"), "p/b.png"): [str(photos / "p/b.png")],
    }
    for inputs, expected in cases.items():
        assert find_images(inputs) == ([Path(name) for name in expected], []), inputs


def test_find_images_counts_a_link_once(photos):
    (photos / "link.png").symlink_to(photos / "q/a.png")
    assert find_images(["q/a.png", "link.png"])[0] == [Path("q/a.png")]


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ("gone.png", "^gone.png: no such file or folder; check the name"),
        ("*.webp", r"^\*.webp: the pattern matches nothing"),
        ("p/*.txt", "the pattern matches 1 names but no picture"),
        ("empty", "^empty: the folder holds no pictures .*png"),
        ("", "empty input name"),
        ("a\0b", "no such file|cannot be reached"),
    ],
)
def test_find_images_reports_and_goes_on(photos, given_, message):
    paths, problems = find_images([given_, "p/b.png"])
    assert paths == [Path("p/b.png")]
    assert len(problems) == 1
    with pytest.raises(InputError, match=message):
        raise problems[0]


def test_unique_stems():
    def stems(*names: str) -> list[str]:
        paths = [Path("/d") / name for name in names]
        result = unique_stems(paths)
        assert unique_stems(reversed(paths)) == result
        return [result[path] for path in paths]

    assert stems("a.png", "b.png") == ["a", "b"]
    assert stems("a.png", "a.png") == ["a", "a"]
    assert stems("a.png", "a.jpg", "b.png") == ["a-png", "a-jpg", "b"]
    assert stems("x/a.png", "y/a.png") == ["x_a", "y_a"]
    assert stems("x/a.png", "x/a.jpg", "y/a.png") == ["x_a-png", "x_a-jpg", "y_a-png"]
    assert stems("A.png", "x/a.png") == ["d_A", "x_a"]
    assert stems("a.png", "a.jpg", "a-jpg.gif")[2] == "a-jpg"
    assert len(set(stems("x/y/a.png", "z/y/a.png"))) == 2


@given(st.sets(st.text("aA-_", min_size=1, max_size=3).map(lambda s: s + ".png"), max_size=5), st.integers(1, 4))
def test_unique_stems_are_unique_on_any_file_system(names, folders):
    paths = [Path(f"/r{i}/{'ab'[i % 2]}/{name}") for name in names for i in range(folders)]
    result = unique_stems(paths)
    assert len({stem.casefold() for stem in result.values()}) == len(paths) == len(result)


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


# ----------------------------------------------------------------------------------------------------------- sheets


def lightness(colours: torch.Tensor) -> torch.Tensor:
    """CIE L* of sRGB (3, ...)."""
    linear = torch.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    y = (linear * torch.tensor([0.2126, 0.7152, 0.0722]).view(3, *[1] * (colours.ndim - 1))).sum(0)
    return torch.where(y > 216 / 24389, 116 * y.clamp(min=1e-9) ** (1 / 3) - 16, y * 24389 / 27)


def test_heatmap_lightness_rises_evenly():
    light = lightness(heatmap(torch.linspace(0, 1, 101)[None]))[0]
    steps = light.diff()
    assert float(light[0]) < 10
    assert float(light[-1]) > 90
    assert float(steps.min()) > 0.45
    assert float(steps.max()) < 1.6


def test_heatmap_clips_and_refuses():
    colours = heatmap(torch.tensor([[-1.0, 0.0, 1.0, 2.0]]))
    assert torch.equal(colours[:, 0, 0], colours[:, 0, 1])
    assert torch.equal(colours[:, 0, 2], colours[:, 0, 3])
    for bad in (torch.zeros(1, 2, 2), torch.full((2, 2), torch.nan)):
        with pytest.raises(InputError, match="heat map"):
            heatmap(bad)


def test_sheet_shows_every_picture_enlarged_exactly_and_nothing_over_it():
    lr, big = planes(RGB[:4, :4]), planes(np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    sheet = contact_sheet(
        [[lr, big], [big.mean(0, keepdim=True), None]],
        captions=[["input 4×4", "seed 0 " * 30], ["gypsy", ""]],
        row_labels=["a long label " * 20, "b"],
        column_labels=["column", "Ägq" * 40],
        cell=64,
    )
    large = lr.repeat_interleave(16, 1).repeat_interleave(16, 2)
    patches = sheet.unfold(1, 64, 1).unfold(2, 64, 1)
    found = {}
    for name, picture in {"lr": large, "big": big}.items():
        corner = (patches[..., ::21, ::21] == picture[:, ::21, ::21, None, None].permute(0, 3, 4, 1, 2)).all(0)
        places = corner.all(-1).all(-1).nonzero().tolist()
        assert len(places) == 1, name
        y, x = places[0]
        assert torch.equal(sheet[:, y : y + 64, x : x + 64], picture)
        found[name] = (y, x)
    assert found["lr"][0] == found["big"][0]
    assert found["big"][1] - found["lr"][1] == 64 + 8


def test_sheet_borders_are_white():
    sheet = contact_sheet([[torch.zeros(3, 4, 4)] * 2], captions=[["g" * 99] * 2], cell=64)
    for edge in (sheet[:, :8], sheet[:, -8:], sheet[:, :, :8], sheet[:, :, -8:], sheet[:, 8:72, 72:80]):
        assert bool((edge == 1).all())
    assert float(sheet[:, 72:].min()) < 0.5  # the caption is there


def test_sheet_keeps_proportions_and_shrinks():
    sheet = contact_sheet([[torch.zeros(3, 512, 256)]], cell=64)
    assert sheet.shape == (3, 64 + 16, 32 + 16)


@pytest.mark.parametrize("rows", [[], [[]], [[None]]])
def test_sheet_without_pictures_is_refused(rows):
    with pytest.raises(InputError, match="at least one picture"):
        contact_sheet(rows)


def test_grid_wraps_many_candidates():
    lr, images = torch.zeros(3, 2, 2), torch.zeros(11, 3, 8, 8)
    captions = [f"seed {i}" for i in range(11)]
    grid = candidate_grid(lr, images, captions, torch.ones(8, 8), columns=4)
    assert grid.shape[2] == 8 + 4 * (256 + 8)
    assert grid.shape[1] > 4 * 256
    assert candidate_grid(lr, images[:1], captions[:1]).shape[2] == 8 + 2 * (256 + 8)


def test_sheet_without_freetype(monkeypatch):
    from PIL import ImageFont

    def no_freetype(size=None):
        if size is not None:
            raise ImportError
        return ImageFont.load_default_imagefont()

    monkeypatch.setattr(ImageFont, "load_default", no_freetype)
    assert contact_sheet([[torch.zeros(3, 4, 4)]], captions=[["seed 0 × … 顔"]], cell=32).shape[2] == 48
