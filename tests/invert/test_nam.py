"""SR-NAM: the search through a learned degradation, its noise, its controls, and that it never claims to be exact."""

from __future__ import annotations

import json
import math

import pytest
import torch
from PIL import Image
from torch import nn

from preimage.candidates import Candidates
from preimage.cli import main
from preimage.degrade.consistency import downscale_saved
from preimage.degrade.degradation_gan import DegradationGAN, DegradationGANConfig
from preimage.degrade.learned import (
    NOISE,
    Learned,
    LearnedDegradation,
    apply_learned,
    learned_error,
    pack_noise,
    unpack_noise,
)
from preimage.degrade.linear import bicubic
from preimage.errors import InputError, MethodError, OperatorError
from preimage.files import read_jsonl, read_provenance, read_yaml, save_png
from preimage.generate.progan import ProGAN, ProGANConfig
from preimage.image import read_image, to_uint8
from preimage.invert.nam import SRNAM
from preimage.invert.pulse import Pulse
from preimage.invert.registry import load
from preimage.invert.search import PROGRESS, search
from preimage.invert.walk import norms, start
from preimage.measure.evaluate import evaluate_folder
from preimage.seeds import normal
from preimage.weight_files import save_prior

QUICK = {"steps": 30}


class Camera(nn.Module):
    """A stand-in for a learned degradation, 16 to 4 pixels: a random blur whose colours follow the noise."""

    name, hr_size, lr_size, noise_dim = "camera", 16, 4, 6

    def __init__(self) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(1)
        self.blur = nn.Parameter(torch.rand(1, 1, 4, 4, generator=rng))
        self.tint = nn.Parameter(torch.randn(6, 3, generator=rng) * 0.05)

    def noise(self, seeds, stream="degradation"):
        return normal(seeds, (self.noise_dim,), stream)

    def forward(self, pictures, noise=None):
        kernel = (self.blur / self.blur.sum()).expand(3, 1, 4, 4)
        small = nn.functional.conv2d(pictures, kernel, stride=4, groups=3)
        return small if noise is None else small + (noise @ self.tint)[:, :, None, None]


@pytest.fixture(scope="module")
def camera() -> Camera:
    return Camera().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def progan() -> ProGAN:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        prior = ProGAN(ProGANConfig(16, channel_base=128, channel_max=16, z_dim=16), "tiny-progan")
    return prior.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def photo(camera, progan) -> torch.Tensor:
    """y = D(G(z*)), on the 8-bit grid."""
    small = apply_learned(camera, progan.sample([77]), camera.noise([77]))[0]
    return (small.clamp(0, 1) * 255).round() / 255


def found(prior, camera, photo, seeds=(0, 1, 2), **controls):
    (candidates,) = SRNAM(prior=prior).upsample(photo, list(seeds), camera, **{**QUICK, **controls})
    return candidates


def test_it_finds_its_way_back_to_a_picture_of_the_prior(progan, camera, photo):
    settings = SRNAM.presets["default"].with_({"steps": 200, "degradation_noise": "optimised"})
    reached = search(progan, Learned(camera), photo, range(4), settings)
    assert reached.trace.shape == (4, 200)
    assert (reached.l1 < 0.35 * reached.trace[:, 0]).all()
    assert reached.trace[:, 100:].mean() < reached.trace[:, :20].mean()
    torch.testing.assert_close(reached.l1, reached.trace.amin(1))  # the best iterate, not the last
    again = (apply_learned(camera, reached.images, reached.degradation) - photo).abs().mean(dim=(1, 2, 3))
    torch.testing.assert_close(again, reached.l1)
    torch.testing.assert_close(progan.synthesize(reached.latents), reached.images)


def test_a_wild_rate_keeps_the_best_iterate(progan, camera, photo):
    wild = SRNAM.presets["default"].with_({"steps": 40, "lr": 3.0})
    reached = search(progan, Learned(camera), photo, range(4), wild)
    assert (reached.trace[:, -1] > reached.l1).any()
    torch.testing.assert_close(reached.l1, reached.trace.amin(1))


