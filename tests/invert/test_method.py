"""The contract of methods: one from outside the package, what each refuses, handles, going on from latents, listeners."""

from __future__ import annotations

import json
import re
from dataclasses import asdict

import pytest
import torch
from toy import Toy

import preimage
from preimage.cli import main
from preimage.errors import InputError, MethodError
from preimage.files import read_jsonl, read_yaml, save_png
from preimage.image import read_image
from preimage.invert.guides import as_guide
from preimage.invert.listener import Stop
from preimage.invert.method import Input, Method
from preimage.invert.pulse import Pulse
from preimage.invert.registry import METHODS, load, method_class
from preimage.invert.settings import Settings
from preimage.weight_files import save_prior

TOY = "toy:Toy"


@pytest.fixture(scope="module")
def prior(tiny_prior, tmp_path_factory):
    path = tmp_path_factory.mktemp("prior") / "tiny.safetensors"
    save_prior(path, tiny_prior, {"images_seen": 0})
    return str(path)


@pytest.fixture
def face(tiny_lr, tmp_path):
    save_png(tmp_path / "face.png", tiny_lr)
    return tmp_path / "face.png"


# ---------------------------------------------------------------------------------------- a method from outside


def test_a_method_from_outside_works_from_python_and_from_the_command_line(prior, face, tmp_path, capsys):
    found = preimage.upsample(face, range(3), method=TOY, prior=prior, strength=0.2)
    assert bool(found.exact.all())
    assert found.method == "toy"
    out = tmp_path / "out"
    command = ["upsample", str(face), "-o", str(out), "--method", TOY, "--prior", prior, "--device", "cpu"]
    assert main([*command, "--seeds", "0-2", "--method.strength", "0.2", "--variants", "1"]) == 0
    for i in range(3):
        assert torch.equal(read_image(out / "face" / f"seed{i:04d}.png").pixels, found.images[i])
    assert (out / "face" / "seed0001_noise0000.png").is_file()  # by its only handle
    assert read_yaml(out / "run.yaml")["method"] == {"name": "toy", "strength": 0.2}
    assert main(["verify", str(out)]) == 0
    assert main([*command, "--method.strength", "2"]) == 1
    assert "strength (2.0) must be 0 or more and at most 1" in capsys.readouterr().err


def test_help_shows_the_settings_of_one_method(capsys):
    shown = {}
    for name in ("pulse", "posterior", "bicubic", TOY):
        with pytest.raises(SystemExit):
            main(["upsample", "--method", name, "--help"])
        shown[name] = capsys.readouterr().out
    assert "--method.geocross" in shown["pulse"]
    assert "--method.temperature" in shown["posterior"]
    assert "--reference" in shown["posterior"]
    assert "--like" in shown[TOY]
    for other, words in (("posterior", "geocross"), ("pulse", "temperature"), ("pulse", "--reference"), (TOY, "steps")):
        assert words not in shown[other]
    assert "--method.name" in shown["bicubic"]
    assert set(re.findall(r"--method\.\w+", shown["bicubic"])) == {"--method.name"}


def test_classes_say_everything_without_their_networks():
    for name in METHODS:
        found = method_class(name)
        assert issubclass(found, Method)
        assert found.name == name
        assert found.capabilities.summary
        assert set(found.capabilities.degradations) <= {"linear", "learned"}
        assert all(isinstance(settings, Settings) for settings in found.presets.values())
        json.dumps({key: asdict(settings) for key, settings in found.presets.items()})
    for wrong, words in (
        ("magic", "is unknown"),
        ("toy:Nothing", "Nothing"),
        ("json:dumps", "no subclass"),
        (3, "unknown"),
    ):
        with pytest.raises(MethodError, match=words):
            method_class(wrong)


def test_what_a_method_has_no_use_for_is_refused(tiny_prior, tiny_lr):
    for name, wrong, words in (
        ("posterior", {"prior": "faces64"}, "give its own network as weights"),
        ("pulse", {"weights": "faces64"}, "leave out weights"),
        ("bicubic", {"preset": "paper"}, "bicubic has default"),
    ):
        with pytest.raises(MethodError, match=words):
            load(name, **wrong)
    loaded = Pulse(prior=tiny_prior, device="cpu")
    for wrong in ({"prior": "faces64"}, {"preset": "paper"}, {"batch": 2}):
        with pytest.raises(MethodError, match=f"{next(iter(wrong))}: pulse is loaded already"):
            preimage.upsample(tiny_lr, 0, method=loaded, **wrong)
    with pytest.raises(MethodError, match="pulse takes no reference; it takes start"):
        loaded.pose(tiny_lr, reference=tiny_lr)


