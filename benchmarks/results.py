"""Make the tables of docs/results.md anew: run the command above each of them and put what it prints below.

    python benchmarks/results.py              all of them, in order; hours on two cores
    python benchmarks/results.py bench speed  only those named

In the page a table stands between `<!-- table NAME: COMMAND -->` and `<!-- end -->`. Commands run in the repository root with
this Python's programs first on the path; what a command writes goes to out/, which later commands may read.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"
TABLE = re.compile(r"(<!-- table (\S+): (.*?) -->\n)(.*?)(<!-- end -->)", re.S)


def run(command: str) -> str:
    """What a command prints; progress and warnings go to the terminal."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, shell=True, cwd=ROOT, env={**os.environ, "PATH": path}, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise SystemExit(f"{command}: failed with status {done.returncode}; the page is as it was.")
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="tables; default: all")
    options = parser.parse_args()
    known = [m[2] for m in TABLE.finditer(PAGE.read_text())]
    unknown = [name for name in options.names if name not in known]
    if unknown:
        raise SystemExit(f"{', '.join(unknown)}: no such table in {PAGE.name}; there are {', '.join(known)}.")
    for name in options.names or known:
        found = next(m for m in TABLE.finditer(PAGE.read_text()) if m[2] == name)
        print(f"{name}: {found[3]}", file=sys.stderr)
        text = run(" ".join(found[3].split()))
        page = PAGE.read_text()  # again: the run may have taken an hour
        found = next(m for m in TABLE.finditer(page) if m[2] == name)
        shown = f"\n`{found[3]}`\n\n{text}\n\n"
        PAGE.write_text(page[: found.start()] + found[1] + shown + found[5] + page[found.end() :])


if __name__ == "__main__":
    main()
