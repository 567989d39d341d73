"""What picking brings: how far apart the shown candidates are, and how near each drawn one is to a shown one. A Markdown table.

    python benchmarks/picking.py ../shared/data/faces256-val.zip --weights ../shared/weights
    python benchmarks/picking.py --photo examples/face0.png --weights ../shared/weights --picture docs/diversity.png

Photos are evenly spaced faces of an archive, shrunk by bicubic. Of each so many candidates are drawn, seeds from 0 on; the first of them are
compared with those that are picked in each embedding. Distance: mean over the pairs of those shown; coverage: mean distance of all that were drawn
to the nearest one shown. Pixels: RMS in grey levels; identity: distance of unit vectors; landmarks: RMS, hundredths of the side.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import preimage
from preimage.candidates import Candidates, caption
from preimage.degrade.consistency import downscale_saved
from preimage.degrade.linear import bicubic
from preimage.errors import PreimageError
from preimage.feature_networks import locate
from preimage.files import save_png
from preimage.image import read_image
from preimage.left_open import open_directions
from preimage.picking import Embedding, embed, farthest, find_embedding, pick
from preimage.sheet import contact_sheet
from preimage.train.data import load_pictures


def shown(vectors: Tensor, places: list[int]) -> tuple[float, float]:
    """Mean distance over pairs of these, and mean distance of all vectors to the nearest of these."""
    apart = torch.cdist(vectors, vectors[places], compute_mode="donot_use_mm_for_euclid_dist")
    count = len(places)
    return float(apart[places].sum()) / (count * (count - 1)), float(apart.amin(1).mean())


def photos(archive: Path, count: int, side: int, size: int) -> list[Tensor]:
    """Evenly spaced faces of an archive, shrunk as their files would be: (3, size, size)."""
    pictures = load_pictures([archive], side, progress=sys.stderr.isatty())
    chosen = np.linspace(0, len(pictures) - 1, count).astype(int)
    large = torch.from_numpy(np.stack([pictures[i] for i in chosen])).permute(0, 3, 1, 2)
    return list(downscale_saved(large, bicubic(side, lr_size=size)).float() / 255)


def table(drawn: list[Candidates], count: int, embeddings: dict[str, Embedding]) -> None:
    """Print the comparison."""
    sets = ["first", *embeddings]
    values = {(chosen, by): list[tuple[float, float]]() for chosen in sets for by in embeddings}
    usual = {chosen: list[float]() for chosen in sets}
    for candidates in drawn:
        vectors = {name: embed(candidates.images, by) for name, by in embeddings.items()}
        for chosen in sets:
            places = list(range(count))
            if chosen != "first":
                places, shares = farthest(vectors[chosen], count)
                usual[chosen].append(float(shares[0]))
            for by in embeddings:
                values[chosen, by].append(shown(vectors[by], places))
    print("| shown | " + " | ".join(f"{by}: distance, coverage" for by in embeddings) + " | share of the most usual |")
    print("|---|" + "---|" * (len(embeddings) + 1))
    for chosen in sets:
        name = f"first {count}" if chosen == "first" else f"{count} by {chosen}"
        means = [np.mean(values[chosen, by], axis=0) for by in embeddings]
        share = f"{np.mean(usual[chosen]):.0%}" if usual[chosen] else ""
        print(f"| {name} | " + " | ".join(f"{a:.3g}, {b:.3g}" for a, b in means) + f" | {share} |")


def picture(candidates: Candidates, count: int, embeddings: dict[str, Embedding], path: Path) -> None:
    """The first, the picked ones, and what directions do to the most usual one, one row each."""
    rows, labels, captions = (
        [list(candidates.images[:count])],
        [f"first {count}"],
        [[caption(s) for s in candidates.seeds[:count]]],
    )
    for name, by in embeddings.items():
        chosen = pick(candidates, count, by, name)
        rows.append(list(chosen.images))
        labels.append(f"by {name}")
        captions.append([caption(s, x) for s, x in zip(chosen.seeds, chosen.share.tolist(), strict=True)])
    start = candidates.seeds.index(pick(candidates, count, embeddings["identity"]).seeds[0])
    directions = open_directions(candidates, 2)
    moves = [(k, t) for k in (0, 1) for t in (-2.0, -1.0, 1.0, 2.0)]
    rows.append([directions.move(k, t, start).images[0] for k, t in moves])
    labels.append(f"seed {candidates.seeds[start]} moved")
    captions.append([f"{k} ({float(directions.shares[k]):.0%}): {t:+g}" for k, t in moves])
    save_png(path, contact_sheet(rows, captions=captions, row_labels=labels, cell=128))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="archive of faces")
    parser.add_argument("--photo", type=Path, default=None, help="one small photo instead")
    parser.add_argument("--weights", type=Path, default=None, help="folder of mobilefacenet and landmarks68")
    parser.add_argument("--method", default="posterior")
    parser.add_argument("--size", type=int, default=16, help="of the photos, pixels")
    parser.add_argument("-n", type=int, default=16, help="photos")
    parser.add_argument("--pick", type=int, default=8)
    parser.add_argument("--of", type=int, default=64)
    parser.add_argument("--picture", type=Path, default=None, help="write this picture of the first photo")
    args = parser.parse_args()
    if args.data is None and args.photo is None:
        parser.error("give an archive, or --photo")
    try:
        embeddings = {"pixels": find_embedding("pixels")}
        for by, name in (("identity", "mobilefacenet"), ("landmarks", "landmarks68")):
            embeddings[by] = find_embedding(f"{by}={locate(name, args.weights)}")
        method = preimage.load(args.method)
        inputs = (
            [read_image(args.photo).pixels] if args.photo else photos(args.data, args.n, method.resolution, args.size)
        )
        drawn = [preimage.upsample(photo, range(args.of), method=method) for photo in inputs]
        assert all(bool(candidates.exact.all()) for candidates in drawn)
        if args.picture is not None:
            picture(drawn[0], args.pick, embeddings, args.picture)
        table(drawn, args.pick, embeddings)
    except PreimageError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
