"""Diagrams of a report, drawn by matplotlib as inline SVG: curves of several methods, gaps between groups with their intervals.

One drawing serves light and dark: matplotlib draws with placeholders that become variables of the page (`--s0` ... `--s5`, `--ink`,
...). Every series has a colour, a mark and a dash of its own: none is told by colour alone.
"""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Callable, Sequence
from typing import Any
from xml.etree import ElementTree

import matplotlib.style
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter
from numpy.typing import NDArray

from preimage.measure.report import Curve, Estimate

_NAMES = ("ink", "muted", "line", "paper", "s0", "s1", "s2", "s3", "s4", "s5")
_INK, _MUTED, _LINE, _PAPER, *_SERIES = (f"#0000{i:02x}" for i in range(1, 1 + len(_NAMES)))
COLOURS = len(_SERIES)
Bar = tuple[str, int, Estimate]
_MARKS = "os^DvP"
_DASHES = ("-", (0, (4, 2)), (0, (1, 2)), (0, (5, 2, 1, 2)), (0, (2.5, 1.5)), (0, (0.6, 1.2)))
_STEPS = (1, 2, 5, 10)
_WIDTH = 340
_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name may hold dollars
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 12,
    "text.color": _INK,
    "axes.titlesize": 12,
    "axes.formatter.limits": (-3, 5),
    "axes.labelcolor": _INK,
    "axes.edgecolor": _MUTED,
    "grid.color": _LINE,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "ytick.major.size": 0,
    "lines.linewidth": 1.75,
    "lines.markersize": 7,
    "lines.markeredgewidth": 1.5,
}


def curve_chart(
    name: str, series: Sequence[tuple[int, Curve]], label: str, within: Sequence[Curve] = (), *, counts: bool = False
) -> Markup:
    """Curves in one diagram; a mark's area is its weight, a thin dashed line the ideal.

    Args:
        name: of the drawing, its own within the page: the ids inside are made of it.
        series: (index that chooses colour and mark, curve); labels of the axes are those of the first.
        label: what the diagram shows, for who cannot see it.
        within: more curves that the axes shall hold, so that several diagrams share their scales.
        counts: x counts something: whole ticks, and doublings as even steps where it spans a factor of 16 or more.

    Returns:
        SVG; empty where no curve of `series` has a finite point.
    """
    curves = [curve for _, curve in series]
    if not any(len(_points(c.x, c.y)) for c in curves):
        return Markup()
    held = np.concatenate([_points(c.x, y) for c in (*curves, *within) for y in (c.y, c.ideal)])

    def paint(axes: Axes) -> None:
        axes.grid(axis="y")
        axes.update_datalim(held)
        for index, curve in series:
            _curve(axes, index, curve)
        (left, low), (right, high) = held.min(0).tolist(), held.max(0).tolist()
        if 0 <= 2 * low <= high:
            axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=_STEPS))
        if not counts and 0 <= 2 * left <= right:
            axes.set_xlim(left=-0.05 * right)  # a mark at 0 stays clear of the numbers beside it
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=_STEPS, integer=counts, min_n_ticks=1))
        doublings = counts and 0 < 16 * left <= right
        if doublings:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")
        scale = " (log scale)" if doublings else ""
        axes.set_xlabel(_short(curves[0].x_label, 34) + scale, loc="left")  # on the right stands a power of ten
        heading = "\n".join(
            _short(line, 46) for line in textwrap.wrap(curves[0].y_label, 46, break_on_hyphens=False)[:2]
        )
        axes.figure.suptitle(heading, x=0.01, ha="left", size=12)

    return _draw(name, (_WIDTH, 240), paint, label)


def _points(*columns: Sequence[float]) -> NDArray[np.float64]:
    """(n, columns): x, y and what belongs to them, where x and y are finite, from left to right."""
    rows = [row for row in zip(*columns, strict=False) if np.isfinite(row[:2]).all()]
    return np.array(sorted(rows), dtype=np.float64).reshape(-1, len(columns))


def _look(index: int) -> dict[str, Any]:
    """Colour, dash and mark of a series."""
    return {"color": _SERIES[index % COLOURS], "linestyle": _DASHES[index % COLOURS], "marker": _MARKS[index % COLOURS]}


def _curve(axes: Axes, index: int, curve: Curve) -> None:
    look, ideal = _look(index), _points(curve.x, curve.ideal)
    x, y, weight = _points(curve.x, curve.y, curve.weight or [0.0] * len(curve.x)).T
    weight = np.nan_to_num(weight, posinf=0.0)
    if len(ideal):
        axes.plot(*ideal.T, color=_INK, linewidth=1, linestyle=(0, (3, 3)))
    if weighted := weight.max(initial=0.0) > 0:
        area = np.maximum(200 * weight / weight.max(), 6)
        axes.scatter(x, y, area, _PAPER, marker=look["marker"], edgecolors=look["color"], linewidths=1.5, zorder=3)
    # marks of dense curves stay apart by 0.05 of the diagonal
    axes.plot(x, y, **look, markevery=[] if weighted else 0.05 if len(x) > 20 else None)


