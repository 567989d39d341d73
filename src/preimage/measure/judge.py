"""The judge of one folder: takes in inputs one by one, keeps numbers and statistics, and sums up at the end."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from preimage.collection import Collection
from preimage.errors import InputError, PreimageError
from preimage.measure.calibration import Calibration
from preimage.measure.diversity import pairwise_distance
from preimage.measure.fidelity import byte_exact, lr_psnr_saved
from preimage.measure.folder import Case, Pictures
from preimage.measure.groups import bootstrap_mean, group_rows
from preimage.measure.metric import Metric
from preimage.measure.report import Column, Curve, Estimate, MethodReport
from preimage.measure.sets import SetDistance
from preimage.measure.solutions import solution_space
from preimage.measure.suite import Suite


@dataclass
class Evaluation:
    """What came of judging one folder.

    Attributes:
        method: the numbers.
        columns: headings of the metrics that were measured.
        missing: metric -> why it could not be measured here.
        notes: what to know when reading the numbers.
    """

    method: MethodReport
    columns: dict[str, Column] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Judge:
    """Takes in inputs one by one, and sums up at the end.

    Args:
        suite: the metrics.
        out: what to fill.
    """

    def __init__(self, suite: Suite, out: Evaluation) -> None:
        self.suite, self.out, self.method = suite, out, out.method
        self.calibration = Calibration()
        self.most = 0
        self.sets: dict[str, SetDistance] = {key: make() for key, make in suite.sets.items()}
        self.side = 0
        self.distance = "rms"
        self.coverage: list[tuple[float, ...]] = []
        self.groups: list[dict[str, str]] = []

    def add(self, case: Case, pictures: Pictures) -> None:
        """Measure one input.

        Raises:
            PreimageError: it cannot be measured; nothing of it counts then.
        """
        values: dict[str, Any] = {}
        for metric in self.suite.metrics:
            self._apply(metric, pictures, values)
        self._solutions(pictures, self._consistency(pictures, values), values)
        for key, distance in list(self.sets.items()):
            try:
                distance.update(pictures.images, real=False)
            except InputError as error:
                self.out.missing[key] = str(error)
                del self.sets[key]
        self.side = pictures.images.shape[-1] if pictures.images.shape[-1] == pictures.images.shape[-2] else 0
        if pictures.reference is not None and len(pictures.images) > 1:
            values["over-confidence"] = self.calibration.update(pictures.images, pictures.reference)
            self.most = max(self.most, len(pictures.images))
        self.groups.append(dict(case.groups))
        self.method.inputs.append({"name": case.name, "group": dict(case.groups), "values": values})

    def _column(self, column: Column) -> None:
        self.out.columns.setdefault(column.name, column)

    def _apply(self, metric: Metric, pictures: Pictures, values: dict[str, Any]) -> None:
        if metric.reference and pictures.reference is None:
            self.out.missing.setdefault(metric.name, "compares with the true picture; no reference was given.")
            return
        if min(pictures.images.shape[-2:]) < metric.smallest:
            size = f"{pictures.images.shape[-1]}x{pictures.images.shape[-2]}"
            self.out.missing.setdefault(
                metric.name, f"needs {metric.smallest} pixels or more on either side; the candidates have {size}."
            )
            return
        values[metric.name] = metric(pictures.images, pictures.reference).tolist()
        self._column(
            Column(metric.name, metric.lower_is_better, metric.unit, metric.summary, metric.source, "candidate")
        )

    def _consistency(self, pictures: Pictures, values: dict[str, Any]) -> Tensor | None:
        """RMS of the saved files' downscaling errors, in grey levels; None where there is no linear downscaling."""
        if pictures.l1 is not None:
            values["lr-l1"] = pictures.l1.tolist()
            self.out.missing.setdefault("exact", "a learned degradation has no exact candidates; see lr-l1.")
            return None
        if pictures.lr is None or pictures.operator is None:
            self.out.missing.setdefault("lr-psnr", "needs the low-resolution pictures; none were found or given.")
            return None
        chosen = (
            f"Candidates answer within {pictures.tolerance} grey levels by choice, not to copy noise; none is exact."
        )
        if pictures.tolerance and chosen not in self.out.notes:
            self.out.notes.append(chosen)
        psnr = lr_psnr_saved(pictures.images, pictures.lr, pictures.operator)
        rms = 255 / torch.pow(10, psnr / 20)
        values["exact"] = byte_exact(pictures.images, pictures.lr, pictures.operator).double().tolist()
        values["lr-rms"], values["lr-psnr"] = rms.tolist(), psnr.tolist()
        return rms

    def _solutions(self, pictures: Pictures, rms: Tensor | None, values: dict[str, Any]) -> None:
        images, lpips, embed = pictures.images, self.suite.lpips, self.suite.embed()
        if lpips is not None and min(images.shape[-2:]) < lpips.trunk.smallest:
            lpips = None
        if pictures.reference is None:
            if len(images) > 1:
                values["pairwise-rms"] = pairwise_distance(images)
            return
        space = solution_space(
            images,
            pictures.reference,
            maps=None if lpips is None else lambda a, b: lpips.maps(a, b)[:, 0],
            distance=None if lpips is None else lpips.distance,
            embed=embed,
            errors=rms,
        )
        name = self.distance = "rms" if lpips is None else self.suite.lpips_name
        found = {
            f"best-{name}": space.distance_best,
            "diversity": space.diversity,
            f"pairwise-{name}": space.pairwise,
            "pairwise-rms": space.pairwise_rms,
            "identity-spread": space.identity_spread,
            "lr-psnr-pooled": space.lr_psnr_pooled,
            "lr-psnr-worst": space.lr_psnr_worst,
        }
        values |= {key: value for key, value in found.items() if not math.isnan(value)}
        self.coverage.append(space.coverage)

    def finish(self, real: Collection | None, statistics: Path | None, resamples: int, seed: int) -> None:
        """Means with intervals, groups, curves, distances between sets."""
        fixed = _fixed_columns(self.distance)
        seen = {key for line in self.method.inputs for key in line["values"]}
        self.out.columns |= {column.name: column for column in fixed if column.name in seen}
        for column in list(self.out.columns.values()):
            numbers = [input_mean(line["values"].get(column.name)) for line in self.method.inputs]
            lower = column.lower_is_better
            self.method.estimates[column.name] = bootstrap_mean(numbers, resamples, seed=seed, lower_is_better=lower)
            if all(map(math.isfinite, numbers)) and min(numbers) < max(numbers):  # else no group differs
                self.method.groups += group_rows(
                    numbers, self.groups, column.name, lower_is_better=lower, resamples=resamples, seed=seed
                )
        if self.calibration.count:
            self._calibrated()
        if self.coverage:
            self.method.coverage = self._coverage()
        if self.sets:
            self._distances(real, statistics)

    def _calibrated(self) -> None:
        """Pooled over all pixels; the column `over-confidence` has the inputs' own ratios, with an interval."""
        for name, value in (
            ("over-confidence-pooled", self.calibration.ratio),
            ("certainty-correlation", self.calibration.correlation),
            ("certainty-rank-correlation", self.calibration.rank_correlation),
        ):
            if not math.isnan(value):
                self.method.estimates[name] = Estimate(value, count=self.calibration.count)
                self._column(_POOLED[name])
        if self.most > 2:
            self.method.calibration = replace(self.calibration.curve(), name=self.method.name)

    def _coverage(self) -> Curve:
        n = max(map(len, self.coverage))
        whole = torch.tensor([line for line in self.coverage if len(line) == n], dtype=torch.float64)
        name = "RMS, grey levels" if self.distance == "rms" else self.distance
        return Curve(
            self.method.name,
            "candidates drawn",
            f"distance of the best to the truth ({name})",
            tuple(float(k) for k in range(1, n + 1)),
            tuple(whole.mean(0).tolist()),
        )

    def _distances(self, real: Collection | None, statistics: Path | None) -> None:
        if real is None or not self.side:
            for key in self.sets:
                self.out.missing[key] = "needs real pictures to compare with, and square candidates."
            return
        for key, distance in self.sets.items():
            try:
                _gather(distance, key, real, self.side, statistics)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # they are kept as notes
                    found = distance.compute()
            except PreimageError as error:
                self.out.missing[key] = str(error)
                continue
            self.out.notes += [note for note in found.warnings if note not in self.out.notes]
            for metric, value in found.items():
                self._column(Column(metric, True, "", SET_SUMMARY[metric[:2]].format(real=found.counts[1]), "", "set"))
                self.method.estimates[metric] = Estimate(value, count=found.counts[0])


