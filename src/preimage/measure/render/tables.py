"""The numbers of a report as a reader meets them: rounded alike within a row, the best marked, papers' figures apart."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from preimage.measure.groups import gaps_found
from preimage.measure.report import Column, Estimate, GroupRow, Published, Report

IMAGINED = (
    "The detail in the candidates is imagined. The input does not hold it, and no candidate shows what this face truly "
    "looked like."
)
_PLACES = {"dB": 2, "%": 1}

# ---------------------------------------------------------------------------------------------------------- numbers


def places(values: Iterable[float], unit: str = "", widths: Iterable[float] = ()) -> int:
    """Digits after the point that suit numbers printed side by side.

    Two for dB and one for per cent; else three significant digits of the largest number, and a fourth where the smallest
    number would have fewer than three, or the widest interval fewer than two in its half.

    Args:
        values: the numbers; what is not finite is passed over.
        unit: of all of them.
        widths: half widths of their intervals.
    """
    if unit in _PLACES:
        return _PLACES[unit]
    sizes = [abs(v) for v in values if v and math.isfinite(v)]
    if not sizes:
        return 0
    width = max((w for w in widths if math.isfinite(w)), default=0.0)
    wanted = max(_after_point(min(sizes), 3), _after_point(width, 2) if width > 0 else 0)
    base = _after_point(max(sizes), 3)
    return min(base + 1, max(base, wanted))


def _after_point(value: float, significant: int) -> int:
    return min(6, max(0, significant - 1 - math.floor(math.log10(value))))


def number(value: float, digits: int | None = None, rescue: bool = True) -> str:
    """A number in plain ASCII: "23.41", "12,300", "4.1e-05", "inf", and "-" for one that is not defined.

    Args:
        value: the number.
        digits: after the point; None chooses with `places`.
        rescue: a number that would be printed as 0 without being 0 gets two significant digits instead.
    """
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if abs(value) >= 1e6:
        return f"{value:.2e}".replace("e+0", "e").replace("e+", "e")
    digits = places([value]) if digits is None else digits
    text = f"{value:,.{digits}f}"
    if float(text.replace(",", "")):
        return text
    if not (value and rescue):
        return text.lstrip("-")
    return f"{value:.1e}" if abs(value) < 1e-4 else f"{value:.{_after_point(abs(value), 2)}f}"


def interval(estimate: Estimate, digits: int) -> str:
    """The 95 % interval, such as "[22.90, 23.95]"; empty where there is none."""
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return ""
    return f"[{number(estimate.low, digits)}, {number(estimate.high, digits)}]"


def mean_text(estimate: Estimate, digits: int) -> str:
    """The mean; beside an interval, one that rounds to 0 is printed as 0."""
    return number(estimate.mean, digits, rescue=not interval(estimate, digits))


def describe(value: Any, inner: bool = False) -> str:
    """A setting or fact in one line of text: mappings as "a: 1; b: 2", lists as "1, 2", those inside others in brackets."""
    if isinstance(value, Mapping):
        text = "; ".join(f"{key}: {describe(each, True)}" for key, each in value.items())
        return f"({text})" if inner else text
    if isinstance(value, (list, tuple, set, frozenset)):
        text = ", ".join(describe(each, True) for each in value)
        return f"[{text}]" if inner else text
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())


# ------------------------------------------------------------------------------------------------------- main table


@dataclass(frozen=True)
class Cell:
    """One method's value of one metric, as text.

    Attributes:
        mean: such as "23.41".
        interval: such as "[22.90, 23.95]", or empty.
        count: how many inputs or pictures, where that is not what the whole table rests on; else empty.
        best: whether this is the best mean of the row.
    """

    mean: str
    interval: str = ""
    count: str = ""
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A metric: its heading, a cell per method (None: not measured), and what papers print for it.

    `published` holds each figure with the number of its footnote.
    """

    column: Column
    cells: tuple[Cell | None, ...]
    published: tuple[tuple[Published, int], ...] = ()

    @property
    def marked(self) -> bool:
        """Whether a cell is the best of the row."""
        return any(cell.best for cell in self.cells if cell)


