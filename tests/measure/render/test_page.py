"""The HTML page: whole in itself, balanced, escaped, its pictures the tensors, its tables the numbers of the report."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import warnings
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from preimage.errors import OutputError
from preimage.image import to_uint8
from preimage.measure.render.page import numeral, to_html, write_report
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
    assert not re.search(r"url\(|@import|//", re.sub(r"data:image/png;base64,[^\"]*", "", text))
    names = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert {attrs["href"][1:] for _, attrs in page.tags if "href" in attrs} <= names
    assert len(names) == sum("id" in attrs for _, attrs in page.tags)


def test_the_same_report_gives_the_same_bytes() -> None:
    assert to_html(made()).encode() == to_html(made()).encode()


def test_diagrams_are_labelled_and_drawn_in_colours_that_the_page_defines_for_light_and_dark() -> None:
    text = to_html(made())
    style = text[text.index("<style>") : text.index("</style>")]
    found = [ElementTree.fromstring(svg) for svg in re.findall("<svg.*?</svg>", text)]
    labels = [svg.get("aria-label") for svg in found if svg.get("role") == "img"]
    assert [label.split(":")[0] for label in labels if label] == [
        "Coverage", "Calibration", "Calibration", "psnr by age, gap to the other groups"
    ]  # fmt: skip
    assert "0-19 +1.00 [0.50, 1.50]; <b>pulse 0-19 +1.00" in (labels[-1] or "")
    assert all(svg.get("aria-hidden") == "true" for svg in found if svg.get("role") != "img")
    for svg in found:
        painted = " ".join(each.get("style", "") for each in svg.iter())
        assert not re.search("#[0-9a-f]{3}|rgb|black|white", painted)
        for name in set(re.findall(r"var\((--\w+)\)", painted)):
            assert len(re.findall(rf"{name}: #", style)) == 2


@pytest.mark.parametrize("name", ['<b>&"x', "a$b$c_{d}", "漢字", "tab\tand \x00 \udce9"])
def test_odd_names_of_methods_and_groups_are_shown_as_they_are(name: str) -> None:
    report = made((name, "plain"))
    report.methods[0].groups = [GroupRow(name, name, "psnr", Estimate(20.0), Estimate(0.2, 0.1, 0.7))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = to_html(report)
    shown = " ".join(name.split()).replace("\udce9", "?")
    page = Page(text)
    assert f"{shown}: {shown}" in " ".join(page.words.split())
    drawn = [ElementTree.fromstring(svg) for svg in re.findall("<svg.*?</svg>", text.replace("\x00", ""))]
    assert shown.replace("\x00", "?") in {each.text for svg in drawn for each in svg.iter("text")}


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


def test_tables_hold_the_numbers_of_the_report() -> None:
    report = made()
    text = to_html(report)
    results = rows_of(text, '<table class="results">')
    for name, row in zip(report.columns, results, strict=True):
        assert row[0].startswith(name)
        for cell, method in zip(row[1:3], report.methods, strict=True):
            e = method.estimates[name]
            wanted = [e.mean] if math.isnan(e.low) else [e.mean, e.low, e.high]
            assert [float(v) for v in re.findall(r"\d+\.\d+", cell)] == pytest.approx(wanted, abs=0.0051)
    assert results[0][3].startswith("98.76")
    extremes = rows_of(text, "Median and worst input")
    assert [float(v) for v in extremes[0][1:]] == pytest.approx(
        [v for m in report.methods for v in (m.estimates["psnr"].median, m.estimates["psnr"].worst)], abs=0.0051
    )
    coverage = rows_of(text, 'id="coverage"')
    assert [int(row[0]) for row in coverage] == list(range(1, 33))
    curves = [method.coverage for method in report.methods]
    assert [[float(v) for v in row[1:]] for row in coverage] == [
        pytest.approx([c.y[k] for c in curves if c], abs=0.051) for k in range(32)
    ]
    calibration = rows_of(text, 'id="calibration"')
    assert [row[0] for row in calibration] == ["plain"] * 3 + ["<b>pulse"] * 3
    assert [float(v) for v in calibration[2][1:]] == [20.0, 30.0, 0.1]
    assert rows_of(text, 'id="cost"') == [["seconds", "1.50", "2.50"]]
    gaps = rows_of(text, 'id="groups"')
    assert len(gaps) == 4
    assert gaps[0][0:4] == ["age: 0-19", "psnr (dB)", "plain", "25"]
    assert gaps[0][-2:] == ["+1.00 [0.50, 1.50]", "better"]


def rows_of(text: str, mark: str) -> list[list[str]]:
    """The cells of the first table behind `mark`, each as its words."""
    body = text[text.index(mark) :].split("<tbody>")[1].split("</tbody>")[0]
    cells = [re.split("</t[hd]>", row)[:-1] for row in body.split("</tr>")[:-1]]
    return [
        [" ".join(Page(re.sub("^.*?<t[hd][^>]*>", "", cell, flags=re.S)).words.split()) for cell in row]
        for row in cells
    ]


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
        ("1e+06", "1×10<sup>6</sup>"),
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
