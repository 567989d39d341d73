"""Judging a folder: numbers equal those of the parts, inputs that fail are named, the truth itself comes out perfect."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from preimage.collection import Collection
from preimage.degrade.consistency import downscale_saved
from preimage.degrade.linear import bicubic
from preimage.errors import InputError
from preimage.files import save_png
from preimage.image import to_uint8
from preimage.measure.diversity import pairwise_distance
from preimage.measure.evaluate import evaluate, evaluate_folder
from preimage.measure.fidelity import FIDELITY
from preimage.measure.sets import SetDistance
from preimage.measure.solutions import coverage
from preimage.measure.suite import Suite
from preimage.nets.features import VGG19Distilled

SIDE, COUNT, SEEDS = 32, 6, 3


def faces(seed: int, count: int = COUNT) -> torch.Tensor:
    """Smooth random pictures (count, 3, 32, 32) on the 8-bit grid."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return (torch.nn.functional.interpolate(coarse, SIDE, mode="bicubic").clamp(0, 1) * 255).round() / 255


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """Three noisy candidates of each of six truths; the first input's last candidate is the truth itself."""
    truths = faces(0)
    operator = bicubic(SIDE, lr_size=4)
    lines = ["file,source,group"]
    for i, truth in enumerate(truths):
        (tmp_path / "truth").mkdir(exist_ok=True)
        save_png(tmp_path / "truth" / f"{i}.png", truth)
        lines.append(f"{i}.png,aaf,{'female' if i < 3 else 'male'};age{10 + 10 * i}")
        (tmp_path / "out" / str(i)).mkdir(parents=True)
        small = downscale_saved(to_uint8(truth[None]), operator)[0]
        save_png(tmp_path / "out" / str(i) / "input.png", small)
        noise = torch.randn(SEEDS, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(i)) * 0.02 * (i + 1)
        for seed in range(SEEDS):
            image = truth if i == 0 and seed == SEEDS - 1 else (truth + noise[seed]).clamp(0, 1)
            save_png(tmp_path / "out" / str(i) / f"seed{seed:04d}.png", image)
    (tmp_path / "truth" / "index.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "out", tmp_path / "truth"


@pytest.fixture
def suite() -> Suite:
    return Suite(metrics=[FIDELITY["psnr-rgb"], FIDELITY["ssim-y"]])


def test_numbers_are_those_of_the_parts(folders, suite):
    results, truth = folders
    found = evaluate_folder(results, Collection(truth), suite, progress=False, resamples=200)
    method = found.method
    assert [line["name"] for line in method.inputs] == [str(i) for i in range(COUNT)]
    assert not method.problems
    line = method.inputs[1]["values"]
    candidates = torch.stack([Collection(results / "1").tensor(f"seed{s:04d}.png") for s in range(SEEDS)])
    reference = faces(0)[1]
    assert line["psnr-rgb"] == FIDELITY["psnr-rgb"](candidates, reference).tolist()
    assert line["pairwise-rms"] == pytest.approx(pairwise_distance(candidates))
    assert line["best-rms"] == pytest.approx(
        min((candidates - reference).square().mean((1, 2, 3)).sqrt().tolist()) * 255
    )
    assert 0 < line["lr-rms"][0] < 20
    assert line["lr-psnr-worst"] == min(line["lr-psnr"])
    estimate = method.estimates["ssim-y"]
    means = [sum(x["values"]["ssim-y"]) / SEEDS for x in method.inputs]
    assert estimate.mean == pytest.approx(sum(means) / COUNT)
    assert estimate.worst == min(means)
    assert estimate.low < estimate.mean < estimate.high
    assert estimate.count == COUNT
    assert set(found.columns) <= set(method.estimates)
    curve = method.coverage
    expected = torch.stack(
        [
            coverage((faces(0)[i] - torch.stack([Collection(results / str(i)).tensor(f"seed{s:04d}.png") for s in range(3)]))
                     .square().mean((1, 2, 3)).sqrt() * 255)
            for i in range(COUNT)
        ]
    ).mean(0)  # fmt: skip
    assert curve.y == pytest.approx(expected.tolist())


def test_the_truth_as_a_candidate_is_exact_and_perfect(folders, suite):
    results, truth = folders
    found = evaluate_folder(results, Collection(truth), suite, progress=False)
    values = found.method.inputs[0]["values"]
    assert values["exact"][-1] == 1.0
    assert values["best-rms"] == 0.0
    assert math.isinf(values["psnr-rgb"][-1])
    assert math.isinf(found.method.estimates["psnr-rgb"].mean)  # and no interval is made up
    assert math.isnan(found.method.estimates["psnr-rgb"].low)


def test_pictures_for_the_page_are_chosen_by_the_metric(folders, suite):
    results, truth = folders
    shown = evaluate_folder(results, Collection(truth), suite, progress=False).method.shown
    assert [(s.why, s.name) for s in shown] == [  # noise grows
        ("best", "0"),
        ("median", "2"),
        ("worst", "5"),
        ("second worst", "4"),
        ("third worst", "3"),
    ]
    assert shown[2].by == "psnr-rgb"
    assert shown[2].images.shape == (SEEDS, 3, SIDE, SIDE)
    assert shown[2].lr.shape == (3, 4, 4)
    assert torch.equal(shown[2].reference, faces(0)[5])
    assert shown[2].certainty.shape == (SIDE, SIDE)


def test_groups_of_the_index_are_compared(folders, suite, monkeypatch):
    results, truth = folders
    for i in range(COUNT, 12):  # five of each kind are needed
        save_png(truth / f"{i}.png", faces(0)[i % COUNT])
        (results / str(i)).mkdir()
        save_png(results / str(i) / "a.png", faces(1)[i % COUNT])
        with (truth / "index.csv").open("a") as index:
            index.write(f"{i}.png,lfw,{'female' if i % 2 else 'male'}\n")
    rows = evaluate_folder(results, Collection(truth), suite, progress=False, resamples=200).method.groups
    found = {(r.by, r.group): r for r in rows if r.metric == "ssim-y"}
    assert set(found) == {("gender", "female"), ("gender", "male"), ("source", "aaf"), ("source", "lfw")}
    aaf, lfw = found["source", "aaf"], found["source", "lfw"]
    assert aaf.gap.mean == pytest.approx(aaf.estimate.mean - lfw.estimate.mean)
    assert aaf.gap.mean == pytest.approx(-lfw.gap.mean)


def test_distances_between_sets_stream_and_are_kept(folders, tmp_path):
    results, truth = folders
    torch.manual_seed(0)
    network = VGG19Distilled().eval()
    made = [SetDistance("tiny", network), SetDistance("tiny", network)]
    waiting = list(made)
    suite = Suite(sets={"fd-tiny": lambda: waiting.pop(0)})
    first = evaluate_folder(results, Collection(truth), suite, statistics=tmp_path / "kept", progress=False)
    assert made[0].count(real=False) == COUNT * SEEDS
    assert made[0].count(real=True) == COUNT
    (kept,) = (tmp_path / "kept").iterdir()
    written = kept.stat().st_mtime_ns
    second = evaluate_folder(results, Collection(truth), suite, statistics=tmp_path / "kept", progress=False)
    assert kept.stat().st_mtime_ns == written
    assert first.method.estimates["fd-tiny"] == second.method.estimates["fd-tiny"]
    assert first.method.estimates["fd-tiny"].count == COUNT * SEEDS
    assert any("fewer than twice" in note for note in first.notes)
    assert first.columns["fd-tiny"].per == "set"


def test_bad_inputs_are_named_and_the_others_go_on(folders, suite):
    results, truth = folders
    (results / "2" / "seed0000.png").write_bytes(b"no picture")
    (results / "7").mkdir()
    save_png(results / "7" / "seed0000.png", faces(0)[0])
    found = evaluate_folder(results, Collection(truth), suite, progress=False)
    assert len(found.method.inputs) == COUNT - 1
    assert any("seed0000.png" in p and "2" in p for p in found.method.problems)
    assert any("no reference of that name" in p for p in found.method.problems)
    for i in range(COUNT):
        for path in (results / str(i)).glob("seed*.png"):
            path.write_bytes(b"")
    with pytest.raises(InputError, match="no input could be judged"):
        evaluate_folder(results, Collection(truth), suite, progress=False)


def test_without_truth_only_what_needs_none(folders, suite):
    results, _ = folders
    found = evaluate_folder(results, None, suite, progress=False)
    assert set(found.method.estimates) == {"exact", "lr-rms", "lr-psnr", "pairwise-rms"}
    assert "compares with the true picture" in found.missing["psnr-rgb"]


def test_too_small_for_a_metric_is_said(folders):
    results, truth = folders
    found = evaluate_folder(results, Collection(truth), Suite(metrics=[FIDELITY["ms-ssim-rgb"]]), progress=False)
    assert "32x32" in found.missing["ms-ssim-rgb"]
    assert "ms-ssim-rgb" not in found.method.estimates


def test_one_report_by_paths(folders, tmp_path):
    results, truth = folders
    report = evaluate(results, truth, metrics=["psnr-y"], name="mine", command="preimage evaluate out")
    assert report.methods[0].name == "mine"
    assert report.command == "preimage evaluate out"
    assert next(iter(report.columns)) == "psnr-y"
    assert "6 inputs, 3 candidates" in report.about["results"]
    assert any("bootstrap" in note for note in report.notes)
