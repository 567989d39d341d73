"""Fit the NIQE model of small faces that the package carries, and record it in the table of weights.

    python tools/fit_niqe.py --data ../shared/data/faces256-train-*.zip --size 64 --block 32 --count 4000

NIQE as published looks at blocks of 96 pixels and cannot judge smaller pictures; this model looks at blocks of 32 of faces
reduced to `--size`. Prints what it says of faces it never saw, as they are, blurred, and with noise.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from embedding import write_row
from torch import Tensor

from preimage.collection import Collection
from preimage.degrade.corrupt import parse_corruption
from preimage.measure.niqe import NiqeModel, niqe
from preimage.weight_files import sha256
from preimage.weights import FOLDER


def pictures(archives: list[Path], side: int, count: int) -> Iterator[Tensor]:
    """Batches of the first `count` faces of the shuffled archives, evenly from each."""
    for archive in archives:
        with Collection(archive) as collection:
            names = collection.sample(-(-count // len(archives)))
            for i in range(0, len(names), 50):
                yield torch.stack([collection.tensor(name, side) for name in names[i : i + 50]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", type=Path, required=True, help="archives of sharp faces to fit on")
    parser.add_argument(
        "--check", type=Path, default=Path("../shared/data/faces256-val.zip"), help="faces to try it on"
    )
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--block", type=int, default=32)
    parser.add_argument("--count", type=int, default=4000)
    options = parser.parse_args()
    name = f"faces{options.size}"
    source = f"{options.count} faces of {', '.join(a.stem for a in options.data)}, reduced to {options.size} pixels"
    model = NiqeModel.fit(pictures(options.data, options.size, options.count), options.block, name=name, source=source)
    path = FOLDER / f"niqe-{name}.npz"
    model.save(path)
    faces = torch.cat(list(pictures([options.check], options.size, 200)))
    found = {"as they are": niqe(faces, model)}
    for sigma in (1.0, 2.0):
        found[f"blur {sigma:g}"] = niqe(blurred(faces, sigma), model)
    for level in (10, 20):
        noisy = parse_corruption(f"gaussian_noise:{level}")(faces, seed=0)
        found[f"noise {level}"] = niqe(noisy, model)
    metrics = {key: round(float(values.nanmean()), 3) for key, values in found.items()}
    for key, value in metrics.items():
        print(f"| {key} | {value} |")
    row = {
        "name": f"niqe-{name}",
        "file": path.name,
        "kind": "niqe",
        "sha256": sha256(path),
        "licence": "CC BY-NC 4.0",
        "description": f"NIQE of faces at {options.size} pixels, blocks of {options.block}: what {source} look like",
        "recipe": "tools/fit_niqe.py",
        "images_seen": options.count,
        "data": [a.name for a in options.data],
        "metrics": {"data": f"{options.check.name}, 200 faces", "niqe": metrics},
    }
    write_row(row)


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur with mirrored borders."""
    radius = int(3 * sigma + 0.5)
    line = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    line = (line / line.sum()).view(1, 1, 1, -1).expand(3, 1, 1, -1)
    padded = torch.nn.functional.pad(images, (radius,) * 4, mode="reflect")
    once = torch.nn.functional.conv2d(padded, line, groups=3)
    return torch.nn.functional.conv2d(once, line.transpose(2, 3), groups=3)


if __name__ == "__main__":
    main()
