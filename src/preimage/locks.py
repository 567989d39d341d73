"""Who fills a folder of results: runs of the same settings together, of different ones never."""

from __future__ import annotations

import json
import os
import secrets
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from preimage.errors import InputError, OutputError
from preimage.files import write_text_atomic
from preimage.processes import alive, host, start_of
from preimage.texts import TextError, parse_json

_CLAIMS = ".run-*.lock"


class Holder:
    """A run's claim on a folder of results, `.run-….lock` in it; runs of the same settings hold it together.

    Every run first leaves its claim and then looks at the others', so of two that start at once at least one sees the other; the
    later one gives way.

    Args:
        folder: of results; exists.
        settings: digest of the settings that must agree.
        exclusive: refuse any other run.

    Attributes:
        alone: whether no other run holds the folder.

    Raises:
        InputError: another run fills it with other settings, or any other run where `exclusive`.
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: Path, settings: str, exclusive: bool = False) -> None:
        self.folder, self.since = folder, time.time_ns()
        self.path = folder / f".run-{host()}-{os.getpid()}-{secrets.token_hex(4)}.lock"
        about = {
            "pid": os.getpid(), "host": host(), "started": start_of(os.getpid()), "since": self.since, "settings": settings,
        }  # fmt: skip
        try:
            write_text_atomic(self.path, json.dumps(about))
        except OutputError as error:
            raise OutputError(f"{folder}: {str(error).partition(': ')[2]}") from None
        self._end = weakref.finalize(self, self.path.unlink, missing_ok=True)
        others = self.others()
        for path, other in others.items():
            if (other["since"], path.name) > (self.since, self.path.name) or (
                other["settings"] == settings and not exclusive
            ):
                continue
            self.release()
            where = f"process {other['pid']}" + ("" if other["host"] == host() else " of another machine")
            what = (
                "is being filled by another run" if exclusive else "is being filled with other settings by another run"
            )
            raise InputError(
                f"{folder} {what} ({where}). Wait for it, or choose another folder with -o; if it is over, delete {path.name}."
            )
        self.alone = not others

    def others(self) -> dict[Path, dict[str, Any]]:
        """The claims of runs that are still going; those of dead ones are removed."""
        found = {}
        for path in sorted(self.folder.glob(_CLAIMS)):
            if path == self.path:
                continue
            if path.exists() and not path.is_file():  # nothing that a run left
                continue
            try:
                about = parse_json(path.read_text())
                known = (about["pid"], about["host"], about["started"], about["since"], about["settings"])
            except (OSError, UnicodeDecodeError, TextError, KeyError, TypeError):
                known = None
            valid = known is not None and [type(value) for value in known] == [int, str, str, int, str]
            if not valid or (about["host"] == host() and not alive(about["pid"], about["started"])):
                with suppress(
                    OSError
                ):  # a dead run's, or no claim at all: ours are replaced at once, never half written
                    path.unlink()
            else:
                found[path] = about
        return found

    def release(self) -> None:
        """Give the folder up."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
