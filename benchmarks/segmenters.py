"""How well regions of faces are found: mean IoU, pixel accuracy and IoU of each label, by size of the photo. Markdown, JSON, a picture.

    python benchmarks/segmenters.py --data ../shared/data/celebamask512.zip/val --networks segmenter-faces128 \\
        --foreign ../shared/weights/faceparser-unet19.safetensors --out segmenters.json --grid segmenters.png

Photos are bicubic reductions of the faces, as 8-bit files hold them; maps are judged at `--side`, all pixels of the set together. The
foreign parser (a U-Net of 32-64-128 channels at 256 px whose labels have an order of their own) sees the photo enlarged by bicubic.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from preimage.degrade.linear import bicubic
from preimage.files import save_png, write_text_atomic
from preimage.semantics.agreement import Agreement, agreement, confusion
from preimage.semantics.labels import LABELS, NUMBER, coloured
from preimage.semantics.segment import segment
from preimage.sheet import contact_sheet
from preimage.train.data import eight_bit, to_tensor
from preimage.train.masks import load_pairs
from preimage.weights import load_network

FOREIGN_LABELS = (0, 11, 6, 1, 9, 5, 2, 16, 8, 3, 12, 7, 14, 13, 10, 17, 18, 4, 15)
"""What each label of the foreign parser is in the order of `LABELS`."""
FOREIGN_SIDE = 256


class Foreign(nn.Module):
    """The parser of lightweight-unet-face-parsing, on the contract of a segmenter: photos in [0, 1] -> scores of `LABELS`."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.weights = load_file(path)
        found = self.weights["out.weight"].shape[0]
        if found != NUMBER:
            raise SystemExit(f"{path}: has {found} labels, not {NUMBER}; give faceparser-unet19.safetensors.")
        self.order = torch.tensor(FOREIGN_LABELS).argsort()

    def forward(self, pictures: Tensor) -> Tensor:
        w, size = self.weights, (FOREIGN_SIDE, FOREIGN_SIDE)
        x = F.interpolate(pictures, size, mode="bicubic", align_corners=False).clamp(0, 1) * 2 - 1

        def double(x: Tensor, name: str) -> Tensor:
            for part in (0, 2):
                x = F.relu(F.conv2d(x, w[f"{name}.{part}.weight"], w[f"{name}.{part}.bias"], padding=1))
            return x

        def up(x: Tensor, name: str) -> Tensor:
            return F.conv_transpose2d(x, w[f"{name}.weight"], w[f"{name}.bias"], stride=2)

        fine = double(x, "enc1")
        half = double(F.max_pool2d(fine, 2), "enc2")
        x = double(F.max_pool2d(half, 2), "bottleneck")
        x = double(torch.cat([up(x, "up1"), half], 1), "dec1")
        x = double(torch.cat([up(x, "up2"), fine], 1), "dec2")
        return F.conv2d(x, w["out.weight"], w["out.bias"])[:, self.order]


def photos_of(faces: Tensor, size: int) -> Tensor:
    """Photos as 8-bit files hold them; the faces themselves at their own size."""
    side = faces.shape[-1]
    return faces if size == side else eight_bit(bicubic(side, lr_size=size)(faces))


def row(name: str, size: int, found: Agreement) -> dict[str, Any]:
    """A line of the table as plain values; NaN, where a label is nowhere, is None."""
    each = {label.name: None if x != x else round(x, 4) for label, x in zip(LABELS, found.iou, strict=True)}
    return {
        "network": name, "photo": size, "mean_iou": round(found.mean_iou, 4), "accuracy": round(found.accuracy, 4), "iou": each,
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a column for each network and size, a line for each figure."""
    head = (
        "| | " + " | ".join(f"{r['network']}, {r['photo']} px" for r in rows) + " |\n" + "|---" * (len(rows) + 1) + "|"
    )
    lines = [("mean IoU", [r["mean_iou"] for r in rows]), ("pixel accuracy", [r["accuracy"] for r in rows])]
    lines += [(label.name, [r["iou"][label.name] for r in rows]) for label in LABELS]
    return "\n".join(
        [
            head,
            *(
                f"| {name} | " + " | ".join("" if v is None else f"{v:.3f}" for v in values) + " |"
                for name, values in lines
            ),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--networks", nargs="+", default=[])
    parser.add_argument("--foreign", type=Path)
    parser.add_argument("--sizes", nargs="+", type=int, default=[16, 32, 128])
    parser.add_argument("--side", type=int, default=128, help="of faces and maps")
    parser.add_argument("--plain", action="store_true", help="do not look at the mirrored photo too")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--grid", type=Path)
    parser.add_argument("--shown", type=int, default=10)
    options = parser.parse_args()
    pictures, masks = load_pairs(options.data, options.side, progress=False)
    faces, truth = to_tensor(np.array(pictures)), torch.from_numpy(np.array(masks)).long()
    networks: dict[str, nn.Module] = {}
    for name in options.networks:
        network = load_network(name, "segmenter")
        networks[str(network.name)] = network
    if options.foreign:
        networks["foreign"] = Foreign(options.foreign)
    chosen = np.linspace(0, len(faces) - 1, options.shown).round().astype(int)
    rows, shown, labels = (
        list[dict[str, Any]](),
        [list(faces[chosen]), list(coloured(truth[chosen]))],
        ["faces", "maps"],
    )
    for size in options.sizes:
        photos = photos_of(faces, size)
        shown.append(list(photos[chosen]))
        labels.append(f"{size} px")
        for name, network in networks.items():
            found = segment(network, photos, options.side, mirrored=not options.plain)
            rows.append(row(name, size, agreement(confusion(found, truth))))
            shown.append(list(coloured(found[chosen])))
            labels.append(name)
    print(f"{len(faces)} pairs, maps of {options.side} px\n\n{table(rows)}")
    if options.out:
        sizes, data = (
            " ".join(map(str, options.sizes)),
            " ".join(Path(d).as_posix().split("data/")[-1] for d in options.data),
        )
        command = f"python benchmarks/segmenters.py --data {data} --networks {' '.join(networks)} --sizes {sizes} --side {options.side}"
        report = {"command": command, "pairs": len(faces), "side": options.side, "rows": rows}
        write_text_atomic(options.out, json.dumps(report, indent=1) + "\n")
    if options.grid:
        save_png(options.grid, contact_sheet(shown, row_labels=labels, cell=options.side))


if __name__ == "__main__":
    main()
