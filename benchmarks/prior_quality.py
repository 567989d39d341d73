"""How good is a face prior? Distances to real faces, variety of people, copies of training faces: one Markdown table.

    python benchmarks/prior_quality.py --prior faces64 --samples 2000 --out quality.json

Needs the feature networks of `--weights` (the judges) and the archives it was trained on. A judge whose features trained
the prior is marked: it flatters. Distances are named after their judge and are not comparable with a published FID.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

from preimage.device import resolve_device
from preimage.errors import PreimageError
from preimage.generate.prior import Prior
from preimage.measure.distances import FeatureStatistics, frechet_distance, kernel_distance
from preimage.measure.judges import JUDGES, is_partial, training_features
from preimage.nets.features import FeatureNetwork
from preimage.train.data import SUFFIXES, load_pictures
from preimage.weights import default_prior, describe_weights, load_prior

DATA = Path("../shared/data")
TRAIN = [DATA / f"faces256-train-{source}.zip" for source in ("lfw", "aaf", "meb")]
BATCH = 50
Sets = dict[str, Tensor]


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("--prior", default=None, help="name or path; default: the package's default prior")
    out.add_argument("--samples", type=int, default=2000, help="pictures of the prior, and of each set of train faces")
    out.add_argument("--train", nargs="+", type=Path, default=TRAIN, help="archives the prior was trained on")
    out.add_argument("--val", type=Path, default=DATA / "faces256-val.zip", help="archive of faces it never saw")
    out.add_argument("--search", type=int, default=None, help="train faces searched for copies; 0: all (slow)")
    out.add_argument("--weights", type=Path, default=Path("../shared/weights"), help="folder of feature networks")
    out.add_argument("--judges", nargs="+", choices=list(JUDGES), default=["vgg", "identity"])
    out.add_argument("--seed", type=int, default=0, help="of the train subsets; the samples are seeds 0 to N - 1")
    out.add_argument("--device", default="auto")
    out.add_argument("--out", type=Path, default=None, help="also write everything measured as JSON")
    return out


def features_of(pictures: Callable[[int, int], Tensor], count: int, judge: FeatureNetwork, device: Any) -> Tensor:
    """Feature vectors (count, d) of pictures that come in batches."""
    with torch.inference_mode():
        parts = [judge.pooled(pictures(i, min(i + BATCH, count)).to(device)).cpu() for i in range(0, count, BATCH)]
    return torch.cat(parts)


def reader(pictures: np.ndarray[Any, Any], rows: np.ndarray[Any, Any]) -> Callable[[int, int], Tensor]:
    """Batches of the chosen rows of (n, s, s, 3) uint8 pictures, as public tensors."""

    def read(start: int, stop: int) -> Tensor:
        chosen = np.stack([pictures[i] for i in rows[start:stop]])
        return torch.from_numpy(chosen).permute(0, 3, 1, 2).float() / 255

    return read


def people(sources: list[Path]) -> list[str]:
    """A person per picture, in the order of `load_pictures`; pictures without a name are people of their own."""
    out: list[str] = []
    for source in sources:
        known: dict[str, str] = {}
        if source.is_dir():
            names = sorted(str(p.relative_to(source)) for p in source.rglob("*") if p.suffix.lower() in SUFFIXES)
        else:
            with zipfile.ZipFile(source) as archive:
                names = sorted(n for n in archive.namelist() if n.lower().endswith(SUFFIXES))
                if "index.csv" in archive.namelist():
                    text = archive.read("index.csv").decode()
                    known = {row["file"]: row.get("person", "") for row in csv.DictReader(io.StringIO(text))}
        out += [known.get(name) or f"{source}/{name}" for name in names]
    return out


def distances(a: Tensor, real: Tensor) -> dict[str, Any]:
    """Fréchet and kernel distance of two sets of feature vectors, scaled and raw, and whether the first is biased."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        stats_a, stats_real = FeatureStatistics.of(a), FeatureStatistics.of(real)
        frechet = {"fd": frechet_distance(stats_a, stats_real, scaled=True)}
        frechet["fd_raw"] = frechet_distance(stats_a, stats_real)
    kernel = {"kd": kernel_distance(a, real, 50, 500, scaled=True).value}
    kernel["kd_raw"] = kernel_distance(a, real, 50, 500).value
    return {"n": [len(a), len(real)], **frechet, **kernel, "biased": bool(caught)}


def cosines(unit: Tensor, names: np.ndarray[Any, Any]) -> dict[str, float]:
    """Identity cosines between all pairs of different people."""
    first, second = torch.triu_indices(len(unit), len(unit), 1)
    values = (unit @ unit.T)[first, second].numpy()[names[first] != names[second]]
    return {"mean": float(values.mean()), "p99": float(np.quantile(values, 0.99))}


