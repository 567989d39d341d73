"""A report as one HTML page that needs nothing beside itself: numbers, pictures, diagrams."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape
from torch import Tensor

from preimage.errors import InputError
from preimage.files import write_text_atomic
from preimage.image import to_pillow
from preimage.measure.render.charts import curve_chart, interval_chart, swatch
from preimage.measure.render.tables import (
    IMAGINED,
    AuditRow,
    Line,
    audit_rows,
    audit_summary,
    better,
    column_of,
    columns,
    cost_rows,
    describe,
    footnotes,
    number,
    places,
    reading_notes,
    rows,
    usual_count,
)
from preimage.measure.render.writers import to_json, to_markdown
from preimage.measure.report import WORST, Curve, Report
from preimage.sheet import heatmap

_CANDIDATES = 10  # of one input on the page


def write_report(report: Report, folder: str | Path) -> dict[str, Path]:
    """Writes report.json, report.md and report.html, each whole or not at all.

    Returns:
        "json", "md" and "html" -> the file.

    Raises:
        OutputError: read-only folder, full disk, a file stands where the folder should be.
    """
    texts = {"json": to_json(report), "md": to_markdown(report), "html": to_html(report)}
    paths = {kind: Path(folder) / f"report.{kind}" for kind in texts}
    for kind, path in paths.items():
        write_text_atomic(path, texts[kind])
    return paths


def to_html(report: Report) -> str:
    """The report as one page: no scripts, no network; pictures as PNG in data URIs, diagrams as inline SVG."""
    names, audit = [m.name for m in report.methods], audit_rows(report)
    clear, unclear = _gap_charts(audit, names)
    page = _template().render(
        report=report,
        names=names,
        inputs=usual_count(report),
        hints=reading_notes(report),
        rows=rows(report),
        ends=[f"{name}, {which}" for name in names for which in ("median", "worst")],
        extremes=_extremes(report),
        coverage=_coverage(report),
        calibration=_calibration(report),
        audit=audit,
        clear=clear,
        unclear=unclear,
        cost=cost_rows(report),
        notes=footnotes(report),
        sources={c.name: c.source for c in columns(report).values() if c.source},
    )
    return page.strip().encode(errors="replace").decode() + "\n"  # half surrogates: file names that are not UTF-8


@cache
def _template() -> Template:
    found = Environment(
        loader=PackageLoader("preimage.measure.render"),
        autoescape=lambda name: name != "page.css",
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["numeral"] = numeral
    found.globals |= {f.__name__: f for f in (audit_summary, better, column_of, describe, number, places)}
    found.globals |= {"imagined": IMAGINED, "worst": WORST, "most": _CANDIDATES, "png": _png, "swatch": swatch}
    return found.get_template("page.html")


def numeral(text: str) -> Markup:
    """Numbers for the eye: a true minus, powers of ten, infinity; a dash for what is not defined."""
    text = text.replace("inf", "∞").replace("-", "−") if text != "-" else "–"
    return Markup(re.sub(r"(?<=\d)e\+?(−?)0*(\d+)", r"×10<sup>\1\2</sup>", str(escape(text))))


def _extremes(report: Report) -> list[Line]:
    """Median and worst input, where the report knows them."""
    lines = []
    for key, column in columns(report).items():
        found = [method.estimates.get(key) for method in report.methods]
        values = [v for e in found for v in ((math.nan, math.nan) if e is None else (e.median, e.worst))]
        if not all(map(math.isnan, values)):
            digits = places(values, column.unit)
            lines.append(Line(column.name, tuple(number(v, digits) for v in values)))
    return lines


def _png(image: Tensor) -> tuple[str, int, int]:
    """A picture (3, H, W), or numbers (H, W) as a heat map, in base64, with width and height; empty for what is neither."""
    try:
        picture = to_pillow(heatmap(image) if image.ndim == 2 else image)
    except InputError:
        return "", 0, 0
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode(), picture.width, picture.height


# ---------------------------------------------------------------------------------------------------------- diagrams


def _coverage(report: Report) -> dict[str, Any]:
    """Distance of the best of k candidates, all methods in one diagram; empty without curves."""
    series = [(i, m.coverage) for i, m in enumerate(report.methods) if m.coverage is not None]
    label = "Coverage: " + _describe_curves(report, series)
    svg = curve_chart("coverage", series, label, counts=True)
    return {"drawings": [("", svg)], "legend": "coverage", **_points(report, series)} if svg else {}


def _calibration(report: Report) -> dict[str, Any]:
    """Predicted against actual error, one diagram per method on common scales; empty without curves."""
    series = [(i, m.calibration) for i, m in enumerate(report.methods) if m.calibration is not None]
    drawings = []
    for i, curve in series:
        label = "Calibration: " + _describe_curves(report, [(i, curve)])
        if svg := curve_chart(f"calibration {i}", [(i, curve)], label, [c for _, c in series]):
            drawings.append((report.methods[i].name, svg))
    return {"drawings": drawings, "legend": "", **_points(report, series)} if drawings else {}


def _describe_curves(report: Report, series: Sequence[tuple[int, Curve]]) -> str:
    """First and last point of each curve, for who cannot see the diagram."""
    ends = [
        f"{report.methods[i].name} from {number(c.y[0])} at {number(c.x[0])} to {number(c.y[-1])} at {number(c.x[-1])}"
        for i, c in series
        if c.x and c.y
    ]
    return "; ".join(ends)


def _points(report: Report, series: Sequence[tuple[int, Curve]]) -> dict[str, Any]:
    """The numbers behind a diagram: a column per method where no point has a weight, else one below the other."""
    first, names = series[0][1], [report.methods[i].name for i, _ in series]
    xs = [x for _, c in series for x in c.x]
    y_digits = places(y for _, c in series for y in c.y)
    x_digits = 0 if all(float(x).is_integer() for x in xs) else places(xs)
    if any(c.weight for _, c in series):
        lines = [
            Line(name, (number(x, x_digits), number(y, y_digits), number(weight)))
            for name, (_, c) in zip(names, series, strict=True)
            for x, y, weight in zip(c.x, c.y, c.weight or (1.0,) * len(c.x), strict=False)
        ]
        head = ["Method", first.x_label, first.y_label, "Weight"]
        return {"caption": "The points of the diagrams.", "head": head, "lines": lines}
    known = [dict(zip(c.x, c.y, strict=False)) for _, c in series]
    lines = [
        Line(number(x, x_digits), tuple(number(k.get(x, math.nan), y_digits) for k in known)) for x in sorted({*xs})
    ]
    return {"caption": first.y_label, "head": [first.x_label, *names], "lines": lines}


def _gap_charts(
    audit: Sequence[AuditRow], names: Sequence[str]
) -> tuple[list[tuple[str, Markup]], list[tuple[str, Markup]]]:
    """A plot for every metric and kind of group, with its title: those with a clear gap, and the others."""
    panels: dict[tuple[str, str], list[AuditRow]] = {}
    for a in audit:
        panels.setdefault((a.row.by, a.row.metric), []).append(a)
    charts: dict[bool, list[tuple[str, Markup]]] = {True: [], False: []}
    for i, ((by, _), members) in enumerate(panels.items()):
        column = members[0].column
        bars = [(a.row.group, names.index(a.method), a.row.gap) for a in members]
        values = "; ".join(f"{a.method} {a.row.group} {a.gap}" for a in members)
        label = f"{column.name} by {by}, gap to the other groups: {values}"
        if svg := interval_chart(f"gap {i}", bars, column.unit, column.lower_is_better, label):
            charts[any(a.verdict for a in members)].append((f"{column.name} by {by}", svg))
    return charts[True], charts[False]
