"""Wall time and peak memory of the command line on one face, everything included (start, weights, search, PNG, grid).

python benchmarks/cost.py examples/face0.png --seeds 0-7
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from preimage.files import read_jsonl
from preimage.invert.search import FORWARDS_PER_STEP


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("face")
    parser.add_argument("--seeds", default="0-7")
    parser.add_argument("--preset", default="default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [sys.executable, "-m", "preimage.cli", "upsample", options.face, "-o", str(out)]
        began = time.monotonic()
        subprocess.run(
            [*command, "--seeds", options.seeds, "--preset", options.preset], check=True, capture_output=True
        )
        seconds = time.monotonic() - began
        lines = read_jsonl(out / "summary.jsonl")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    steps = sum(line["steps"] for line in lines) / len(lines)
    print(
        f"{len(lines)} candidates, {options.preset}: {seconds:.1f} s, peak {peak:.2f} GiB on {os.cpu_count()} cores; {steps:.0f} steps "
        f"= {steps * FORWARDS_PER_STEP:.0f} generator forwards a candidate (PULSE as published: 200)"
    )


if __name__ == "__main__":
    main()
