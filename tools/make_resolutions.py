"""Write docs/pro-pulse-resolutions.png: Pro-PULSE's answers at every resolution, and two edits of one of them, from imagined photos.

    python tools/make_resolutions.py examples/face2.png examples/face0.png examples/face1.png

After Pro-PULSE (Zhou et al., 2022), figures 7 and 9. Each row is one photo, or an edit of the first: the photo, the side outputs as the prior draws
them, the prior's picture, and the candidate, which shrinks to the photo byte for byte. Draw photos of imagined faces only.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import preimage
from preimage.candidates import Candidates
from preimage.files import save_png
from preimage.image import read_image
from preimage.sheet import contact_sheet


def sizes(method: Any, candidate: Candidates) -> list[Tensor]:
    """The photo, what the prior draws at every side up to its own, and the candidate."""
    latents = candidate.latents
    noise = [latents[f"noise{i}"] for i in range(len(method.prior.noise_sizes))]
    with torch.no_grad():
        whole = method.prior.synthesize(latents["latents"], noise).clamp(0, 1)
    smaller = method.side_outputs(candidate)
    return [candidate.lr, *(smaller[side][0] for side in shown(method, candidate.lr)), whole[0], candidate.images[0]]


def shown(method: Any, lr: Tensor) -> list[int]:
    """Sides of the side outputs from the photo's on: below it a generator with skips draws parts of a sum, no pictures."""
    return [side for side in method.side_sizes if side >= lr.shape[-1]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--edits", default="age=1,age=-1,gender=1,gender=-1", help="of the first photo, a row each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/pro-pulse-resolutions.png"))
    options = parser.parse_args()
    method: Any = preimage.load("pro-pulse", device="cpu")
    rows, labels = [], []
    for photo in options.photos:
        rows.append(sizes(method, preimage.upsample(photo, options.seed, method=method)))
        labels.append(photo.stem)
    for edit in options.edits.split(","):
        edited = preimage.upsample(read_image(options.photos[0]).pixels, options.seed, method=method, edit=edit)
        rows.append(sizes(method, edited))
        labels.append(edit)
    names = ["photo", *(f"{side} px" for side in (*shown(method, rows[0][0]), method.resolution)), "candidate"]
    save_png(options.output, contact_sheet(rows, row_labels=labels, column_labels=names, cell=128))


if __name__ == "__main__":
    main()
