"""PULSE's robustness experiment (section 5): damage the small picture, search with plain bicubic, compare with the clean one.

    python benchmarks/robustness.py --data ../shared/data/faces256-val.zip -n 16 --size 16 --seeds 0-1

The paper's claim: what the prior finds downscales closer to the clean small picture than the damaged one lies. It holds for
the search; the exact projection then reproduces the damage, as it must, so both errors are printed.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch
from PIL import Image
from pulse_faces import faces
from torch import Tensor

from preimage.candidates import Candidates
from preimage.degrade.corrupt import parse_corruption
from preimage.degrade.linear import bicubic
from preimage.files import save_png
from preimage.image import as_picture
from preimage.invert.pulse import Pulse
from preimage.seeds import parse_seeds
from preimage.sheet import contact_sheet

SET = ("none", "gaussian_noise:25", "gaussian_noise:50", "motion_blur", "salt_and_pepper:0.05", "jpeg:50")


def rms(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean().sqrt()) * 255


def small_versions(face: Image.Image, size: int, corruption: str, seed: int) -> tuple[Tensor, Tensor]:
    """The clean small picture and the damaged one, (3, size, size) on the 8-bit grid."""
    clean = as_picture(face.resize((size, size), Image.Resampling.BICUBIC)).pixels
    if corruption == "none":
        return clean, clean
    change = parse_corruption(corruption)
    if change.stage == "lr":
        damaged = change(clean[None], seed=seed)
    else:
        blurred = change(as_picture(face).pixels[None], seed=seed)
        damaged = bicubic((face.height, face.width), lr_size=size)(blurred)
    return clean, (damaged[0].clamp(0, 1) * 255).round() / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/faces256-val.zip"))
    parser.add_argument("-n", "--count", type=int, default=16)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--seeds", default="0-1")
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--prior", default=None)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    pulse, seeds = Pulse(prior=options.prior, preset=options.preset), parse_seeds(options.seeds)
    operator = bicubic(pulse.resolution, lr_size=options.size)
    results, rows = [], []
    print(
        "| corruption | damaged to clean | search to damaged | search to clean | after exact projection to clean |\n|---|---|---|---|---|"
    )
    for corruption in SET:
        sums = torch.zeros(4, dtype=torch.float64)
        for i, (_, face) in enumerate(faces(options.data, options.count)):
            clean, damaged = small_versions(face, options.size, corruption, seed=i)
            found = Candidates.cat(list(pulse.upsample(damaged, seeds)))
            noise = [found.latents[f"noise{k}"] for k in range(len(pulse.prior.noise_sizes))]
            with torch.no_grad():
                small = operator(pulse.prior.synthesize(found.latents["latents"], noise))
            exact = operator(found.images)
            sums += torch.tensor([rms(damaged, clean), rms(small, damaged), rms(small, clean), rms(exact, clean)])
            if i == 0:
                rows.append(
                    [
                        clean,
                        damaged,
                        *pulse.prior.synthesize(found.latents["latents"], noise).clamp(0, 1),
                        *found.images,
                    ]
                )
        values = (sums / options.count).tolist()
        results.append({"corruption": corruption, "values": values})
        print(f"| {corruption} | " + " | ".join(f"{v:.2f}" for v in values) + " |", flush=True)
    assert all(math.isfinite(v) for r in results for v in r["values"])
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        n = len(seeds)
        labels = ["clean", "damaged", *["search"] * n, *["made exact"] * n]
        save_png(
            options.out / "robustness.png", contact_sheet(rows, row_labels=list(SET), column_labels=labels, cell=128)
        )
        (options.out / "robustness.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