@pytest.mark.parametrize("noise", ["fixed", "resampled", "optimised"])
def test_the_noise_of_the_degradation(progan, camera, photo, noise):
    settings = SRNAM.presets["default"].with_({"steps": 25, "degradation_noise": noise})
    seen = []
    watched = Camera().eval().requires_grad_(False)
    watched.register_forward_hook(lambda m, given, out: seen.append(given[1].detach().clone()))
    reached = search(progan, Learned(watched), photo, [4, 9], settings)
    first = camera.noise([4, 9])
    assert torch.equal(seen[0], first)
    if noise == "fixed":
        assert all(torch.equal(x, first) for x in seen)
        assert torch.equal(reached.degradation, first)
    elif noise == "resampled":
        assert not torch.equal(seen[1], first)
        assert not torch.equal(seen[1], seen[2])
        assert all(any(torch.equal(reached.degradation[i], x[i]) for x in seen) for i in range(2))
    else:
        assert (seen[-1] - first).norm() > 0.1
        torch.testing.assert_close(seen[-1].norm(dim=1), first.norm(dim=1))  # on its sphere
        assert search(progan, Learned(camera), photo, [4, 9], settings).l1.mean() < reached.trace[:, 0].mean()


def test_the_sphere_keeps_norms_and_without_it_they_change(progan, camera, photo):
    begun = norms(start(progan, [0, 1], SRNAM.presets["default"]).u.detach())
    on = search(
        progan, Learned(camera), photo, [0, 1], SRNAM.presets["default"].with_({"steps": 30, "sphere": True})
    ).latents
    off = search(
        progan, Learned(camera), photo, [0, 1], SRNAM.presets["default"].with_({"steps": 30, "sphere": False})
    ).latents
    torch.testing.assert_close(norms(on), begun, rtol=1e-5, atol=0)
    assert ((norms(off) - begun).abs() > 1e-3).all()


def test_the_loss_says_what_falls(progan, camera, photo):
    l1, l2 = (
        search(progan, Learned(camera), photo, range(6), SRNAM.presets["default"].with_({"steps": 80, "loss": loss}))
        for loss in ("l1", "l2")
    )
    torch.testing.assert_close(l1.trace.amin(1), l1.l1)
    torch.testing.assert_close(l2.trace.amin(1), l2.mse)
    assert not torch.allclose(l1.images, l2.images)


def test_early_stop_by_value_and_by_patience(progan, camera, photo):
    full = search(progan, Learned(camera), photo, range(4), SRNAM.presets["default"].with_({"steps": 60}))
    value = full.l1.median().item()
    stopped = search(
        progan, Learned(camera), photo, range(4), SRNAM.presets["default"].with_({"steps": 60, "stop": value})
    )
    assert (stopped.steps < 60).any()
    assert (stopped.l1[stopped.steps < 60] <= value).all()
    assert (stopped.l1[stopped.steps == 60] >= value).all()
    assert stopped.trace[stopped.steps < 60][:, -1].isnan().all()
    impatient = search(
        progan, Learned(camera), photo, range(4), SRNAM.presets["default"].with_({"lr": 1e-7, "patience": 5})
    )
    assert impatient.steps.tolist() == [6] * 4  # nothing moves: the first step and five in vain
    settings = SRNAM.presets["default"].with_({"steps": 60, "patience": 12})
    patient = search(progan, Learned(camera), photo, range(4), settings)
    for trace, steps in zip(patient.trace, patient.steps.tolist(), strict=True):
        if steps < 60:
            late = trace[:steps]
            assert late[-12:].min() >= (1 - PROGRESS) * late[:-12].min() - 1e-6


def test_restarts_differ_and_their_degraded_versions_agree(progan, camera, photo):
    candidates = found(progan, camera, photo, steps=150)
    small = apply_learned(camera, candidates.images, candidates.latents[NOISE])
    apart = (candidates.images[0] - candidates.images[1]).abs().mean()
    assert apart > 5 / 255
    start = found(progan, camera, photo, steps=1)
    before = apply_learned(camera, start.images, start.latents[NOISE])
    assert (small[0] - small[1]).abs().mean() < (before[0] - before[1]).abs().mean()


def test_a_candidate_does_not_depend_on_the_batch(progan, camera, photo):
    for noise in ("resampled", "optimised"):
        controls = {"degradation_noise": noise, "patience": 8, "steps": 25}
        (together,) = SRNAM(prior=progan).upsample(photo, [0, 1, 2], camera, **controls)
        alone = Candidates.cat(list(SRNAM(prior=progan, batch=1).upsample(photo, [2, 0], camera, **controls)))
        assert (together.images[[2, 0]] - alone.images).abs().max() <= 2 / 255
        assert torch.equal(together.steps[[2, 0]], alone.steps)


