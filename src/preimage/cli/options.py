"""Options that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jsonargparse import ArgumentParser


def value_of(argv: Sequence[str], option: str, default: str) -> str:
    """Value of an option, before the command line can be parsed as a whole; the last one counts, as in the parser."""
    for i, a in reversed(list(enumerate(argv))):
        if a == option and i + 1 < len(argv):
            return argv[i + 1]
        if a.startswith(f"{option}="):
            return a.split("=", 1)[1]
    return default


def border_option(p: ArgumentParser) -> None:
    p.add_argument(
        "--border", default="renormalise", help="its edges: renormalise (Pillow), reflect, symmetric (MATLAB)"
    )


def measure_options(p: ArgumentParser) -> None:
    p.add_argument(
        "--metrics", type=list[str] | None, default=None, help="such as [psnr-rgb,lpips-alex,fid]; default: all at hand"
    )
    p.add_argument("--weights", default=None, help="folder of feature networks; default $PREIMAGE_WEIGHTS or the cache")
    p.add_argument("--download", action="store_true", help="fetch networks that the hub has, such as VGG-16")
    p.add_argument("--niqe-model", default=None, help="one more NIQE model (.npz), fitted on other pictures")


def failures(problems: Sequence[str]) -> int:
    if problems:
        print(f"preimage: {len(problems)} input(s) failed; see above.", file=sys.stderr)
    return 1 if problems else 0
