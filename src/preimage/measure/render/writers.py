"""A report as JSON, as Markdown and as text for a terminal."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from preimage.measure.render.tables import (
    IMAGINED,
    AuditRow,
    Cell,
    Line,
    Row,
    audit_rows,
    audit_summary,
    better,
    cost_rows,
    describe,
    elsewhere,
    footnotes,
    reading_notes,
    rows,
)
from preimage.measure.report import MethodReport, Report

# -------------------------------------------------------------------------------------------------------------- JSON

_LINE = 110  # what fits here stays on one line
_LONG = 40  # rows of an audit that are shown as they are


def to_json(report: Report) -> str:
    """The whole report but its pictures, as JSON (UTF-8 text).

    Keys keep the order of `Report` and its parts. A number that is not defined (NaN) becomes null, an infinite one the
    string "inf" or "-inf", which `float` reads back; whatever JSON does not know becomes its `str`.
    """
    text = _dump({"format": "preimage report 1", **_plain(report)}, "")
    return text.encode(errors="backslashreplace").decode() + "\n"  # half surrogates, of file names that are not UTF-8


def _plain(value: Any) -> Any:
    """The same with nothing but dict, list, str, int, float, bool and None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value)]
        skip = "shown" if isinstance(value, MethodReport) else ""
        return {name: _plain(getattr(value, name)) for name in names if name != skip}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(each) for each in value]
    if hasattr(value, "tolist"):  # tensors, numpy arrays and scalars
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)


def _dump(value: Any, indent: str) -> str:
    """JSON with short things on one line, so that a list of numbers is not a page."""
    flat = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if not isinstance(value, (dict, list)) or not value or len(indent) + len(flat) <= _LINE:
        return flat
    inner = indent + "  "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key, ensure_ascii=False)}: {_dump(each, inner)}" for key, each in value.items()]
        return "{\n" + ",\n".join(inner + part for part in parts) + f"\n{indent}}}"
    if any(isinstance(each, (dict, list)) for each in value):
        return "[\n" + ",\n".join(inner + _dump(each, inner) for each in value) + f"\n{indent}]"
    return flat


# ---------------------------------------------------------------------------------------------------------- Markdown


def to_markdown(report: Report) -> str:
    """The report as Markdown (tables of GitHub's flavour): main table, groups, cost, what is missing, notes, command."""
    parts = [f"# {_md(report.title)}", f"**{IMAGINED}**", *_md_results(report), *_md_groups(report), *_md_cost(report)]
    parts += _md_list("Not measured", (f"**{_md(name)}**: {_md(why)}" for name, why in report.missing.items()))
    parts += _md_list("Notes", map(_md, reading_notes(report)))
    parts += _md_list("Problems", (f"{_md(m.name)}: {_md(text)}" for m in report.methods for text in m.problems))
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", report.command)), default=0))
    parts += ["## Command", f"{fence}\n{report.command}\n{fence}"]
    settings = {f"settings of {m.name}": m.settings for m in report.methods if m.settings}
    parts += _md_list("About", (f"{_md(key)}: {_md(describe(v))}" for key, v in (report.about | settings).items()))
    return _utf8("\n\n".join(parts) + "\n")


def _md_results(report: Report) -> list[str]:
    table = rows(report)
    parts = ["## Results"]
    if not table:
        return [*parts, "Nothing was measured."]
    published = any(row.published for row in table)
    head = ["metric", "better", "unit", *(m.name for m in report.methods), *(["published"] if published else [])]
    body = [
        [
            _md(row.column.name),
            {"higher": "↑ higher", "lower": "↓ lower"}.get(better(row.column), ""),
            _md(row.column.unit),
            *(_md_cell(cell) for cell in row.cells),
            *([_published(row, _md)] if published else []),
        ]
        for row in table
    ]
    parts.append(_md_table(head, body, left=3))
    if any(row.marked for row in table):
        parts.append("Bold: the best mean of the row.")
    if report.published:
        parts.append("Published figures are not directly comparable:")
        notes = (f"{i}. {_md(source)}: {_md(note)}" for (source, note), i in footnotes(report).items())
        parts.append("\n".join(notes))
        rest = [f"{p.method} {p.metric} {p.value:g} (note {i})" for p, i in elsewhere(report)]
        parts += [f"Published for metrics that were not measured here: {_md('; '.join(rest))}."] if rest else []
    return parts


def _md_groups(report: Report) -> list[str]:
    audit = audit_rows(report)
    if not audit:
        return []
    parts = ["## By group", audit_summary(audit) + " Gaps whose interval excludes 0 are bold."]
    if len(audit) <= _LONG:
        return [*parts, _md_audit(audit)]
    if clear := [a for a in audit if a.verdict]:
        parts += [_md_audit(clear), ""]
    return [*parts, f"<details><summary>All {len(audit)} gaps</summary>", _md_audit(audit), "</details>"]


def _md_audit(audit: Sequence[AuditRow]) -> str:
    body = []
    for a in audit:
        gap = f"**{a.gap}** {a.verdict}" if a.verdict else a.gap
        name = f"{a.column.name} ({a.column.unit})" if a.column.unit else a.column.name
        group = f"{a.row.by}: {a.row.group}"
        body.append([_md(group), _md(name), _md(a.method), f"{a.row.estimate.count:,}", a.mean, gap])
    return _md_table(["group", "metric", "method", "inputs", "mean", "gap to the other groups"], body, left=3)


