"""What turning one region of a DeepSEE answer does: inside it, and elsewhere.

    python benchmarks/deepsee_locality.py --network runs/deepsee-16to128/deepsee.safetensors --data celebamask512.zip/val -n 40

For each region: its style drawn anew, and its map grown by a pixel of a 32nd of the side, on faces whose maps are given (folders `images` and
`masks` in the data). Printed: mean absolute differences of the saved pictures in grey levels inside (the region before or after, and one pixel
around it) and outside, their ratio, and what the projection had to undo before and after. Then walks between two seeds: the share of steps
that lead away from the start. `--page` draws manipulations of some faces.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.candidates import Candidates
from preimage.errors import InputError
from preimage.files import save_png
from preimage.invert.deepsee import PARTS, DeepSEE
from preimage.invert.deepsee_answers import downscaling
from preimage.semantics.edits import apply_edits, where
from preimage.semantics.labels import coloured
from preimage.sheet import contact_sheet
from preimage.train.data import eight_bit, to_tensor
from preimage.train.masks import load_pairs

STEPS = 4
EDITS = ("close-mouth", "grow:hair:{n}", "shrink:nose:{n}", "grow:brows:{n}", "add-glasses", "remove:eyeglasses")


def differences(a: Tensor, b: Tensor, inside: Tensor) -> tuple[float, float]:
    """Mean absolute differences of two pictures (3, R, R), in grey levels, in a part (R, R) and outside of it."""
    off = 255 * (a - b).abs().mean(0)
    return float(off[inside].mean()), float(off[~inside].mean())


def around(inside: Tensor, pixels: int = 1) -> Tensor:
    """A part (R, R) and what is so near to it."""
    return F.max_pool2d(inside[None, None].float(), 2 * pixels + 1, 1, pixels)[0, 0] > 0


def turned(method: DeepSEE, found: Candidates, part: str, pixels: int) -> list[tuple[str, Candidates, Tensor]]:
    """The region with another style, and grown; with the part that may change."""
    labels = found.latents["mask"][0].long()
    grown = apply_edits(labels, [f"grow:{part}:{pixels}"])
    return [
        ("style", method.steer(found, 0, {part: 1.0}, [1]), around(where(labels, part))),
        ("map", method.steer(found, 0, {"mask": grown}), around(where(labels, part) | where(grown, part))),
    ]


def page(method: DeepSEE, faces: Tensor, photos: Tensor, maps: Tensor, others: Tensor) -> Tensor:
    """Rows of a face: photo, map, answer, fresh styles of all, hair, lips; edits of the map; styles of another face."""
    unit, rows = max(1, maps.shape[-1] // 32), []
    for face, photo, labels, other in zip(faces, photos, maps, others, strict=True):
        problem = method.pose(photo, mask=labels)
        found = next(iter(method.sample(problem, [0])))
        row = [F.interpolate(photo[None], face.shape[-2:], mode="nearest")[0], coloured(labels), found.images[0]]
        row += [method.steer(found, 0, {name: 1.0}, [3]).images[0] for name in ("style", "hair", "lips")]
        for edit in EDITS:
            try:
                changed = apply_edits(labels, [edit.format(n=2 * unit)])
            except InputError:  # no eyes to put glasses on
                changed = labels
            row.append(method.steer(found, 0, {"mask": changed}).images[0])
        settings = method.configure({"reference_layout": "photo"}, [0], ("mask", "reference"))
        like = next(iter(method.sample(method.pose(photo, mask=labels, reference=other), [0], settings)))
        rows.append([*row, like.images[0], face])
    return torch.stack([torch.stack(row) for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", required=True)
    parser.add_argument("--data", required=True, help="holds images/ and masks/")
    parser.add_argument("-n", type=int, default=20)
    parser.add_argument("--page", type=Path, help="a PNG of manipulations")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    method = DeepSEE(weights=options.network, device="cpu")
    side = method.resolution
    pictures, masks = load_pairs([options.data], side, progress=False)
    places = torch.linspace(0, len(pictures) - 1, options.n).round().int().tolist()
    faces = torch.cat([to_tensor(pictures[i : i + 1].copy()) for i in places])
    maps = torch.stack([torch.from_numpy(masks[i].copy()).long() for i in places])
    photos = eight_bit(downscaling(side, method.network.config.lr_size)(faces))
    unit = max(1, side // 32)

    rows: dict[tuple[str, str], list[tuple[float, float, float, float]]] = {}
    away: list[bool] = []
    for photo, labels in zip(photos, maps, strict=True):
        problem = method.pose(photo, mask=labels)
        found = next(iter(method.sample(problem, [0])))
        for part in PARTS:
            if int(where(labels, part).sum()) < unit * unit:
                continue
            for kind, after, inside in turned(method, found, part, unit):
                if bool(inside.all()):
                    continue
                near, far = differences(after.images[0], found.images[0], inside)
                rows.setdefault((kind, part), []).append((near, far, float(found.moved), float(after.moved)))
        walk = method.configure({"interpolate": STEPS, "towards": 7}, range(STEPS + 1), ("mask",))
        images = torch.cat([c.images for c in method.sample(problem, list(range(STEPS + 1)), walk)])
        gone = (images - images[:1]).square().mean((1, 2, 3))
        away += (gone.diff() > 0).tolist()

    print("| | region | faces | inside | outside | ratio | moved before | after |\n|---|---|---|---|---|---|---|---|")
    for (kind, part), found_rows in sorted(rows.items()):
        near, far, before, after = torch.tensor(found_rows).mean(0).tolist()
        print(
            f"| {kind} | {part} | {len(found_rows)} | {near:.2f} | {far:.3f} | {near / max(far, 1e-9):.1f} | {before:.2f} | {after:.2f} |"
        )
    print(f"\n{sum(away)} of {len(away)} steps of walks between two seeds lead away from the start.")
    if options.page:
        shown = page(method, faces[:6], photos[:6], maps[:6], faces.roll(1, 0)[:6])
        save_png(options.page, contact_sheet([list(row) for row in shown], cell=max(96, side)))


if __name__ == "__main__":
    main()
