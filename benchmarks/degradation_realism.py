"""Do degraded faces look like natively small ones? Distances, variety over the noise, content kept: Markdown, JSON and a picture.

    python benchmarks/degradation_realism.py --degradation degradation-gan --out realism.json --grid realism.png

Sharp faces that no training saw are made 16x16 three ways (bicubic; a usual mix of corruptions; the network), enlarged by
bicubic to 64x64 and held against natively small faces of the val folder, reduced by area and enlarged the same way. Distances
are named after the network that judges; the one whose features trained the degradation is marked: it flatters. Features are
raw (as an FID takes them) and in units of their spread over the natively small faces of the train folder, which are many
more. "nearest" repeats the kernel distance on random halves of the small faces: how often each of the three sets wins.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.collection import Collection
from preimage.degrade.consistency import downscale_saved
from preimage.degrade.corrupt import parse_corruption
from preimage.degrade.learned import apply_learned
from preimage.degrade.linear import bicubic
from preimage.feature_networks import NETWORKS, load_network
from preimage.files import save_png
from preimage.image import to_uint8
from preimage.measure import judges
from preimage.measure.distances import FeatureScale, frechet_distance, kernel_distance
from preimage.nets.features import FeatureNetwork
from preimage.sheet import contact_sheet
from preimage.train.data import to_tensor
from preimage.train.small_faces import count_by_side, small_faces
from preimage.weights import declaration_of, load_degradation, training_record

DATA = Path("../shared/data")
CORRUPT = ("motion_blur:6", "gaussian_noise:8", "jpeg:60")
JUDGES = ("squeezenet11-keras", "vgg19-distilled")
NOISES, HALVES = 16, 200


def grid8(pictures: Tensor) -> Tensor:
    """Rounded to what a file holds."""
    return to_uint8(pictures).float() / 255


def corrupt(sharp: Tensor, side: int) -> Tensor:
    """Motion blur, bicubic downscaling, noise, JPEG: each picture by its own seed."""
    before, *after = (parse_corruption(text) for text in CORRUPT)
    operator = bicubic(tuple(sharp.shape[-2:]), lr_size=(side, side))
    out = downscale_saved(to_uint8(before(sharp, seed=0)), operator).float() / 255
    for corruption in after:
        out = corruption(out, seed=0)
    return grid8(out)


def enlarged(small: Tensor, side: int) -> Tensor:
    """The way every small face is enlarged before it is judged."""
    return grid8(F.interpolate(small, (side, side), mode="bicubic", align_corners=False).clamp(0, 1))


def features(judge: FeatureNetwork, pictures: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([judge.pooled(part) for part in pictures.split(50)])


def distances(made: Tensor, real: Tensor, scale: FeatureScale) -> dict[str, float]:
    """Fréchet and kernel distance, in units of `scale` and raw."""
    out = {}
    for suffix, units in (("", scale), ("_raw", None)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few pictures: the table gives their numbers
            out["fd" + suffix] = frechet_distance(made, real, units)
        out["kd" + suffix] = kernel_distance(made, real, subset_size=len(real), scale=units).value
    return out


def nearest(made: dict[str, Tensor], real: Tensor, scale: FeatureScale, halves: int) -> dict[str, dict[str, float]]:
    """Share of draws at which each set is the nearest by kernel distance: half of the real faces, as many of every set."""
    won = {name: {"kd": 0.0, "kd_raw": 0.0} for name in made}
    for kind, units in (("kd", scale), ("kd_raw", None)):
        for seed in range(halves):  # the same pictures of every set, because they are as many
            found = {
                n: kernel_distance(x, real, 1, len(real) // 2, scale=units, seed=seed).value for n, x in made.items()
            }
            won[min(found, key=found.__getitem__)][kind] += 1 / halves
    return won


def content(network: Any, made: Tensor, sharp: Tensor) -> dict[str, float]:
    """Identity cosine of the degraded faces to their own sharp faces and to those of others."""
    with torch.no_grad():
        a, b = (torch.cat([network.embed(part) for part in x.split(50)]) for x in (made, sharp))
    cosines = a @ b.T
    own, others = cosines.diagonal(), cosines[~torch.eye(len(a), dtype=torch.bool)]
    nearest = float((cosines.argmax(1) == torch.arange(len(a))).float().mean())
    rank = float((own[:, None] > cosines).float().sum() / (len(a) * (len(a) - 1)))
    return {"own": float(own.mean()), "others": float(others.mean()), "auc": rank, "nearest": nearest}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    model: Any = load_degradation(args.degradation)
    low, side = model.lr_size, model.hr_size
    with Collection(args.faces) as collection:
        sharp = torch.stack([collection.tensor(name, side) for name in collection.sample(args.count or None)])
    with torch.no_grad():
        learned = torch.cat(
            [apply_learned(model, x, model.noise(s)) for x, s in zip(sharp.split(50), seeds(len(sharp)), strict=True)]
        )
        several = torch.stack(
            [apply_learned(model, sharp[:100], model.noise([noise] * len(sharp[:100]))) for noise in range(NOISES)], 1
        )
    operator = bicubic((side, side), lr_size=(low, low))
    sets = {
        "bicubic": downscale_saved(to_uint8(sharp), operator).float() / 255,
        "corrupt": corrupt(sharp, low),
        "network": grid8(learned),
    }
    declares = declaration_of(args.degradation)
    trained, widest = training_record(args.degradation).get("recipe", {}), (low, 10_000)
    native = tuple(trained.get("native", widest))
    references, sides = {}, {}
    for name, span in ((f"{native[0]}-{native[1]} px", native), ("all", widest)):
        found, sides[name] = small_faces([str(args.small)], low, span)
        references[name] = to_tensor(found)
    seen, sides["train"] = small_faces([str(args.seen)], low, native)
    sets["natively small, train"] = to_tensor(seen)
    units, _ = small_faces([str(args.seen)], low, widest)
    result: dict[str, Any] = {
        "model": args.degradation,
        "faces": {"sharp": len(sharp)} | {k: count_by_side(v) for k, v in sides.items()},
        "corrupt": list(CORRUPT),
        "training_features": [judge.name for judge in judges.JUDGES.values() if judges.is_partial(judge, declares)],
        "distances": {},
        "nearest": {},
    }
    for judge in JUDGES:
        network, label = load_network(judge, args.weights), NETWORKS[judge].label
        real = {k: features(network, enlarged(v, side)) for k, v in references.items()}
        scale = FeatureScale.of(features(network, enlarged(to_tensor(units), side)))
        of_sets = {k: features(network, enlarged(v, side)) for k, v in sets.items()}
        result["distances"][label] = {
            made: {name: distances(x, reference, scale) for name, reference in real.items()}
            for made, x in of_sets.items()
        }
        rivals = {k: x for k, x in of_sets.items() if len(x) == len(sharp)}
        result["nearest"][label] = {k: nearest(rivals, x, scale, args.halves) for k, x in real.items() if args.halves}
    pairs = [(several[:, i] - several[:, j]).abs().mean() for i in range(NOISES) for j in range(i)]
    apart = torch.stack(pairs) * 255
    result["diversity"] = {"noises": NOISES, "faces": several.shape[0], "mean_pairwise_l1_grey": float(apart.mean())}
    identity = load_network("mobilefacenet", args.weights)
    result["content"] = {
        k: content(identity, enlarged(v, side), sharp) for k, v in sets.items() if len(v) == len(sharp)
    }
    if args.grid:
        show(args.grid, sharp, sets, several, references)
    return result


def seeds(count: int) -> list[range]:
    """One seed per picture, in parts of 50."""
    return [range(i, min(i + 50, count)) for i in range(0, count, 50)]


def show(path: Path, sharp: Tensor, sets: dict[str, Tensor], several: Tensor, references: dict[str, Tensor]) -> None:
    """Rows: sharp, bicubic, corrupt, four noises of the network, natively small."""
    rows = [sharp[:10], sets["bicubic"][:10], sets["corrupt"][:10], *(several[:10, i] for i in range(4))]
    real = next(iter(references.values()))
    rows.append(real[:: max(1, len(real) // 10)][:10])
    big = [[F.interpolate(p[None], (64, 64), mode="nearest")[0] for p in row] for row in rows]
    save_png(path, contact_sheet(big, cell=96))


def table(result: dict[str, Any]) -> str:
    """Everything as Markdown: a table per judge, then content and variety."""
    lines: list[str] = []
    for judge, sets in result["distances"].items():
        mark = "\\*" * (judge in result["training_features"])
        columns = [(name, kind) for name in next(iter(sets.values())) for kind in ("fd", "kd", "fd_raw", "kd_raw")]
        head = [f"{kind.replace('_', '-')}-{judge}{mark}, {name}" for name, kind in columns]
        lines += ["| faces at 16x16 | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"]
        for made, found in sets.items():
            lines.append(f"| {made} | " + " | ".join(f"{found[n][kind]:.4g}" for n, kind in columns) + " |")
        lines.append("")
    kinds = ("kd", "kd_raw")
    lines += [
        "| nearest in random halves: judge, natively small faces | set | " + " | ".join(kinds).replace("_", "-") + " |"
    ]
    lines += ["|---" * (len(kinds) + 2) + "|"]
    for judge, of_judge in result["nearest"].items():
        for name, won in of_judge.items():
            lines += [
                f"| {judge}, {name} | {made} | " + " | ".join(f"{shares[k]:.0%}" for k in kinds) + " |"
                for made, shares in won.items()
            ]
    lines += ["", "| faces at 16x16 | identity cosine, own | others | AUC | nearest is own |", "|---|---|---|---|---|"]
    for made, c in result["content"].items():
        lines.append(f"| {made} | {c['own']:.3f} | {c['others']:.3f} | {c['auc']:.4f} | {c['nearest']:.1%} |")
    d = result["diversity"]
    lines += [
        "",
        f"{d['noises']} noises of {d['faces']} faces differ by {d['mean_pairwise_l1_grey']:.1f} grey levels (mean L1).",
    ]
    lines += [f"{k}: {v}" for k, v in result["faces"].items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--degradation", default="degradation-gan", help="name, path or hub id")
    parser.add_argument("--faces", type=Path, default=DATA / "faces256-val.zip", help="archive of sharp faces")
    parser.add_argument("--small", type=Path, default=DATA / "lowres-real.zip/val", help="natively small faces")
    parser.add_argument("--seen", type=Path, default=DATA / "lowres-real.zip/train", help="those it was trained on")
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights"), help="folder of feature networks")
    parser.add_argument("-n", "--count", type=int, default=0, help="sharp faces, of a fixed shuffle; 0: all")
    parser.add_argument("--halves", type=int, default=HALVES, help="random halves to compare on; 0: none")
    parser.add_argument("--out", type=Path, help="also write everything measured as JSON")
    parser.add_argument("--grid", type=Path, help="also write a picture of some faces")
    args = parser.parse_args()
    result = measure(args)
    print(table(result))
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
