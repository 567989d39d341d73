"""Who a face looks like at each resolution: identity similarity to the true face, of side outputs and of shrunken candidates. A Markdown table.

    python benchmarks/resolutions.py ../shared/weights/mobilefacenet-128d.safetensors

After Pro-PULSE (Zhou et al., 2022), figure 8. Photos are evenly spaced faces of an archive, shrunk by bicubic to 16 pixels, one candidate of
seed 0 each. At every side the picture is held against the true face at that side, both shrunk by bicubic; of exact candidates the smallest is
the photo itself, whose similarity is 1 by construction. "as the prior draws it" is the side output. Below, two bounds: another person's face (the next
one), and the true face shrunk against the true face at full size, how much a face at that side says at all.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import preimage
from preimage.degrade.linear import bicubic
from preimage.errors import PreimageError
from preimage.invert.queue import Ask
from preimage.picking import Embedding, embed, find_embedding
from preimage.train.data import load_pictures, to_tensor

SIZE = 16


def at_side(pictures: Tensor, side: int) -> Tensor:
    """Pictures (n, 3, R, R) in [0, 1] shrunk to a side as files hold them."""
    if pictures.shape[-1] != side:
        pictures = bicubic(pictures.shape[-1], lr_size=side)(pictures)
    return (pictures.clamp(0, 1) * 255).round() / 255


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help="mobilefacenet-128d.safetensors")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/faces256-val.zip"))
    parser.add_argument("-n", type=int, default=64, help="evenly spaced faces")
    parser.add_argument("--methods", default="pro-pulse,pulse,posterior")
    args = parser.parse_args()
    try:
        embedding = find_embedding(f"identity={args.network}")
        rows: dict[str, dict[int, Tensor]] = {}
        bounds: dict[str, dict[int, Tensor]] = {}
        for name in args.methods.split(","):
            method = preimage.load(name, device="cpu")
            truth = faces(args.data, method.resolution, args.n)
            photos = at_side(truth, SIZE)
            asks = [Ask(method.pose(photo), (0,)) for photo in photos]
            by_photo = dict(method.sample_each(asks))
            drawn = [by_photo[ask] for ask in asks]
            sides = [side for side in (16, 32, 64, 128, 256, 512) if side <= method.resolution]
            found = torch.cat([c.images for c in drawn])
            rows[f"{name}, shrunk candidate"] = {
                s: similarity(embedding, at_side(found, s), at_side(truth, s)) for s in sides
            }
            if method.side_sizes:
                outputs = [method.side_outputs(c) for c in drawn]
                mine = {s: torch.cat([o[s] for o in outputs]) for s in method.side_sizes if s in sides}
                rows[f"{name}, as the prior draws it"] = {
                    s: similarity(embedding, x, at_side(truth, s)) for s, x in mine.items()
                }
            bounds = {
                "a stranger": {
                    s: similarity(embedding, at_side(truth, s), at_side(truth.roll(1, 0), s)) for s in sides
                },
                "the true face shrunk, against itself": {
                    s: similarity(embedding, at_side(truth, s), truth) for s in sides
                },
            }
        rows |= bounds
    except PreimageError as error:
        print(error, file=sys.stderr)
        return 1
    sides = sorted({side for row in rows.values() for side in row})
    print("| | " + " | ".join(f"{side} px" for side in sides) + " |")
    print("|---|" + "---|" * len(sides))
    for name, row in rows.items():
        cells = [
            f"{float(row[s].mean()):.2f} ± {float(row[s].std() / len(row[s]) ** 0.5):.2f}" if s in row else ""
            for s in sides
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")
    return 0


def faces(archive: Path, side: int, count: int) -> Tensor:
    """Evenly spaced faces of an archive, (count, 3, side, side) in [0, 1]."""
    pictures = load_pictures([archive], side, progress=sys.stderr.isatty())
    return to_tensor(np.stack([pictures[i] for i in np.linspace(0, len(pictures) - 1, count).astype(int)]))


def similarity(embedding: Embedding, pictures: Tensor, truth: Tensor) -> Tensor:
    """Cosine of the identity of each picture and of the true face: (n,)."""
    return (embed(pictures, embedding) * embed(truth, embedding)).sum(1)


if __name__ == "__main__":
    sys.exit(main())
