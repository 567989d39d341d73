"""What a folder of photos costs: n photos with one seed each beside one photo with n seeds. A Markdown table.

python benchmarks/folders.py --methods pulse posterior --photos 1 8 32 --seeds 8 32
python benchmarks/folders.py --methods pulse posterior --photos 1 8 32 --one-by-one
    photos are faces that the default prior imagines, shrunk to 16 pixels; each line is the whole command, start and files included,
    with one thread. CPU seconds are those of the command, whatever else the machine does.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from preimage.degrade.linear import bicubic
from preimage.files import read_jsonl, save_png
from preimage.weights import load_prior

SIDE = 16


def photos(folder: Path, count: int) -> None:
    """So many faces of 16 pixels."""
    prior = load_prior()
    small = bicubic(prior.resolution, lr_size=SIDE)(prior.sample(range(count))).clamp(0, 1)
    for i, lr in enumerate((small * 255).round() / 255):
        save_png(folder / f"face{i:03d}.png", lr)


def once(inputs: list[Path], seeds: int, method: list[str], batch: str) -> tuple[float, float, float, float]:
    """CPU seconds, wall seconds, peak GiB and mean steps of one command."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "preimage.cli", "upsample", *map(str, inputs), "-o", f"{out}/out"]
        command += [
            "--method",
            *method,
            "--seeds",
            f"0-{seeds - 1}",
            "--batch",
            batch,
            "--threads",
            "1",
            "--device",
            "cpu",
        ]
        began = time.monotonic()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(child.pid, 0)
        wall = time.monotonic() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"{' '.join(command)}: ended with status {child.returncode}")
        steps = [line["steps"] for line in read_jsonl(Path(out) / "out" / "summary.jsonl")]
        if len(steps) != len(inputs) * seeds:
            raise SystemExit(f"{len(steps)} candidates instead of {len(inputs) * seeds}")
    return used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 2**20, sum(steps) / len(steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["pulse", "posterior"])
    parser.add_argument("--photos", type=int, nargs="*", default=[1, 8, 32], help="so many, with one seed each")
    parser.add_argument("--seeds", type=int, nargs="*", default=[8, 32], help="so many, of one photo")
    parser.add_argument("--one-by-one", action="store_true", help="a batch of one")
    options = parser.parse_args()
    cases = [(n, 1) for n in options.photos] + [(1, n) for n in options.seeds]
    print("| method | photos | seeds each | CPU s | wall s | CPU s a candidate | peak GiB | mean steps |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        photos(Path(folder), max(n for n, _ in cases))
        inputs = sorted(Path(folder).glob("*.png"))
        for method in options.methods:
            for count, seeds in cases:
                batch = "1" if options.one_by_one else "auto"
                cpu, wall, peak, steps = once(inputs[:count], seeds, method.split(), batch)
                each = cpu / (count * seeds)
                print(
                    f"| {method} | {count} | {seeds} | {cpu:.1f} | {wall:.1f} | {each:.2f} | {peak:.2f} | {steps:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
