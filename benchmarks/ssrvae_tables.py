"""The tables of SSRVAE (Ma et al., 2019) with our networks, as Markdown and JSON: whatever networks are given become rows.

    python benchmarks/ssrvae_tables.py styles both=runs/style-vae-64to16/degradation.safetensors MI=… AdaIN=… none=…       # table 5
    python benchmarks/ssrvae_tables.py pairs --degradation style-vae srcnn=runs/srcnn-64/upsampler.safetensors …           # table 1
    python benchmarks/ssrvae_tables.py real srcnn-b=… srcnn-s=… edsr-b=… edsr-s=… ours=…                                   # tables 2, 3
    python benchmarks/ssrvae_tables.py pairs --only lfw none=… local=… global=… both=…                                     # table 4

`styles` holds sharp faces that no training saw, made small by each styleVAE in the styles of natively small faces of the train
folder (and of the Gaussian), against natively small faces of the val folder; all are enlarged by bicubic before they are judged. `pairs`
makes small photos of sharp faces by a degradation (a styleVAE: in the styles of the val folder) and states PSNR and SSIM over RGB of what
the networks make of them. `real` enlarges natively small faces and holds the results against sharp faces. Bicubic is always among the rows.
Distances are named after the network that judges, their features in units of their spread over real pictures (`styles`: the natively
small faces of the train folder; `real`: the sharp faces); published FIDs are of other pictures and another network.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from degradation_realism import content, enlarged, features, grid8
from torch import Tensor

from preimage.collection import Collection
from preimage.degrade.learned import apply_learned
from preimage.degrade.style_vae import StyleVAE
from preimage.feature_networks import NETWORKS, load_network
from preimage.files import save_png
from preimage.measure.distances import FeatureScale, frechet_distance, kernel_distance
from preimage.measure.fidelity import FIDELITY
from preimage.nets.upscaler import bicubic
from preimage.seeds import normal
from preimage.sheet import contact_sheet
from preimage.train.data import plain_source, to_tensor
from preimage.train.degrader import make_degrader
from preimage.train.small_faces import count_by_side, small_faces
from preimage.weights import load_degradation, load_upsampler

DATA = Path("../shared/data")
JUDGES = ("squeezenet11-keras", "vgg19-distilled")
FACTOR, BATCH = 4, 64
Enlarge = Callable[[Tensor], Tensor]


def sharp_faces(args: argparse.Namespace, side: int) -> Tensor:
    """Faces at `side` that no training saw, (n, 3, side, side); of one source where --only names it."""
    with Collection(args.faces) as collection:
        names = [n for n in collection.sample(None) if args.only in n][: args.count or None]
        return torch.stack([collection.tensor(name, side) for name in names])


def natively_small(args: argparse.Namespace, folder: str, side: int) -> tuple[Tensor, str]:
    """Natively small faces of one folder of the archive at `side`, and how many there are of each size."""
    found, sides = small_faces([f"{args.small}/{folder}"], side, tuple(args.native))
    return to_tensor(found), count_by_side(sides)


def enlargers(named: Mapping[str, str]) -> dict[str, Enlarge]:
    """What makes pictures of photos, by name of its row: bicubic first."""
    rows: dict[str, Enlarge] = {"bicubic": lambda lr: bicubic(lr, FACTOR)}
    for name, path in named.items():
        network: Any = load_upsampler(path)
        rows[name] = network
    return rows


@torch.no_grad()
def answers(enlarge: Enlarge, photos: Tensor) -> Tensor:
    return torch.cat([grid8(enlarge(part).clamp(0, 1)) for part in photos.split(BATCH)])


def distances(
    judges: Mapping[str, Any], made: Tensor, real: Mapping[str, Tensor], units: Mapping[str, FeatureScale]
) -> dict[str, float]:
    """Fréchet and kernel distance by every judge; `real` holds the features of real pictures by judge, `units` their scale."""
    out = {}
    for label, judge in judges.items():
        found = features(judge, made)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few pictures: their number stands beside the table
            out[f"fd-{label}"] = frechet_distance(found, real[label], units[label])
        size = min(len(found), len(real[label]), 1000)
        out[f"kd-{label}"] = kernel_distance(found, real[label], subset_size=size, scale=units[label]).value
    return out


def judges_of(args: argparse.Namespace) -> dict[str, Any]:
    return {NETWORKS[name].label: load_network(name, args.weights) for name in JUDGES}


@torch.no_grad()
def styles(args: argparse.Namespace, named: Mapping[str, str]) -> dict[str, Any]:
    """Table 5: distance of made small faces to natively small ones."""
    side, high = args.lr_size, FACTOR * args.lr_size
    sharp, judges = sharp_faces(args, high), judges_of(args)
    real, counted = natively_small(args, "val", side)
    seen, _ = natively_small(args, "train", side)
    goal = {label: features(judge, enlarged(real, high)) for label, judge in judges.items()}
    every, _ = small_faces([f"{args.small}/train"], side, (side, 10_000))
    units = {
        label: FeatureScale.of(features(judge, enlarged(to_tensor(every), high))) for label, judge in judges.items()
    }
    sets = {"bicubic": (make_degrader("bicubic", high, side)(sharp), None), "natively small, train": (seen, None)}
    pick = torch.randint(len(seen), (2, len(sharp)), generator=torch.Generator().manual_seed(args.seed))
    for name, path in named.items():
        model: Any = load_degradation(path)
        drawn: list[tuple[str, Any]] = [("Gaussian", None)]
        if isinstance(model, StyleVAE):
            drawn.insert(0, ("photos", model.style(seen)))
        for source, around in drawn:
            first, second = (_degraded(model, sharp, chosen, around, seed) for seed, chosen in enumerate(pick))
            sets[f"{name}, styles of {source}"] = first, float((first - second).abs().mean() * 255)
    rows, identity = {}, load_network("mobilefacenet", args.weights)
    for name, (made, apart) in sets.items():
        rows[name] = distances(judges, enlarged(made, high), goal, units)
        if len(made) == len(sharp):
            rows[name]["identity AUC"] = content(identity, enlarged(made, high), sharp)["auc"]
        if apart is not None:
            rows[name]["styles apart"] = apart
    if args.grid:
        show(args.grid, [sharp, *(made for made, _ in sets.values()), real])
    return {"sharp faces": len(sharp), "natively small, val": counted, "rows": rows}


def _degraded(model: Any, sharp: Tensor, chosen: Tensor, around: Any, seed: int) -> Tensor:
    """In the chosen photos' styles, given as (means, log spreads) of all of them, or in those of the Gaussian."""
    z = normal(range(len(sharp)), (model.noise_dim,), f"table{seed}")
    if around is not None:
        mean, log_spread = (x[chosen] for x in around)
        z = mean + log_spread.exp() * z
    parts = zip(sharp.split(BATCH), z.split(BATCH), strict=True)
    return torch.cat([grid8(apply_learned(model, x, part)) for x, part in parts])


