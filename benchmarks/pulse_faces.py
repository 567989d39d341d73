"""PULSE on small versions of real faces: exactness, tolerance reached, variety, cost. Prints one Markdown row per size.

    python benchmarks/pulse_faces.py --data ../shared/data/faces256-val.zip --sizes 16:64 32:16 --seeds 0-3

The faces are the first of a fixed shuffle of the archive (seed 0), reduced by Pillow's bicubic filter from their own size.
Every candidate is written to disk and checked there, with Pillow and nothing of ours.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from preimage.candidates import Candidates
from preimage.files import save_png
from preimage.image import as_picture
from preimage.invert.pulse import Pulse
from preimage.invert.search import FORWARDS_PER_STEP
from preimage.measure.diversity import lr_psnr, spread_within_between
from preimage.seeds import parse_seeds
from preimage.sheet import contact_sheet


def faces(archive: Path, count: int) -> Iterator[tuple[str, Image.Image]]:
    """The first `count` pictures of the archive's fixed shuffle."""
    with zipfile.ZipFile(archive) as file:
        names = sorted(n for n in file.namelist() if n.lower().endswith((".webp", ".png", ".jpg", ".jpeg")))
        random.Random(0).shuffle(names)
        for name in names[:count]:
            with Image.open(io.BytesIO(file.read(name))) as picture:
                yield name, picture.convert("RGB")


def saved_exactly(candidates: Candidates, lr: Image.Image, folder: Path) -> int:
    """How many candidates, written as PNG and opened again, Pillow shrinks to the input byte for byte."""
    exact = 0
    for i in range(len(candidates)):
        path = folder / "candidate.png"
        save_png(path, candidates.images[i])
        with Image.open(path) as picture:
            exact += picture.resize(lr.size, Image.Resampling.BICUBIC).tobytes() == lr.tobytes()
    return exact


def measure(
    pulse: Pulse, archive: Path, size: int, count: int, seeds: tuple[int, ...], grid: Path | None
) -> dict[str, float]:
    """One row of the table."""
    exact, done, began = 0, [], time.monotonic()
    rows: list[list[Tensor]] = []
    with tempfile.TemporaryDirectory() as folder:
        for _, face in faces(archive, count):
            small = face.resize((size, size), Image.Resampling.BICUBIC)
            candidates = Candidates.cat(list(pulse.upsample(as_picture(small).pixels, seeds)))
            exact += saved_exactly(candidates, small, Path(folder))
            done.append(candidates)
            if len(rows) < 8:
                truth = as_picture(face.resize((pulse.resolution,) * 2, Image.Resampling.LANCZOS)).pixels
                rows.append([candidates.lr, *candidates.images, truth])
    seconds = time.monotonic() - began
    if grid is not None:
        save_png(
            grid, contact_sheet(rows, column_labels=["input", *[f"seed {s}" for s in seeds], "the real one"], cell=128)
        )
    before = torch.cat([c.error_before for c in done])
    spread = spread_within_between([c.images for c in done])
    steps = torch.cat([c.steps for c in done]).float()
    return {
        "size": size,
        "faces": count,
        "seeds": len(seeds),
        "exact": exact / len(before),
        "eps 1e-3 reached": float(((before / 255).square() <= 1e-3).float().mean()),
        "LR RMS before": float(before.mean()),
        "LR-PSNR before": float(lr_psnr(before).mean()),
        "LR-PSNR after": float(lr_psnr(torch.cat([c.error for c in done])).mean()),
        "moved": float(torch.cat([c.moved for c in done]).mean()),
        "within": spread.within,
        "between": spread.between,
        "steps": float(steps.mean()),
        "forwards": float(steps.mean()) * FORWARDS_PER_STEP,
        "seconds per candidate": seconds / len(before),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/faces256-val.zip"))
    parser.add_argument("--sizes", nargs="+", default=["16:64", "32:16"], help="input side : how many faces")
    parser.add_argument("--seeds", default="0-3")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--prior", default=None)
    parser.add_argument("--out", type=Path, help="folder for results.json and grids")
    options = parser.parse_args()
    pulse = Pulse(prior=options.prior, preset=options.preset)
    results = []
    for spec in options.sizes:
        size, count = map(int, spec.split(":"))
        grid = options.out / f"pulse-{options.preset}-{size}.png" if options.out else None
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
        results.append(measure(pulse, options.data, size, count, parse_seeds(options.seeds), grid))
        if len(results) == 1:
            print("| " + " | ".join(results[0]) + " |\n" + "|---" * len(results[0]) + "|")
        print("| " + " | ".join(f"{v:.4g}" for v in results[-1].values()) + " |", flush=True)
    if options.out:
        (options.out / f"pulse-{options.preset}.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
