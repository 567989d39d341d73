"""Diagrams: to scale, inside their frames, no label over another, told apart by more than colour."""

from __future__ import annotations

import math
import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from PIL import ImageFont

from preimage.measure.render.charts import COLOURS, curve_chart, interval_chart, swatch
from preimage.measure.report import Curve, Estimate

Element = ElementTree.Element
FONT = ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), 12)


def points(path: Element) -> np.ndarray:
    """(n, 2), all coordinates of a path."""
    return np.array(re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", path.get("d", "")), dtype=float).reshape(-1, 2)


def lines(svg: Element, *style: str) -> list[np.ndarray]:
    """Paths that are drawn where they stand, whose style holds all of `style`."""
    kept = {id(path) for defs in svg.iter("defs") for path in defs.iter("path")}
    found = [path for path in svg.iter("path") if id(path) not in kept and path.get("d")]
    return [points(path) for path in found if all(part in path.get("style", "") for part in style)]


def marks(svg: Element, colour: str = "s0") -> list[tuple[float, float, float, str]]:
    """Marks of a series: centre, half their height, colour of their inside."""
    shapes, found = {path.get("id", ""): points(path) for path in svg.iter("path")}, []
    for each in svg.iter():
        style = each.get("style", "")
        if f"stroke: var(--{colour})" not in style or "fill: var" not in style or each.get("id"):
            continue
        outline = points(each) if each.tag == "path" else shapes[each.get("href", "")[1:]]
        x, y = (outline.max(0) + outline.min(0)) / 2
        x, y = x + float(each.get("x", 0)), y + float(each.get("y", 0))
        inside = re.findall(r"fill: var\(--(\w+)\)", style)[0]
        found.append((float(x), float(y), float(np.ptp(outline[:, 1])) / 2, inside))
    return found


def texts(svg: Element) -> list[tuple[str, float, float, float]]:
    """Every text: words, left end, right end, base line; as wide as the widest font that draws it."""
    found = []
    for each in svg.iter("text"):
        words, style = each.text or "", each.get("style", "")
        place = f"({each.get('x')} {each.get('y')})" if each.get("x") else each.get("transform", "")
        x, y = (float(v) for v in re.findall(r"\((\S+) (\S+)\)", place)[0])
        width = FONT.getlength(words)
        left = x - width * (0.5 if "anchor: middle" in style else 1 if "anchor: end" in style else 0)
        found.append((words, left, left + width, y))
    return found


def curves(*series: Curve, counts: bool = False) -> Element:
    return ElementTree.fromstring(curve_chart("a", list(enumerate(series)), "label", counts=counts))


def test_curves_are_drawn_to_scale() -> None:
    (path,) = lines(curves(Curve("c", "x", "y", (0.0, 1.0, 4.0), (1.0, 3.0, 2.0))), "var(--s0)", "fill: none")
    x, y = path.T
    np.testing.assert_allclose((x - x[0]) / (x[2] - x[0]), [0, 0.25, 1], atol=1e-5)
    np.testing.assert_allclose((y - y[0]) / (y[1] - y[0]), [0, 1, 0.5], atol=1e-5)  # SVG counts downwards
    assert y[1] < y[0]


def test_diagrams_on_common_scales_put_the_same_point_at_the_same_place() -> None:
    short, long = (Curve("c", "x", "y", (2.0, end), (3.0, 10 * end), ideal=(3.0, end)) for end in (4.0, 40.0))
    alone, beside = (
        ElementTree.fromstring(curve_chart("a", [(0, short)], "label", within)) for within in ([], [short, long])
    )
    other = ElementTree.fromstring(curve_chart("a", [(0, long)], "label", [short, long]))
    a, b, c = (lines(svg, "var(--s0)", "fill: none")[0][0] for svg in (alone, beside, other))
    np.testing.assert_allclose(b, c, atol=1e-5)
    assert np.abs(a - c).max() > 1


def test_the_ideal_is_drawn_on_the_same_scale() -> None:
    curve = Curve("c", "x", "y", (1.0, 3.0), (2.0, 6.0), ideal=(1.0, 6.0))
    svg = curves(curve)
    (found,), (ideal,) = lines(svg, "var(--s0)", "fill: none"), lines(svg, "var(--ink)", "dasharray")
    np.testing.assert_allclose(ideal[1], found[1], atol=1e-5)
    assert ideal[0, 1] > found[0, 1]


def test_doublings_are_even_steps() -> None:
    ks = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    svg = curves(Curve("c", "k", "y", ks, ks), counts=True)
    steps = np.diff(lines(svg, "var(--s0)", "fill: none")[0][:, 0])
    np.testing.assert_allclose(steps, steps.mean(), atol=1e-4)
    words = [text for text, *_ in texts(svg)]
    assert "k (log scale)" in words
    assert {"1", "2", "4", "8", "16", "32"} <= set(words)


@pytest.mark.parametrize("most", [1, 2, 5, 15, 200])
def test_counts_have_whole_ticks(most: int) -> None:
    ks = tuple(float(k) for k in range(1, most + 1))
    svg = curves(Curve("c", "k", "y", ks, ks), counts=True)
    base = max(y for text, *_, y in texts(svg) if text[0].isdigit())
    ticks = [float(text) for text, *_, y in texts(svg) if y == base]
    assert ticks
    assert all(tick == round(tick) >= 1 for tick in ticks)
    assert most > 15 or max(ticks) <= most


def test_area_of_a_mark_is_its_weight() -> None:
    svg = curves(Curve("c", "x", "y", (1.0, 2.0, 3.0), (1.0, 2.0, 3.0), weight=(0.9, 0.4, 0.1)))
    radii = np.array([radius for _, _, radius, _ in marks(svg)])
    np.testing.assert_allclose(radii**2 / radii[0] ** 2, [1, 4 / 9, 1 / 9], rtol=1e-4)


def test_points_that_are_not_finite_are_left_out() -> None:
    curve = Curve("c", "x", "y", (1.0, 2.0, math.nan, 4.0), (1.0, math.inf, 3.0, 4.0), weight=(0.5, 0.5, 0.5, math.nan))
    svg = curves(curve)
    assert len(lines(svg, "var(--s0)", "fill: none")[0]) == len(marks(svg)) == 2
    assert not re.search("nan|inf", curve_chart("a", [(0, curve)], "label"))
    assert curve_chart("a", [(0, Curve("c", "x", "y", (math.nan,), (1.0,)))], "label", [curve]) == ""


@pytest.mark.parametrize("value", [0.0, -2.0, 1e9])
def test_a_single_point_and_a_level_curve_are_drawn(value: float) -> None:
    for x in ((0.0,), (0.0, 0.0), (0.0, 5.0)):
        for counts in (False, True):
            svg = curves(Curve("c", "x", "y", x, (value,) * len(x)), counts=counts)
            assert {mark[1] for mark in marks(svg)} == {marks(svg)[0][1]}


def test_marks_of_dense_curves_stay_apart() -> None:
    x = tuple(float(i) for i in range(500))
    places = [mark[0] for mark in marks(curves(Curve("c", "x", "y", x, x)))]
    assert len(places) > 8
    assert min(np.diff(places)) > 8


BARS = [("a", 0, Estimate(2.0, 1.0, 3.0)), ("b", 0, Estimate(-1.0, -3.0, 1.0)), ("c", 0, Estimate(0.5))]


def test_intervals_are_drawn_around_zero_and_filled_where_they_exclude_it() -> None:
    svg = ElementTree.fromstring(interval_chart("a", BARS, "dB", False, "label"))
    (zero,) = (path[0, 0] for path in lines(svg, "var(--ink)"))
    ends = np.array([path[:, 0] for path in lines(svg, "var(--s0)", "stroke-width: 2")]) - zero
    unit = (ends[0, 1] - ends[0, 0]) / 2
    np.testing.assert_allclose(ends, unit * np.array([[1, 3], [-3, 1]]), atol=1e-4)
    found = [mark[0] - zero for mark in marks(svg)]
    np.testing.assert_allclose(found, unit * np.array([2, -1, 0.5]), atol=1e-4)
    assert [mark[3] for mark in marks(svg)] == ["s0", "paper", "paper"]


def test_intervals_say_which_side_is_the_worse_one_and_stand_beside_their_names() -> None:
    svg = ElementTree.fromstring(interval_chart("a", BARS, "dB", False, "label"))
    found = {text: (left, y) for text, left, _, y in texts(svg)}
    assert {"a", "b", "c", "dB", "+2", "−2"} <= {*found}
    assert found["← worse"][0] < found["better →"][0]
    heights = [mark[1] for mark in marks(svg)]
    np.testing.assert_allclose([found[name][1] for name in "abc"], heights, atol=6)
    assert "← better" in interval_chart("a", BARS, "dB", True, "label")
    assert "better" not in interval_chart("a", BARS, "dB", None, "label")
    nothing = [("a", 0, Estimate(0.0, 0.0, 0.0)), ("b", 0, Estimate(math.nan))]
    assert interval_chart("a", nothing, "", None, "x") == ""


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1.0, 7e5, 1e12])
@pytest.mark.parametrize("count", [1, 7])
def test_everything_stays_inside_the_frame_and_no_text_lies_on_another(scale: float, count: int) -> None:
    rng = np.random.default_rng(2)
    series = [
        (i, Curve("c", "x" * 80, "y" * 80, tuple(rng.uniform(0, scale, 9)), tuple(rng.normal(0, scale, 9))))
        for i in range(count)
    ]
    ends = [sorted(rng.normal(0, scale, 3)) for _ in range(count)]
    bars = [(f"<a long name & {i} more>", i, Estimate(m, low, high)) for i, (low, m, high) in enumerate(ends)]
    for drawing in (curve_chart("a", series, "a <label>"), interval_chart("a", bars, "unit", True, "a <label>")):
        svg = ElementTree.fromstring(drawing)
        assert svg.get("aria-label") == "a <label>"
        width, height = (float(v) for v in svg.get("viewBox", "").split()[2:])
        places = [np.array([[float(u.get("x", "nan")), float(u.get("y", "nan"))]]) for u in svg.iter("use")]
        for path in [*lines(svg), *places]:
            assert (path >= -0.01).all()
            assert (path <= [width + 0.01, height + 0.01]).all()
        found = texts(svg)
        assert len(found) > 5
        for text, left, right, y in found:
            assert left >= -1, text
            assert right <= width + 1, text
            assert 9 <= y <= height, text
        for i, (text, left, right, y) in enumerate(found):
            for other, start, end, base in found[:i]:
                assert abs(y - base) > 9 or right < start or end < left, (text, other)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3, 7), (1e-9, 2e-9), (17.2, 17.9), (0, 9e11)])