def test_a_method_without_chance_writes_one_candidate_and_says_so(prior, face, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["upsample", str(face), "-o", str(out), "--method", "bicubic", "--prior", prior, "--device", "cpu"]
    assert main([*command, "--seeds", "3-6"]) == 0
    told = capsys.readouterr()
    assert told.err.count("one candidate is written, that of seed 3") == 1
    assert [line["seed"] for line in read_jsonl(out / "summary.jsonl")] == [3]
    assert "1 candidates written" in told.out


# ---------------------------------------------------------------------------------------- guides


def test_guides_reach_the_method_and_the_record(prior, face, tmp_path, capsys):
    save_png(tmp_path / "like.png", torch.rand(3, 24, 20))
    out = tmp_path / "out"
    command = ["upsample", str(face), "-o", str(out), "--method", TOY, "--prior", prior, "-n", "2", "--like"]
    assert main([*command, str(tmp_path / "like.png")]) == 0
    guide = read_yaml(out / "run.yaml")["guides"]["like"]
    assert guide["file"] == str(tmp_path / "like.png")
    assert len(guide["sha256"]) == 64
    with_it = preimage.upsample(face, 0, method=TOY, prior=prior, like=tmp_path / "like.png").images
    assert torch.equal(read_image(out / "face" / "seed0000.png").pixels, with_it[0])
    assert not torch.equal(with_it, preimage.upsample(face, 0, method=TOY, prior=prior).images)
    save_png(tmp_path / "like.png", torch.rand(3, 24, 20))
    assert main([*command, str(tmp_path / "like.png")]) == 1
    assert "guides differ" in capsys.readouterr().err
    for bad, words in (("gone.png", "no such file"), ("face.png", "a like must have 16")):
        assert main([*command[:3], str(tmp_path / "new"), *command[4:], str(tmp_path / bad)]) == 1
        assert words in capsys.readouterr().err
        assert not (tmp_path / "new").exists()


def test_labels_are_whole_numbers_of_one_size(tmp_path):
    mask = Input("mask", "labels")
    labels = torch.randint(0, 19, (16, 16))
    from PIL import Image

    Image.fromarray(labels.byte().numpy()).save(tmp_path / "mask.png")
    for value in (labels, labels.numpy(), tmp_path / "mask.png"):
        assert torch.equal(as_guide(mask, value, 16), labels)
    for value, words in ((labels[:8], "must be 16x16 whole numbers"), (labels.float(), "whole numbers")):
        with pytest.raises(InputError, match=words):
            as_guide(mask, value, 16)
    Image.new("RGB", (16, 16)).save(tmp_path / "colour.png")
    with pytest.raises(InputError, match="palette or grey PNG"):
        as_guide(mask, tmp_path / "colour.png", 16)


# ---------------------------------------------------------------------------------------- handles


def test_handles_are_checked(tiny_prior, tiny_lr):
    pulse = Pulse(prior=tiny_prior, device="cpu")
    found = preimage.upsample(tiny_lr, [0, 1], method=pulse, steps=5)
    for changes, words in (
        ({"lips": 0.3}, "pulse has no handle 'lips'; there are noise"),
        ({"noise": 2}, r"noise \(2\) must lie in \[0, 1\]"),
        ({"noise": "loud"}, "must lie in"),
    ):
        with pytest.raises(MethodError, match=words):
            pulse.steer(found, 0, changes)
    kept = pulse.steer(found, 1, {"noise": 0.0}, [4])
    assert float((kept.images[0] - found.images[1]).abs().max()) <= 1.01 / 255
    apart = [
        float((pulse.steer(found, 1, {"noise": share}, [4]).images[0] - found.images[1]).abs().mean())
        for share in (0.3, 1.0)
    ]
    assert 0 < apart[0] < apart[1]
    with pytest.raises(MethodError, match="bicubic has no handles here"):
        load("bicubic", resolution=16).steer(found, 0, {"noise": 1})


def test_posterior_is_steered_level_by_level():
    posterior = preimage.load("posterior", device="cpu")
    lr = (torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)) * 100 + 80).round() / 255
    found = preimage.upsample(lr, [0, 1], method=posterior)
    same = posterior.steer(found, 1, {}, [5])
    assert float((same.images[0] - found.images[1]).abs().max()) <= 1.01 / 255
    detail = posterior.steer(found, 1, {"detail": 1.0}, [5, 6])
    assert bool(detail.exact.all())
    assert torch.equal(detail.latents["z-outline"], found.latents["z-outline"][1:].expand(2, -1, -1, -1))
    assert not torch.equal(detail.latents["z-detail"][0], detail.latents["z-detail"][1])
    a_little = posterior.steer(found, 1, {"detail": 0.2}, [5])
    moved = [float((x.images[0] - found.images[1]).abs().mean()) for x in (a_little, detail)]
    assert 0 < moved[0] < moved[1]
    soft = posterior.steer(found, 1, {"sharpness": -2}, [0])
    assert soft.latents["z-sharpness"].tolist() == [[-2.0]]
    with pytest.raises(MethodError, match="no handle 'texture'; there are outline, detail, sharpness"):
        posterior.steer(found, 0, {"texture": 1})