def _md_cost(report: Report) -> list[str]:
    table = cost_rows(report)
    if not table:
        return []
    published = any(row.published for row in table)
    body = [[_md(row.name), *row.values, *([_published(row, _md)] if published else [])] for row in table]
    head = ["", *(m.name for m in report.methods), *(["published"] if published else [])]
    return ["## Cost", _md_table(head, body, left=1)]


def _md_cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    mean = f"**{cell.mean}**" if cell.best else cell.mean
    return " ".join(filter(None, (mean, cell.interval, f"({cell.count})" if cell.count else "")))


def _md_table(head: Sequence[str], body: Sequence[Sequence[str]], left: int) -> str:
    """A table whose first `left` columns are text; body cells are Markdown already."""
    rule = ["---" if i < left else "---:" for i in range(len(head))]
    lines = [[_md(text) for text in head], rule, *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _md_list(title: str, items: Iterable[str]) -> list[str]:
    lines = "\n".join(f"- {item}" for item in items)
    return [f"## {title}", lines] if lines else []


def _md(text: str) -> str:
    """Text from outside as one line of Markdown that shows it as it is."""
    text = re.sub(r"([\\`*\[\]|~])|(?<!\w)(_)|(_)(?!\w)", r"\\\1\2\3", " ".join(text.split()))
    return re.sub(r"&(?=#?\w+;)", "&amp;", text).replace("<", "&lt;").replace(">", "&gt;")


# ---------------------------------------------------------------------------------------------------------- terminal


def to_text(report: Report, width: int = 120) -> str:
    """The main table for a terminal, with what is needed to read it; methods that do not fit `width` continue below."""
    table = rows(report)
    used = {note for row in table for _, note in row.published}
    notes = [f"({i}) {source}: {note}" for (source, note), i in footnotes(report).items() if i in used]
    parts = [report.title, "\n".join(_text_table(report, table, width)) if table else "Nothing was measured."]
    if notes:
        parts.append("\n".join(["Published figures are not directly comparable:", *notes]))
    audit = audit_rows(report)
    if audit:
        clear = [
            f"  {a.method}, {a.row.by} {a.row.group}, {a.column.name}: {a.gap} {a.verdict}" for a in audit if a.verdict
        ]
        parts.append("\n".join(["Groups: " + audit_summary(audit), *clear]))
    if report.missing:
        parts.append("\n".join(["Not measured:", *(f"  {name}: {why}" for name, why in report.missing.items())]))
    problems = [f"  {m.name}: {text}" for m in report.methods for text in m.problems]
    if problems:
        parts.append("\n".join(["Problems:", *problems]))
    lines = [line for part in [*parts, IMAGINED] for line in [*part.splitlines(), ""]][:-1]
    text = "\n".join(_wrap(line, width) for line in lines) + "\n"
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)  # a file name must not steer the terminal


def _text_table(report: Report, table: Sequence[Row], width: int) -> list[str]:
    heads = [
        ["metric", *(row.column.name for row in table)],
        ["better", *(better(row.column) for row in table)],
        ["unit", *(row.column.unit for row in table)],
    ]
    methods = [
        [" ".join(m.name.split()), *(_text_cell(row.cells[i]) for row in table)] for i, m in enumerate(report.methods)
    ]
    if any(row.published for row in table):
        methods.append(["published", *(_published(row, str) for row in table)])
    fixed, lines = _pad(heads), []
    blocks: list[list[list[str]]] = [[]]
    for method in methods:
        used = len(fixed[0]) + sum(2 + max(map(len, column)) for column in [*blocks[-1], method])
        if blocks[-1] and used > width:
            blocks.append([])
        blocks[-1].append(method)
    for block in blocks:
        lines += ["", *("  ".join(pair).rstrip() for pair in zip(fixed, _pad(block), strict=True))]
    return lines[1:]


def _text_cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    return " ".join(
        filter(None, (cell.mean, cell.interval, f"({cell.count})" if cell.count else "", "best" * cell.best))
    )


def _pad(table: Sequence[Sequence[str]]) -> list[str]:
    """Columns of text as lines, aligned to the left."""
    widths = [max(map(len, column)) for column in table]
    lines = zip(*table, strict=True)
    return ["  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)) for line in lines]


def _wrap(line: str, width: int) -> str:
    if len(line) <= width or "  " in line.strip():  # a row of the table stays whole
        return line
    hang = "    " if line.startswith((" ", "(")) else ""
    return "\n".join(textwrap.wrap(line, width, subsequent_indent=hang, break_long_words=False, break_on_hyphens=False))


# ------------------------------------------------------------------------------------------------------------ shared


def _published(row: Row | Line, escape: Callable[[str], str]) -> str:
    return "; ".join(f"{p.value:g} ({escape(p.method)}, note {i})" for p, i in row.published)


def _utf8(text: str) -> str:
    """Half surrogates (file names that are not UTF-8) become question marks."""
    return text.encode(errors="replace").decode()
