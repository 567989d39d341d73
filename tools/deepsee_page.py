"""Draw docs/deepsee-page.png: manipulations in the manner of DeepSEE's figures 1, 2, 6, 7 and 8, of imagined faces.

    python tools/deepsee_page.py

Photos, sharp faces and references are imagined by the default prior; no real person is shown. Below each picture stands what was asked for and
how many grey levels (RMS) the projection had to undo to make it exact (`moved`).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from preimage.candidates import Candidates
from preimage.files import save_png
from preimage.invert.deepsee import DeepSEE
from preimage.invert.deepsee_answers import downscaling
from preimage.seeds import parse_seeds
from preimage.semantics.edits import apply_edits
from preimage.semantics.labels import coloured
from preimage.sheet import contact_sheet
from preimage.weights import load_prior

Cell = tuple[Tensor | None, str]
EDITS = {
    "mouth closed": "close-mouth",
    "hair grown": "grow:hair:8",
    "brows up": "move:brows:0:-5",
    "glasses": "add-glasses",
}
WALK = 4


def patterns(side: int) -> dict[str, Tensor]:
    """Geometric pictures (3, side, side): stripes of two colours, a chequerboard."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    stripes, squares = ((x + y) // 8 % 2).float(), ((x // 8 + y // 8) % 2).float()
    red, blue = torch.tensor([0.9, 0.2, 0.1])[:, None, None], torch.tensor([0.1, 0.3, 0.8])[:, None, None]
    return {"stripes": stripes * red + (1 - stripes) * blue, "squares": squares.expand(3, -1, -1).clone()}


class Page:
    """Answers to one face's photo, as cells with a caption."""

    def __init__(self, method: DeepSEE, face: Tensor):
        self.method, self.face = method, face
        operator = downscaling(method.resolution, method.network.config.lr_size)
        self.photo = (operator(face[None]).clamp(0, 1) * 255).round()[0] / 255
        self.labels = self.answers({})[0].latents["mask"][0].long()

    def answers(self, settings: dict[str, Any], seeds: tuple[int, ...] = (0,), **guides: Any) -> list[Candidates]:
        """One for each seed."""
        asked = self.method.configure(settings, list(seeds), tuple(guides))
        problem = self.method.pose(self.photo, **guides)
        return [next(iter(self.method.sample(problem, [seed], asked))) for seed in seeds]

    def cell(self, name: str, settings: dict[str, Any] | None = None, seed: int = 0, **guides: Any) -> Cell:
        """An answer; what the projection undid stands behind its name."""
        (found,) = self.answers(settings or {}, (seed,), **guides)
        return found.images[0], f"{name}: {float(found.moved[0]):.1f}"


def drawn(method: DeepSEE, faces: Tensor) -> list[list[Cell]]:
    """The rows of the page."""
    page, open_mouth, other = Page(method, faces[0]), Page(method, faces[1]), faces[2]
    still = {"temperature": 0.0}
    like = {"reference": other, "mask": page.labels}
    noisy = page.cell("lips noise", still | {"style_noise": "lips=1"}, seed=1)
    rows: list[list[Cell]] = [
        [
            (page.photo, "photo 16 px"),
            (coloured(page.labels), "its regions"),
            *(page.cell(f"seed {s}", seed=s) for s in range(3)),
            noisy,
        ]
    ]

    shown: list[Cell] = [(other, "reference"), page.cell("its styles", still, **like)]
    shown.append(page.cell("hair, lips", still | {"reference_regions": "hair,lips"}, **like))
    for name, picture in patterns(method.resolution).items():
        shown += [(picture, name), page.cell(f"as {name}", still | {"reference_layout": "photo"}, reference=picture)]
    rows.append(shown)

    maps: list[Cell] = [(open_mouth.photo, "photo 16 px"), (coloured(open_mouth.labels), "its regions")]
    edited: list[Cell] = [(open_mouth.face, "the face itself"), open_mouth.cell("independent", still)]
    for name, edit in EDITS.items():
        changed = apply_edits(open_mouth.labels, [edit])
        maps.append((coloured(changed), name))
        edited.append(open_mouth.cell(name, still, mask=changed))
    taken = open_mouth.answers(still, mask_from=other)[0]
    maps.append((coloured(taken.latents["mask"][0].long()), "another's"))
    edited.append((taken.images[0], f"another's: {float(taken.moved[0]):.1f}"))
    rows += [maps, edited]

    walk = {"interpolate": WALK, **still}
    guided = {"reference": open_mouth.face}
    rows.append(
        [
            *(page.cell(f"step {s} of {WALK}", walk, seed=s, reference=other) for s in range(WALK + 1)),
            open_mouth.cell("guided by itself", still, **guided),
            open_mouth.cell("its regions too", still, **guided, mask_from=open_mouth.face),
        ]
    )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="deepsee-16to128")
    parser.add_argument(
        "--faces", default="1000,1003,1029", help="seeds of the prior: a face, one with an open mouth, a reference"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/deepsee-page.png"))
    options = parser.parse_args()
    method, prior = DeepSEE(weights=options.network, device="cpu"), load_prior()
    rows = drawn(method, prior.sample(parse_seeds(options.faces), truncation=0.7).clamp(0, 1))
    width = max(map(len, rows))
    rows = [[*row, *[(None, "")] * (width - len(row))] for row in rows]
    pictures, captions = ([[cell[i] for cell in row] for row in rows] for i in (0, 1))
    save_png(options.out, contact_sheet(pictures, captions=captions, cell=128))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