def _fixed_columns(distance: str) -> list[Column]:
    """Headings of what needs no feature network of its own; `distance` is what diversity and coverage are measured with."""
    saved = "the saved file, opened and downscaled by Pillow"
    unit = "grey levels" if distance == "rms" else ""
    ntire = "Lugmayr et al., NTIRE 2021"
    theory = "squared error of the candidates' mean over (1 + 1/n) times their variance"
    return [
        Column("exact", False, "", "Share of candidates that downscale to the input byte for byte.", saved),
        Column("lr-rms", True, "grey levels", "RMS between input and downscaled candidate.", saved),
        Column("lr-psnr", False, "dB", "The same as PSNR; infinite where exact. NTIRE asks for 45 dB.", saved),
        Column(
            "lr-l1",
            True,
            "grey levels",
            "Mean absolute difference between input and candidate, made small by the learned degradation; proves nothing.",
            "as recorded in the file; `preimage verify` measures it again",
        ),
        Column(
            "lr-psnr-pooled", False, "dB", "PSNR of the error over all candidates of an input together.", saved, "input"
        ),
        Column("lr-psnr-worst", False, "dB", "LR-PSNR of the worst candidate of an input.", saved, "input"),
        Column(
            f"best-{distance}",
            True,
            unit,
            f"Distance ({distance}) of the closest candidate to the truth.",
            ntire,
            "input",
        ),
        Column(
            "diversity", False, "%", f"(global best - local best) / global best, by maps of {distance}.", ntire, "input"
        ),
        Column(f"pairwise-{distance}", None, "", f"Mean {distance} between candidates of one input.", "", "input"),
        Column("pairwise-rms", None, "grey levels", "Mean RMS between candidates of one input.", "", "input"),
        Column(
            "identity-spread", None, "", "Mean 1 - cosine of identity between candidates of one input.", "", "input"
        ),
        Column(
            "over-confidence", None, "", "Actual over predicted RMS error, per input; 1 is calibrated.", theory, "input"
        ),
    ]


