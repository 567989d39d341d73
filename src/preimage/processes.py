"""Processes that share a folder: which of them are alive, one change at a time, and what dead ones left behind."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

STALE = 3600.0
"""Seconds after which nobody still writes one picture."""
_LITTER = re.compile(r"\.([0-9a-f]{8})[0-9a-f]{8}(?:-(\d{1,10}))?\.tmp")


def host() -> str:
    """This machine (or container) in eight hexadecimal digits: process ids mean nothing on another."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def temporary_name() -> str:
    """A new hidden file name that says whose it is; see `remove_litter`."""
    return f".{host()}{secrets.token_hex(4)}-{os.getpid()}.tmp"


def alive(pid: int, started: str = "") -> bool:
    """Whether a process of this machine runs, and, where the system tells, whether it is the one that started then."""
    if pid <= 0:
        return False
    if sys.platform == "win32":  # there os.kill ends the process, whatever the signal
        return _alive_on_windows(pid)
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # or a number that no process has
        return False
    except PermissionError:
        return True
    now = start_of(pid)
    return not started or not now or now == started


def _alive_on_windows(pid: int) -> bool:
    import ctypes

    library: Any = ctypes
    kernel = library.WinDLL("kernel32")
    handle = kernel.OpenProcess(0x1000, False, pid)
    if handle:
        kernel.CloseHandle(handle)
    return bool(handle)


def start_of(pid: int) -> str:
    """When a process started, in the kernel's own clock; empty where the system does not tell (no /proc)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def remove_litter(*folders: Path, alone: bool = False) -> int:
    """Remove temporary files whose process died before it could finish or remove them.

    Args:
        folders: where to look, without their subfolders.
        alone: nobody else writes there: files without a process id, which earlier versions left, go at once, else when they are
            an hour old.

    Returns:
        How many were removed.
    """
    removed = 0
    for folder in folders:
        try:
            found = [(path, _LITTER.fullmatch(path.name)) for path in folder.glob(".*.tmp")]
        except OSError:
            continue
        for path, match in found:
            if match is None:
                continue
            with suppress(OSError):  # somebody else was faster, or the folder is read-only: no harm
                if match[2] is None:
                    dead = alone or time.time() - path.stat().st_mtime > STALE
                else:
                    dead = match[1] == host() and not alive(int(match[2]))
                if dead:
                    path.unlink()
                    removed += 1
    return removed


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """While inside, no other process is inside for the same folder; without effect where the file system has no locks."""
    if sys.platform == "win32":
        import msvcrt

        with open(folder / ".changing.lock", "a+b") as file:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
            try:
                yield
            finally:
                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems have none
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
