"""Diagrams of a report as inline SVG: curves of several methods, gaps between groups with their intervals.

Colours are variables of the page (`--s0` ... `--s5`, `--ink`, `--muted`, `--line`, `--paper`), so that one drawing serves light and
dark. Every series has a colour, a mark and a dash of its own: none is told by colour alone.
"""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from preimage.measure.report import Curve, Estimate

COLOURS = 6
_WIDTH, _HEIGHT = 340, 240
_APART = 14  # pixels from mark to mark, at least
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2", "1 2")


@dataclass(frozen=True)
class Axis:
    """Numbers to pixels; `log` for doublings."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        value = math.log(value) if self.log else value
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self, count: int = 5) -> list[float]:
        """Round numbers within the axis, about `count` of them."""
        if self.log:
            powers = [2.0**i for i in range(math.ceil(math.log2(self.low)), math.floor(math.log2(self.high)) + 1)]
            return powers[:: math.ceil(len(powers) / 8)]
        rough = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _finite(values: Sequence[float]) -> list[float]:
    return [v for v in values if math.isfinite(v)]


def _range(values: Sequence[float], zero: bool = False) -> tuple[float, float]:
    """Lowest and highest finite value with a little room; from 0 where that costs little or is asked for."""
    known = _finite(values)
    low, high = min(known), max(known)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    if zero or 0 <= low <= 0.5 * high:
        return min(low, 0.0), max(high, 0.0) + room
    return low - room, high + room


def mark(index: int, x: float, y: float, radius: float = 3.5, *, hollow: bool = False) -> str:
    """The mark of a series: circle, square, triangle, diamond, tip-down triangle, cross, all of one area."""
    kind, r = index % 6, radius
    style = f'class="mark s{index % COLOURS}{" hollow" if hollow else ""}"'
    if kind == 0:
        return f'<circle {style} cx="{x:.1f}" cy="{y:.1f}" r="{r:.2f}"/>'
    shapes = {
        1: ((-0.89, -0.89), (0.89, -0.89), (0.89, 0.89), (-0.89, 0.89)),
        2: ((0, -1.45), (1.25, 0.72), (-1.25, 0.72)),
        3: ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)),
        4: ((0, 1.45), (1.25, -0.72), (-1.25, -0.72)),
        5: tuple(
            (a * c - b * s, a * s + b * c)
            for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))
            for a, b in ((-0.4, -1.2), (0.4, -1.2), (0.4, -0.4))
        ),
    }
    points = " ".join(f"{x + a * r:.1f},{y + b * r:.1f}" for a, b in shapes[kind])
    return f'<polygon {style} points="{points}"/>'


def swatch(index: int) -> str:
    """Line and mark of a series, for a legend."""
    return (
        f'<svg class="swatch" viewBox="0 0 30 12" width="30" height="12" aria-hidden="true">'
        f'<line class="curve s{index % COLOURS}" x1="1" x2="29" y1="6" y2="6" stroke-dasharray="{_DASHES[index % 6]}"/>'
        f"{mark(index, 15, 6)}</svg>"
    )


def _text(x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{html.escape(text)}</text>'


def _tick(x: float, y: float, text: str) -> str:
    """Text below a tick, kept inside the drawing."""
    half = 3.8 * len(text)
    return _text(min(x, _WIDTH - half), y, text, "middle")


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _svg(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    size = f'viewBox="0 0 {width:.0f} {height:.0f}"'
    return f'<svg class="chart" role="img" aria-label="{html.escape(label)}" {size}>{"".join(parts)}</svg>'


def _tick_text(value: float, step: float) -> str:
    if abs(value) < 1e-9 * step:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        return f"{value:.3g}".replace("-", "−")
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:.{digits}f}".replace("-", "−")


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


# ------------------------------------------------------------------------------------------------------------ curves


def curve_chart(
    series: Sequence[tuple[int, Curve]], label: str, within: Sequence[Curve] = (), *, counts: bool = False
) -> str:
    """Curves in one diagram; a mark's area is its weight, a thin dashed line the ideal.

    Args:
        series: (index that chooses colour and mark, curve); labels of the axes are those of the first.
        label: what the diagram shows, for who cannot see it.
        within: more curves that the axes shall hold, so that several diagrams share their scales.
        counts: x counts something: whole ticks, and doublings as even steps where it spans a factor of 16 or more.

    Returns:
        SVG; empty where no curve of `series` has a finite point.
    """
    if not any(_points(c.x, c.y) for _, c in series):
        return ""
    points = [p for c in (*(c for _, c in series), *within) for p in _points(c.x, c.y) + _points(c.x, c.ideal)]
    first, right, bottom = series[0][1], _WIDTH - 8, _HEIGHT - 42
    heading = textwrap.wrap(first.y_label, 54)[:2]
    y_axis = Axis(*_range([y for _, y in points]), bottom, 14 + 14 * len(heading))
    ticks = y_axis.ticks(6)
    texts = [_tick_text(t, ticks[1] - ticks[0] if len(ticks) > 1 else 1) for t in ticks]
    left = 12 + 7 * max(map(len, texts), default=1)
    x_axis = _x_axis([x for x, _ in points], left, right, counts)

    parts = [_line(left, y_axis(t), right, y_axis(t), "grid") for t in ticks]
    parts += [_text(left - 6, y_axis(t) + 4, text, "end") for t, text in zip(ticks, texts, strict=True)]
    x_ticks = [t for t in x_axis.ticks() if not counts or t == round(t)]
    step = 1 if counts or len(x_ticks) < 2 else x_ticks[1] - x_ticks[0]
    for t in x_ticks:
        parts.append(_line(x_axis(t), bottom, x_axis(t), bottom + 4, "axis"))
        parts.append(_tick(x_axis(t), bottom + 17, _tick_text(t, step)))
    parts.append(_line(left, bottom, right, bottom, "axis"))
    below = _short(first.x_label, 40) + (" (log scale)" if x_axis.log else "")
    parts.append(_text(right, _HEIGHT - 6, below, "end", "label"))
    parts += [_text(0, 12 + 14 * i, _short(line, 54), "start", "label") for i, line in enumerate(heading)]
    for index, curve in series:
        parts += _curve(index, curve, x_axis, y_axis)
    return _svg(_WIDTH, _HEIGHT, label, parts)


def _points(x: Sequence[float], y: Sequence[float]) -> list[tuple[float, float]]:
    """Where both are finite, from left to right."""
    return sorted(p for p in zip(x, y, strict=False) if math.isfinite(p[0]) and math.isfinite(p[1]))


def _x_axis(values: Sequence[float], left: float, right: float, counts: bool) -> Axis:
    if not counts:
        return Axis(*_range(values), left, right)
    low, high = min(values), max(values)
    room = 0.5 * (low == high)
    return Axis(low - room, high + room, left + 6, right - 4, log=0 < 16 * low <= high)


def _curve(index: int, curve: Curve, x_axis: Axis, y_axis: Axis) -> list[str]:
    def at(point: tuple[float, float]) -> tuple[float, float]:
        return x_axis(point[0]), y_axis(point[1])

    line = _polyline(list(map(at, _points(curve.x, curve.y))), f"curve s{index % COLOURS}", _DASHES[index % 6])
    ideal = [_polyline(list(map(at, found)), "ideal")] if (found := _points(curve.x, curve.ideal)) else []
    weights = dict(zip(zip(curve.x, curve.y, strict=False), curve.weight, strict=False))
    heaviest = max(_finite(curve.weight), default=0.0)
    marks: list[str] = []
    last = -math.inf
    for point in _points(curve.x, curve.y):
        x, y = at(point)
        if heaviest > 0:
            weight = weights.get(point, 0.0)
            radius = max(1.2, 7 * math.sqrt(max(weight, 0) / heaviest)) if math.isfinite(weight) else 1.2
            marks.append(mark(index, x, y, radius, hollow=True))
        elif x >= last + _APART:
            marks.append(mark(index, x, y))
            last = x
    return [*ideal, line, *marks]


def _polyline(points: Sequence[tuple[float, float]], kind: str, dash: str = "") -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline class="{kind}" points="{path}"{dashes}/>'


# --------------------------------------------------------------------------------------------------------- intervals


@dataclass(frozen=True)
class Bar:
    """A dot with its interval: which line of the plot it stands on, which series it belongs to."""

    line: str
    series: int
    estimate: Estimate


def interval_chart(bars: Sequence[Bar], unit: str, lower_is_better: bool | None, label: str) -> str:
    """Dots with their 95 % intervals around a zero line, one line per name; hollow where the interval holds 0.

    Args:
        bars: in the order of the lines.
        unit: of the numbers.
        lower_is_better: which side of 0 is the worse one; None for neither.
        label: what the plot shows, for who cannot see it.

    Returns:
        SVG; empty where no number is finite and other than 0.
    """
    values = [v for b in bars for v in (b.estimate.mean, b.estimate.low, b.estimate.high)]
    if not any(_finite(values)):
        return ""
    span = _range(values, zero=True)
    reach = max(-span[0], span[1])
    low, high = (-reach, reach) if min(_finite(values)) < 0 < max(_finite(values)) else span
    names = list(dict.fromkeys(b.line for b in bars))
    left = 10 + 6.8 * min(18, max(map(len, names)))
    axis = Axis(min(low, -0.1 * reach), max(high, 0.1 * reach), left, _WIDTH - 10)
    depth = {name: max(1, sum(b.line == name for b in bars)) for name in names}
    parts, y = [], 10.0
    bottom = y + sum(12 * depth[name] + 9 for name in names)
    ticks = axis.ticks(4)
    parts += [_line(axis(t), y - 4, axis(t), bottom, "zero" if t == 0 else "grid") for t in ticks]
    for name in names:
        parts.append(_text(left - 8, y + 6 * depth[name] + 4, _short(name, 18), "end", "label"))
        for bar in (b for b in bars if b.line == name):
            parts.append(_bar(bar, axis, y + 6))
            y += 12
        y += 9
        if name != names[-1]:
            parts.append(_line(0, y - 4.5, _WIDTH - 10, y - 4.5, "rule"))
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1
    for t in ticks:
        text = _tick_text(t, step)
        parts.append(_tick(axis(t), bottom + 14, f"+{text}" if t > 0 and text != "0" else text))
    if lower_is_better is not None:
        sides = ("← better", "worse →") if lower_is_better else ("← worse", "better →")
        parts += [_text(left, bottom + 31, sides[0]), _text(_WIDTH - 10, bottom + 31, sides[1], "end")]
    if unit:
        parts.append(_text((left + _WIDTH - 10) / 2, bottom + 31, _short(unit, 20), "middle", "label"))
    return _svg(_WIDTH, bottom + 38, label, parts)


def _bar(bar: Bar, axis: Axis, y: float) -> str:
    e = bar.estimate
    if not math.isfinite(e.mean):
        return ""
    known = math.isfinite(e.low) and math.isfinite(e.high)
    line = _line(axis(e.low), y, axis(e.high), y, f"bar s{bar.series % COLOURS}") if known else ""
    return line + mark(bar.series, axis(e.mean), y, 4, hollow=not e.excludes_zero)
