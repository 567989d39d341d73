"""Means with their uncertainty, and who is served worse: every metric by group, beside the rest."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from preimage.errors import InputError
from preimage.measure.report import Estimate, GroupRow

BY = ("gender", "age", "origin", "source", "group")
"""What pictures are grouped by, in the order of a table; `group` holds the words that are none of the others."""

AGES = ((12, "0-12"), (19, "13-19"), (39, "20-39"), (59, "40-59"))
"""Last year and name of each age group; older ones are "60+"."""

_GENDERS = ("female", "male")
_ORIGINS = ("asian", "black", "caucasian", "hispanic", "indian", "mideastern")  # the words of MEBeauty
_FLOOR = 0.1
_ELEMENTS = 2**22  # resampled values at a time


def parse_groups(row: Mapping[str, str | None]) -> dict[str, str]:
    """The groups of a picture, from its line in the data's index (columns `source` and `group`).

    `group` is a list such as "female;age03" or "male;caucasian". The words are those of the data's authors.

    Returns:
        What is known, by `BY`: {"source": "aaf", "gender": "female", "age": "0-12"}.
    """
    out: dict[str, str] = {}
    others = []
    for word in filter(None, (word.strip() for word in (row.get("group") or "").split(";"))):
        age = re.fullmatch(r"age(\d+)", word)
        if age:
            out["age"] = next((name for last, name in AGES if int(age[1]) <= last), "60+")
        elif word in _GENDERS:
            out["gender"] = word
        elif word in _ORIGINS:
            out["origin"] = word
        else:
            others.append(word)
    if others:
        out["group"] = ";".join(others)
    if source := (row.get("source") or "").strip():
        out["source"] = source
    return {by: out[by] for by in BY if by in out}


def bootstrap_mean(
    values: Tensor | Sequence[float],
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    lower_is_better: bool | None = None,
) -> Estimate:
    """Mean over inputs with its studentised bootstrap interval (Efron and Tibshirani, 1993, section 12.5).

    The error of each resample's mean is divided by that resample's own standard error, which keeps the interval honest
    for few or skewed values; a resample's variance counts as a tenth of the sample's at least, so that a resample of
    equal values makes no infinite interval. Share of 95 % intervals that hold the true mean, 2,000 data sets each,
    beside the plain percentile interval:

    | values | n = 5 | 10 | 20 | 50 | 100 | percentile, n = 20 |
    |---|---|---|---|---|---|---|
    | normal | 94.8 | 95.0 | 95.2 | 95.2 | 95.2 | 93.7 |
    | exponential | 91.7 | 93.2 | 94.3 | 94.7 | 94.8 | 90.4 |
    | log-normal (log of spread 1) | 87.0 | 90.5 | 91.8 | 92.5 | 93.0 | 85.7 |
    | 90 % ones, else 0 | 39.9 | 64.3 | 86.7 | 94.9 | 96.8 | 87.8 |

    No interval knows of what a few values do not show: up to n = 20 the last row's misses are samples of ones only, or
    nearly.

    To compare two methods on the same inputs, give the differences input by input.

    Args:
        values: one per input; inputs are taken as independent. NaN (not measured) is left out and not counted.
        resamples: how many.
        level: of the interval.
        seed: of the resampling; the same values and seed give the same interval.
        lower_is_better: what is worst; None leaves `worst` out.

    Returns:
        The estimate. No interval (NaN) for a single value, and none where a value is infinite: then the mean is
        infinite too (NaN if both signs occur), while median and worst keep their sense. Equal values give an interval
        of no width. No value at all gives NaN and a count of 0.

    Raises:
        InputError: a level outside (0, 1), no resamples.
    """
    _check(level, resamples)
    x = _known(values)
    if not len(x):
        return Estimate(math.nan, count=0)
    low, high = _interval([x], [1], resamples, level, seed)
    worst = math.nan if lower_is_better is None else float(x.max() if lower_is_better else x.min())
    return Estimate(float(x.mean()), low, high, _median(x), worst, len(x))


def bootstrap_gap(
    group: Tensor | Sequence[float],
    rest: Tensor | Sequence[float],
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Mean of one group minus mean of the rest, both resampled on their own, studentised as in `bootstrap_mean`.

    Swapping both only turns the signs. 95 % intervals held the true gap in 94.4 % of 2,000 data sets for 5 normal
    values beside 50, in 94.5 % for 30 beside 60; of log-normal ones in 83.1 % and 90.6 %: read small groups with care.

    Returns:
        `mean` is the gap, `median` the difference of the medians, `count` the inputs on both sides together; NaN where
        a side has no value, no interval where one has a single or an infinite value.
    """
    _check(level, resamples)
    a, b = _known(group), _known(rest)
    if not len(a) or not len(b):
        return Estimate(math.nan, count=len(a) + len(b))
    low, high = _interval([a, b], [1, -1], resamples, level, seed)
    return Estimate(float(a.mean() - b.mean()), low, high, _median(a) - _median(b), count=len(a) + len(b))