def test_a_learned_degradation_is_never_exact_and_says_what_it_reaches(progan, camera, photo):
    candidates = found(progan, camera, photo)
    assert not candidates.exact.any()
    assert candidates.inexact_because == "learned degradation"
    assert candidates.moved.max() == 0
    levels = candidates.images * 255
    torch.testing.assert_close(levels, levels.round())
    by_hand = 255 * (camera(candidates.images, candidates.latents[NOISE]) - photo).abs().flatten(1).mean(1)
    torch.testing.assert_close(candidates.l1, by_hand, rtol=1e-4, atol=1e-3)
    assert (candidates.error >= candidates.l1 - 1e-3).all()
    assert (candidates[1].l1, candidates.select([2, 0]).l1[1]) == (candidates.l1[1], candidates.l1[0])
    assert torch.equal(Candidates.cat([candidates[0], candidates[1:]]).l1, candidates.l1)
    notes = candidates.provenance(1)
    assert (notes["exact"], notes["inexact_because"]) == ("false", "learned degradation")
    assert torch.equal(unpack_noise(notes[NOISE]), candidates.latents[NOISE][1])
    with pytest.raises(InputError, match="damaged"):
        unpack_noise(pack_noise(torch.zeros(3)) + "!")
    with pytest.raises(InputError, match="exact cannot be true with a learned degradation"):
        Candidates(
            images=candidates.images, seeds=(0, 1, 2), lr=photo, degradation=Learned(camera), error=candidates.error,
            exact=torch.ones(3, dtype=torch.bool), moved=candidates.moved, error_before=candidates.error,
            steps=candidates.steps, method="x",
        )  # fmt: skip


@pytest.mark.parametrize("which", ["progan", "stylegan2"])
def test_through_a_linear_downscaling_the_saved_files_are_exact(which, progan, tiny_prior, tiny_lr, tmp_path):
    (candidates,) = SRNAM(prior=progan if which == "progan" else tiny_prior).upsample(
        tiny_lr, [0, 3], "bicubic", **QUICK
    )
    assert candidates.exact.all()
    assert candidates.l1 is None
    assert candidates.inexact_because == ""
    for i, picture in enumerate(candidates.images):
        save_png(tmp_path / f"{i}.png", picture)
        with Image.open(tmp_path / f"{i}.png") as saved:
            small = saved.resize((4, 4), Image.Resampling.BICUBIC)
        assert small.tobytes() == to_uint8(tiny_lr).permute(1, 2, 0).numpy().tobytes()
    assert torch.equal(downscale_saved(to_uint8(candidates.images), bicubic(16, lr_size=4))[0], to_uint8(tiny_lr))


def test_a_style_prior_is_searched_in_w_with_one_row(tiny_prior, camera, photo):
    candidates = found(tiny_prior, camera, photo)
    rows = candidates.latents["latents"]
    assert torch.equal(rows, rows[:, :1].expand_as(rows))
    (untied,) = SRNAM(prior=tiny_prior).upsample(photo, [0], camera, tied=False, **QUICK)
    assert (untied.latents["latents"][:, 0] - untied.latents["latents"][:, 1]).abs().max() > 1e-3


def test_pulse_searches_through_a_learned_degradation_too(tiny_prior, camera, photo):
    pulse = Pulse(prior=tiny_prior)
    (candidates,) = pulse.upsample(photo, [0, 1], camera, **QUICK)
    assert not candidates.exact.any()
    varied = pulse.steer(candidates, 0, {"noise": 1.0}, [5, 6])
    assert torch.equal(varied.latents[NOISE], candidates.latents[NOISE][:1].expand(2, -1))
    assert not varied.exact.any()
    again = learned_error(camera, varied.images, photo, varied.latents[NOISE])[0]
    torch.testing.assert_close(varied.l1, again)


def test_larger_priors_are_reduced_to_the_network_and_wrong_sizes_are_refused(progan, tiny_prior, camera, photo):
    large = torch.rand(2, 3, 32, 32)
    by_hand = camera(nn.functional.avg_pool2d(large, 2), None)
    torch.testing.assert_close(apply_learned(camera, large, None), by_hand, rtol=1e-4, atol=1e-5)
    assert isinstance(camera, LearnedDegradation)
    assert not isinstance(bicubic(16, lr_size=4), LearnedDegradation)
    with pytest.raises(OperatorError, match=r"picture is 5x5, but camera makes 4x4 .*--size 4.*--degradation bicubic"):
        SRNAM(prior=progan).upsample(torch.zeros(3, 5, 5), [0], camera)
    with pytest.raises(OperatorError, match=r"degrades 16x16 pictures, but these are 8x8"):
        apply_learned(camera, torch.zeros(1, 3, 8, 8), None)
    with pytest.raises(OperatorError, match="answers to linear ones only"):
        next(load("bicubic", resolution=16).upsample(photo, [0], camera))
    with pytest.raises(OperatorError, match="there is no degradation 'rust'"):
        SRNAM(prior=progan).upsample(photo, [0], "rust")


