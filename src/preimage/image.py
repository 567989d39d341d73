"""Pictures in: files and Python values of every kind, read and brought to 8-bit RGB."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from preimage.arrays import array_size, array_values
from preimage.errors import InputError

MAX_SIDE = 8192
"""Longest side, in pixels, that `read_image` decodes unless told otherwise."""

# Formats without side effects: no EPS (starts Ghostscript), none that accepts any bytes as a picture.
_FORMATS = ("PNG", "JPEG", "MPO", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
_OFF_GRID = 1e-3  # grey levels; float32 arithmetic on an 8-bit picture stays far below


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as read.

    Attributes:
        pixels: (3, h, w) float32 RGB in [0, 1], every value k/255.
        notes: what had to be changed to get there, for people.
        path: the file, if it came from one.
        rounded: the values given were not 8-bit ones, so candidates are consistent with their rounded version.
    """

    pixels: Tensor
    notes: tuple[str, ...] = ()
    path: Path | None = None
    rounded: bool = False


# ---------------------------------------------------------------------------------------------------------- reading


def read_image(path: str | Path, *, max_side: int = MAX_SIDE) -> Picture:
    """Reads a picture file the way a viewer shows it, as 8-bit RGB.

    EXIF orientation is applied, the first frame of an animation is used, and transparency is composited on white
    where there is some (the colours beneath are arbitrary); an opaque alpha channel is dropped. 16 bits become 8.

    Args:
        path: PNG, JPEG, BMP, GIF, TIFF, WebP, PPM, JPEG 2000 or AVIF.
        max_side: longest side accepted, in pixels; larger pictures are refused before they are decoded.

    Returns:
        The picture, with a note for everything that was changed.

    Raises:
        InputError: missing, a folder, empty, truncated, not a picture, too large, wholly transparent.
    """
    path = Path(path)
    with open_image(path) as image:
        check_side(image, path, max_side)
        pixels, notes = _decode(image, str(path))
    return Picture(pixels, tuple(notes), path)


@overload
def picture_size(picture: str | Path | Image.Image) -> tuple[int, int]: ...
@overload
def picture_size(picture: object) -> tuple[int, int] | None: ...
def picture_size(picture: object) -> tuple[int, int] | None:
    """Width and height in pixels of a picture, without decoding it; None for numbers of no such shape.

    Raises:
        InputError: see `open_image`.
    """
    if isinstance(picture, str | Path):
        with open_image(Path(picture)) as image:
            return image.width, image.height
    if isinstance(picture, Image.Image):
        return picture.size
    return array_size(picture)


def decoded_size(path: str | Path) -> tuple[int, int]:
    """Width and height in pixels of a picture file that was decoded, so that they are more than a claim.

    Raises:
        InputError: see `open_image`; or more than `MAX_SIDE` pixels on a side, which are not decoded.
    """
    with open_image(Path(path)) as image:
        check_side(image, path)
        image.load()
        return image.width, image.height


def check_side(image: Image.Image, path: str | Path, most: int = MAX_SIDE) -> None:
    """Refuse a picture whose longer side has more than `most` pixels, before it is decoded.

    Raises:
        InputError: it names the file.
    """
    if max(image.size) > most:
        raise InputError(
            f"{path}: {image.width}×{image.height} pixels, more than {most} on a side; crop it to the face"
        )


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """A picture file opened by Pillow, not decoded yet; its whole block runs under the errors below.

    Raises:
        InputError: missing, a folder, empty, not a picture, or damaged in a way that shows only inside the block.
    """
    _check_file(path)
    try:
        # Damaged EXIF and large sizes only make Pillow warn; sizes are judged by `read_image`, orientation is optional.
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=_formats()) as image:
            yield image
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{path}: {_why_unreadable(path)}") from None
    except (Image.DecompressionBombError, MemoryError):
        raise InputError(f"{path}: far too many pixels to decode; crop it to the face") from None
    except PermissionError:
        raise InputError(f"{path}: no permission to read it; change its permissions (chmod +r)") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, ValueError and more
        raise InputError(f"{path}: truncated or damaged ({error}); copy or export it again") from error


