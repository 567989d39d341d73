"""Pictures that a user names: files, folders and patterns, and what the results of each are called."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from preimage.errors import InputError
from preimage.files import plain_name

EXTENSIONS = frozenset((
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif",
))  # fmt: skip


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
    """A folder name for the results of each input, safe to use (`plain_name`).

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
        lambda p: plain_name(p.stem),
        lambda p: plain_name(f"{p.stem}-{p.suffix[1:].lower()}"),
        lambda p: plain_name(f"{p.absolute().parent.name}_{p.stem}"),
        lambda p: plain_name(f"{p.absolute().parent.name}_{p.stem}-{p.suffix[1:].lower()}"),
        lambda p: plain_name(f"{plain_name(p.stem)}-{hashlib.sha256(os.fsencode(p.absolute())).hexdigest()[:12]}"),
    ]
    groups: dict[str, list[Path]] = {}
    for path in sorted(set(paths)):
        groups.setdefault(plain_name(path.stem).casefold(), []).append(path)
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
