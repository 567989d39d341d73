"""The HTML page: whole in itself, balanced, escaped, its pictures the tensors, its diagrams inside their frames."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from preimage.errors import OutputError
from preimage.image import to_uint8
from preimage.measure.render.charts import COLOURS, Axis, Bar, curve_chart, interval_chart, mark, swatch
from preimage.measure.render.markup import numeral
from preimage.measure.render.page import to_html, write_report
from preimage.measure.report import Column, Curve, Estimate, GroupRow, MethodReport, Published, Report, Shown
from preimage.sheet import heatmap

EVIL = "<script>alert('&\"')</script>.png"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Reads a page, checks that its tags nest, and keeps what the tests ask for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]


def picture(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def shown(why: str, seed: int, side: int = 16, candidates: int = 3) -> Shown:
    images = picture(candidates, 3, side, side, seed=seed)
    lr, truth, sure = picture(3, 4, 4, seed=seed + 1), picture(3, side, side, seed=seed + 2), picture(side, side)
    return Shown(why, "psnr", 21.5 + seed, EVIL, images, lr, truth, sure)


def made(methods: tuple[str, ...] = ("plain", "<b>pulse")) -> Report:
    rng = np.random.default_rng(1)
    report = Report(
        "A & B",
        "preimage bench --methods 'a' <b>",
        {"data": EVIL, "versions": {"torch": "2"}},
        {"psnr": Column("psnr", False, "dB", "a <summary>", "a source"), "fd-x*": Column("fd-x*", True, per="set")},
        published=[Published("pulse", "psnr", 98.76, "A paper & table", "other <faces>")],
        missing={"fid<x>": "no <weights>"},
        notes=["read <this>"],
    )
    for i, name in enumerate(methods):
        method = MethodReport(name, {"steps": EVIL}, cost={"seconds": 1.5 + i})
        mean = float(rng.uniform(20, 30))
        method.estimates = {
            "psnr": Estimate(mean, mean - 1, mean + 1, mean, mean - 4, 50),
            "fd-x*": Estimate(9, count=400),
        }
        method.coverage = Curve("c", "k", "distance", tuple(range(1, 33)), tuple(30 / (k + i) for k in range(1, 33)))
        x = (1.0, 5.0, 20.0)
        method.calibration = Curve("c", "predicted", "actual", x, (2.0, 7.0, 30.0), (0.6, 0.3, 0.1), x)
        for group, gap in (("0-19", 1.0), ("<60+>", -1.0)):
            method.groups.append(
                GroupRow("age", group, "psnr", Estimate(mean, count=25), Estimate(gap, gap - 0.5, gap + 0.5))
            )
        method.shown = [shown(why, 10 * i + j) for j, why in enumerate(("best", "median", "worst"))]
        method.problems = [f"{EVIL}: is empty"]
        report.methods.append(method)
    return report


def test_page_is_balanced_and_needs_nothing_from_elsewhere() -> None:
    text = to_html(made())
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert not page.all("script")
    assert not page.all("link")
    assert not page.all("b")
    for _, attrs in page.tags:
        assert not any(key.startswith("on") for key in attrs)
        assert attrs.get("src", "data:").startswith("data:image/png;base64,") or "src" not in attrs
        assert attrs.get("href", "#").startswith("#")
    assert not re.search(r"url\(|@import|https?:", text)
    names = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert {attrs["href"][1:] for attrs in page.all("a")} <= names
    assert len(names) == sum("id" in attrs for _, attrs in page.tags)


def test_every_text_is_there_and_escaped() -> None:
    report = made()
    text = to_html(report)
    words = " ".join(Page(text).words.split())
    for part in (
        report.title, report.command, "plain", "<b>pulse", "psnr", "fd-x*", "a <summary>", "a source", EVIL,
        f"{EVIL}: is empty", "fid<x>", "no <weights>", "read <this>", "A paper & table", "other <faces>", "98.76",
        "age: <60+>", "seconds", "imagined", "higher is better", "lower is better",
    ):  # fmt: skip
        assert part in words
    assert "<script" not in text.lower()


def test_tables_have_captions_and_scopes() -> None:
    page = Page(to_html(made()))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(attrs.get("scope") in ("row", "col") for attrs in page.all("th"))


def test_pictures_are_the_tensors() -> None:
    report = made(("plain",))
    found = []
    for attrs in Page(to_html(report)).all("img"):
        assert attrs["alt"]
        image = Image.open(io.BytesIO(base64.b64decode(attrs["src"].split(",", 1)[1])))
        assert image.format == "PNG"
        assert image.size == (int(attrs["width"]), int(attrs["height"]))
        found.append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
    wanted = []
    for each in report.methods[0].shown:
        assert each.lr is not None
        assert each.reference is not None
        assert each.certainty is not None
        wanted += [each.lr, *each.images, each.reference, heatmap(each.certainty)]
    assert len(found) == len(wanted)
    assert all(torch.equal(a, to_uint8(b)) for a, b in zip(found, wanted, strict=True))


def test_chosen_inputs_name_their_metric_and_at_most_ten_candidates_are_shown() -> None:
    report = made(("plain",))
    report.methods[0].shown = [shown("worst", 3, candidates=14)]
    page = Page(to_html(report))
    assert "worst by psnr: 24.50 dB" in page.words
    assert "Where it fails" in page.words
    assert "Chosen by the metric" not in page.words
    assert "10 of 14 candidates" in page.words
    assert len(page.all("img")) == 1 + 10 + 1 + 1


def test_a_page_of_pictures_stays_small() -> None:
    """Noise is the worst case for PNG: 72 pictures of 128 pixels and their base64 stay near their raw size."""
    report = made()
    for method in report.methods:
        method.shown = [shown(why, 0, side=128, candidates=10) for why in ("best", "median", "worst")]
    raw = 2 * 3 * 12 * 3 * 128**2
    assert len(to_html(report)) < 4 / 3 * raw * 1.05


def test_the_best_of_a_row_is_strong() -> None:
    report = made()
    report.methods[0].estimates["psnr"] = Estimate(20.0)
    report.methods[1].estimates["psnr"] = Estimate(math.inf)
    text = to_html(report)
    table = text[text.index('<table class="results">') : text.index("</table>")]
    assert re.findall(r"<strong>(.*?)</strong>", table) == ["∞"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("-", "–"),
        ("-1.5 [-inf, 2.0]", "−1.5 [−∞, 2.0]"),
        ("+4.1e-05 [1.2e-06, 3.40e12]", "+4.1×10<sup>−5</sup> [1.2×10<sup>−6</sup>, 3.40×10<sup>12</sup>]"),
    ],
)
def test_numbers_are_set_for_the_eye(text: str, shown: str) -> None:
    assert numeral(text) == shown


def test_gaps_whose_interval_excludes_zero_are_strong_and_their_plots_unfolded() -> None:
    report = made(("plain",))
    report.methods[0].groups.append(GroupRow("sex", "x", "psnr", Estimate(20.0), Estimate(0.2, -0.3, 0.7)))
    text = to_html(report)
    table = text[text.index("Means within each group") :].split("</table>")[0]
    assert re.findall(r"<strong>(.*?)</strong>", table) == ["+1.00 [0.50, 1.50]", "−1.00 [−1.50, −0.50]"]
    assert text.index("psnr by age") < text.index("Plots without a clear gap") < text.index("psnr by sex")


@pytest.mark.parametrize(
    "change",
    [
        "one method", "no method", "no groups", "no pictures", "no reference", "no curves", "nan", "inf", "nan pictures",
        "empty curves", "no interval", "nothing",
    ],
)  # fmt: skip
def test_nothing_missing_breaks_the_page(change: str) -> None:
    report = made(("plain",) if change == "one method" else ("plain", "pulse"))
    for method in report.methods:
        one = method.shown[0]
        if change == "no groups":
            method.groups = []
        if change == "no pictures":
            method.shown = []
        if change == "no reference":
            method.shown = [Shown("best", "other", math.nan, "x", one.images)]
        if change == "no curves":
            method.coverage = method.calibration = None
        if change == "nan pictures":
            bad = torch.full((2, 3, 8, 8), math.nan)
            method.shown = [Shown("best", "psnr", 1.0, "x", bad, certainty=bad[0, 0])]
        if change == "empty curves":
            method.coverage = method.calibration = Curve("c", "x", "y", (), ())
        if change in ("nan", "inf"):
            odd = Estimate(*[float(change)] * 5)
            method.estimates = dict.fromkeys(method.estimates, odd)
            method.groups = [GroupRow("age", "a", "psnr", odd, odd)]
            method.coverage = method.calibration = Curve("c", "x", "y", (1.0, float(change)), (float(change), 2.0))
            method.cost = {"seconds": float(change)}
        if change == "no interval":
            method.groups = [GroupRow("age", "a", "unheard", Estimate(1.0), Estimate(0.5))]
    if change == "no method":
        report.methods = []
    if change == "nothing":
        report = Report("", "")
    page = Page(to_html(report))
    assert "imagined" in page.words
    assert ("age: a" in page.words) == (change in ("nan", "inf", "no interval"))
    assert ("holds NaN" in page.words) == (change == "nan pictures")
    assert ("No groups of people" in page.words) == (change in ("no groups", "no method", "nothing"))


# ------------------------------------------------------------------------------------------------------------- files


def test_three_files_are_written(tmp_path: Path) -> None:
    report = made()
    paths = write_report(report, tmp_path / "new" / "folder")
    assert {kind: path.name for kind, path in paths.items()} == {
        "json": "report.json", "md": "report.md", "html": "report.html",
    }  # fmt: skip
    assert json.loads(paths["json"].read_text(encoding="utf-8"))["title"] == report.title
    assert paths["md"].read_text(encoding="utf-8").startswith("# A & B")
    assert paths["html"].read_text(encoding="utf-8") == to_html(report)
    assert sorted(p.name for p in paths["json"].parent.iterdir()) == ["report.html", "report.json", "report.md"]


def test_a_folder_that_cannot_be_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="folder"):
        write_report(made(), tmp_path / "file")


# ---------------------------------------------------------------------------------------------------------- diagrams


def numbers(svg: str, pattern: str) -> list[list[float]]:
    return [[float(v) for v in re.split("[ ,]", found)] for found in re.findall(pattern, svg)]


def test_curves_are_drawn_to_scale() -> None:
    curve = Curve("c", "x", "y", (0.0, 1.0, 4.0), (1.0, 3.0, 2.0))
    (path,) = numbers(curve_chart([(0, curve)], "label"), r'<polyline class="curve s0" points="([^"]+)"')
    x, y = np.array(path[::2]), np.array(path[1::2])
    np.testing.assert_allclose((x - x[0]) / (x[2] - x[0]), [0, 0.25, 1], atol=1e-3)
    np.testing.assert_allclose((y - y[0]) / (y[1] - y[0]), [0, 1, 0.5], atol=2e-3)  # SVG counts downwards
    assert y[1] < y[0]


def test_doublings_are_even_steps() -> None:
    ks = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    (path,) = numbers(
        curve_chart([(0, Curve("c", "k", "y", ks, ks))], "label", counts=True), r'class="curve s0" points="([^"]+)"'
    )
    steps = np.diff(path[::2])
    np.testing.assert_allclose(steps, steps.mean(), atol=0.11)


@pytest.mark.parametrize("most", [1, 2, 5, 15])
def test_counts_have_whole_ticks(most: int) -> None:
    ks = tuple(float(k) for k in range(1, most + 1))
    svg = curve_chart([(0, Curve("c", "k", "y", ks, ks))], "label", counts=True)
    ticks = [float(t) for t in re.findall(r'text-anchor="middle" class="">([^<]+)<', svg)]
    assert ticks
    assert set(ticks) <= set(ks)


def test_area_of_a_mark_is_its_weight() -> None:
    curve = Curve("c", "x", "y", (1.0, 2.0, 3.0), (1.0, 2.0, 3.0), weight=(0.9, 0.4, 0.1))
    radii = np.array([float(r) for r in re.findall(r'r="([\d.]+)"', curve_chart([(0, curve)], "label"))])
    np.testing.assert_allclose(radii**2 / radii[0] ** 2, [1, 4 / 9, 1 / 9], rtol=0.01)


def test_points_that_are_not_finite_are_left_out() -> None:
    curve = Curve("c", "x", "y", (1.0, 2.0, math.nan, 4.0), (1.0, math.inf, 3.0, 4.0))
    svg = curve_chart([(0, curve)], "label")
    assert svg.count("<circle") == 2
    assert "nan" not in svg
    assert "inf" not in svg
    assert curve_chart([(0, Curve("c", "x", "y", (math.nan,), (1.0,)))], "label", [curve]) == ""


def test_intervals_are_drawn_around_zero_and_filled_where_they_exclude_it() -> None:
    bars = [
        Bar("a", 0, Estimate(2.0, 1.0, 3.0)),
        Bar("b", 0, Estimate(-1.0, -3.0, 1.0)),
        Bar("c", 0, Estimate(0.5)),
    ]
    svg = interval_chart(bars, "dB", False, "label")
    (zero,) = re.findall(r'<line class="zero" x1="([\d.]+)"', svg)
    lines = [
        tuple(map(float, ends)) for ends in re.findall(r'class="bar s0" x1="([\d.]+)" y1="[\d.]+" x2="([\d.]+)"', svg)
    ]
    marks = [float(x) for x in re.findall(r'cx="([\d.]+)"', svg)]
    unit = (lines[0][1] - lines[0][0]) / 2
    np.testing.assert_allclose(np.array(lines) - float(zero), unit * np.array([[1, 3], [-3, 1]]), atol=0.2)
    np.testing.assert_allclose(np.array(marks) - float(zero), unit * np.array([2, -1, 0.5]), atol=0.2)
    assert ["hollow" in found for found in re.findall(r"<circle class=\"([^\"]+)\"", svg)] == [False, True, True]
    assert svg.index("← worse") < svg.index("better →")
    assert "← better" in interval_chart(bars, "dB", True, "label")
    assert "better" not in interval_chart(bars, "dB", None, "label")
    assert interval_chart([Bar("a", 0, Estimate(0.0, 0.0, 0.0)), Bar("b", 0, Estimate(math.nan))], "", None, "x") == ""


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1.0, 7e5, 1e12])
@pytest.mark.parametrize("count", [1, 7])
def test_everything_stays_inside_the_frame(scale: float, count: int) -> None:
    rng = np.random.default_rng(2)
    series = [
        (i, Curve("c", "x" * 80, "y" * 80, tuple(rng.uniform(0, scale, 9)), tuple(rng.normal(0, scale, 9))))
        for i in range(count)
    ]
    ends = [sorted(rng.normal(0, scale, 3)) for _ in range(count)]
    bars = [Bar("<a long name & more of it>", i, Estimate(m, low, high)) for i, (low, m, high) in enumerate(ends)]
    for svg in (curve_chart(series, "a <label>"), interval_chart(bars, "unit", True, "a <label>")):
        Page(svg)
        (_, _, width, height) = numbers(svg, r'viewBox="([^"]+)"')[0]
        for x in re.findall(r' (?:x|x1|x2|cx)="([^"]+)"', svg):
            assert 0 <= float(x) <= width
        for y in re.findall(r' (?:y|y1|y2|cy)="([^"]+)"', svg):
            assert 0 <= float(y) <= height
        for points in numbers(svg, r'points="([^"]+)"'):
            assert 0 <= min(points[::2]) <= max(points[::2]) <= width
            assert 0 <= min(points[1::2]) <= max(points[1::2]) <= height


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3, 7), (1e-9, 2e-9), (17.2, 17.9), (0, 9e11)])
def test_ticks_are_few_round_and_within(low: float, high: float) -> None:
    ticks = Axis(low, high, 0, 100).ticks()
    assert 2 <= len(ticks) <= 8
    assert all(low - 1e-9 * (high - low) <= t <= high + 1e-9 * (high - low) for t in ticks)
    step = ticks[1] - ticks[0]
    lead = step / 10.0 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(lead - round_) for round_ in (1, 2, 5, 10)) < 1e-5


def test_methods_differ_in_mark_and_dash_not_in_colour_alone() -> None:
    plain = [re.sub(r"\bs\d", "", swatch(i)) for i in range(COLOURS)]
    assert len(set(plain)) == COLOURS
    assert len({re.sub(r"\bs\d", "", mark(i, 5, 5)) for i in range(COLOURS)}) == COLOURS