def interval_chart(name: str, bars: Sequence[Bar], unit: str, lower_is_better: bool | None, label: str) -> Markup:
    """Dots with their 95 % intervals around a zero line, one line per name; hollow where the interval holds 0.

    Args:
        name: of the drawing, its own within the page: the ids inside are made of it.
        bars: (line it stands on, index that chooses colour and mark, numbers), in the order of the lines.
        unit: of the numbers.
        lower_is_better: which side of 0 is the worse one; None for neither.
        label: what the plot shows, for who cannot see it.

    Returns:
        SVG; empty where no number is finite and other than 0.
    """
    every = np.array([v for _, _, e in bars for v in (e.mean, e.low, e.high)])
    values = every[np.isfinite(every)]
    if not values.any():
        return Markup()
    reach = 1.05 * np.abs(values).max()
    lines = {line: [bar for bar in bars if bar[0] == line] for line, _, _ in bars}

    def paint(axes: Axes) -> None:
        axes.axvline(0, color=_INK, linewidth=1.25)
        y, centres = 0.0, []
        for members in lines.values():
            centres.append(y + (len(members) - 1) / 2)
            for i, (_, index, estimate) in enumerate(members):
                _bar(axes, y + i, index, estimate)
            y += len(members) + 0.8
            axes.axhline(y - 0.9, color=_LINE, linewidth=1)
        sides = (values.min() < 0, values.max() > 0)
        axes.set_xlim(*(side * reach * (1 if there else 0.1) for side, there in zip((-1, 1), sides, strict=True)))
        axes.set_ylim(y - 0.9, -0.9)
        axes.set_yticks(centres, [_short(line, 18) for line in lines], color=_INK)
        axes.grid(axis="x")
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=_STEPS))
        axes.xaxis.set_major_formatter(_Signed())
        if lower_is_better is not None:
            axes.set_title("← better" if lower_is_better else "← worse", loc="left")
            axes.set_title("worse →" if lower_is_better else "better →", loc="right")
        axes.set_xlabel(_short(unit, 20))

    height = 34 + 20 * (lower_is_better is not None) + 16 * bool(unit) + 12 * len(bars) + 10 * len(lines)
    return _draw(name, (_WIDTH, height), paint, label)


class _Signed(ScalarFormatter):
    """With a plus before what is above 0."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        text = super().__call__(x, pos)
        return f"+{text}" if x > 0 and text.strip("0.") else text


def _bar(axes: Axes, y: float, index: int, e: Estimate) -> None:
    look = _look(index)
    if np.isfinite([e.low, e.high]).all():
        axes.plot([e.low, e.high], [y, y], color=look["color"], linewidth=2)
    axes.plot(e.mean, y, **look, markerfacecolor=look["color"] if e.excludes_zero else _PAPER)


def swatch(name: str, index: int) -> Markup:
    """Line and mark of a series, for a legend, as SVG; `name` as in `curve_chart`."""

    def paint(axes: Axes) -> None:
        axes.set(xlim=(0, 30), ylim=(-1, 1), position=(0, 0, 1, 1))
        axes.set_axis_off()
        axes.plot([1, 15, 29], [0, 0, 0], **_look(index), markevery=[1])

    return _draw(f"{name} {index}", (30, 12), paint)


def _short(text: str, most: int) -> str:
    text = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))  # XML knows no others
    return text if len(text) <= most else text[: most - 1] + "…"


# --------------------------------------------------------------------------------------------------------------- SVG


def _draw(name: str, size: tuple[float, float], paint: Callable[[Axes], None], label: str = "") -> Markup:
    """What `paint` puts on empty axes, as SVG of `size` pixels; without a label it is an ornament of the text beside it."""
    with matplotlib.style.context([_STYLE, {"svg.hashsalt": name}], after_reset=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the reader's fonts draw the text, not matplotlib's
        figure = Figure((size[0] / 72, size[1] / 72), layout="constrained" if label else None)
        axes = figure.add_subplot()
        axes.spines[["left", "right", "top"]].set_visible(False)
        paint(axes)
        for artist in figure.findobj():
            artist.set_clip_on(False)  # a mark at the edge is drawn whole
        file = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    words = (
        {"class": "chart", "role": "img", "aria-label": label} if label else {"class": "swatch", "aria-hidden": "true"}
    )
    return _inline(file.getvalue(), words)


def _inline(svg: str, words: dict[str, str]) -> Markup:
    """A file of matplotlib's as an element of the page: no name spaces, no ids but those referred to, the page's colours."""
    root = ElementTree.fromstring(svg)
    root.attrib = {"viewBox": root.attrib["viewBox"], **words}
    for defs in root.findall("{*}defs"):
        root.remove(defs)  # a style sheet, which would rule the whole page
    for element in root.iter():
        element.text, element.tail = (element.text or "").strip(), ""
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        if element.tag == "g":
            element.attrib.pop("id", None)
        for key in element.attrib.keys() & {"style"}:
            element.attrib[key] = re.sub(
                "#0000(..)", lambda m: f"var(--{_NAMES[int(m[1], 16) - 1]})", element.attrib[key]
            )
    return Markup(ElementTree.tostring(root, encoding="unicode"))
