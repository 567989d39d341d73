"""What it saves to begin a latent search on a smaller picture: seconds, the error before the exact projection, distance to real faces.

    python benchmarks/coarse_to_fine.py --data ../shared/data/faces256-val.zip --size 16 -n 64
    python benchmarks/coarse_to_fine.py --branches runs/side-outputs-faces64/side-output.safetensors

One candidate (seed 0) of each of the first faces of a fixed shuffle of the archive (seed 0), reduced by Pillow's bicubic filter; PULSE
with its default settings and other shares `coarse`. Seconds are of the processor, so that other work on the machine plays little part.
The kernel distance is that of VGG features of the exact files to the next faces of the shuffle, RMS that to the true face.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from preimage.candidates import Candidates
from preimage.collection import Collection
from preimage.feature_networks import load_network
from preimage.files import save_png
from preimage.image import as_picture, to_uint8
from preimage.invert.pulse import Pulse
from preimage.invert.queue import Ask
from preimage.measure.distances import FeatureScale, kernel_distance
from preimage.sheet import contact_sheet
from preimage.weights import load_side_outputs

JUDGE = "vgg19-distilled"
SHOWN = 8


def reduced(face: Tensor, side: int) -> Tensor:
    """A small photo of a face (3, R, R), by Pillow's bicubic filter."""
    picture = Image.fromarray(to_uint8(face[None])[0].permute(1, 2, 0).numpy())
    return as_picture(picture.resize((side, side), Image.Resampling.BICUBIC)).pixels


def searched(pulse: Pulse, photos: Sequence[Tensor], controls: dict[str, Any]) -> tuple[list[Candidates], float]:
    """One candidate of every photo, in their order, and the processor's seconds for each."""
    settings = pulse.configure(controls)
    asks = [Ask(pulse.pose(photo), [0]) for photo in photos]
    began = time.process_time()
    found = dict(pulse.sample_each(asks, settings))
    return [found[ask] for ask in asks], (time.process_time() - began) / len(asks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/faces256-val.zip"))
    parser.add_argument("--size", type=int, default=16, help="side of the photos")
    parser.add_argument("-n", "--count", type=int, default=64)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.5, 0.8])
    parser.add_argument("--prior", default=None)
    parser.add_argument("--branches", default=None, help="learned side outputs of the prior; default: its own")
    parser.add_argument("--preset", default="stylegan")
    parser.add_argument("--stop", type=float, default=None, help="other than the preset's; 0 runs all steps")
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights"), help="folder of feature networks")
    parser.add_argument(
        "--grid", type=Path, default=None, help="PNG of the first faces: photo, each share, the real one"
    )
    args = parser.parse_args()
    pulse = Pulse(prior=args.prior, preset=args.preset, device="cpu")
    if args.branches:
        prior: Any = pulse.prior
        prior.attach(load_side_outputs(args.branches, prior))
    with Collection(args.data) as faces:
        names = faces.sample(2 * args.count)
        sharp = [faces.tensor(name) for name in names[: args.count]]
        real = torch.stack([faces.tensor(name, pulse.resolution) for name in names])
    photos, (truth, others) = [reduced(face, args.size) for face in sharp], real.split(args.count)
    network = load_network(JUDGE, args.weights)
    with torch.no_grad():
        features = network.pooled(others)
    scale = FeatureScale.of(features)
    rows = [[photo, face] for photo, face in zip(photos, truth, strict=True)]
    controls = {} if args.stop is None else {"stop": args.stop}
    searched(pulse, photos[:1], controls)  # what is made once
    print(
        "| coarse | seconds | steps | LR RMS before | moved | exact | kd-vgg | RMS to the face |\n" + "|---" * 8 + "|"
    )
    for share in args.shares:
        found, seconds = searched(pulse, photos, controls | {"coarse": share})
        made = torch.cat([part.images for part in found])
        with torch.no_grad():
            distance = kernel_distance(network.pooled(made), features, subset_size=args.count // 2, scale=scale).value
        means = [
            torch.cat([getattr(p, key) for p in found]).float().mean()
            for key in ("steps", "error_before", "moved", "exact")
        ]
        apart = 255 * (made - truth).square().flatten(1).mean(1).sqrt().mean()
        values = [share, seconds, *means, distance, apart]
        print("| " + " | ".join(f"{float(value):.3g}" for value in values) + " |", flush=True)
        for row, picture in zip(rows, made, strict=True):
            row.insert(-1, picture)
    if args.grid:
        labels = ["photo", *(f"coarse {share:g}" for share in args.shares), "the real one"]
        save_png(args.grid, contact_sheet(rows[:SHOWN], column_labels=labels, cell=128))


if __name__ == "__main__":
    main()
