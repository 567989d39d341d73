"""What was measured, as plain data: one report, its methods. `render` turns it into files."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

WORST = ("worst", "second worst", "third worst")
"""Why an input is shown as a failure case (SR-NAM, section 4.5, has a figure of them)."""


@dataclass(frozen=True)
class Estimate:
    """A mean over inputs, and how sure it is.

    Attributes:
        mean: over the inputs; each input counts once, whatever its number of candidates.
        low, high: 95 % interval of the mean, by bootstrap over the inputs; NaN for a single input.
        median: over the inputs.
        worst: the worst input, by the metric's direction.
        count: how many inputs.
    """

    mean: float
    low: float = math.nan
    high: float = math.nan
    median: float = math.nan
    worst: float = math.nan
    count: int = 1

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of 0; False where there is no interval."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Column:
    """A metric's heading: see `Metric` for the words. `per` is "candidate", "input" or "set"."""

    name: str
    lower_is_better: bool | None
    unit: str = ""
    summary: str = ""
    source: str = ""
    per: str = "candidate"


@dataclass(frozen=True)
class Curve:
    """A line in a diagram; x and y of equal length.

    Attributes:
        name: what it is.
        x_label, y_label: with units.
        x, y: the points.
        weight: how much stands behind each point; empty for equal.
        ideal: what y would be if all were well; empty for none.
    """

    name: str
    x_label: str
    y_label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    weight: tuple[float, ...] = ()
    ideal: tuple[float, ...] = ()


@dataclass(frozen=True)
class GroupRow:
    """One metric within one group of people, beside all others.

    Attributes:
        by: what the groups are, such as "gender".
        group: such as "female".
        metric: name.
        estimate: within the group.
        gap: mean of the group minus mean of the rest; `mean` is the gap, with its interval.
    """

    by: str
    group: str
    metric: str
    estimate: Estimate
    gap: Estimate


@dataclass(frozen=True)
class Shown:
    """An input chosen for the page.

    Attributes:
        why: "best", "median" or one of `WORST`.
        by: the metric that chose it, and its value there.
        value: that value.
        name: of the input.
        lr: (3, h, w) or None.
        images: (n, 3, H, W), the candidates.
        reference: (3, H, W) or None.
        certainty: (H, W) or None.
    """

    why: str
    by: str
    value: float
    name: str
    images: Tensor
    lr: Tensor | None = None
    reference: Tensor | None = None
    certainty: Tensor | None = None


@dataclass
class MethodReport:
    """All that was measured of one method.

    Attributes:
        name: such as "pulse".
        settings: resolved, JSON-serialisable.
        estimates: metric -> estimate; metrics of a whole set have a count of pictures and no interval.
        inputs: per input {"name", "group", "values": {metric: number or numbers per candidate}}.
        coverage, calibration: curves, or None.
        groups: who is served worse.
        cost: seconds, memory, operations, by name.
        shown: pictures for the page; not part of the JSON.
        problems: inputs that failed, one message each.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    estimates: dict[str, Estimate] = field(default_factory=dict)
    inputs: list[dict[str, Any]] = field(default_factory=list)
    coverage: Curve | None = None
    calibration: Curve | None = None
    groups: list[GroupRow] = field(default_factory=list)
    cost: dict[str, float] = field(default_factory=dict)
    shown: list[Shown] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Published:
    """A figure of a paper: never comparable without reading `note`."""

    method: str
    metric: str
    value: float
    source: str
    note: str


@dataclass
class Report:
    """One run of `preimage evaluate` or `preimage bench`.

    Attributes:
        title: one line.
        command: what to type to get it again.
        about: data, count, seeds, sizes, operator, versions: whatever a reader must know, in this order.
        columns: metric -> heading, in the order of the table.
        methods: side by side.
        published: what the papers print for these methods.
        missing: metric -> why it was not measured.
        notes: what to know when reading the numbers.
    """

    title: str
    command: str
    about: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, Column] = field(default_factory=dict)
    methods: list[MethodReport] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