def _formats() -> list[str]:
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder, not a picture; name a file, or all of them with {path}/*")
        if not path.exists():
            raise InputError(f"{path}: no such file; check the name and the current folder ({Path.cwd()})")
        if not path.is_file():
            raise InputError(f"{path}: is not a regular file; save the picture to a file first")
        if path.stat().st_size == 0:
            raise InputError(f"{path}: is empty (0 bytes); copy or export it again")
    except InputError:
        raise
    except (OSError, ValueError) as error:  # no access to the folder, a name too long, a zero byte in the name
        raise InputError(f"{path}: cannot be reached ({error}); check the name and its folder") from error


def _why_unreadable(path: Path) -> str:
    with open(path, "rb") as file:
        head = file.read(64)
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1"):
        return "is a HEIC photo, which cannot be read here; export it as JPEG or PNG"
    if head.startswith((b"\x89PNG", b"\xff\xd8", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"P5", b"P6", b"RIFF")):
        return "starts like a picture but is damaged or holds no pixels; copy or export it again"
    what = "is text, not a picture" if head.isascii() and b"\0" not in head else "is not a picture of a known format"
    return f"{what}; give a PNG, JPEG, BMP, GIF, TIFF, WebP, PPM, JPEG 2000 or AVIF file"


def _decode(image: Image.Image, name: str) -> tuple[Tensor, list[str]]:
    """Any Pillow picture as (3, h, w) float32 of k/255, and what was changed."""
    if 0 in image.size:
        raise InputError(f"{name}: holds no pixels ({image.width}×{image.height}); give a picture of at least 1×1")
    notes = []
    if (frames := getattr(image, "n_frames", 1)) > 1:
        notes.append(f"first of {frames} frames used")
    deep = ";16" in str(getattr(image, "tile", ""))  # 16-bit colour: Pillow keeps the upper byte while loading
    try:
        turned = image.getexif().get(0x0112, 1) in range(2, 9)
    except Exception:  # EXIF is optional and often broken: a picture is not refused for it
        turned = False
    if turned:
        image = ImageOps.exif_transpose(image)
        notes.append("rotated by its EXIF orientation")
    rgb, changes = _to_rgb(image, deep, name)
    return torch.from_numpy(rgb).permute(2, 0, 1).contiguous().float() / 255, notes + changes


def _to_rgb(image: Image.Image, deep: bool, name: str) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], list[str]]:
    """(h, w, 3) uint8, and what was changed."""
    if image.mode.startswith(("I", "F")):
        depth = "float" if image.mode == "F" else "16-bit"
        grey = _reduce_grey(np.asarray(image).astype(np.float64), image.mode, name)
        return np.repeat(grey[:, :, None], 3, axis=2), [f"{depth} reduced to 8 bits", "grey converted to RGB"]
    notes = ["16-bit reduced to 8 bits"] if deep else []
    names = {"1": "1-bit", "L": "grey", "LA": "grey", "P": "palette", "PA": "palette"}
    if image.mode not in ("RGB", "RGBA"):
        notes.append(f"{names.get(image.mode, image.mode)} converted to RGB")
    if not image.has_transparency_data:
        return np.array(image.convert("RGB")), notes
    rgba = np.array(image.convert("RGBA")).astype(np.uint16)
    colour, alpha = rgba[:, :, :3], rgba[:, :, 3:]
    if not alpha.any():
        raise InputError(f"{name}: every pixel is transparent; flatten the picture onto a background first")
    see_through = int((alpha < 255).sum())
    notes.append(f"{see_through} transparent pixels composited on white" if see_through else "alpha channel dropped")
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8), notes


def _reduce_grey(values: np.ndarray[Any, Any], mode: str, name: str) -> np.ndarray[Any, Any]:
    """Deep grey (16-bit, 32-bit holding 16, float in [0, 1]) as uint8."""
    white = 1 if mode == "F" else 65535
    if not (values.min() >= 0 and values.max() <= white):  # also true for NaN
        raise InputError(f"{name}: grey values outside 0 to {white} (mode {mode}); export it as 8-bit PNG")
    return np.floor(values / white * 255 + 0.5).astype(np.uint8)


# ---------------------------------------------------------------------------------------------- pictures from Python


def as_picture(x: object, *, name: str = "picture") -> Picture:
    """Accepts one picture in whatever form Python code holds it.

    Args:
        x: a path; a Pillow image; a tensor (3, h, w), (1, h, w), (h, w) or one of these with a leading 1; a numpy
            array (h, w, 3), (h, w), (h, w, 1) or channels first. Numbers are uint8 in 0 to 255, or floating point
            in [0, 1]; values between 8-bit levels are rounded to them and `Picture.rounded` is set, because
            "gives back the very pixels" speaks of bytes.
        name: what to call it in messages.

    Returns:
        The picture as 8-bit RGB.

    Raises:
        InputError: NaN or infinity, another range, type or shape; and everything `read_image` raises.
    """
    if isinstance(x, Picture):
        return x
    if isinstance(x, (str, Path)):
        return read_image(x)
    if isinstance(x, Image.Image):
        try:
            pixels, notes = _decode(x, name)
        except InputError:
            raise
        except Exception as error:  # a lazily opened file that is damaged, an exotic mode
            raise InputError(f"{name}: Pillow cannot decode it ({error}); try x.convert('RGB')") from error
        return Picture(pixels, tuple(notes))
    if not isinstance(x, (Tensor, np.ndarray)):
        raise InputError(f"{name}: is a {type(x).__name__}; give a tensor, a numpy array, a Pillow image or a path")
    values = array_values(x, name)
    rounded = bool(((values * 255).round() - values * 255).abs().max() > _OFF_GRID)
    notes = ["values rounded to 8 bits"] if rounded else []
    if values.shape[0] == 1:
        values = values.expand(3, -1, -1)
        notes.append("grey converted to RGB")
    return Picture(to_uint8(values).float() / 255, tuple(notes), rounded=rounded)


def check_lr(x: object) -> Tensor:
    """The low-resolution picture `x`, in any form `as_picture` takes, as (3, h, w) float32 of k/255.

    Raises:
        InputError: see `as_picture`.
    """
    return as_picture(x, name="lr").pixels


# ----------------------------------------------------------------------------------------------------------- 8 bits


def to_uint8(x: Tensor) -> Tensor:
    """Rounds values in [0, 1] to bytes, halves up, clipped to 0 to 255; bytes pass through."""
    return x if x.dtype == torch.uint8 else (x.float() * 255 + 0.5).floor().clamp(0, 255).to(torch.uint8)


def to_pillow(image: Tensor) -> Image.Image:
    """A tensor (3, H, W), (1, H, W) or (H, W), uint8 or in [0, 1], as an RGB Pillow picture; rounded and clipped.

    Raises:
        InputError: another shape or type, or NaN in it.
    """
    values = image.detach().cpu()
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3 or values.shape[0] not in (1, 3) or values.numel() == 0:
        raise InputError(f"shape {tuple(image.shape)} is not a picture; give (3, H, W), (1, H, W) or (H, W)")
    if values.dtype != torch.uint8:
        if not values.is_floating_point() or not bool(torch.isfinite(values).all()):
            raise InputError(f"a picture of {values.dtype} with NaN, infinity or whole numbers; give uint8 or [0, 1]")
        values = to_uint8(values)
    array = values.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(array)
