"""Methods side by side: the same inputs, the same seeds, one process, everything measured on the saved files."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from preimage.candidates import package_version
from preimage.collection import Collection
from preimage.device import resolve_device
from preimage.errors import MethodError, OperatorError
from preimage.files import read_jsonl, save_png, write_text_atomic
from preimage.fill import Progress, Tally
from preimage.image import as_picture, open_image, read_image
from preimage.invert.method import Method
from preimage.invert.problem import find_degradation
from preimage.invert.registry import load
from preimage.measure.bench_inputs import prepare
from preimage.measure.bench_methods import Spec, compared_at, parse_method, size_giver
from preimage.measure.cost import count_flops, forward_flops, measure_cost
from preimage.measure.evaluate import evaluate_folder, reading_notes
from preimage.measure.judges import JUDGES, is_partial
from preimage.measure.published import published_for
from preimage.measure.report import MethodReport, Report
from preimage.measure.suite import Suite, build_suite
from preimage.results import is_whole
from preimage.seeds import parse_seeds
from preimage.upsampling import upsample_folder
from preimage.weights import declaration_of


def bench(
    methods: Sequence[str],
    data: str | Path,
    output: str | Path,
    *,
    scale: float = 8.0,
    resolution: int | None = None,
    seeds: str | int | Sequence[int] = "0-9",
    count: int | None = 64,
    shuffle: int = 0,
    prior: str | None = None,
    degradation: str = "bicubic",
    metrics: Sequence[str] | None = None,
    weights: str | Path | None = None,
    niqe_model: str | Path | None = None,
    download: bool = False,
    device: str = "auto",
    precision: str = "auto",
    batch: int | str = "auto",
    flops: bool = True,
    command: str = "",
    progress: Progress | None = None,
) -> Report:
    """Run methods on small versions of real faces and judge what they imagine.

    The truth is the face at one size, the input is the truth downscaled: so the truth itself is a perfect answer. Methods
    that make larger pictures are reduced to that size by Lanczos, as the truth is, and judged there; what they are asked is
    then a little harder, for the small picture was made of the truth at the compared size.
    `output` holds `reference/`, `inputs/` and a folder of results per method, which the same call completes after a stop.

    Args:
        methods: names of `list_methods()`, each with its own prior or network, a preset and the downscaling that it is told,
            where wanted: "pulse", "pulse:paper", "pulse@bicubic", "posterior=my.safetensors", "pulse=faces64:paper@bicubic".
            It takes `prior` and is told `degradation` otherwise.
        data: folder or zip archive of aligned faces, at least as large as the prior's pictures.
        output: folder; created.
        scale: of the downscaling; need not be whole.
        resolution: side of the truth, at which all are compared; None takes that of the smallest method.
        seeds: which candidates.
        count: how many faces, the first of a fixed shuffle; None takes all.
        shuffle: seed of that shuffle.
        prior: as for `preimage.load`.
        degradation: linear, or a learned one by name or path. Methods that answer to linear ones only
            take a learned one for bicubic.
        metrics, weights, niqe_model, download: see `preimage.measure.suite.build_suite`.
        device, precision, batch: as for `preimage.upsample`.
        flops: count the operations of one candidate, by one more run of it.
        command: what the user typed, for the report.
        progress: who watches; None: nobody.

    Raises:
        PreimageError: settings that cannot work, a folder that holds another benchmark.
    """
    suite = build_suite(metrics, weights, niqe_model, download)
    folder, wanted = Path(output), parse_seeds(seeds)
    if not (math.isfinite(scale) and scale > 1) or (count is not None and count < 1):
        raise OperatorError(f"scale ({scale:g}) must be a number above 1, and the count of faces ({count}) at least 1.")
    specs = [parse_method(text) for text in methods]
    if not specs:
        raise MethodError("bench: name one method or more.")
    side = compared_at(resolution, specs, prior, device)
    with Collection(data) as collection:
        names = collection.sample(count, shuffle)
        settings = {
            "data": collection.path.name,
            "pictures": len(names),
            "shuffle": shuffle,
            "scale": scale,
            "resolution": side,
            "degradation": degradation,
        }
        prepare(folder, collection, names, side, scale, degradation, settings)
        report = Report(
            f"{', '.join(methods)} on {len(names)} faces of {collection.path.name}",
            command,
            _about(collection, names, wanted, side, scale, degradation, specs, prior, shuffle),
            published=published_for([spec.name for spec in specs]),
        )
        with Collection(folder / "reference") as reference:
            for spec in specs:
                label, told = spec.label(specs), spec.told
                target = folder / re.sub("[=:@]", "-", label)
                options: dict[str, Any] = {
                    "method": spec.name, **spec.networks(size_giver(spec, specs, prior, side, device)), "preset": spec.preset,
                    "device": device, "precision": precision, "batch": batch,
                }  # fmt: skip
                loaded = load(**options)
                assumed, whole = told or _assumed(loaded, degradation, report), target
                made = loaded.resolution_for(round(side / scale))
                if told and told != degradation:
                    report.notes.append(
                        f"{label} was told {told}, the inputs were made by {degradation}; what it claims holds for the former."
                    )
                cost = measure_cost(
                    partial(_run, folder, target, wanted, assumed, options, progress), resolve_device(device)
                )
                if made > side:
                    target = _reduced(whole, side)
                    report.notes.append(
                        f"{label} makes pictures of {made} px, reduced to {side} to be compared; whether its files are exact is "
                        "said of them as they are."
                    )
                method = _judged(report, target, reference, collection, suite, label, folder / "statistics")
                if made > side:
                    lines = read_jsonl(whole / "summary.jsonl")
                    method.cost["byte-exact (own size)"] = sum(line.get("exact") is True for line in lines) / max(
                        1, len(lines)
                    )
                    if len(specs) > 1:  # what is said of the others stays
                        report.missing.pop("lr-psnr", None)
                method.problems = [*cost.value.problems, *method.problems]
                if cost.value.written and not math.isnan(cost.peak_bytes):
                    method.cost["peak memory (GiB)"] = cost.peak_bytes / 2**30
                if flops:
                    method.cost.update(_operations(folder, options, wanted[0], assumed))
    for network in dict.fromkeys(spec.network(prior) for spec in specs):
        if network is not None:
            report.notes += _flattered(network, suite)
    report.missing = {**suite.missing, **report.missing}
    report.notes += reading_notes(report.columns, len(names))
    return report


def _assumed(method: Method, degradation: str, report: Report) -> str:
    """The degradation that a method is told: bicubic where it cannot invert that of the benchmark."""
    if find_degradation(degradation).kind in method.capabilities.degradations:
        return degradation
    report.notes.append(
        f"{method.name} cannot invert {degradation}: it was told bicubic, and what it claims holds for that."
    )
    return "bicubic"


def _reduced(target: Path, side: int) -> Path:
    """A folder beside one of results, with its candidates at another size; what is there already is kept."""
    smaller = target.with_name(f"{target.name}-at{side}")
    for path in sorted(target.glob("*/seed*.png")):
        out = smaller / path.parent.name / path.name
        if not is_whole(out, side):
            out.parent.mkdir(parents=True, exist_ok=True)
            with open_image(path) as image:
                small = image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
            save_png(out, as_picture(small).pixels)
    for name in ("run.yaml", "summary.jsonl"):  # settings and time are those of the pictures as they were made
        write_text_atomic(smaller / name, (target / name).read_text())
    return smaller


def _run(
    folder: Path,
    target: Path,
    seeds: Sequence[int],
    degradation: str,
    options: Mapping[str, Any],
    progress: Progress | None,
) -> Tally:
    return upsample_folder(
        [folder / "inputs"], target, seeds=seeds, degradation=degradation, progress=progress, **options
    )


def _judged(
    report: Report,
    target: Path,
    reference: Collection,
    real: Collection,
    suite: Suite,
    label: str,
    statistics: Path,
) -> MethodReport:
    found = evaluate_folder(target, reference, suite, name=label, real=real, statistics=statistics)
    report.methods.append(found.method)
    report.columns |= {key: column for key, column in found.columns.items() if key not in report.columns}
    report.missing |= found.missing
    report.notes += [note for note in found.notes if note not in report.notes]
    return found.method


def _operations(folder: Path, options: Mapping[str, Any], seed: int, degradation: str) -> dict[str, float]:
    """Operations of one candidate of the first input, and how many passes of the generator that is."""
    lr = read_image(sorted((folder / "inputs").glob("*.png"))[0]).pixels
    method = load(**options)
    out = {"flops": count_flops(lambda: list(method.upsample(lr, [seed], degradation)))}
    prior = getattr(method, "prior", None)
    if prior is not None and out["flops"]:
        out["generator forwards"] = out["flops"] / forward_flops(prior)
    return out


def _flattered(prior: str, suite: Suite) -> list[str]:
    """The judges that a network was trained to please."""
    declares = declaration_of(prior)
    partial = [
        f"fd-{name}" for name, judge in JUDGES.items() if f"fd-{name}" in suite.sets and is_partial(judge, declares)
    ]
    if not partial:
        return []
    return [
        f"{', '.join(partial)}: {Path(prior).stem} was trained on features of this kind; they flatter what it makes."
    ]


def _about(
    collection: Collection,
    names: Sequence[str],
    seeds: Sequence[int],
    side: int,
    scale: float,
    degradation: str,
    specs: Sequence[Spec],
    prior: str | None,
    shuffle: int,
) -> dict[str, Any]:
    return {
        "data": f"{collection.path.name}, {len(names)} of {len(collection)} pictures, shuffle seed {shuffle}",
        "inputs": f"{round(side / scale)}x{round(side / scale)}, {degradation} from {side}x{side}",
        "seeds": f"{min(seeds)} to {max(seeds)}, {len(seeds)} per input",
        "prior": ", ".join(dict.fromkeys(filter(None, (spec.network(prior) for spec in specs)))) or "none",
        "machine": f"{os.cpu_count()} CPU cores" + (", CUDA" if torch.cuda.is_available() else ""),
        "versions": f"preimage {package_version()}, torch {torch.__version__}, Python {sys.version.split()[0]}",
    }