def nearest(unit: Tensor, train: Tensor) -> dict[str, float]:
    """Identity cosine distance 1 − cos to the nearest train face, over the faces given."""
    values = (1 - (unit @ train.T).max(dim=1).values).numpy()
    return {"p1": float(np.quantile(values, 0.01)), "median": float(np.median(values))}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Everything the table shows."""
    name = args.prior or default_prior()
    device = resolve_device(args.device)
    prior = load_prior(name, device)
    assert isinstance(prior, Prior)
    about = yaml.safe_load(describe_weights(name))["file"]
    trained = about.get("trained", {})
    train = load_pictures(args.train, prior.resolution)
    val = load_pictures([args.val], prior.resolution)
    persons = np.array(people(args.train))
    order = np.random.default_rng(args.seed).permutation(len(train))
    n = min(args.samples, len(train) // 2)
    rows = {"train": order[:n], "train'": order[n : 2 * n]}
    searched = order[: n if args.search is None else (args.search or len(order))]

    drawn: list[Tensor] = []
    for i in range(0, args.samples, BATCH):
        drawn.append(prior.sample(range(i, min(i + BATCH, args.samples))).cpu())
    samples = torch.cat(drawn)
    readers = {k: (reader(train, r), n) for k, r in rows.items()}
    readers["val"] = (reader(val, np.arange(len(val))), len(val))
    readers["prior"] = (lambda i, j: samples[i:j], len(samples))

    result: dict[str, Any] = {
        "prior": name,
        "file": about["path"],
        "images_seen": trained.get("images_seen"),
        "training_features": training_features(trained),
        "resolution": prior.resolution,
        "samples": args.samples,
        "seed": args.seed,
        "distances": {},
        "partial": [j for j in args.judges if is_partial(JUDGES[j], trained)],
    }
    for key in args.judges:
        judge = JUDGES[key].load(args.weights).to(device)
        sets = {k: features_of(*source, judge, device) for k, source in readers.items()}
        result["distances"][key] = {
            f"{a} → {b}": distances(sets[a], sets[b])
            for a, b in (("prior", "train"), ("train'", "train"), ("prior", "val"), ("train", "val"))
        }
        if key == "identity":
            extra = searched[n:]
            found = [sets["train"], features_of(reader(train, extra), len(extra), judge, device)] if len(extra) else []
            pool = F.normalize(torch.cat(found) if found else sets["train"][: len(searched)], dim=1)
            unit = {k: F.normalize(v, dim=1) for k, v in sets.items()}
            result["identity"] = {
                "cosine": {
                    "prior": cosines(unit["prior"], np.arange(args.samples)),
                    "train": cosines(unit["train"], persons[rows["train"]]),
                },
                "nearest": {"searched": len(pool), **{k: nearest(unit[k], pool) for k in ("prior", "val", "train'")}},
            }
    return result


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    judges = list(result["distances"])
    marked = {j: f"{j}*" if j in result["partial"] else j for j in judges}
    features = result["training_features"]
    seen = "unknown" if result["images_seen"] is None else f"{result['images_seen']:,}"
    lines = [
        f"**{result['prior']}**, {result['resolution']} px, {seen} pictures seen; trained on features of: "
        + ("not recorded" if features is None else ", ".join(features) or "none"),
        "",
        "| sets | pictures | " + " | ".join(f"fd-{marked[j]} | kd-{marked[j]}" for j in judges) + " |",
        "|---|---|" + "---|---|" * len(judges),
    ]
    for pair in result["distances"][judges[0]]:
        cells = [result["distances"][j][pair] for j in judges]
        values = " | ".join(f"{c['fd']:.2f}{'†' if c['biased'] else ''} | {c['kd']:.4f}" for c in cells)
        lines.append(f"| {pair} | {cells[0]['n'][0]}, {cells[0]['n'][1]} | {values} |")
    if "identity" in result:
        cosine, near = result["identity"]["cosine"], result["identity"]["nearest"]
        lines += ["", "| identity (cosine) | prior | train | train' | val |", "|---|---|---|---|---|"]
        for key, label in (("mean", "mean"), ("p99", "99th percentile")):
            values = f"{cosine['prior'][key]:.3f} | {cosine['train'][key]:.3f}"
            lines.append(f"| pairs of different people, {label} | {values} | | |")
        for key, label in (("median", "median"), ("p1", "1st percentile")):
            values = (
                f"{near['prior'][key]:.3f} | | {near[chr(39).join(['train', ''])][key]:.3f} | {near['val'][key]:.3f}"
            )
            lines.append(f"| distance to the nearest of {near['searched']} train faces, {label} | {values} |")
    lines += ["", *notes(result)]
    return "\n".join(lines)


def notes(result: dict[str, Any]) -> list[str]:
    """What has to be known to read the table."""
    out = [
        "fd: Fréchet distance, kd: kernel distance, of features scaled by the spread of the second set; "
        "train and train' are two draws of train faces without a common picture: the value a perfect prior would have."
    ]
    if any(c["biased"] for cells in result["distances"].values() for c in cells.values()):
        out.append("†: fewer pictures than twice the features; biased upwards, compare equal counts only.")
    if result["partial"]:
        out.append("*: features of this kind trained the prior; they flatter it.")
    if result["training_features"] is None:
        out.append("The file does not say which features trained it, so no judge could be marked.")
    return out


def main() -> int:
    args = parser().parse_args()
    started = time.perf_counter()
    try:
        result = measure(args)
    except PreimageError as error:
        print(error, file=sys.stderr)
        return 1
    result["seconds"] = round(time.perf_counter() - started, 1)
    print(table(result))
    print(f"\n{result['seconds']:.0f} s", file=sys.stderr)
    if args.out:
        args.out.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
