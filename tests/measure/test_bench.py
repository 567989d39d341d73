"""Methods side by side, on a tiny prior: what is written, that a stopped run goes on, and what the table holds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from preimage.degrade.degradation_gan import DegradationGAN, DegradationGANConfig
from preimage.errors import InputError, MethodError, OperatorError
from preimage.files import save_png
from preimage.measure.bench import bench
from preimage.measure.bench_methods import Spec, parse_method
from preimage.nets.conditional import ConditionalConfig, ConditionalGenerator
from preimage.weight_files import save_prior
from preimage.weights import default_prior, default_upsampler


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Four smooth pictures of 32x32 with an index."""
    folder = tmp_path_factory.mktemp("data") / "faces"
    rng = torch.Generator().manual_seed(0)
    lines = ["file,source,person,group"]
    for i in range(4):
        coarse = torch.rand(1, 3, 4, 4, generator=rng)
        picture = torch.nn.functional.interpolate(coarse, 32, mode="bicubic").clamp(0, 1)[0]
        (folder / "a").mkdir(parents=True, exist_ok=True)
        save_png(folder / "a" / f"{i}.png", (picture * 255).round() / 255)
        lines.append(f"a/{i}.png,aaf,,female;age{20 + i}")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def prior(tiny_prior, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("prior") / "tiny.safetensors"
    save_prior(path, tiny_prior, {})
    return str(path)


def test_two_methods_on_the_same_inputs(data, prior, tmp_path):
    out = tmp_path / "bench"
    settings = {"scale": 4.0, "seeds": "0-1", "count": 3, "prior": prior, "metrics": ["psnr-y"], "degradation": "area"}
    report = bench(["bicubic", "pulse:paper"], data, out, **settings)
    assert [m.name for m in report.methods] == ["bicubic", "pulse:paper"]
    names = sorted(p.name for p in (out / "inputs").iterdir())
    assert len(names) == 3
    assert all(name.startswith("a_") for name in names)
    for name in names:
        with Image.open(out / "inputs" / name) as small, Image.open(out / "reference" / name) as truth:
            assert truth.size == (16, 16)
            assert small.size == (4, 4)
            assert list(truth.reduce(4).tobytes()) == pytest.approx(list(small.tobytes()), abs=1)
    assert "female;age" in (out / "reference" / "index.csv").read_text()
    for method, folder, files in zip(report.methods, ("bicubic", "pulse-paper"), (3, 6), strict=True):
        assert len(list((out / folder).glob("*/seed*.png"))) == files  # bicubic has one answer
        assert not method.problems
        assert [set(line["group"]) for line in method.inputs] == [{"gender", "age", "source"}] * 3
        assert method.estimates["psnr-y"].count == 3
        assert method.estimates["exact"].mean == 1.0
        assert method.cost["seconds"] > 0
    flat, varied = report.methods
    assert "pairwise-rms" not in flat.estimates
    assert varied.estimates["pairwise-rms"].mean > 0
    assert varied.cost["generator forwards"] > 100  # at least one per step
    assert varied.cost["flops"] > flat.cost.get("flops", 0)
    assert {p.method for p in report.published} == {"bicubic", "pulse"}
    assert "3 of 4 pictures" in report.about["data"]

    before = {p: p.stat().st_mtime_ns for p in out.glob("*/*/seed*.png")}
    again = bench(["bicubic", "pulse:paper"], data, out, flops=False, **settings)
    assert {p: p.stat().st_mtime_ns for p in out.glob("*/*/seed*.png")} == before  # nothing was done twice
    assert again.methods[1].estimates == report.methods[1].estimates
    with pytest.raises(InputError, match="benchmark of other settings"):
        bench(["bicubic"], data, out, **{**settings, "scale": 2.0})


def test_methods_of_different_sizes_are_compared_at_one(data, prior, tmp_path):
    torch.manual_seed(0)
    shape = ConditionalConfig(32, width=8, channels=(4,), w_dim=8, z_outline=2, z_detail=1)
    network = ConditionalGenerator(shape)
    with torch.no_grad():
        for name in ("rgb.weight", "levels.0.rgb.weight"):
            network.get_parameter(name).mul_(0.2)
    path, out = tmp_path / "large.safetensors", tmp_path / "bench"
    save_prior(path, network, {})
    settings = {"scale": 4.0, "seeds": "0-1", "count": 2, "metrics": ["psnr-y"], "flops": False}
    report = bench([f"bicubic={prior}", f"posterior={path}"], data, out, **settings)
    assert [m.name for m in report.methods] == ["bicubic=tiny", "posterior=large"]
    for name in (p.name.removesuffix(".png") for p in (out / "inputs").iterdir()):
        with Image.open(out / "posterior-large" / name / "seed0000.png") as own:
            assert own.size == (32, 32)
            wanted = own.convert("RGB").resize((16, 16), Image.Resampling.LANCZOS).tobytes()
        with Image.open(out / "posterior-large-at16" / name / "seed0000.png") as reduced:
            assert reduced.tobytes() == wanted
    large = report.methods[1]
    assert large.estimates["psnr-y"].count == 2
    assert "exact" not in large.estimates  # nothing is said of what nobody saves
    assert large.cost["byte-exact (own size)"] == 1.0
    assert large.cost["seconds"] > 0
    assert large.settings["method"]["name"] == "posterior"
    assert "lr-psnr" not in report.missing  # the others were measured
    again = bench([f"bicubic={prior}", f"posterior={path}"], data, out, **settings)
    assert again.methods[1].cost["byte-exact (own size)"] == 1.0
    assert again.methods[1].estimates == large.estimates
    assert any("posterior=large makes pictures of 32 px, reduced to 16" in note for note in report.notes)
    alone = bench(["bicubic", f"posterior={path}"], data, tmp_path / "alone", **settings)
    assert alone.about["prior"] == str(path)
    with Image.open(next((tmp_path / "alone" / "bicubic").glob("*/seed0000.png"))) as made:
        assert made.size == (32, 32)  # bicubic makes what it is compared with
    with pytest.raises(MethodError, match=r"resolution \(20\): bicubic .* makes 16 pixels"):
        bench([f"bicubic={prior}", f"posterior={path}"], data, tmp_path / "other", resolution=20, **settings)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("pulse", ("pulse", "", "default", "")),
        ("pulse:paper@area", ("pulse", "", "paper", "area")),
        ("pulse=faces64:stylegan", ("pulse", "faces64", "stylegan", "")),
        ("posterior=a@b.safetensors", ("posterior", "a@b.safetensors", "default", "")),
        ("posterior=hf-hub:owner/repo", ("posterior", "hf-hub:owner/repo", "default", "")),
        ("pulse=own_prior:TinyDecoder:paper@area", ("pulse", "own_prior:TinyDecoder", "paper", "area")),
    ],
)
def test_what_a_method_is_called(text, parts):
    assert parse_method(text) == Spec(*parts)