def test_settings_that_cannot_be_are_refused(progan, camera, photo):
    for wrong in ({"loss": "l3"}, {"degradation_noise": "loud"}, {"patience": -1}):
        with pytest.raises(MethodError, match=next(iter(wrong))):
            SRNAM(prior=progan).upsample(photo, [0], camera, **wrong)
    paper = SRNAM.presets["paper"]
    assert (paper.lr, paper.steps, paper.optimiser, paper.schedule) == (1e-3, 500, "adam", "fixed")
    assert (paper.loss, paper.sphere, paper.eps, paper.geocross) == ("l1", False, 0.0, 0.0)
    assert SRNAM.capabilities.default_degradation == "degradation-gan"


@pytest.fixture(scope="module")
def files(progan, tmp_path_factory):
    """A prior and a degradation as files, and a folder with a photo."""
    folder = tmp_path_factory.mktemp("nam")
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = DegradationGAN(DegradationGANConfig(16, 4, 8, (8, 8, 8), (8,)), "tiny-degradation").eval()
    save_prior(folder / "degradation.safetensors", network, {})
    save_prior(folder / "prior.safetensors", progan, {})
    (folder / "photos").mkdir()
    save_png(folder / "photos" / "face.png", torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0)))
    return folder


def test_the_command_line_end_to_end(files, tmp_path, capsys):
    out, network = tmp_path / "out", files / "degradation.safetensors"
    command = ["upsample", str(files / "photos"), "-o", str(out), "--method", "sr-nam", "--device", "cpu"]
    command += ["--prior", str(files / "prior.safetensors"), "--degradation", str(network), "--seeds", "0-1"]
    assert main([*command, "--method.steps", "5", "--method.lr", "0.1"]) == 0
    assert "none of them exact" in capsys.readouterr().out
    settings = read_yaml(out / "run.yaml")
    assert (settings["method"]["name"], settings["method"]["steps"], settings["method"]["loss"]) == ("sr-nam", 5, "l1")
    assert settings["degradation"] == str(network)
    lines = read_jsonl(out / "summary.jsonl")
    assert [line["exact"] for line in lines] == [False, False]
    assert all(line["inexact_because"] == "learned degradation" and line["l1"] > 0 for line in lines)
    assert main(["verify", str(out)]) == 0
    told = capsys.readouterr().out
    assert "nothing to prove" in told
    assert "byte for byte" not in told
    mean = sum(line["l1"] for line in lines) / 2
    assert f"{mean:.2f} grey levels" in told

    judged = evaluate_folder(out, progress=False)
    assert judged.method.estimates["lr-l1"].mean == pytest.approx(mean, abs=1e-3)
    assert "exact" not in judged.method.estimates
    assert "no exact candidates" in judged.missing["exact"]
    assert judged.method.shown[0].by == "lr-l1"

    saved = out / "face" / "seed0001.png"
    notes, picture = read_provenance(saved), read_image(saved).pixels
    save_png(saved, 1 - picture, notes)
    assert main(["verify", str(out)]) == 1
    assert "seed0001.png: its degraded picture misses" in capsys.readouterr().err
    other = json.loads(notes["degradation"]) | {"sha256": "0" * 16}
    save_png(saved, picture, notes | {"degradation": json.dumps(other)})
    assert main(["verify", str(out)]) == 1
    assert "another network" in capsys.readouterr().err


def test_the_command_line_says_which_photos_do_not_fit(files, tmp_path, capsys):
    save_png(tmp_path / "five.png", 0.4 + 0.2 * torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(2)))
    command = ["upsample", str(tmp_path / "five.png"), "-o", str(tmp_path / "out"), "--method", "sr-nam", "--prior"]
    command += [str(files / "prior.safetensors"), "--method.steps", "2", "--degradation"]
    assert main([*command, str(files / "degradation.safetensors")]) == 1
    assert "preimage degrade --size 4" in capsys.readouterr().err
    assert main([*command, "bicubic", "--overwrite"]) == 0
    assert read_jsonl(tmp_path / "out" / "summary.jsonl")[0]["exact"]
    assert not math.isnan(read_jsonl(tmp_path / "out" / "summary.jsonl")[0]["error_before"])
