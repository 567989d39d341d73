"""A command in a process of its own: how long it took, and the most memory that it held."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """What a command took: seconds on the clock, peak resident memory in GiB (`getrusage` of that process)."""

    seconds: float
    gib: float


def preimage(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Cost:
    """Run `preimage ARGUMENTS`; what it prints is shown.

    Raises:
        SystemExit: it failed; the message names the command.
    """
    print(f"\n$ preimage {' '.join(arguments)}", flush=True)
    began = time.monotonic()
    child = subprocess.Popen([sys.executable, "-m", "preimage.cli", *arguments], env=os.environ | (environment or {}))
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"preimage {' '.join(arguments)}: failed with status {child.returncode}")
    unit = 1 if sys.platform == "darwin" else 1 << 10
    return Cost(time.monotonic() - began, usage.ru_maxrss * unit / 2**30)
