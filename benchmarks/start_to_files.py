"""From the start of the command to the last file: seconds and peak memory, for each method and for folders of photos.

python benchmarks/start_to_files.py examples/face0.png --methods posterior pulse --photos 1 8 32 --repeat 3
    the photo is copied as often as asked for; best of the repeats, on a machine that does nothing else
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def once(photo: Path, photos: int, method: str, seeds: str, threads: str) -> tuple[float, float]:
    """Seconds, and GiB of the largest child so far."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in"
        source.mkdir()
        for i in range(photos):
            shutil.copy(photo, source / f"face{i:03d}{photo.suffix}")
        command = [
            sys.executable,
            "-m",
            "preimage.cli",
            "upsample",
            str(source),
            "-o",
            f"{folder}/out",
            "--method",
            method,
        ]
        began = time.perf_counter()
        subprocess.run([*command, "--seeds", seeds, "--threads", threads], check=True, capture_output=True)
        return time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--methods", nargs="+", default=["posterior", "pulse"])
    parser.add_argument("--photos", type=int, nargs="+", default=[1])
    parser.add_argument("--seeds", default="0-7")
    parser.add_argument("--threads", default="auto")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    print(f"{options.photo.name}, seeds {options.seeds}, {os.cpu_count()} cores, best of {options.repeat}\n")
    print("| method | photos | seconds | peak so far, GiB |\n|---|---|---|---|")
    for method in options.methods:
        for photos in options.photos:
            runs = [once(options.photo, photos, method, options.seeds, options.threads) for _ in range(options.repeat)]
            print(f"| {method} | {photos} | {min(s for s, _ in runs):.1f} | {runs[-1][1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