# ---------------------------------------------------------------------------------------- going on, listening


def test_a_search_goes_on_from_latents(tiny_prior, tiny_lr):
    pulse = Pulse(prior=tiny_prior, device="cpu", batch=2)
    short = preimage.upsample(tiny_lr, [0, 1, 2], method=pulse, steps=15, stop=0.0)
    further = preimage.upsample(tiny_lr, [0, 1, 2], method=pulse, steps=15, stop=0.0, at=short)
    assert (further.error_before <= short.error_before + 1e-3).all()
    assert (further.error_before < short.error_before).any()
    still = preimage.upsample(tiny_lr, [0, 1, 2], method=pulse, steps=1, at=short)
    torch.testing.assert_close(still.error_before, short.error_before, rtol=1e-3, atol=1e-2)
    with pytest.raises(MethodError, match="latents of 3 candidates to go on from, but 1 seeds"):
        preimage.upsample(tiny_lr, 0, method=pulse, at=short)


def test_going_on_from_a_file(prior, face, tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    command = ["upsample", str(face), "--method", "pulse", "--prior", prior, "--device", "cpu", "--method.stop", "0"]
    command += ["--method.steps", "10"]
    assert main([*command, "-o", str(first), "--seeds", "2-4", "--save-latents"]) == 0
    latents = first / "face" / "latents0002.safetensors"
    assert main([*command, "-o", str(second), "--seeds", "4,2", "--from", str(latents)]) == 0
    assert len(read_yaml(second / "run.yaml")["from"]["sha256"]) == 64
    before = {line["seed"]: line["error_before"] for line in read_jsonl(first / "summary.jsonl")}
    after = {line["seed"]: line["error_before"] for line in read_jsonl(second / "summary.jsonl")}
    assert all(after[seed] < before[seed] for seed in (2, 4))
    for wrong, words in (
        (["--seeds", "2,7"], "holds the seeds"),
        (["--seeds", "2", "--method", "bicubic"], "cannot go on"),
    ):
        assert main([*command[:-4], "-o", str(tmp_path / "c"), "--from", str(latents), *wrong]) == 1, wrong
        assert words in capsys.readouterr().err
    assert main([*command, "-o", str(tmp_path / "d"), "--from", str(face)]) == 1
    assert "holds no latents" in capsys.readouterr().err


def test_a_listener_sees_every_step_and_may_stop(tiny_prior, tiny_lr):
    pulse, seen = Pulse(prior=tiny_prior, device="cpu", batch=2), []

    def listener(step):
        assert step.preview().shape == (len(step.seeds), 3, 16, 16)
        assert step.error.shape == (len(step.seeds),)
        seen.append((step.index, step.of, step.seeds))
        if len(seen) == 4:
            raise Stop

    (found,) = pulse.upsample(tiny_lr, [7, 3, 5], listener=listener, steps=30, stop=0.0)
    assert seen == [(i, 30, (7, 3)) for i in range(4)]
    assert found.seeds == (7, 3)  # the best so far, and no further batch
    assert found.steps.tolist() == [4, 4]
    assert bool(found.exact.all())


def test_the_toy_is_a_method():
    assert issubclass(Toy, Method)
    assert method_class(TOY) is Toy