def test_the_shared_prior_is_that_of_searches_alone():
    """A method with a network of its own does not claim a prior that it never saw."""
    assert Spec("pulse").network("mine.safetensors") == "mine.safetensors"
    assert Spec("pulse").network(None) == default_prior()
    assert Spec("posterior").network("mine.safetensors") == default_upsampler("posterior")
    assert Spec("posterior", "own.safetensors").network("mine.safetensors") == "own.safetensors"
    assert Spec("posterior").networks("own.safetensors") == {"weights": "own.safetensors"}
    assert Spec("pro-pulse", "own.safetensors").networks("own.safetensors") == {"weights": "own.safetensors"}
    assert Spec("pro-pulse").given("mine.safetensors") is None  # an encoder has a prior of its own
    assert Spec("bicubic").network("mine.safetensors") is None


def test_two_files_of_one_name_have_two_labels(data, prior, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(prior, tmp_path / folder / "same.safetensors")
    specs = [f"bicubic={tmp_path / folder / 'same.safetensors'}" for folder in ("a", "b")]
    settings = {"scale": 4.0, "seeds": "0", "count": 1, "metrics": ["psnr-y"], "flops": False}
    report = bench(specs, data, tmp_path / "bench", **settings)
    assert [method.name for method in report.methods] == ["bicubic=a-same", "bicubic=b-same"]


def test_inputs_made_by_a_learned_degradation(data, prior, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = DegradationGAN(DegradationGANConfig(16, 4, 8, (8, 8, 8), (8,)), "tiny-degradation").eval()
    path = tmp_path / "degradation.safetensors"
    save_prior(path, network, {})
    settings = {
        "scale": 4.0, "seeds": "0", "count": 2, "prior": prior, "metrics": ["psnr-y"], "degradation": str(path),
        "flops": False,
    }  # fmt: skip
    report = bench(["bicubic", "sr-nam:paper"], data, tmp_path / "out", **settings)
    told, learned = report.methods
    assert told.estimates["exact"].mean == 1.0
    assert any("told bicubic" in note for note in report.notes)
    assert "exact" not in learned.estimates
    assert learned.estimates["lr-l1"].mean > 0
    assert len({line["name"] for line in learned.inputs}) == 2

    both = ["pulse:paper", "pulse:paper@bicubic", f"sr-nam:paper@{path}"]
    through, clean, same = bench(both, data, tmp_path / "out", **settings).methods
    assert [m.name for m in (through, clean, same)] == [
        "pulse:paper",
        "pulse:paper@bicubic",
        "sr-nam:paper@degradation",
    ]
    assert "exact" not in through.estimates
    assert clean.estimates["exact"].mean == 1.0
    assert same.estimates["lr-l1"] == learned.estimates["lr-l1"]
    with pytest.raises(OperatorError, match="no-such"):
        bench(["pulse@no-such"], data, tmp_path / "c", **settings)
    with pytest.raises(OperatorError, match="makes 4 pixels; give the scale 4"):
        bench(["bicubic"], data, tmp_path / "b", **{**settings, "scale": 2.0})


def test_an_input_that_fails_is_reported(data, prior, tmp_path):
    out = tmp_path / "bench"
    settings = {"scale": 4.0, "seeds": "0", "count": 2, "prior": prior, "metrics": ["psnr-y"], "flops": False}
    bench(["bicubic"], data, out, **settings)
    name = sorted(p.stem for p in (out / "inputs").iterdir())[0]
    candidate = out / "bicubic" / name / "seed0000.png"
    candidate.write_bytes(b"damaged")
    assert len(bench(["bicubic"], data, out, **settings).methods[0].inputs) == 2  # made again
    candidate.unlink()
    (out / "inputs" / f"{name}.png").write_bytes(b"damaged")
    report = bench(["bicubic"], data, out, **settings)
    assert len(report.methods[0].inputs) == 1
    assert any(name in problem for problem in report.methods[0].problems)


def test_pictures_of_one_name_are_told_apart(prior, tmp_path):
    rng, faces = np.random.default_rng(3), tmp_path / "faces"
    for name in ("a_b.png", "a/b.png", "c.png", "c.bmp", "Q.png", "q.bmp"):
        (faces / name).parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(90, 160, (4, 4, 3), dtype=np.uint8))
        coarse.resize((16, 16), Image.Resampling.BICUBIC).save(faces / name)
    settings = {"scale": 4.0, "seeds": "0", "count": None, "prior": prior, "metrics": ["psnr-y"], "flops": False}
    report = bench(["bicubic"], faces, tmp_path / "bench", **settings)
    assert len(report.methods[0].inputs) == 6
    assert not report.methods[0].problems
    truths = {p.read_bytes() for p in (tmp_path / "bench" / "reference").glob("*.png")}
    assert len(truths) == 6


@pytest.mark.parametrize("wrong", [{"scale": 0.0}, {"scale": float("nan")}, {"count": -5}, {"count": 0}])
def test_a_scale_or_count_that_is_none(data, prior, tmp_path, wrong):
    with pytest.raises(OperatorError, match="must be a number above 1"):
        bench(["bicubic"], data, tmp_path / "a", prior=prior, metrics=["psnr-y"], **{"scale": 4.0, **wrong})


def test_settings_that_cannot_work(data, prior, tmp_path):
    with pytest.raises(MethodError, match="magic"):
        bench(["magic"], data, tmp_path / "a", prior=prior, metrics=["psnr-y"])
    with pytest.raises(MethodError, match="one method or more"):
        bench([], data, tmp_path / "a", prior=prior, metrics=["psnr-y"])
    with pytest.raises(OperatorError, match="scale"):
        bench(["bicubic"], data, tmp_path / "b", prior=prior, metrics=["psnr-y"], scale=1.0)
    small = tmp_path / "small"
    small.mkdir()
    save_png(small / "x.png", torch.zeros(3, 8, 8))
    with pytest.raises(InputError, match="smaller than 16"):
        bench(["bicubic"], small, tmp_path / "c", prior=prior, metrics=["psnr-y"], scale=4.0)


def test_the_report_is_plain_data(data, prior, tmp_path):
    from preimage.measure.render.writers import to_json

    report = bench(
        ["bicubic"], data, tmp_path / "b", scale=4.0, seeds="0", count=2, prior=prior, metrics=["psnr-y"], flops=False
    )
    parsed = json.loads(to_json(report))
    assert parsed["methods"][0]["name"] == "bicubic"