def test_ticks_are_few_and_even(low: float, high: float) -> None:
    svg = curves(Curve("c", "x", "y", (low, high), (low, high)))
    ends = [text[3] for text in texts(svg) if text[0] == "x"]
    ticks = sorted((left + right) / 2 for text, left, right, y in texts(svg) if ends[0] - 25 < y < ends[0] - 9)
    assert 2 <= len(ticks) <= 8
    np.testing.assert_allclose(np.diff(ticks), np.diff(ticks)[0], rtol=0.1)


def test_methods_differ_in_mark_and_dash_not_in_colour_alone() -> None:
    plain = [re.sub(r"var\(--s\d\)|m\w{10}", "", swatch("legend", i)) for i in range(COLOURS)]
    assert len(set(plain)) == COLOURS
    shapes = [re.findall('<path id="[^"]*" d="([^"]*)"', each)[0] for each in plain]
    assert len(set(shapes)) == COLOURS
    dashes = [re.findall("dasharray: [^;]*", each) for each in plain]
    assert sum(not each for each in dashes) == 1
    assert len({str(each) for each in dashes}) == COLOURS


def test_drawings_do_not_depend_on_settings_of_matplotlib_and_leave_them_alone() -> None:
    bars = interval_chart("a", BARS, "dB", True, "label")
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        assert interval_chart("a", BARS, "dB", True, "label") == bars
        assert dict(matplotlib.rcParams) == before