_POOLED = {
    column.name: column
    for column in (
        Column(
            "over-confidence-pooled",
            None,
            "",
            "Actual over predicted RMS error of all pixels; 1 is calibrated.",
            "",
            "set",
        ),
        Column(
            "certainty-correlation", False, "", "Pearson correlation of spread and error over all pixels.", "", "set"
        ),
        Column(
            "certainty-rank-correlation", False, "", "Spearman correlation of the two over bins of spread.", "", "set"
        ),
    )
}


SET_SUMMARY = {
    "fi": "Fréchet inception distance of all candidates to {real} real pictures.",
    "ki": "Kernel inception distance of all candidates to {real} real pictures.",
    "fd": "Fréchet distance of all candidates to {real} real pictures in this network's features; no published FID.",
    "kd": "Kernel distance of all candidates to {real} real pictures in this network's features; no published KID.",
}


def _gather(distance: SetDistance, key: str, real: Collection, side: int, statistics: Path | None) -> None:
    """Stream the real pictures through the network, or read what an earlier run kept of them."""
    what = f"{real.path.name}, {len(real)} pictures, {side} px"
    digest = hashlib.sha256(what.encode()).hexdigest()[:8]
    kept = statistics / f"{key}-{digest}.safetensors" if statistics is not None else None
    if kept is not None and kept.is_file():
        try:
            distance.load_statistics(kept)
            return
        except InputError:
            pass  # of other weights, or damaged: gather anew
    batch: list[Tensor] = []
    for i, name in enumerate(real.names):
        batch.append(real.tensor(name, side))
        if len(batch) == 32 or i == len(real) - 1:
            distance.update(torch.stack(batch), real=True)
            batch = []
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        distance.save_statistics(kept, what)


def input_mean(values: Any) -> float:
    """Of one input: each counts once, whatever its number of candidates."""
    if values is None:
        return math.nan
    if isinstance(values, Sequence):
        return sum(values) / len(values)
    return float(values)
