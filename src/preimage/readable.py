"""Files of weights that may not be there or may not be read: what keeps them, and what to do about it."""

from __future__ import annotations

import errno
import stat
from collections.abc import Sequence
from pathlib import Path

from preimage.errors import WeightsError
from preimage.texts import one_line

_NO_MEMORY = ("cannot allocate memory", "can't allocate memory", "not enough memory", "(os error 12)")


class UnreadableError(WeightsError):
    """A file that cannot be read here, whatever is in it: missing, a folder, no permission, too little memory."""


def find_file(path: str | Path, suffixes: Sequence[str]) -> tuple[Path, int]:
    """A file that is there, and its size in bytes.

    Args:
        path: as the user gives it.
        suffixes: of the files that would be taken; from a folder the message names such ones.

    Raises:
        UnreadableError: no such file, a folder, no ordinary file, or its folder may not be entered.
    """
    wanted = ", ".join(suffixes)
    try:
        path = Path(path).expanduser()
        about = path.stat()
    except (FileNotFoundError, NotADirectoryError, RuntimeError, ValueError):  # also ~nobody, or a zero byte
        raise UnreadableError(f"{path}: no such file. Name a downloaded checkpoint ({wanted}).") from None
    except OSError as error:
        raise UnreadableError(f"{path}: {why_unreadable(error) or one_line(error)}") from None
    if stat.S_ISDIR(about.st_mode):
        raise UnreadableError(f"{path}: is a folder{_in_folder(path, suffixes)}")
    if not stat.S_ISREG(about.st_mode):
        raise UnreadableError(f"{path}: is no ordinary file. Name a downloaded checkpoint ({wanted}).")
    return path, about.st_size


def _in_folder(path: Path, suffixes: Sequence[str]) -> str:
    """The rest of a sentence on a folder that was given for a file."""
    try:
        names = sorted(p.name for p in path.iterdir() if p.suffix.lower() in suffixes and p.is_file())
    except OSError:
        return "; name one file in it."
    if not names:
        return f", and no such file lies in it; name a downloaded checkpoint ({', '.join(suffixes)})."
    more = f", … ({len(names)} in all)" if len(names) > 3 else ""
    return f"; name one file in it: {', '.join(names[:3])}{more}."


def why_unreadable(error: BaseException) -> str:
    """What keeps a file from being read, and what to do; empty where the fault is in the file itself."""
    number, says = getattr(error, "errno", None), str(error).lower()
    system = isinstance(error, OSError | RuntimeError) or type(error).__name__ == "SafetensorError"
    lacking = system and any(mark in says for mark in _NO_MEMORY)
    if lacking or isinstance(error, MemoryError) or number == errno.ENOMEM:
        return "takes more memory to read than there is. Close other programs, or read it on a machine with more."
    if isinstance(error, PermissionError) or number == errno.EACCES:
        return "no permission to read it. Change its permissions (chmod +r), or those of its folder."
    if isinstance(error, OSError) and number is not None:  # without a number it is raised here, of a damaged archive
        return f"cannot be read ({error.strerror or one_line(error)}). Check the disk that it is on, or copy it again."
    return ""