def pairs(args: argparse.Namespace, named: Mapping[str, str]) -> dict[str, Any]:
    """Tables 1 and 4: PSNR and SSIM on photos that a degradation makes of sharp faces."""
    sharp = sharp_faces(args, FACTOR * args.lr_size)
    torch.manual_seed(args.seed)
    camera: Any = None
    if args.degradation not in ("bicubic", "corrupt"):
        camera = load_degradation(args.degradation)
    taken = [f"{args.small}/val"] if isinstance(camera, StyleVAE) else []
    degrade = make_degrader(
        args.degradation, FACTOR * args.lr_size, args.lr_size, styles=taken, native=tuple(args.native), corruptions=args.corruptions
    )  # fmt: skip
    photos, rows, shown = degrade(sharp), {}, [sharp]
    for name, enlarge in enlargers(named).items():
        made = answers(enlarge, photos)
        rows[name] = {
            "PSNR": float(FIDELITY["psnr-rgb"](made, sharp).mean()),
            "SSIM": float(FIDELITY["ssim-rgb"](made, sharp).mean()),
        }
        shown.append(made)
    if args.grid:
        show(args.grid, [photos, *shown[1:], sharp])
    return {"sharp faces": len(sharp), "degradation": args.degradation, "rows": rows}


def real(args: argparse.Namespace, named: Mapping[str, str]) -> dict[str, Any]:
    """Tables 2 and 3: distance of what is made of natively small faces to sharp ones."""
    sharp, judges = sharp_faces(args, FACTOR * args.lr_size), judges_of(args)
    photos, counted = natively_small(args, args.folder, args.lr_size)
    goal = {label: features(judge, sharp) for label, judge in judges.items()}
    units = {label: FeatureScale.of(found) for label, found in goal.items()}
    rows, shown = {}, []
    for name, enlarge in enlargers(named).items():
        made = answers(enlarge, photos)
        rows[name] = distances(judges, made, goal, units)
        shown.append(made)
    if args.grid:
        show(args.grid, [photos, *shown])
    return {"sharp faces": len(sharp), f"natively small, {args.folder}": counted, "rows": rows}


def show(path: Path, sets: list[Tensor]) -> None:
    """One row per set, of twelve pictures evenly spread over it."""
    rows = [list(pictures[:: max(1, len(pictures) // 12)][:12]) for pictures in sets]
    save_png(path, contact_sheet(rows, cell=96))


def table(result: dict[str, Any]) -> str:
    rows: dict[str, dict[str, float]] = result["rows"]
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(f"{row[c]:.4g}" if c in row else "" for c in columns) + " |")
    return "\n".join([*lines, "", *(f"{key}: {value}" for key, value in result.items() if key != "rows")])


KINDS = {"styles": styles, "pairs": pairs, "real": real}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("networks", nargs="*", help="NAME=FILE, or NAME=embedded-name, a row each")
    parser.add_argument("--faces", type=Path, default=DATA / "faces256-val.zip", help="archive of sharp faces")
    parser.add_argument("--only", default="", help="sharp faces with this in their name, such as lfw")
    parser.add_argument("-n", "--count", type=int, default=0, help="sharp faces, of a fixed shuffle; 0: all")
    parser.add_argument(
        "--small", type=Path, default=DATA / "lowres-real.zip", help="natively small faces, train and val"
    )
    parser.add_argument("--folder", default="val", help="of these, for `real`")
    parser.add_argument("--native", type=int, nargs=2, default=(16, 48), help="their smallest and largest native side")
    parser.add_argument("--lr-size", type=int, default=16, help="side of photos")
    parser.add_argument("--degradation", default="bicubic", help="of `pairs`: bicubic, corrupt, or a learned one")
    parser.add_argument("--corruptions", nargs="*", default=[], help="of corrupt")
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights"), help="folder of feature networks")
    parser.add_argument("--seed", type=int, default=0, help="of the styles")
    parser.add_argument("--out", type=Path, help="also write everything measured as JSON")
    parser.add_argument("--grid", type=Path, help="also write a picture of some faces")
    args = parser.parse_intermixed_args()
    named = dict(text.split("=", 1) for text in args.networks)
    given = [
        text if text.startswith("-") else "=".join(plain_source(x) for x in text.split("=")) for text in sys.argv[1:]
    ]
    command = "python benchmarks/ssrvae_tables.py " + shlex.join(given)  # the names of files, not where they lie
    result = {"command": command, **KINDS[args.kind](args, named)}
    print(table(result))
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
