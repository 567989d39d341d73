"""Write examples/face0.png …: small faces that the default prior imagined, so that no real person is shown.

python tools/make_examples.py --seeds 1009,1015,1026,1040
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from preimage.degrade.consistency import downscale_saved
from preimage.degrade.linear import bicubic
from preimage.files import save_png
from preimage.image import to_uint8
from preimage.seeds import parse_seeds
from preimage.weights import load_prior


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1009,1015,1026,1040")
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("examples"))
    options = parser.parse_args()
    seeds = parse_seeds(options.seeds)
    prior: Any = load_prior()
    large = to_uint8(prior.sample(seeds, truncation=0.8))
    small = downscale_saved(large, bicubic(prior.resolution, lr_size=options.size))
    for i, (picture, seed) in enumerate(zip(small, seeds, strict=True)):
        about = {"Comment": f"imagined by {prior.name}, seed {seed}, truncation 0.8; no real person"}
        save_png(options.out / f"face{i}.png", picture, about)


if __name__ == "__main__":
    main()