def group_rows(
    values: Tensor | Sequence[float],
    groups: Sequence[Mapping[str, str]],
    metric: str,
    *,
    lower_is_better: bool | None = None,
    fewest: int = 5,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> list[GroupRow]:
    """One metric within every group, and its gap to the rest.

    The rest are the inputs of which it is known that they belong to *another* group of the same kind; a picture without
    a known gender is on neither side of a gap between genders. A gap is a difference between these pictures and no
    cause: groups may also differ in source, sharpness or age. At level 0.95 one interval in twenty leaves out 0 by
    chance; with many groups and metrics count them (`gaps_found`), or widen the intervals with `level` (1 − 0.05 / m
    for m gaps, Bonferroni).

    Args:
        values: one per input; NaN is left out.
        groups: per input, such as `parse_groups` gives.
        metric: name.
        lower_is_better: what is worst; None leaves `worst` out.
        fewest: inputs below which a group gets no row, and a rest no gap.
        resamples, level, seed: see `bootstrap_mean`.

    Raises:
        InputError: unequal lengths, a level outside (0, 1), no resamples.
    """
    x = torch.as_tensor(values, dtype=torch.float64).detach().cpu()
    if x.ndim != 1 or len(x) != len(groups):
        raise InputError(f"groups: {len(groups)} inputs with groups, but values of shape {tuple(x.shape)}.")
    _check(level, resamples)
    settings = {"resamples": resamples, "level": level, "seed": seed}
    kinds = {by for row in groups for by in row}
    rows = []
    for by in [*(by for by in BY if by in kinds), *sorted(kinds.difference(BY))]:
        names = [row.get(by) for row in groups]
        for name in sorted({n for n in names if n is not None}):
            inside = _known(x[torch.tensor([n == name for n in names])])
            rest = _known(x[torch.tensor([n is not None and n != name for n in names])])
            if len(inside) < fewest:
                continue
            estimate = bootstrap_mean(inside, lower_is_better=lower_is_better, **settings)  # type: ignore[arg-type]
            gap = bootstrap_gap(inside, rest if len(rest) >= fewest else [], **settings)  # type: ignore[arg-type]
            rows.append(GroupRow(by, name, metric, estimate, gap))
    return rows


class GapCount(NamedTuple):
    """How many gaps have an interval, how many leave out 0, and how many would by chance if there were no gap at
    all."""

    gaps: int
    found: int
    by_chance: float


def gaps_found(rows: Sequence[GroupRow], level: float = 0.95) -> GapCount:
    """How many gaps leave out 0, beside what chance does; two groups of one kind are one gap seen from both sides.

    Args:
        rows: of `group_rows`, of one or of many metrics.
        level: theirs.
    """
    gaps = [row.gap for row in rows if not math.isnan(row.gap.low)]
    found = sum(gap.excludes_zero for gap in gaps)
    return GapCount(len(gaps), found, (1 - level) * len(gaps))


def _known(values: Tensor | Sequence[float]) -> Tensor:
    x = torch.as_tensor(values, dtype=torch.float64).detach().cpu().flatten()
    return x[~x.isnan()]


def _check(level: float, resamples: int) -> None:
    if not 0 < level < 1 or resamples < 1:
        raise InputError(f"bootstrap: needs a level between 0 and 1 and resamples, got {level} and {resamples}.")


def _median(x: Tensor) -> float:
    """Also of infinite values."""
    ordered = x.sort().values
    return float(ordered[(len(x) - 1) // 2] + ordered[len(x) // 2]) / 2


def _interval(
    samples: Sequence[Tensor], signs: Sequence[int], resamples: int, level: float, seed: int
) -> tuple[float, float]:
    """Studentised bootstrap interval of the sum of the samples' means, each with its sign."""
    if any(len(x) < 2 or not bool(x.isfinite().all()) for x in samples):
        return math.nan, math.nan
    rng = torch.Generator().manual_seed(seed)
    centre, shift, variance, squared_error = 0.0, torch.zeros(()), torch.zeros(()), 0.0
    for x, sign in sorted(zip(samples, signs, strict=True), key=lambda s: (len(s[0]), float(s[0].sum()))):
        n, mean, own = len(x), float(x.mean()), float(x.var())
        means, variances = _resample(x - mean, resamples, rng)
        centre, squared_error = centre + sign * mean, squared_error + own / n
        shift, variance = shift + sign * means, variance + variances.clamp_min(_FLOOR * own) / n
    if not squared_error:
        return centre, centre
    tail = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = (shift / variance.sqrt()).quantile(tail).tolist()
    error = math.sqrt(squared_error)
    return centre - high * error, centre - low * error


def _resample(x: Tensor, resamples: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Means and variances (n − 1) of resamples of x (n,), each (resamples,)."""
    n, parts = len(x), []
    for start in range(0, resamples, step := max(1, _ELEMENTS // len(x))):
        drawn = x[torch.randint(n, (min(step, resamples - start), n), generator=rng)]
        parts.append(torch.stack([drawn.mean(1), drawn.var(1)]))
    means, variances = torch.cat(parts, 1)
    return means, variances