def columns(report: Report) -> dict[str, Column]:
    """The headings, in the order of the table; metrics that were measured without a heading come last."""
    found = {name: None for method in report.methods for name in method.estimates}
    return report.columns | {name: Column(name, None) for name in found if name not in report.columns}


def column_of(report: Report, metric: str) -> Column:
    """The heading of a metric, also of one that the table does not hold."""
    return columns(report).get(metric) or Column(metric, None)


def better(column: Column) -> str:
    """Which direction is better: "higher", "lower" or, where neither is, an empty text."""
    return "" if column.lower_is_better is None else "lower" if column.lower_is_better else "higher"


def usual_count(report: Report) -> int:
    """How many inputs most of the means rest on; 0 for a report without numbers."""
    counts = Counter(
        estimate.count
        for method in report.methods
        for name, estimate in method.estimates.items()
        if column_of(report, name).per != "set" and estimate.count
    )
    return max(counts, key=lambda count: (counts[count], count), default=0)


def rows(report: Report) -> list[Row]:
    """The main table: one row per metric that any method has a value of."""
    usual, table = usual_count(report), []
    for key, column in columns(report).items():
        estimates = [method.estimates.get(key) for method in report.methods]
        if any(estimate is not None for estimate in estimates):
            table.append(Row(column, _cells(column, estimates, usual), _figures(report, key, column.name)))
    return table


def _cells(column: Column, estimates: Sequence[Estimate | None], usual: int) -> tuple[Cell | None, ...]:
    present = [e for e in estimates if e is not None]
    digits = places((e.mean for e in present), column.unit, ((e.high - e.low) / 2 for e in present))
    known = [e for e in present if not math.isnan(e.mean)]
    best = ""
    if column.lower_is_better is not None and len({mean_text(e, digits) for e in known}) > 1:
        pick = min if column.lower_is_better else max
        best = mean_text(pick(known, key=lambda e: e.mean), digits)  # what is printed alike shares the first place

    def cell(estimate: Estimate) -> Cell:
        mean = mean_text(estimate, digits)
        count = f"{estimate.count:,} inputs" if estimate.count != usual else ""
        if column.per == "set":  # pictures, mostly, but each metric says itself what it counts
            count = f"n = {estimate.count:,}"
        return Cell(mean, interval(estimate, digits), count, mean == best)

    return tuple(None if e is None else cell(e) for e in estimates)


def footnotes(report: Report) -> dict[tuple[str, str], int]:
    """Where papers' figures come from and why they are not comparable: (source, note) -> number, from 1."""
    return {key: i for i, key in enumerate(dict.fromkeys((p.source, p.note) for p in report.published), start=1)}


@dataclass(frozen=True)
class Line:
    """A line of a plain table: name, a text per column ("-" where not measured), and what papers print; see `Row`."""

    name: str
    values: tuple[str, ...]
    published: tuple[tuple[Published, int], ...] = ()


def cost_rows(report: Report) -> list[Line]:
    """The table of costs."""
    table = []
    for name in dict.fromkeys(name for method in report.methods for name in method.cost):
        values = [method.cost.get(name, math.nan) for method in report.methods]
        known = [abs(v) for v in values if v and math.isfinite(v)]
        # Costs differ by orders of magnitude: digits that suit the largest would leave nothing of the smallest.
        shared = places(values) if known and max(known) < 100 * min(known) else None
        table.append(Line(name, tuple(number(value, shared) for value in values), _figures(report, name)))
    return table


def _figures(report: Report, *names: str) -> tuple[tuple[Published, int], ...]:
    notes = footnotes(report)
    return tuple((p, notes[p.source, p.note]) for p in report.published if p.metric in names)


