"""The sections of the page that hold diagrams: coverage, calibration, groups. Each with the numbers behind it."""

from __future__ import annotations

from collections.abc import Sequence

from preimage.measure.render.charts import Bar, curve_chart, interval_chart, swatch
from preimage.measure.render.markup import html_table, numeral, safe
from preimage.measure.render.tables import AuditRow, audit_rows, audit_summary, number, places
from preimage.measure.report import Curve, Report


def _legend(report: Report) -> str:
    items = [f"<li>{swatch(i)}{safe(m.name)}</li>" for i, m in enumerate(report.methods)]
    return f'<ul class="legend">{"".join(items)}</ul>'


def coverage(report: Report) -> str:
    """Distance of the best of k candidates, all methods in one diagram; empty without curves."""
    series = [(i, m.coverage) for i, m in enumerate(report.methods) if m.coverage is not None]
    svg = curve_chart(series, "Coverage: " + _describe_curves(report, series), counts=True) if series else ""
    if not svg:
        return ""
    lead = "<p>Distance from the true picture to the nearest of k candidates. A set that covers the truth keeps falling.</p>"
    return f'{lead}{_legend(report)}<div class="charts one"><figure>{svg}</figure></div>{_points(report, series)}'


def calibration(report: Report) -> str:
    """Predicted against actual error, one diagram per method on common scales; empty without curves."""
    curves = [(i, m.name, m.calibration) for i, m in enumerate(report.methods) if m.calibration is not None]
    every = [curve for _, _, curve in curves]
    charts = [
        f"<figure><figcaption>{safe(name)}</figcaption>{svg}</figure>"
        for i, name, curve in curves
        if (svg := curve_chart([(i, curve)], "Calibration: " + _describe_curves(report, [(i, curve)]), every))
    ]
    if not charts:
        return ""
    lead = (
        "<p>Where the candidates differ by so much, how far are they from the truth? On the dashed line the spread predicts "
        "the error; above it the method is surer than it may be. The area of a mark is how much of the pictures it stands "
        "for.</p>"
    )
    series = [(i, curve) for i, _, curve in curves]
    return f'{lead}<div class="charts">{"".join(charts)}</div>{_points(report, series)}'


def _describe_curves(report: Report, series: Sequence[tuple[int, Curve]]) -> str:
    """First and last point of each curve, for who cannot see the diagram."""
    ends = [
        f"{report.methods[i].name} from {number(c.y[0])} at {number(c.x[0])} to {number(c.y[-1])} at {number(c.x[-1])}"
        for i, c in series
        if c.x and c.y
    ]
    return "; ".join(ends)


def _points(report: Report, series: Sequence[tuple[int, Curve]]) -> str:
    """The numbers behind a diagram: a column per method where all share one x, else one below the other."""
    first = series[0][1]
    names = [safe(report.methods[i].name) for i, _ in series]
    y_digits = places(y for _, c in series for y in c.y)
    x_digits = (
        0 if all(float(x).is_integer() for _, c in series for x in c.x) else places(x for _, c in series for x in c.x)
    )
    if not any(c.weight for _, c in series):
        known = [dict(zip(c.x, c.y, strict=False)) for _, c in series]
        head = [safe(first.x_label), *names]
        body = [
            [numeral(number(x, x_digits)), *(numeral(number(k[x], y_digits)) if x in k else "–" for k in known)]
            for x in sorted({x for k in known for x in k})
        ]
        caption = safe(first.y_label)
    else:
        head = ["Method", safe(first.x_label), safe(first.y_label), "Weight"]
        body = [
            [name, *map(numeral, (number(x, x_digits), number(y, y_digits), number(weight)))]
            for name, (_, c) in zip(names, series, strict=True)
            for x, y, weight in zip(c.x, c.y, c.weight or (1.0,) * len(c.x), strict=False)
        ]
        caption = "The points of the diagrams."
    return f"<details><summary>Numbers</summary>{html_table(caption, head, body, 'facts')}</details>"


def groups(report: Report) -> str:
    """Gaps between groups as plots and as a table; empty without groups. Plots without a clear gap are folded away."""
    audit = audit_rows(report)
    if not audit:
        return ""
    lead = (
        "<p>Mean of each group minus that of the other groups of its kind, with its 95 % interval. A filled mark: the interval "
        f"excludes 0. A hollow one: it does not.</p><p>{safe(audit_summary(audit))}</p>"
    )
    clear, rest = _panels(report, audit)
    if not clear:
        clear, rest = rest, ""
    elif rest:
        rest = f"<details><summary>Plots without a clear gap</summary>{rest}</details>"
    return lead + _legend(report) + clear + rest + _gaps(audit)


def _panels(report: Report, audit: Sequence[AuditRow]) -> tuple[str, str]:
    """A plot for every metric and kind of group: those with a clear gap, and the others."""
    index = {m.name: i for i, m in enumerate(report.methods)}
    panels: dict[tuple[str, str], list[AuditRow]] = {}
    for a in audit:
        panels.setdefault((a.row.by, a.row.metric), []).append(a)
    charts: dict[bool, list[str]] = {True: [], False: []}
    for (by, _), members in panels.items():
        column = members[0].column
        bars = [Bar(a.row.group, index[a.method], a.row.gap) for a in members]
        values = "; ".join(f"{a.method} {a.row.group} {a.gap}" for a in members)
        label = f"{column.name} by {by}, gap to the other groups: {values}"
        if svg := interval_chart(bars, column.unit, column.lower_is_better, label):
            figure = f"<figure><figcaption>{safe(column.name)} by {safe(by)}</figcaption>{svg}</figure>"
            charts[any(a.verdict for a in members)].append(figure)
    clear, rest = (
        f'<div class="charts">{"".join(each)}</div>' if each else "" for each in (charts[True], charts[False])
    )
    return clear, rest


def _gaps(audit: Sequence[AuditRow]) -> str:
    body = [
        [
            f"{safe(a.row.by)}: {safe(a.row.group)}",
            safe(a.column.name) + (f' <span class="muted">({safe(a.column.unit)})</span>' if a.column.unit else ""),
            safe(a.method),
            f"{a.row.estimate.count:,}",
            numeral(a.mean),
            f"<strong>{numeral(a.gap)}</strong>" if a.verdict else numeral(a.gap),
            a.verdict,
        ]
        for a in audit
    ]
    head = ["Group", "Metric", "Method", "Inputs", "Mean", "Gap to the other groups", "Verdict"]
    caption = "Means within each group and gaps, with 95 % intervals. Bold: the interval excludes 0."
    table = html_table(caption, head, body, "facts", left=3)
    return f"<details{' open' if len(body) <= 24 else ''}><summary>All gaps as numbers</summary>{table}</details>"
