"""All embedded priors side by side: distances to real faces, pictures a second, operations a picture; one Markdown table.

    python benchmarks/priors.py --out out/priors.json

Needs the feature networks of `--weights` and the archives that the priors were trained on. What each distance means, and more
about a single prior: `benchmarks/prior_quality.py`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from typing import Any

import torch
from prior_quality import Known, measure, parser

from preimage.device import resolve_device
from preimage.errors import PreimageError
from preimage.generate.prior import Prior
from preimage.measure.cost import forward_flops, measure_cost
from preimage.weights import load_prior, weight_table

FLOORS = ("train → val", "train 2 → train")


def speed(name: str, device: str, batch: int, runs: int) -> dict[str, Any]:
    """Pictures a second from latents, silent noise, the median of `runs`; operations of one picture."""
    where = resolve_device(device)
    prior = load_prior(name, where)
    assert isinstance(prior, Prior)
    latents = prior.mean_latent.expand(batch, *prior.latent_shape).contiguous()
    with torch.inference_mode():
        seconds = [measure_cost(lambda: prior.synthesize(latents), where).seconds for _ in range(runs + 1)][1:]
    return {
        "pictures_per_second": batch / statistics.median(seconds),
        "seconds": seconds,
        "gflop": forward_flops(prior) / 1e9,
        "parameters": sum(p.numel() for p in prior.parameters()),
    }


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Everything the table shows, and the rest of what was measured."""
    known: Known = {}
    return {
        "threads": torch.get_num_threads(),
        "device": str(resolve_device(args.device)),
        "batch": args.batch,
        "runs": args.runs,
        "priors": [
            measure(args, name, known=known) | {"speed": speed(name, args.device, args.batch, args.runs)}
            for name in args.priors
        ],
    }


def cells(result: dict[str, Any], pair: str, marked: bool) -> list[str]:
    """Numbers of pictures, Fréchet and kernel distances by every judge; marked where a judge's features trained the prior."""
    found = {judge: pairs[pair] for judge, pairs in result["distances"].items()}
    mark = {judge: "\\*" if marked and judge in result["partial"] else "" for judge in found}
    counts = ", ".join(map(str, next(iter(found.values()))["n"]))
    frechet = [f"{c['fd']:.2f}{mark[judge]}{'†' if c['biased'] else ''}" for judge, c in found.items()]
    return [counts, *frechet, *(f"{c['kd']:.3f}{mark[judge]}" for judge, c in found.items())]


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    results = report["priors"]
    judges = list(results[0]["distances"])
    head = ["sets", "pictures", *(f"{kind}-{j}" for kind in ("fd", "kd") for j in judges), "pictures/s", "GFLOP"]
    rows = []
    for result in results:
        cost = [f"{result['speed']['pictures_per_second']:.0f}", f"{result['speed']['gflop']:.2f}"]
        for real, more in (("val", cost), ("train", ["", ""])):
            rows.append([f"{result['prior']} → {real}", *cells(result, f"prior → {real}", True), *more])
    sides = {result["resolution"]: result for result in results}
    for side, result in sides.items():
        rows += [[f"{pair}, {side} px", *cells(result, pair, False), "", ""] for pair in FLOORS]
    head_line, *lines = ("| " + " | ".join(row) + " |" for row in (head, *rows))
    return "\n".join([head_line, "|" + "---|" * len(head), *lines, "", *notes(report)])


def notes(report: dict[str, Any]) -> list[str]:
    """What has to be known to read the table."""
    results = report["priors"]
    every = [c for result in results for pairs in result["distances"].values() for c in pairs.values()]
    unknown = [result["prior"] for result in results if result["training_features"] is None]
    out = [
        "- fd: Fréchet, kd: kernel distance, in units of each feature's spread over train; smaller is better. train and "
        "train 2 have no picture in common: their distance is what a perfect prior would have.",
    ]
    if any(result["partial"] for result in results):
        out.append("- \\*: features of this kind trained this prior; they flatter it.")
    if any(c["biased"] for c in every):
        out.append("- †: fewer pictures than twice the features, biased upwards: compare equal counts only.")
    if unknown:
        out.append(
            f"- Which features trained {', '.join(unknown)} is not recorded, so a judge that flatters is not marked."
        )
    threads = report["threads"]
    where = f"{threads} thread{'s' if threads > 1 else ''}" if report["device"] == "cpu" else report["device"]
    out.append(
        f"- pictures/s: from latents in batches of {report['batch']}, float32, {where}, median of {report['runs']} runs. "
        "GFLOP: of one picture, a multiplication with its addition counted as two."
    )
    return out


def main() -> int:
    command = parser(__doc__, ["squeeze", "vgg", "identity"])
    embedded = [name for name, entry in weight_table().items() if entry.kind == "prior"]
    command.add_argument("--priors", nargs="+", default=embedded, help="names or paths; default: all embedded ones")
    command.add_argument("--batch", type=int, default=32, help="pictures at once where speed is measured")
    command.add_argument("--runs", type=int, default=9, help="whose median is the speed")
    args = command.parse_args()
    if args.samples < 2 or args.batch < 1 or args.runs < 1:
        command.error("--samples: two or more are needed; --batch, --runs: one or more")
    started = time.perf_counter()
    try:
        report = compare(args)
    except PreimageError as error:
        print(error, file=sys.stderr)
        return 1
    print(table(report))
    print(f"\n{time.perf_counter() - started:.0f} s", file=sys.stderr)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
