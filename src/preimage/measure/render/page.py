"""A report as one HTML page that needs nothing beside itself: numbers, pictures, diagrams."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path

from preimage.files import write_text_atomic
from preimage.measure.render.diagrams import calibration, coverage, groups
from preimage.measure.render.markup import bullets, definitions, figures, html_table, numeral, picture_cell, safe
from preimage.measure.render.tables import (
    IMAGINED,
    Row,
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
from preimage.measure.report import WORST, Report, Shown

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
    sections: list[tuple[str, str, Callable[[Report], str]]] = [
        ("results", "Results", _results),
        ("pictures", "Pictures", _pictures),
        ("failures", "Where it fails", _failures),
        ("coverage", "How many candidates it takes", coverage),
        ("calibration", "Does it know where it errs?", calibration),
        ("groups", "Who is served worse", groups),
        ("cost", "Cost", _cost),
        ("published", "Published figures", _published),
        ("missing", "Not measured", _missing),
        ("problems", "Problems", _problems),
        ("about", "How this was measured", _about),
    ]
    bodies = [(name, title, body) for name, title, make in sections if (body := make(report))]
    links = " ".join(f'<a href="#{name}">{title}</a>' for name, title, _ in bodies)
    main = "\n".join(f'<section id="{name}">\n<h2>{title}</h2>\n{body}\n</section>' for name, title, body in bodies)
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{safe(report.title)}</title>
<style>
{_style()}</style>
</head>
<body>
<header>
<h1>{safe(report.title)}</h1>
{_headline(report)}
<nav aria-label="Sections">{links}</nav>
</header>
<main>
{main}
</main>
</body>
</html>
"""
    return page.encode(errors="replace").decode()


@cache
def _style() -> str:
    return files(__package__).joinpath("page.css").read_text(encoding="utf-8")


# --------------------------------------------------------------------------------------------------------- headline


def _headline(report: Report) -> str:
    inputs, metrics = usual_count(report), len(rows(report))
    facts = [", ".join(m.name for m in report.methods) or "no method"]
    facts += [f"{n:,} {noun if n == 1 else noun + 's'}" for n, noun in ((inputs, "input"), (metrics, "metric")) if n]
    notes = bullets([safe(note) for note in reading_notes(report)])
    trust = (
        f'<div class="imagined"><p>{IMAGINED}</p>{f"<p>Before you trust a number:</p>{notes}" if notes else ""}</div>'
    )
    command = f"<pre><code>{escape(report.command)}</code></pre>" if report.command else ""
    return f'<p class="lead">{safe(" · ".join(facts))}</p>\n{trust}\n{command}'


def _results(report: Report) -> str:
    table = rows(report)
    if not table:
        return "<p>Nothing was measured.</p>"
    published = any(row.published for row in table)
    head = _head(report, "Metric", published)
    body = []
    for row in table:
        line = [_metric(row)]
        for cell in row.cells:
            if cell is None:
                line.append('<span class="muted">not measured</span>')
                continue
            mean, below = numeral(cell.mean), (numeral(cell.interval), cell.count)
            mean = f'<strong>{mean}</strong><span class="vh"> best</span>' if cell.best else mean
            line.append(mean + "".join(f"<small>{text}</small>" for text in below if text))
        if published:
            line.append(figures(row.published))
        body.append(line)
    marked = any(cell and cell.best for row in table for cell in row.cells)
    caption = "Mean over the inputs, 95 % interval below it." + (" Bold: the best mean of the row." if marked else "")
    return html_table(caption, head, body, "results") + _extremes(report)


def _head(report: Report, first: str, published: bool) -> list[str]:
    """Titles of a table with a column per method and, where there are any, published numbers."""
    return [first, *(safe(m.name) for m in report.methods), *(["Published"] if published else [])]


def _metric(row: Row) -> str:
    column, direction = row.column, better(row.column)
    per = "of the whole set" if column.per == "set" else f"per {safe(column.per)}"
    arrow = {"higher": "↑ higher is better", "lower": "↓ lower is better", "": ""}[direction]
    unit = f' <span class="muted">({safe(column.unit)})</span>' if column.unit else ""
    words = [f'<span class="dir">{arrow}</span>' if arrow else "", per, safe(column.summary)]
    return f"{safe(column.name)}{unit}<small>{'; '.join(filter(None, words))}</small>"


