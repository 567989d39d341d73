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

from jinja2 import Environment, PackageLoader, StrictUndefined, Template, select_autoescape
from markupsafe import Markup, escape
from torch import Tensor

from preimage.errors import InputError
from preimage.files import write_text_atomic
from preimage.image import to_pillow
from preimage.measure.render import tables
from preimage.measure.render.charts import curve_chart, interval_chart, swatch
from preimage.measure.render.tables import AuditRow, Line, audit_rows, columns, number, places
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
    page = _template().render(
        report=report,
        extremes=_extremes(report),
        coverage=_coverage(report),
        calibration=_calibration(report),
        gaps=_gaps(report),
    )
    return page.strip().encode(errors="replace").decode() + "\n"  # half surrogates: file names that are not UTF-8


@cache
def _template() -> Template:
    loader = PackageLoader("preimage.measure.render")
    autoescape = select_autoescape(["html"])
    found = Environment(
        loader=loader, autoescape=autoescape, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.filters["numeral"] = numeral
    found.globals |= {"tables": tables, "png": _png, "swatch": swatch, "worst": WORST, "most": _CANDIDATES}
    return found.get_template("page.html")


def numeral(text: str) -> Markup:
    """Numbers for the eye: a true minus, powers of ten, infinity; a dash for what is not defined."""
    text = text.replace("inf", "∞").replace("-", "−") if text != "-" else "–"
    return Markup(re.sub(r"(?<=\d)e\+?(−?)0*(\d+)", r"×10<sup>\1\2</sup>", str(escape(text))))


def _extremes(report: Report) -> dict[str, Any]:
    """Median and worst input, where the report knows them."""
    lines = []
    for key, column in columns(report).items():
        found = [method.estimates.get(key) for method in report.methods]
        values = [v for e in found for v in ((math.nan, math.nan) if e is None else (e.median, e.worst))]
        if not all(map(math.isnan, values)):
            digits = places(values, column.unit)
            lines.append(Line(column.name, tuple(number(v, digits) for v in values)))
    head = ["Metric", *(f"{m.name}, {which}" for m in report.methods for which in ("median", "worst"))]
    return {"caption": "Over the inputs; worst by the direction of the metric.", "head": head, "lines": lines}


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
    svg = curve_chart("coverage", series, "Coverage: " + _ends(report, series), counts=True)
    return {"drawings": [("", svg, True)], **_points(report, series)} if svg else {}


def _calibration(report: Report) -> dict[str, Any]:
    """Predicted against actual error, one diagram per method on common scales; empty without curves."""
    series = [(i, m.calibration) for i, m in enumerate(report.methods) if m.calibration is not None]
    found = []
    for i, curve in series:
        label = "Calibration: " + _ends(report, [(i, curve)])
        svg = curve_chart(f"calibration {i}", [(i, curve)], label, [c for _, c in series])
        found.append((report.methods[i].name, svg, True))
    drawings = [each for each in found if each[1]]
    return {"drawings": drawings, **_points(report, series)} if drawings else {}


def _ends(report: Report, series: Sequence[tuple[int, Curve]]) -> str:
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
        Line(numeral(number(x, x_digits)), tuple(number(k.get(x, math.nan), y_digits) for k in known))
        for x in sorted({*xs})
    ]
    return {"caption": first.y_label, "head": [first.x_label, *names], "lines": lines}


def _gaps(report: Report) -> list[tuple[str, Markup, bool]]:
    """A plot for every metric and kind of group: its title, SVG, and whether a gap in it is clear."""
    panels: dict[tuple[str, str], list[AuditRow]] = {}
    for a in audit_rows(report):
        panels.setdefault((a.row.by, a.row.metric), []).append(a)
    names, found = [method.name for method in report.methods], []
    for i, ((by, _), members) in enumerate(panels.items()):
        column, bars = members[0].column, [(a.row.group, names.index(a.method), a.row.gap) for a in members]
        title = f"{column.name} by {by}"
        label = f"{title}, gap to the other groups: " + "; ".join(f"{a.method} {a.row.group} {a.gap}" for a in members)
        svg = interval_chart(f"gap {i}", bars, column.unit, column.lower_is_better, label)
        found.append((title, svg, any(a.verdict for a in members)))
    return [each for each in found if each[1]]
