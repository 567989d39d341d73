"""Reports as JSON, Markdown and text: the same numbers, the best marked, papers' figures apart, nothing crashes."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from preimage.measure.render.tables import audit_rows, audit_summary, describe, number, places, reading_notes, rows
from preimage.measure.render.writers import to_json, to_markdown, to_text
from preimage.measure.report import Column, Curve, Estimate, GroupRow, MethodReport, Published, Report, Shown

METRICS = {
    "psnr": Column("psnr", False, "dB", "pixels against the truth", "definition"),
    "lpips-x*": Column("lpips-x*", True, "", "perceptual distance", "Zhang et al., 2018"),
    "pairwise": Column("pairwise", None, "grey levels", per="input"),
    "fd-x": Column("fd-x", True, per="set"),
}
METHODS = ("plain", "pulse", "third|way")


def made(seed: int = 0) -> Report:
    """Three methods, four metrics, two groups; numbers of a seeded generator."""
    rng = np.random.default_rng(seed)

    def estimate(column: Column) -> Estimate:
        mean, half = rng.uniform(10, 30), rng.uniform(0.1, 0.9)
        if column.per == "set":
            return Estimate(mean, count=640)
        return Estimate(mean, mean - half, mean + half, mean + half / 3, mean - 5 * half, 80)

    methods = []
    for name in METHODS:
        method = MethodReport(name, {"steps": 100, "folder": Path("a/b")})
        method.estimates = {key: estimate(column) for key, column in METRICS.items()}
        values = {"psnr": torch.tensor(rng.normal(20, 1, 3)), "fd-x": math.nan}
        method.inputs = [{"name": "face.png", "group": {"gender": "female"}, "values": values}]
        method.coverage = Curve("c", "k", "distance", (1.0, 2.0), (9.0, 8.0))
        method.cost = {"seconds": float(rng.uniform(0.1, 2)), "peak memory (GiB)": 0.5}
        for group, sign in (("female", 1), ("male", -1)):
            gap = sign * rng.uniform(1, 2)
            method.groups.append(
                GroupRow(
                    "gender", group, "psnr", Estimate(20 + gap, 19, 22, count=40), Estimate(gap, gap - 0.5, gap + 0.5)
                )
            )
        methods.append(method)
    methods[1].problems = ["face|7.png: is *empty* (0 bytes)"]
    published = [
        Published("pulse", "psnr", 98.76, "A paper, table 1", "other faces"),
        Published("pulse", "seconds", 87.65, "A paper, table 1", "other faces"),
        Published("plain", "niqe", 76.54, "B paper, table 2", "candidates left out"),
    ]
    about: dict[str, object] = {"data": "faces.zip", "sizes": {"input": [16, 16]}}
    missing = {"fid": "needs *Inception* weights"}
    return Report(
        "A title", "preimage bench --methods a,b", about, dict(METRICS), methods, published, missing, ["a note"]
    )


def cells(markdown: str, first: str) -> list[str]:
    """The cells of the Markdown row that begins with `first`."""
    line = next(line for line in markdown.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


# -------------------------------------------------------------------------------------------------------------- JSON


def test_json_gives_the_numbers_back() -> None:
    report = made()
    text = to_json(report)
    assert text == to_json(report)
    found = json.loads(text)
    keys = ["format", "title", "command", "about", "columns", "methods", "published", "missing", "notes"]
    assert list(found) == keys
    for method, read in zip(report.methods, found["methods"], strict=True):
        assert list(read["estimates"]) == list(method.estimates)
        for key, estimate in method.estimates.items():
            assert read["estimates"][key]["mean"] == estimate.mean
            assert read["estimates"][key]["count"] == estimate.count
        assert read["inputs"][0]["values"]["psnr"] == method.inputs[0]["values"]["psnr"].tolist()
        assert read["groups"][0]["gap"]["low"] == method.groups[0].gap.low
        assert read["coverage"]["y"] == [9.0, 8.0]
        assert read["settings"] == {"steps": 100, "folder": str(Path("a/b"))}
    assert found["published"][0]["value"] == 98.76
    assert found["columns"]["pairwise"]["lower_is_better"] is None


def test_json_holds_no_pictures_and_says_what_is_not_finite() -> None:
    report = made()
    report.methods[0].shown = [Shown("best", "psnr", 1.0, "x", torch.rand(2, 3, 8, 8))]
    report.methods[0].estimates["psnr"] = Estimate(math.inf, -math.inf, math.nan)
    read = json.loads(to_json(report), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert "shown" not in read["methods"][0]
    estimate = read["methods"][0]["estimates"]["psnr"]
    assert (float(estimate["mean"]), float(estimate["low"])) == (math.inf, -math.inf)
    assert estimate["high"] is None


def test_file_names_that_are_not_utf8_survive_json_and_are_written_elsewhere() -> None:
    report = made()
    report.methods[0].problems = ["face\udce9.png: is damaged"]
    text = to_json(report)
    assert json.loads(text.encode().decode())["methods"][0]["problems"] == report.methods[0].problems
    assert "face?.png" in to_markdown(report).encode().decode()
    assert "face?.png" in to_text(report).encode().decode()


# ---------------------------------------------------------------------------------------------------------- Markdown


def test_markdown_has_a_row_per_metric_with_every_method() -> None:
    report = made()
    text = to_markdown(report)
    head = cells(text, "metric")
    assert head == ["metric", "better", "unit", "plain", "pulse", r"third\|way", "published"]
    for name, direction in (("psnr", "↑ higher"), (r"lpips-x\*", "↓ lower"), ("pairwise", ""), ("fd-x", "↓ lower")):
        row = cells(text, name)
        assert len(row) == len(head)
        assert row[1] == direction
        key = name.replace("\\", "")
        for cell, method in zip(row[3:6], report.methods, strict=True):
            estimate = method.estimates[key]
            shown = [float(v) for v in re.findall(r"\d+\.\d+", cell)]
            wanted = [estimate.mean] if key == "fd-x" else [estimate.mean, estimate.low, estimate.high]
            assert shown == pytest.approx(wanted, abs=0.0501)
            assert ("n = 640" in cell) == (key == "fd-x")


@pytest.mark.parametrize("seed", range(5))
def test_the_best_of_a_row_is_marked_by_its_direction(seed: int) -> None:
    report = made(seed)
    text = to_markdown(report)
    for key, pick in (("psnr", max), ("lpips-x*", min), ("fd-x", min)):
        means = [m.estimates[key].mean for m in report.methods]
        bold = [cell.startswith("**") for cell in cells(text, key.replace("*", r"\*"))[3:6]]
        assert bold == [mean == pick(means) for mean in means]
    assert "**" not in "".join(cells(text, "pairwise"))


def test_what_is_printed_alike_shares_the_first_place_and_infinity_can_win() -> None:
    report = Report("t", "c", columns={"psnr": METRICS["psnr"]})
    for name, mean in (("a", 20.001), ("b", 20.002), ("c", 19.0), ("d", math.nan)):
        report.methods.append(MethodReport(name, estimates={"psnr": Estimate(mean)}))
    assert [cell.best for cell in rows(report)[0].cells if cell] == [True, True, False, False]
    report.methods[2].estimates["psnr"] = Estimate(math.inf)
    assert [cell.best for cell in rows(report)[0].cells if cell] == [False, False, True, False]
    del report.methods[1:]
    assert [cell.best for cell in rows(report)[0].cells if cell] == [False]


def test_published_figures_stay_in_their_column_and_point_to_their_note() -> None:
    text = to_markdown(made())
    assert text.count("98.76") == 1
    assert cells(text, "psnr")[-1] == "98.76 (pulse, note 1)"
    assert cells(text, "seconds")[-1] == "87.65 (pulse, note 1)"
    assert all(cells(text, name)[-1] == "" for name in (r"lpips-x\*", "pairwise", "fd-x", "peak memory (GiB)"))
    assert "1. A paper, table 1: other faces" in text
    assert "2. B paper, table 2: candidates left out" in text
    line = next(line for line in text.splitlines() if "76.54" in line)
    assert line.startswith("Published for metrics that were not measured here")
    without = made()
    without.published = []
    assert "ublished" not in to_markdown(without)


def test_gaps_whose_interval_excludes_zero_are_bold() -> None:
    report = made()
    row = report.methods[0].groups[0]
    report.methods[0].groups[0] = replace(row, gap=Estimate(0.3, -0.1, 0.7))
    text = to_markdown(report)
    lines = [line for line in text.splitlines() if line.startswith("| gender: ")]
    assert len(lines) == 6
    female, male = (next(line for line in lines if g in line and "plain" in line) for g in ("female", ": male"))
    assert "**" not in female
    assert "+0.30 [-0.10, 0.70] |" in female
    assert "]** worse |" in male  # lower PSNR than the others
    assert "5 of 6 gaps" in text


def test_the_verdict_follows_the_direction_of_the_metric() -> None:
    report = made()
    gap = Estimate(1.0, 0.5, 1.5)
    for key in METRICS:
        report.methods[0].groups.append(GroupRow("age", "0-19", key, Estimate(20, count=9), gap))
    found = {a.row.metric: a.verdict for a in audit_rows(report) if a.row.by == "age"}
    assert found == {"psnr": "better", "lpips-x*": "worse", "pairwise": "differs", "fd-x": "worse"}
    assert audit_summary([a for a in audit_rows(report) if a.row.by == "age"]).startswith("4 of 4 gaps")


def test_long_audits_are_folded_after_the_clear_gaps() -> None:
    report = made()
    unclear = GroupRow("age", "adult", "psnr", Estimate(20, count=9), Estimate(0.1, -0.5, 0.7))
    report.methods[0].groups += [replace(unclear, group=f"group {i}") for i in range(60)]
    before, folded = to_markdown(report).split("<details>")
    assert before.count("| gender: ") == 6
    assert before.count("| age: ") == 0
    assert folded.count("| age: ") == 60


def test_markdown_shows_texts_from_outside_as_they_are() -> None:
    report = made()
    report.methods[0].problems = ["<script>alert(1)</script>.png\n| a | b | &lt; [x](http://y)"]
    report.command = "preimage bench ``` --x"
    text = to_markdown(report)
    assert "<script>" not in text
    assert r"&lt;script&gt;alert(1)&lt;/script&gt;.png \| a \| b \| &amp;lt; \[x\](http://y)" in text
    assert "````\npreimage bench ``` --x\n````" in text
    for part in (
        r"face\|7.png: is \*empty\* (0 bytes)",
        r"**fid**: needs \*Inception\* weights",
        "- a note",
        "faces.zip",
    ):
        assert part in text
    assert "imagined" in text.splitlines()[2]


# ---------------------------------------------------------------------------------------------------------- terminal


@pytest.mark.parametrize("width", [60, 100, 400])
def test_text_is_aligned_within_its_width(width: int) -> None:
    report = made()
    text = to_text(report, width)
    lines = text.splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("metric ")]
    heads = " ".join(lines[i] for i in starts)
    assert all(heads.count(name) == 1 for name in (*METHODS, "published"))
    assert (len(starts) == 1) == (width == 400)
    assert max(len(line) for line in lines) <= width
    for start in starts:
        table = lines[start : start + 1 + len(METRICS)]
        for name in (*METHODS, "published"):
            if name in table[0]:
                left = table[0].index(name)
                assert all(line[left - 2 : left].strip() == "" for line in table[1:])
    assert text.count(" best") == 3
    assert "(1) A paper" in text
    assert "(2)" not in text  # no figure of the table points to it
    assert "imagined" in text


def test_text_does_not_steer_the_terminal() -> None:
    report = made()
    report.methods[0].problems = ["\x1b[2Jface.png: is empty"]
    assert "\x1b" not in to_text(report)
    assert "?[2Jface.png" in to_text(report)


# ------------------------------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (23.4149, 2, "23.41"),
        (12345.6, 0, "12,346"),
        (math.nan, 2, "-"),
        (math.inf, 2, "inf"),
        (-math.inf, 2, "-inf"),
        (-0.0, 2, "0.00"),
        (0.0041, 2, "0.0041"),
        (-0.0000412, 2, "-4.1e-05"),
        (1.234e12, 2, "1.23e12"),
        (0.0123, None, "0.0123"),
        (7.956, None, "7.96"),
        (0.0, None, "0"),
    ],
)
def test_numbers_are_rounded_and_never_hide_that_they_are_not_zero(value: float, digits: int | None, text: str) -> None:
    assert number(value, digits) == text


def test_digits_suit_size_unit_and_interval() -> None:
    assert places([23.4, 1234.0], "dB") == 2
    assert places([0.312]) == 3
    assert places([412.3]) == 0
    assert places([412.3, 98.7]) == 1
    assert places([0.971], widths=[0.0021]) == 4
    assert places([0.971], widths=[0.02]) == 3
    assert places([math.nan, math.inf, 0.0]) == 0


def test_settings_read_as_one_line() -> None:
    value = {"a": [1, 2.5], "b": {"c": None, "d": True}, "e": "two\nlines"}
    assert describe(value) == "a: [1, 2.5]; b: (c: none; d: yes); e: two lines"


# --------------------------------------------------------------------------------------------------------------- edges


def bare() -> dict[str, Report]:
    """Reports with next to nothing in them."""
    nan = {"psnr": Estimate(math.nan, count=0)}
    return {
        "nothing": Report("", ""),
        "a method without numbers": Report("t", "c", methods=[MethodReport("m")]),
        "no heading": Report("t", "c", methods=[MethodReport("m", estimates={"odd": Estimate(1.0)})]),
        "not defined": Report("t", "c", columns=dict(METRICS), methods=[MethodReport("m", estimates=nan)] * 2),
        "groups without intervals": Report(
            "t",
            "c",
            methods=[MethodReport("m", groups=[GroupRow("a", "b", "odd", Estimate(math.nan), Estimate(math.inf))])],
        ),
        "cost that is not finite": Report("t", "c", methods=[MethodReport("m", cost={"s": math.nan, "b": math.inf})]),
    }


@pytest.mark.parametrize("name", bare())
def test_bare_reports_are_written(name: str) -> None:
    report = bare()[name]
    assert json.loads(to_json(report))["title"] == report.title
    assert to_markdown(report).startswith("# ")
    assert "imagined" in to_text(report)


def test_a_metric_without_a_heading_is_shown_all_the_same() -> None:
    assert cells(to_markdown(bare()["no heading"]), "odd") == ["odd", "", "", "1.00"]


def test_notes_say_what_is_missing_for_trust() -> None:
    assert "a note" in reading_notes(made())
    assert any("Problems" in note for note in reading_notes(made()))
    assert not any("No groups" in note for note in reading_notes(made()))
    assert any("No groups" in note for note in reading_notes(bare()["no heading"]))
