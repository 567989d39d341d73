"""How good is a face prior? Distances to real faces, variety of people, copies of training faces: one Markdown table.

    python benchmarks/prior_quality.py --prior faces64 --samples 2000 --out quality.json

All embedded priors side by side: `benchmarks/priors.py`.

Needs the feature networks of `--weights` (the judges) and the archives it was trained on. A judge whose features trained
the prior is marked: it flatters. Distances are named after their judge and are not comparable with a published FID.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.collection import Collection
from preimage.degrade.linear import make_operator
from preimage.device import resolve_device
from preimage.errors import InputError, PreimageError
from preimage.generate.prior import Prior
from preimage.measure.distances import FeatureScale, FeatureStatistics, frechet_distance, kernel_distance
from preimage.measure.judges import JUDGES, is_partial
from preimage.nets.features import FeatureNetwork
from preimage.train.data import load_pictures, to_tensor
from preimage.weights import declaration_of, default_prior, load_prior, training_record, weight_table

DATA = Path("../shared/data")
TRAIN = [DATA / f"faces256-train-{source}.zip" for source in ("lfw", "aaf", "meb")]
BATCH = 50
PAIRS = (("prior", "train"), ("train 2", "train"), ("prior", "val"), ("train", "val"))
Reader = Callable[[int, int], Tensor]
Known = dict[tuple[int, str], dict[str, Tensor]]
"""Features of the real faces by resolution, judge and set."""


def parser(about: str | None, judges: list[str]) -> argparse.ArgumentParser:
    """Options of every measurement of priors; a command adds which priors."""
    out = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("--samples", type=int, default=2000, help="pictures of a prior, and of each set of train faces")
    out.add_argument("--train", nargs="+", type=Path, default=TRAIN, help="archives the prior was trained on")
    out.add_argument("--val", type=Path, default=DATA / "faces256-val.zip", help="archive of faces it never saw")
    out.add_argument("--weights", type=Path, default=Path("../shared/weights"), help="folder of feature networks")
    out.add_argument("--judges", nargs="+", choices=list(JUDGES), default=judges)
    out.add_argument(
        "--size", type=int, default=0, help="compare at this many pixels, samples reduced by Lanczos; 0: the prior's"
    )
    out.add_argument("--seed", type=int, default=0, help="of the train subsets; the samples are seeds 0 to N - 1")
    out.add_argument("--device", default="auto")
    out.add_argument("--out", type=Path, default=None, help="also write everything measured as JSON")
    return out


def features_of(pictures: Reader, count: int, judge: FeatureNetwork, device: Any) -> Tensor:
    """Feature vectors (count, d) of pictures that come in batches."""
    parts = [torch.empty(0, judge.pooled(torch.zeros(1, 3, 64, 64, device=device)).shape[1])]
    with torch.inference_mode():
        parts += [judge.pooled(pictures(i, min(i + BATCH, count)).to(device)).cpu() for i in range(0, count, BATCH)]
    return torch.cat(parts)


def reader(pictures: np.ndarray[Any, Any], rows: np.ndarray[Any, Any]) -> Reader:
    """Batches of the chosen rows of (n, s, s, 3) uint8 pictures, as public tensors."""

    def read(start: int, stop: int) -> Tensor:
        return to_tensor(np.stack([pictures[i] for i in rows[start:stop]]))

    return read


def people(sources: list[Path]) -> list[str]:
    """A person per picture, in the order of `load_pictures`; pictures without a name are people of their own."""
    out: list[str] = []
    for source in sources:
        with Collection(source) as pictures:
            out += [pictures.about(name).get("person") or f"{source}/{name}" for name in pictures.names]
    return out


def distances(a: Tensor, real: Tensor, scale: FeatureScale) -> dict[str, Any]:
    """Fréchet and kernel distance of two sets of feature vectors, in the units given and raw."""
    stats_a, stats_real = FeatureStatistics.of(a), FeatureStatistics.of(real)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frechet = frechet_distance(stats_a, stats_real, scale)
        biased = bool(caught)
        raw = frechet_distance(stats_a, stats_real)
    kernel, kernel_raw = (kernel_distance(a, real, subset_size=500, scale=s).value for s in (scale, None))
    return {
        "n": [len(a), len(real)],
        "fd": frechet,
        "biased": biased,
        "kd": kernel,
        "fd_raw": raw,
        "kd_raw": kernel_raw,
    }


def variety(unit: Tensor, names: np.ndarray[Any, Any], train: Tensor | None) -> dict[str, Any]:
    """Identity cosines between all pairs of different people, and the cosine distance 1 − cos to the nearest train face."""
    first, second = torch.triu_indices(len(unit), len(unit), 1)
    values = (unit @ unit.T)[first, second].numpy()[names[first] != names[second]]
    out = {"cosine_mean": float(values.mean()), "cosine_p99": float(np.quantile(values, 0.99))}
    if train is not None:
        nearest = (1 - (unit @ train.T).max(dim=1).values).numpy()
        out |= {"nearest_median": float(np.median(nearest)), "nearest_p1": float(np.quantile(nearest, 0.01))}
    return out


def measure(
    args: argparse.Namespace, name: str, search: int | None = None, known: Known | None = None
) -> dict[str, Any]:
    """Everything the tables show.

    Args:
        args: of `parser`.
        name: of the prior, or its path.
        search: train faces searched for copies, 0 for all; default as many as there are samples.
        known: features of the real faces, where several priors are measured; what is missing is added.
    """
    known = {} if known is None else known
    device = resolve_device(args.device)
    prior = load_prior(name, device)
    assert isinstance(prior, Prior)
    declares = declaration_of(name)
    progress = sys.stderr.isatty()
    side = args.size or prior.resolution
    if side > prior.resolution:
        raise InputError(f"--size {side}: {name} makes pictures of {prior.resolution} px.")
    train = load_pictures(args.train, side, progress=progress)
    val = load_pictures([args.val], side, progress=progress)
    order = np.random.default_rng(args.seed).permutation(len(train))
    n = min(args.samples, len(train) // 2)
    first, second = order[:n], order[n : 2 * n]
    seeds = range(args.samples)
    samples = torch.cat([prior.sample(seeds[i : i + BATCH]).cpu() for i in range(0, len(seeds), BATCH)])
    if side < prior.resolution:  # as the real faces were
        samples = make_operator("lanczos", hr_size=prior.resolution, lr_size=side)(samples).clamp(0, 1)
    sources: dict[str, tuple[Reader, int]] = {
        "prior": (lambda i, j: samples[i:j], len(samples)),
        "train": (reader(train, first), n),
        "train 2": (reader(train, second), n),
        "val": (reader(val, np.arange(len(val))), len(val)),
    }
    result: dict[str, Any] = {
        "prior": name,
        "file": weight_table()[name].file if name in weight_table() else Path(name).name,
        "images_seen": training_record(name).get("images_seen"),
        "training_features": declares.looked_through,
        "resolution": side,
        "size": args.size,
        "samples": args.samples,
        "seed": args.seed,
        "features": {},
        "distances": {},
        "partial": [j for j in args.judges if is_partial(JUDGES[j], declares)],
    }
    for key in args.judges:
        judge = JUDGES[key].load(args.weights).to(device)
        if (at := (side, key)) not in known:
            known[at] = {k: features_of(*sources[k], judge, device) for k in ("train", "train 2", "val")}
        sets = {"prior": features_of(*sources["prior"], judge, device), **known[at]}
        scale = FeatureScale.of(sets["train"])
        result["features"][key] = {"all": len(scale.spread), "kept": scale.kept}
        result["distances"][key] = {f"{a} → {b}": distances(sets[a], sets[b], scale) for a, b in PAIRS}
        if key == "identity":
            more = order[n : n if search is None else search or len(order)]
            pool = torch.cat([sets["train"], features_of(reader(train, more), len(more), judge, device)])
            pool = F.normalize(pool, dim=1)
            persons, others = np.array(people(args.train)), np.array(people([args.val]))
            names = {
                "prior": np.arange(len(samples)),
                "train": persons[first],
                "train 2": persons[second],
                "val": others,
            }
            result["identity"] = {
                k: variety(F.normalize(v, dim=1), names[k], None if k == "train" else pool)
                for k, v in sets.items()
                if k != "train 2" or len(pool) == n  # else its faces would find themselves
            }
            result["searched"] = len(pool)
    return result


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    judges = list(result["distances"])
    titles = [f"{j}{'*' if j in result['partial'] else ''}" for j in judges]
    features = result["training_features"]
    seen = "an unknown number of" if result["images_seen"] is None else f"{result['images_seen']:,}"
    lines = [
        f"**{result['prior']}**, {result['resolution']} px, {seen} pictures seen; trained on features of: "
        + ("not recorded" if features is None else ", ".join(features) or "none"),
        "",
        "| sets | pictures | " + " | ".join(f"fd-{t} | kd-{t}" for t in titles) + " |",
        "|---|---|" + "---|---|" * len(judges),
    ]
    for pair in result["distances"][judges[0]]:
        cells = [result["distances"][j][pair] for j in judges]
        values = " | ".join(f"{c['fd']:.2f}{'†' if c['biased'] else ''} | {c['kd']:.3f}" for c in cells)
        lines.append(f"| {pair} | {', '.join(map(str, cells[0]['n']))} | {values} |")
    if "identity" in result:
        near = f"to the nearest of {result['searched']:,} train faces"
        lines += [
            "",
            f"| identity | cosine of different people: mean | 99th percentile | 1 − cos {near}: median | 1st percentile |",
            "|---|---|---|---|---|",
        ]
        for name, row in result["identity"].items():
            keys = ("cosine_mean", "cosine_p99", "nearest_median", "nearest_p1")
            lines.append(f"| {name} | " + " | ".join(f"{row[k]:.3f}" if k in row else "" for k in keys) + " |")
    return "\n".join([*lines, "", *notes(result)])


def notes(result: dict[str, Any]) -> list[str]:
    """What has to be known to read the tables."""
    kept = ", ".join(f"{j} {f['kept']} of {f['all']}" for j, f in result["features"].items())
    out = [
        f"- fd: Fréchet, kd: kernel distance, in units of each feature's spread over train; features in use: {kept}. "
        "train and train 2 have no picture in common: their distance is what a perfect prior would have.",
    ]
    if "identity" in result:
        out.append(
            "- A prior that copies lies nearer to train than val does. Train and train 2 share people; the LFW people of val are not in train."
        )
    if any(c["biased"] for cells in result["distances"].values() for c in cells.values()):
        out.append("- †: fewer pictures than twice the features, biased upwards: compare equal counts only.")
    if result["partial"]:
        out.append("- *: features of this kind trained the prior; they flatter it.")
    if result["training_features"] is None:
        out.append("- The file does not say which features trained the prior, so a judge that flatters is not marked.")
    return out


def main() -> int:
    command = parser(__doc__, ["vgg", "identity"])
    command.add_argument("--prior", default=default_prior(), help="name or path; default: the package's default prior")
    command.add_argument("--search", type=int, default=None, help="train faces searched for copies; 0: all (slow)")
    args = command.parse_args()
    if args.samples < 2:
        command.error("--samples: two or more are needed")
    started = time.perf_counter()
    try:
        result = measure(args, args.prior, args.search)
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