def _extremes(report: Report) -> str:
    """Median and worst input, where the report knows them."""
    body = []
    for key, column in columns(report).items():
        found = [method.estimates.get(key) for method in report.methods]
        values = [v for e in found for v in ((math.nan, math.nan) if e is None else (e.median, e.worst))]
        if not all(map(math.isnan, values)):
            digits = places(values, column.unit)
            body.append([safe(column.name), *(numeral(number(v, digits)) for v in values)])
    if not body:
        return ""
    head = [
        "Metric",
        *(f"{safe(m.name)}<small>{what}</small>" for m in report.methods for what in ("median", "worst")),
    ]
    table = html_table("Over the inputs; worst by the direction of the metric.", head, body, "facts")
    return f"<details><summary>Median and worst input</summary>{table}</details>"


# --------------------------------------------------------------------------------------------------------- pictures


def _pictures(report: Report) -> str:
    lead = (
        "<p>Chosen by the metric named, not by eye. In the map of certainty, bright is what the candidates agree on and "
        "dark is where each imagines something else.</p>"
    )
    return _shown_where(report, lead, lambda shown: shown.why not in WORST)


def _failures(report: Report) -> str:
    lead = "<p>The worst inputs by the same metric: what to expect when it goes wrong.</p>"
    return _shown_where(report, lead, lambda shown: shown.why in WORST)


def _shown_where(report: Report, lead: str, wanted: Callable[[Shown], bool]) -> str:
    parts = []
    for method in report.methods:
        chosen = [_shown(report, method.name, shown) for shown in method.shown if wanted(shown)]
        parts += [f"<h3>{safe(method.name)}</h3>", *chosen] if chosen else []
    return lead + "\n".join(parts) if parts else ""


def _shown(report: Report, method: str, shown: Shown) -> str:
    column = column_of(report, shown.by)
    unit = f" {safe(column.unit)}" if column.unit else ""
    value = numeral(number(shown.value, places([shown.value], column.unit)))
    more = f"; {_CANDIDATES} of {len(shown.images)} candidates" if len(shown.images) > _CANDIDATES else ""
    title = f"<strong>{safe(shown.why)}</strong> by {safe(column.name)}: {value}{unit} <small>{safe(shown.name)}{more}</small>"
    name = f"{shown.name}, {method}"
    cells = []
    if shown.lr is not None:
        size = f"{shown.lr.shape[-1]}×{shown.lr.shape[-2]}"
        cells.append(picture_cell(shown.lr, f"input {size}", f"input of {name}", "exact"))
    for i, image in enumerate(shown.images[:_CANDIDATES], start=1):
        cells.append(picture_cell(image, f"candidate {i}", f"candidate {i} for {name}; its detail is imagined"))
    if shown.reference is not None:
        cells.append(picture_cell(shown.reference, "reference", f"reference, the true picture of {shown.name}", "real"))
    if shown.certainty is not None:
        alt = f"map of certainty for {name}: bright where the candidates agree, dark where they differ"
        cells.append(picture_cell(shown.certainty, "dark: imagined", alt))
    return f'<h4>{title}</h4>\n<div class="pictures">{"".join(cells)}</div>'


# -------------------------------------------------------------------------------------------------------- the rest


def _cost(report: Report) -> str:
    table = cost_rows(report)
    if not table:
        return ""
    published = any(row.published for row in table)
    body = [
        [safe(row.name), *map(numeral, row.values), *([figures(row.published)] if published else [])] for row in table
    ]
    return html_table("As measured in this run.", _head(report, "", published), body, "facts")


def _published(report: Report) -> str:
    if not report.published:
        return ""
    notes, parts = footnotes(report), []
    for (source, note), i in notes.items():
        printed = [(p.method, p.metric, p.value) for p in report.published if (p.source, p.note) == (source, note)]
        texts = [f"{safe(method)} {safe(metric)} {numeral(f'{value:g}')}" for method, metric, value in printed]
        parts.append(
            f'<li id="note-{i}"><strong>{safe(source)}</strong>: {safe(note)}<br><small>{"; ".join(texts)}</small></li>'
        )
    return f"<p>Not directly comparable with what was measured here. Why, and what each paper prints:</p><ol>{''.join(parts)}</ol>"


def _missing(report: Report) -> str:
    return bullets([f"<strong>{safe(name)}</strong>: {safe(why)}" for name, why in report.missing.items()])


def _problems(report: Report) -> str:
    return bullets([f"{safe(m.name)}: {safe(problem)}" for m in report.methods for problem in m.problems])


def _about(report: Report) -> str:
    sources = [(c.name, c.source) for c in columns(report).values() if c.source]
    parts = [definitions([(str(key), describe(value)) for key, value in report.about.items()])]
    for method in report.methods:
        settings = [(str(key), describe(value)) for key, value in method.settings.items()]
        parts.append(f"<h3>Settings of {safe(method.name)}</h3>{definitions(settings)}" if settings else "")
    parts.append(f"<h3>Where the metrics come from</h3>{definitions(sources)}" if sources else "")
    return "\n".join(filter(None, parts))
