"""Judge a folder of candidates: every metric, the space of solutions, calibration, and who is served worse.

One input is open at a time; of a set only statistics are kept. Everything is measured on the saved files.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from preimage.candidates import certainty, package_version
from preimage.collection import Collection
from preimage.errors import InputError, PreimageError
from preimage.files import read_jsonl, read_yaml
from preimage.measure.folder import Case, find_cases, open_case
from preimage.measure.judge import SET_SUMMARY, Evaluation, Judge, input_mean
from preimage.measure.metric import Metric
from preimage.measure.published import published_for
from preimage.measure.report import WORST, Column, MethodReport, Report, Shown
from preimage.measure.suite import Suite, build_suite

_SHOWN = 10  # candidates of an input on the page


def evaluate_folder(
    results: str | Path,
    reference: Collection | None = None,
    suite: Suite | None = None,
    *,
    name: str | None = None,
    lr: Collection | None = None,
    scale: float | None = None,
    real: Collection | None = None,
    statistics: str | Path | None = None,
    resamples: int = 2000,
    seed: int = 0,
    progress: bool = True,
) -> Evaluation:
    """Judge the candidates of a folder, ours or another tool's.

    Args:
        results: the folder, see `preimage.measure.folder`.
        reference: true pictures by the same names; None measures only what needs no truth.
        suite: metrics, see `preimage.measure.suite.build_suite`; None takes none beyond those that need no network.
        name: of the method; default what the folder's run.yaml says, else the folder's own name.
        lr: low-resolution pictures by the same names, where the folder holds none.
        scale: makes them from the references by bicubic, where there are none at all.
        real: real pictures for the distances between sets; default the references.
        statistics: folder that keeps what was gathered of `real`, for the next method or run.
        resamples: bootstrap resamples.
        seed: of the bootstrap.
        progress: show a bar.

    Returns:
        The numbers; an input that cannot be read is reported in `method.problems` and left out.

    Raises:
        InputError: nothing to judge.
    """
    from tqdm import tqdm

    results, suite = Path(results), suite or Suite()
    cases, problems = find_cases(results, reference, lr)
    settings = read_yaml(results / "run.yaml") if (results / "run.yaml").is_file() else {}
    method = MethodReport(name or _name(settings) or results.name, settings, problems=problems)
    out = Evaluation(method)
    judge = Judge(suite, out)
    for case in tqdm(cases, f"judging {method.name}", unit="input", disable=None if progress else True):
        try:
            judge.add(case, open_case(case, reference, scale))
        except PreimageError as error:
            problems.append(f"{case.name}: {error}" if case.name not in str(error) else str(error))
    if not method.inputs:
        raise InputError(f"{results}: no input could be judged. {problems[0] if problems else ''}")
    judge.finish(real or reference, Path(statistics) if statistics is not None else None, resamples, seed)
    method.cost.update(_seconds(results))
    method.shown = _choose(method, cases, suite.chooser, reference, scale)
    return out


def evaluate(
    results: str | Path,
    reference: str | Path | None = None,
    *,
    lr: str | Path | None = None,
    scale: float | None = None,
    real: str | Path | None = None,
    name: str | None = None,
    metrics: Sequence[str] | None = None,
    weights: str | Path | None = None,
    niqe_model: str | Path | None = None,
    download: bool = False,
    command: str = "",
) -> Report:
    """`evaluate_folder` as a report, with everything named by path: what `preimage evaluate` prints.

    Args:
        results, lr, scale, real, name: see `evaluate_folder`; folders or zip archives.
        reference: folder or zip archive of the true pictures.
        metrics, weights, niqe_model, download: see `preimage.measure.suite.build_suite`.
        command: what the user typed, for the report.

    Raises:
        PreimageError: nothing to judge, unknown metrics, missing files.
    """
    suite = build_suite(metrics, weights, niqe_model, download)
    with ExitStack() as stack:
        truth, small, others = (
            stack.enter_context(Collection(path)) if path is not None else None for path in (reference, lr, real)
        )
        found = evaluate_folder(results, truth, suite, name=name, lr=small, scale=scale, real=others)
    inputs = found.method.inputs
    per_input = len(next((v for v in inputs[0]["values"].values() if isinstance(v, list)), []))
    about = {
        "results": f"{Path(results).name}, {len(inputs)} inputs, {per_input} candidates of the first",
        "reference": Path(reference).name if reference is not None else "none",
        "versions": f"preimage {package_version()}, torch {torch.__version__}, Python {sys.version.split()[0]}",
    }
    return Report(
        f"{found.method.name}: candidates of {len(inputs)} inputs",
        command,
        about,
        found.columns,
        [found.method],
        published_for([found.method.name]),
        suite.missing | found.missing,
        [*found.notes, *reading_notes(found.columns, len(inputs))],
    )


def reading_notes(columns: Mapping[str, Column], inputs: int) -> list[str]:
    """What a reader of any report must know."""
    out = ["Intervals: 95 %, bootstrap over the inputs; candidates of one input are no independent evidence."]
    if any(column.per == "set" and name[:2] in SET_SUMMARY for name, column in columns.items()):
        out.append(
            f"Distances between sets: all candidates of {inputs} inputs, which resemble each other more than that many "
            "different faces do, against all real pictures. Compare methods of one table only."
        )
    if any(name.endswith("*") for name in columns):
        out.append("A star marks a stand-in network: its values rank pictures, and are no published metric.")
    return out


def _name(settings: dict[str, Any]) -> str | None:
    method = settings.get("method")
    return str(method["name"]) if isinstance(method, dict) and "name" in method else None


def _seconds(results: Path) -> dict[str, float]:
    """What summary.jsonl says of the time."""
    path = results / "summary.jsonl"
    lines = read_jsonl(path) if path.is_file() else []
    out = {}
    for key in ("seconds", "steps"):
        values = [value for line in lines if isinstance(value := line.get(key), int | float)]
        if values and (key == "seconds" or any(values)):
            out[key] = sum(values) / len(values)
    return out


def _choose(
    method: MethodReport, cases: list[Case], metric: Metric | None, reference: Collection | None, scale: float | None
) -> list[Shown]:
    """Best, median and the worst inputs by the metric, or by the downscaling error without it, opened again for the page."""
    known = {case.name: case for case in cases}
    wishes = [(metric.name, metric.lower_is_better)] if metric is not None else []
    for by, lower in [*wishes, ("lr-l1", True), ("lr-rms", True)]:
        values = [(input_mean(line["values"].get(by)), line["name"]) for line in method.inputs]
        ranked = sorted((v if lower else -v, n) for v, n in values if not math.isnan(v))
        if ranked:
            break
    else:
        return []
    places = {"best": 0, "median": (len(ranked) - 1) // 2} | {why: len(ranked) - 1 - i for i, why in enumerate(WORST)}
    chosen: dict[str, Shown] = {}
    for why, place in places.items():
        value, name = ranked[max(place, 0)]
        if name in chosen:
            continue
        p = open_case(known[name], reference, scale)
        images = p.images if bool((p.images != p.images[:1]).any()) else p.images[:1]  # copies are shown once
        sure = certainty(images) if len(images) > 1 else None
        chosen[name] = Shown(why, by, value if lower else -value, name, images[:_SHOWN], p.lr, p.reference, sure)
    return list(chosen.values())
