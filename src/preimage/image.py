"""Pictures in and out: read, find, check, write so that nothing is ever half written, and lay out on a sheet."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import secrets
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from preimage.errors import InputError, OutputError

MAX_SIDE = 8192
"""Longest side, in pixels, that `read_image` decodes unless told otherwise."""

EXTENSIONS = frozenset((
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif",
))  # fmt: skip
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
    _check_file(path)
    try:
        # Damaged EXIF and large sizes only make Pillow warn; sizes are judged below, orientation is optional.
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=_formats()) as image:
            if max(image.size) > max_side:
                size = f"{image.width}×{image.height}"
                raise InputError(f"{path}: {size} pixels, more than {max_side} on a side; crop it to the face")
            pixels, notes = _decode(image, str(path))
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
    return Picture(pixels, tuple(notes), path)


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
    values = _channels_first(_numbers(x, name), isinstance(x, np.ndarray), name)
    _check_range(values, name)
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


def _numbers(x: Tensor | np.ndarray[Any, Any], name: str) -> Tensor:
    """The same numbers as a float32 CPU tensor; uint8 divided by 255."""
    floating = x.is_floating_point() if isinstance(x, Tensor) else x.dtype.kind == "f"
    byte = x.dtype in (torch.uint8, np.uint8)
    if not (floating or byte):
        raise InputError(f"{name}: holds {x.dtype}; convert to uint8 in 0 to 255, or to float32 in [0, 1]")
    if isinstance(x, np.ndarray):
        with np.errstate(over="ignore"):
            x = torch.tensor(x.astype(np.float32, order="C"))
    values = x.detach().cpu().float()
    return values / 255 if byte else values


def _channels_first(values: Tensor, last: bool, name: str) -> Tensor:
    """(c, h, w) with c 1 or 3; `last`: read an ambiguous shape as channels last."""
    shape = tuple(values.shape)
    if values.numel() == 0:
        raise InputError(f"{name}: shape {shape} holds no pixels; give a picture of at least 1×1")
    if values.ndim == 4:
        if shape[0] != 1:
            raise InputError(f"{name}: shape {shape} is a batch of {shape[0]}; give one picture at a time")
        values = values[0]
    if values.ndim == 2:
        return values[None]
    if values.ndim == 3 and last and values.shape[2] in (1, 3):
        return values.permute(2, 0, 1)
    if values.ndim == 3 and values.shape[0] in (1, 3):
        return values
    hint = "give (3, h, w) or (1, h, w)" + (", or (h, w, 3)" if last else "")
    if values.ndim == 3 and 4 in (values.shape[0], values.shape[2]):
        hint += "; drop the alpha channel"
    elif values.ndim == 3 and values.shape[2] in (1, 3):
        hint += "; channels come first in a tensor: x.permute(2, 0, 1)"
    raise InputError(f"{name}: shape {shape} is not a picture; {hint}")


def _check_range(values: Tensor, name: str) -> None:
    if not bool(torch.isfinite(values).all()):
        raise InputError(f"{name}: holds NaN or infinity; find where they arise, or replace them with nan_to_num")
    low, high = float(values.min()), float(values.max())
    if low >= -0.5 / 255 and high <= 1 + 0.5 / 255:
        return
    if high > 2 and low >= 0:
        hint = "it looks like 0 to 255: divide by 255, or convert to uint8"
    elif -1.01 <= low < -0.1 and high <= 1.01:
        hint = "it looks like [-1, 1]: use (x + 1) / 2"
    else:
        hint = "rescale it, or use clamp(0, 1) if it only overshoots"
    raise InputError(f"{name}: values from {low:.4g} to {high:.4g}, not in [0, 1]; {hint}")


def to_uint8(x: Tensor) -> Tensor:
    """Rounds values in [0, 1] to bytes, halves up, clipped to 0 to 255; bytes pass through."""
    return x if x.dtype == torch.uint8 else (x.float() * 255 + 0.5).floor().clamp(0, 255).to(torch.uint8)


# ---------------------------------------------------------------------------------------------------- finding inputs


def find_images(inputs: Sequence[str | Path]) -> tuple[list[Path], list[InputError]]:
    """Turns files, folders and patterns into picture files.

    A name that exists is taken as it is, so `face[1].png` needs no escaping. A folder gives its own pictures (known
    extensions, not hidden, sorted, no subfolders). A pattern may hold ``**``; what it matches is sorted, and only
    pictures are kept.

    Args:
        inputs: what the user named.

    Returns:
        The files in the order named, each once (links to the same file count as that file), and an error for each
        input that gives none. Files named one by one are not opened or judged here, `read_image` does that.
    """
    paths: dict[Path, Path] = {}
    problems = []
    for given in inputs:
        try:
            for path in _expand(str(given)):
                paths.setdefault(path.resolve(), path)
        except InputError as error:
            problems.append(error)
        except (OSError, ValueError, RuntimeError) as error:
            problems.append(InputError(f"{given}: cannot be reached ({error}); check the name and its folder"))
    return list(paths.values()), problems


def _expand(given: str) -> list[Path]:
    if not given.strip():
        raise InputError("an empty input name; name a picture, a folder or a pattern")
    path = Path(given).expanduser()
    if path.is_dir():
        found = [each for each in sorted(path.iterdir()) if not each.name.startswith(".") and _is_picture(each)]
        if not found:
            raise InputError(f"{given}: the folder holds no pictures ({', '.join(sorted(EXTENSIONS))})")
        return found
    if path.exists():
        return [path]
    if glob.has_magic(given):
        matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
        found = [match for match in matches if _is_picture(match)]
        if not found:
            what = f"matches {len(matches)} names but no picture" if matches else "matches nothing"
            raise InputError(f"{given}: the pattern {what}; check it, and the current folder ({Path.cwd()})")
        return found
    raise InputError(f"{given}: no such file or folder; check the name and the current folder ({Path.cwd()})")


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and path.is_file()


def unique_stems(paths: Iterable[Path]) -> dict[Path, str]:
    """A folder name for the results of each input.

    It is the file's stem (`face`), where that is unique. Inputs that share a stem (capitals aside) are *all* named
    by the first of these that tells them apart: `face-jpg`, `folder_face`, `folder_face-jpg`, `face-` and a hash of
    the full path. So names do not depend on the order of the inputs. They do depend on which inputs there are: call
    this once with everything a command was given, before it skips, resumes or shares out any of them.

    Args:
        paths: all inputs; duplicates count once.

    Returns:
        A different name for every path.
    """
    levels: list[Callable[[Path], str]] = [
        lambda p: p.stem,
        lambda p: f"{p.stem}-{p.suffix[1:].lower()}",
        lambda p: f"{p.absolute().parent.name}_{p.stem}",
        lambda p: f"{p.absolute().parent.name}_{p.stem}-{p.suffix[1:].lower()}",
        lambda p: f"{p.stem}-{hashlib.sha256(os.fsencode(p.absolute())).hexdigest()[:12]}",
    ]
    groups: dict[str, list[Path]] = {}
    for path in sorted(set(paths)):
        groups.setdefault(path.stem.casefold(), []).append(path)
    names: dict[Path, str] = {}
    taken = set(groups)
    for stem, group in groups.items():
        for level in levels:
            keys = {level(path).casefold() for path in group}
            if len(keys) == len(group) and not keys & (taken - {stem}):
                break
        names.update((path, level(path)) for path in group)
        taken |= keys
    return names


# ---------------------------------------------------------------------------------------------------------- writing


def save_png(path: str | Path, image: Tensor, text: Mapping[str, str] | None = None) -> None:
    """Writes a PNG: the whole file or nothing, and an existing file stays until the new one is complete.

    Args:
        path: the file; missing folders are made.
        image: (3, H, W), (1, H, W) or (H, W); uint8, or floating point in [0, 1] (rounded, clipped).
        text: stored in PNG text chunks, see `read_provenance`.

    Raises:
        InputError: not a picture, or NaN in it.
        OutputError: read-only folder, full disk, the path is a folder.
    """
    info = PngInfo()
    for key, value in (text or {}).items():
        info.add_text(key, value)  # becomes Unicode iTXt by itself where Latin-1 does not suffice
    picture = _to_pillow(image)
    _write_atomic(Path(path), lambda file: picture.save(file, format="PNG", pnginfo=info))


def read_provenance(path: str | Path) -> dict[str, str]:
    """The text chunks of a PNG, as `save_png` wrote them; empty for a picture without.

    Raises:
        InputError: see `read_image`.
    """
    path = Path(path)
    _check_file(path)
    try:
        with Image.open(path, formats=_formats()) as image:
            return {key: str(value) for key, value in getattr(image, "text", {}).items()}
    except UnidentifiedImageError:
        raise InputError(f"{path}: {_why_unreadable(path)}") from None
    except Exception as error:
        raise InputError(f"{path}: truncated or damaged ({error}); copy or export it again") from error


def write_text_atomic(path: str | Path, text: str) -> None:
    """Writes a text file (UTF-8): the whole file or nothing.

    Raises:
        OutputError: see `save_png`.
    """
    _write_atomic(Path(path), lambda file: file.write(text.encode()))


def append_line(path: str | Path, line: str) -> None:
    """Appends one line (UTF-8) and waits until it is on the disk; made for JSON lines, see `read_jsonl`.

    If an interrupted run left half a line at the end, the new one starts on a line of its own.

    Raises:
        ValueError: a line break in `line`.
        OutputError: see `save_png`.
    """
    if "\n" in line or "\r" in line:
        raise ValueError("append_line takes one line, without line breaks")
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b") as file:
            half = file.seek(0, os.SEEK_END) > 0 and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"
            file.write(b"\n" * half + line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _output_error(path, error) from error


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """The objects of a JSON lines file; none if there is no file yet.

    Lines that are not complete objects are skipped: they are what an interrupted run leaves behind, and a result
    that is not in the list is computed again.

    Raises:
        InputError: the file is there but cannot be read.
    """
    try:
        lines = Path(path).read_bytes().decode(errors="replace").split("\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}); check the name and its permissions") from error
    return [value for line in lines if isinstance(value := _parse_json(line), dict)]


def _parse_json(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    # Not tempfile: its files are private to the user (0600), results should follow the umask.
    part = path.with_name(f".{secrets.token_hex(8)}.tmp") if path.name else path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(part, "xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:  # also Ctrl-C: leave no litter
            if path.name:
                part.unlink(missing_ok=True)
            raise
    except (OSError, ValueError) as error:
        raise _output_error(path, error) from error


def _output_error(path: Path, error: OSError | ValueError) -> OutputError:
    reason = (getattr(error, "strerror", None) or str(error)).lower()
    if os.path.isdir(path):  # unlike Path.is_dir, never raises
        reason, hint = "is a folder", "name a file, or move the folder away"
    elif isinstance(error, PermissionError) or "read-only" in reason:
        hint = "make the folder writable, or choose another output folder"
    elif "space" in reason or "quota" in reason:
        hint = "free some space, or choose an output folder on another disk; what is written so far is kept"
    elif isinstance(error, (NotADirectoryError, FileExistsError)):
        hint = f"a file stands where a folder is needed ({path.parent}); choose another output folder"
    else:
        hint = "choose another output folder"
    return OutputError(f"{path}: cannot be written ({reason}); {hint}")


# ----------------------------------------------------------------------------------------------------------- sheets

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
_MARGIN = 8
_INK, _PAPER = (60, 60, 60), (255, 255, 255)
# sRGB at CIE lightness 6, 24, 42, 60, 78, 96: indigo, purple, red, orange, yellow, cream.
_HEAT = (
    (0.050, 0.069, 0.163),
    (0.242, 0.173, 0.459),
    (0.688, 0.185, 0.460),
    (0.915, 0.414, 0.302),
    (0.956, 0.714, 0.316),
    (0.980, 0.965, 0.749),
)


def heatmap(values: Tensor) -> Tensor:
    """Colours numbers in [0, 1] from dark (0) to bright (1), lightness rising evenly.

    Args:
        values: (h, w); clipped to [0, 1].

    Returns:
        (3, h, w) float32 in [0, 1].

    Raises:
        InputError: not (h, w), or NaN.
    """
    if values.ndim != 2 or bool(values.isnan().any()):
        raise InputError(f"a heat map needs (h, w) numbers without NaN, not {tuple(values.shape)}")
    stops = torch.tensor(_HEAT)
    position = values.detach().cpu().float().clamp(0, 1) * (len(stops) - 1)
    below = position.floor().clamp(max=len(stops) - 2)
    lower = stops[below.long()]
    colours = lower + (stops[below.long() + 1] - lower) * (position - below)[..., None]
    return colours.permute(2, 0, 1).contiguous()


def contact_sheet(
    rows: Sequence[Sequence[Tensor | None]],
    *,
    captions: Sequence[Sequence[str]] | None = None,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    cell: int = 256,
) -> Tensor:
    """Lays pictures out on white paper, brought to one size.

    Args:
        rows: pictures (3, h, w), (1, h, w) or (h, w), uint8 or in [0, 1]; None leaves a gap; rows may differ in
            length. Small ones are enlarged by nearest neighbour, so that their pixels stay visible.
        captions: a text below each picture.
        row_labels: a text left of each row.
        column_labels: a text above each column.
        cell: longest side of each picture on the sheet, in pixels.

    Returns:
        (3, H, W) float32 in [0, 1].

    Raises:
        InputError: no picture at all, or something that is not one.
    """
    pictures = [[None if image is None else _fit(_to_pillow(image), cell) for image in row] for row in rows]
    present = [picture for row in pictures for picture in row if picture is not None]
    if not present:
        raise InputError("a contact sheet needs at least one picture")
    width, height = (max(picture.size[axis] for picture in present) for axis in (0, 1))
    font = _font(max(11, cell // 14))
    line = int(sum(font.getbbox("Agy")[1::2])) + 2  # top bearing twice plus the text: even space above and below
    label = min(2 * cell, max(_width(text, font) for text in row_labels) + _MARGIN) if row_labels else 0
    left, top = _MARGIN + label, _MARGIN + (line if column_labels else 0)
    step_x, step_y = width + _MARGIN, height + _MARGIN + (line if captions else 0)
    columns = max(len(row) for row in pictures)
    sheet = Image.new("RGB", (left + columns * step_x, top + len(pictures) * step_y), _PAPER)
    draw = ImageDraw.Draw(sheet)

    def write(text: str, x: int, y: int, room: int) -> None:
        draw.text((x, y), _shorten(text, font, room), fill=_INK, font=font)

    for column, text in enumerate((column_labels or ())[:columns]):
        write(text, left + column * step_x, _MARGIN // 2, width)
    for index, row in enumerate(pictures):
        y = top + index * step_y
        if row_labels:
            write(row_labels[index], _MARGIN, y + (height - line) // 2, label - _MARGIN)
        for column, picture in enumerate(row):
            x = left + column * step_x
            if picture is not None:
                sheet.paste(picture, (x + (width - picture.width) // 2, y + (height - picture.height) // 2))
            if captions:
                write(captions[index][column], x, y + height, width)
    return torch.from_numpy(np.array(sheet)).permute(2, 0, 1).contiguous().float() / 255


def candidate_grid(
    lr: Tensor, images: Tensor, captions: Sequence[str], certainty: Tensor | None = None, *, columns: int = 10
) -> Tensor:
    """Input, candidates and certainty side by side: the `grid.png` of a result.

    Args:
        lr: (3, h, w) in [0, 1].
        images: (n, 3, H, W) in [0, 1].
        captions: n texts, such as ``"seed 0"``.
        certainty: (H, W) in [0, 1] or None; bright where the photo pins the picture down, dark where it is imagined.
        columns: pictures per row; more of them continue below.

    Returns:
        (3, height, width) float32 in [0, 1].
    """
    pictures = [lr, *images]
    texts = [f"input {lr.shape[-1]}×{lr.shape[-2]}", *captions]
    if certainty is not None:
        pictures.append(heatmap(certainty))
        texts.append("dark: imagined")
    starts = range(0, len(pictures), columns)
    return contact_sheet([pictures[i : i + columns] for i in starts], captions=[texts[i : i + columns] for i in starts])


def _to_pillow(image: Tensor) -> Image.Image:
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


def _fit(picture: Image.Image, cell: int) -> Image.Image:
    scale = cell / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX)


def _font(size: int) -> Font:
    try:
        return ImageFont.load_default(size)
    except ImportError:  # Pillow without FreeType has one small bitmap font
        return ImageFont.load_default()


def _width(text: str, font: Font) -> int:
    return int(font.getlength(_plain(text))) + 1


def _shorten(text: str, font: Font, room: int) -> str:
    """The text as far as it fits `room` pixels."""
    text = _plain(text)
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "..") > room:
        text = text[:-1]
    return text + ".."


def _plain(text: str) -> str:
    # Pillow's built-in fonts have Latin-1 at most, and no multiplication sign.
    text = text.replace("×", "x").replace("−", "-").encode("latin-1", errors="replace").decode("latin-1")
    return " ".join(text.split())