def elsewhere(report: Report) -> list[tuple[Published, int]]:
    """Figures of papers for what neither the main table nor that of the costs holds."""
    cells = [*(row.published for row in rows(report)), *(row.published for row in cost_rows(report))]
    used = [figure for cell in cells for figure, _ in cell]
    notes = footnotes(report)
    return [(p, notes[p.source, p.note]) for p in report.published if p not in used]


# ------------------------------------------------------------------------------------------------------------ groups


@dataclass(frozen=True)
class AuditRow:
    """A group of people, one metric, one method, as text.

    Attributes:
        method: name.
        row: the numbers.
        column: heading of the metric.
        mean: of the group, with its interval.
        gap: to the rest, with its interval.
        verdict: "worse", "better" or "differs" where the interval of the gap excludes 0; else empty.
    """

    method: str
    row: GroupRow
    column: Column
    mean: str
    gap: str
    verdict: str


def audit_rows(report: Report) -> list[AuditRow]:
    """The audit by group, in the order: what the groups are, metric, group, method."""
    found = [(method.name, row) for method in report.methods for row in method.groups]
    bys, metrics, groups, names = (
        {each: i for i, each in enumerate(dict.fromkeys(values))}
        for values in (
            (r.by for _, r in found),
            [*columns(report), *(r.metric for _, r in found)],
            ((r.by, r.group) for _, r in found),
            (name for name, _ in found),
        )
    )
    found.sort(key=lambda nr: (bys[nr[1].by], metrics[nr[1].metric], groups[nr[1].by, nr[1].group], names[nr[0]]))
    return [_audit_row(report, name, row, [r for _, r in found if r.metric == row.metric]) for name, row in found]


def _audit_row(report: Report, method: str, row: GroupRow, alike: Sequence[GroupRow]) -> AuditRow:
    column = column_of(report, row.metric)
    means = [r.estimate for r in alike]
    digits = places((e.mean for e in means), column.unit, ((e.high - e.low) / 2 for e in means))
    verdict = ""
    if row.gap.excludes_zero:
        above = row.gap.low > 0
        verdict = (
            "differs" if column.lower_is_better is None else "worse" if above == column.lower_is_better else "better"
        )
    mean = f"{mean_text(row.estimate, digits)} {interval(row.estimate, digits)}".rstrip()
    gap = mean_text(row.gap, digits)
    plus = "+" if row.gap.mean > 0 and gap.strip("0.") else ""
    gap = f"{plus}{gap} {interval(row.gap, digits)}".rstrip()
    return AuditRow(method, row, column, mean, gap, verdict)


def audit_summary(audit: Sequence[AuditRow]) -> str:
    """One sentence: how many gaps are clear, and how many would be by chance."""
    count = gaps_found([a.row for a in audit])
    if not count.gaps:
        return "No gap has an interval: there are too few inputs to tell."
    return (
        f"{count.found} of {count.gaps} gaps have a 95 % interval that excludes 0; were there no gap at all, about "
        f"{count.by_chance:.0f} would by chance. A gap is a difference between these pictures and names no cause: groups may "
        "also differ in source, sharpness or age."
    )


# ------------------------------------------------------------------------------------------------------------- words


def reading_notes(report: Report) -> list[str]:
    """What to know before trusting a number: the report's own notes, then what its parts call for."""
    notes = list(report.notes)
    if len(report.methods) > 1:
        notes.append("Where the intervals of two methods overlap, their order may be chance.")
    if report.published:
        notes.append("Published figures were measured on other data and settings: read their note before comparing.")
    if not any(method.groups for method in report.methods):
        notes.append("No groups of people were compared: nothing here says who is served worse.")
    failed = sum(len(method.problems) for method in report.methods)
    if failed:
        notes.append(f"{failed} {'problem' if failed == 1 else 'problems'} on the way: listed under Problems.")
    return notes
