"""Files out and in again: names that are safe, and writing so that nothing is ever half written."""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from preimage.errors import InputError, OccupiedError, OutputError
from preimage.image import check_side, open_image, to_pillow
from preimage.processes import temporary_name
from preimage.texts import TextError, one_line, parse_json, parse_yaml

OWN_NAMES = frozenset(("run.yaml", "summary.jsonl", "report.json", "report.md", "report.html", "statistics"))
"""What a folder of results holds beside the folders of its inputs."""
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)  # no file names on Windows
MOST_NAME = 150
"""Longest name of an input's folder, bytes: file systems take 255, and captions and suffixes come to it."""


def plain_name(name: str) -> str:
    """A name under which a folder or file can be made anywhere, and only in the folder where it is wanted.

    Most names stay as they are. Separators, control characters and unpaired surrogates become `_`, as do dots at the start
    (`..` leads elsewhere, others hide) and dots and spaces at the end (Windows drops them); names that a folder of results
    keeps for itself (`OWN_NAMES`) and Windows' devices get a `_` in front; what is too long is cut and gets a hash.
    """
    plain = "".join("_" if c in "/\\:" or unicodedata.category(c) in ("Cc", "Cs") else c for c in name)
    if plain.startswith("."):
        plain = "_" + plain.lstrip(".")
    if plain != plain.rstrip(". "):
        plain = plain.rstrip(". ") + "_"
    if not plain or plain.casefold() in OWN_NAMES or _DEVICES.match(plain):
        plain = f"_{plain}"
    if len(plain.encode()) > MOST_NAME:
        digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:12]
        plain = plain.encode()[: MOST_NAME - 13].decode(errors="ignore") + f"-{digest}"
    return plain


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
    picture = to_pillow(image)
    _write_atomic(Path(path), lambda file: picture.save(file, format="PNG", pnginfo=info))


def read_provenance(path: str | Path) -> dict[str, str]:
    """The text chunks of a PNG, as `save_png` wrote them; empty for a picture without.

    Raises:
        InputError: see `read_image`.
    """
    with open_image(Path(path)) as image:
        check_side(image, path)  # Pillow decodes a PNG before it tells all of its text
        return {key: str(value) for key, value in getattr(image, "text", {}).items()}


def make_folder(path: str | Path) -> Path:
    """A folder for results, made where it is missing.

    Raises:
        OutputError: it cannot be made, or the name is empty.
    """
    if not str(path).strip():
        raise OutputError("an empty name for the output; name a folder with -o.")
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise OutputError(f"{path}: cannot be created ({reason}). Choose another folder with -o.") from None
    return Path(path)


def write_bytes_atomic(path: str | Path, data: bytes) -> None:
    """Writes a file: the whole of it or nothing.

    Raises:
        OutputError: see `save_png`.
    """
    _write_atomic(Path(path), lambda file: file.write(data))


def write_text_atomic(path: str | Path, text: str) -> None:
    """Writes a text file (UTF-8): the whole file or nothing.

    Raises:
        OutputError: see `save_png`.
    """
    write_bytes_atomic(path, text.encode())


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


def read_jsonl(path: str | Path, damaged: list[int] | None = None) -> list[dict[str, Any]]:
    """The objects of a JSON lines file; none if there is no file yet.

    Lines that are not complete objects are skipped: an interrupted run leaves half a line behind, and a result that is not in
    the list is computed again.

    Args:
        path: the file.
        damaged: gets the numbers of the lines that were skipped, from 1.

    Raises:
        InputError: the file is there but cannot be read.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise InputError(f"{path}: cannot be read (it is no regular file); move it away")
    try:
        lines = Path(path).read_bytes().decode(errors="replace").split("\n")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); check what it is and its permissions"
        ) from error
    found = []
    for number, line in enumerate(lines, 1):
        try:
            value = parse_json(line) if line.strip() else None
        except TextError:
            value = ()
        if isinstance(value, dict):
            found.append(value)
        elif value is not None and damaged is not None:
            damaged.append(number)
    return found


def read_yaml(path: Path) -> dict[str, Any]:
    """Settings from a YAML file; empty if it holds none.

    Raises:
        InputError: not readable, or no mapping of plain values (see `preimage.texts.parse_yaml`).
    """
    try:
        values = parse_yaml(path.read_text())
    except (OSError, UnicodeDecodeError, TextError) as error:
        raise InputError(f"{path}: not readable as YAML ({one_line(error)}). Mend or delete it.") from None
    if values is not None and not isinstance(values, dict):
        raise InputError(f"{path}: holds a {type(values).__name__}, not settings by name. Mend or delete it.")
    return values or {}


def to_yaml(values: Mapping[str, Any]) -> str:
    """Settings as YAML text."""
    import yaml

    return str(yaml.safe_dump(json.loads(json.dumps(values)), sort_keys=False, allow_unicode=True))


def _write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    # Not tempfile: its files are private to the user (0600), results should follow the umask.
    part = path.with_name(temporary_name()) if path.name else path
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
    kind = OutputError
    if os.path.isdir(path):  # unlike Path.is_dir, never raises
        kind, reason, hint = OccupiedError, "is a folder", "name a file, or move the folder away"
    elif isinstance(error, PermissionError) or "read-only" in reason:
        hint = "make the folder writable, or choose another output folder"
    elif "space" in reason or "quota" in reason:
        hint = "free some space, or choose an output folder on another disk; what is written so far is kept"
    elif isinstance(error, (NotADirectoryError, FileExistsError)):
        kind = OccupiedError
        hint = f"a file stands where a folder is needed ({path.parent}); choose another output folder"
    else:
        hint = "choose another output folder"
    return kind(f"{path}: cannot be written ({reason}); {hint}")
