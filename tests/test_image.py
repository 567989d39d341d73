"""Pictures in: exact bytes, every odd format, every message."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from PIL import Image

from preimage.errors import InputError
from preimage.files import read_provenance
from preimage.image import as_picture, check_lr, read_image, to_uint8

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


def test_ycbcr_is_read_as_pillow_shows_it(tmp_path):
    path = tmp_path / "a.tiff"
    Image.fromarray(RGB).convert("YCbCr").save(path, compression="tiff_lzw")  # Pillow cannot read its own without
    with Image.open(path) as stored:
        notes = () if stored.mode == "RGB" else ("YCbCr converted to RGB",)  # some releases convert on their own
        expected = planes(np.array(stored.convert("RGB")))
    read = read_image(path)
    assert torch.equal(read.pixels, expected)
    assert read.notes == notes


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
