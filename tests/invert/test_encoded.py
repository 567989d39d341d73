"""Searches that begin at what an encoder writes: pulse and sr-nam, by a setting or by `--start pro-pulse`."""

from __future__ import annotations

import pytest
import torch

from preimage.candidates import Candidates
from preimage.cli import main
from preimage.degrade.linear import bicubic
from preimage.errors import MethodError, WeightsError
from preimage.files import read_yaml, save_png
from preimage.generate.cascade import join
from preimage.generate.flow import Flow, FlowConfig
from preimage.generate.prior import w_to_sphere
from preimage.invert.encoded import encoded, find_encoder, noise_maps, resampled
from preimage.invert.nam import SRNAM
from preimage.invert.problem import Problem
from preimage.invert.pulse import Pulse
from preimage.invert.queue import Ask, Row
from preimage.nets.conditional import ConditionalConfig, ConditionalGenerator
from preimage.upsampling import split_controls
from preimage.weight_files import save_prior


def rows_of(lr, prior, seeds):
    side = prior.resolution
    ask = Ask(Problem(lr, bicubic(side, lr_size=lr.shape[-1]), side), seeds)
    return [Row(ask, i) for i in range(len(seeds))]


def test_what_is_written_for_a_photo_and_its_seeds(tiny_prior, tiny_encoder, tiny_lr):
    at = encoded(tiny_prior, tiny_encoder, rows_of(tiny_lr, tiny_prior, [4, 0, 9]))
    assert torch.equal(at["latents"], tiny_encoder(tiny_lr[None]).expand(3, -1, -1))
    own = tiny_prior.noise([4, 0, 9])
    for i in range(5):
        assert torch.equal(at[f"noise{i}"], torch.zeros_like(own[i]) if i < 3 else own[i])
    assert all(torch.equal(a, at[f"noise{i}"]) for i, a in enumerate(noise_maps(tiny_prior, [4, 0, 9], 3)))


def test_seeds_move_fine_rows_towards_a_w_of_their_own(tiny_prior, tiny_encoder, tiny_lr):
    rows = rows_of(tiny_lr, tiny_prior, [4, 0, 9])
    plain = encoded(tiny_prior, tiny_encoder, rows)["latents"]
    moved = encoded(tiny_prior, tiny_encoder, rows, fine=4, share=0.5, spread=0.6)["latents"]
    assert torch.equal(moved[:, :4], plain[:, :4])
    assert (moved[0, 4:] - moved[1, 4:]).abs().max() > 1e-3
    alone = encoded(tiny_prior, tiny_encoder, rows_of(tiny_lr, tiny_prior, [9]), fine=4, share=0.5, spread=0.6)
    torch.testing.assert_close(alone["latents"][0], moved[2])
    whole = resampled(tiny_prior, plain, [4, 0, 9], 1.0, 0.6)  # nothing is left of what was written
    assert torch.allclose(whole, whole[:, :1].expand(-1, 6, -1), atol=1e-5)
    mean, std = tiny_prior.gaussian_fit
    u = w_to_sphere(whole, mean, std)
    assert float(u.square().mean().sqrt()) == pytest.approx(0.6, rel=0.3)


def test_a_photo_of_another_size_is_a_beginning_too(tiny_prior, tiny_encoder):
    lr = torch.rand(3, 8, 8).mul(255).round() / 255
    (found,) = Pulse(prior=tiny_prior, device="cpu").upsample(lr, [0], steps=2)
    begun = encoded(tiny_prior, tiny_encoder, rows_of(lr, tiny_prior, [0]))
    assert begun["latents"].shape == found.latents["latents"].shape


@pytest.mark.parametrize("method", [Pulse, SRNAM])
def test_a_search_begins_there(method, tiny_prior, tiny_encoder, encoder_file, tiny_lr):
    chosen = method(prior=tiny_prior, device="cpu", batch=2)
    controls = {"steps": 1, "encoder": str(encoder_file), "encoder_share": 0.0}
    found = Candidates.cat(list(chosen.upsample(tiny_lr, [4, 0, 9], "bicubic", **controls)))
    wanted = find_encoder(str(encoder_file))(tiny_lr[None])
    wanted = wanted[:, :1].expand(-1, 6, -1) if method is SRNAM else wanted
    torch.testing.assert_close(found.latents["latents"], wanted.expand(3, -1, -1), rtol=1e-3, atol=1e-4)
    controls["encoder_share"] = 0.5
    apart = Candidates.cat(list(chosen.upsample(tiny_lr, [4, 0, 9], "bicubic", **controls)))
    assert (apart.latents["latents"][0] - apart.latents["latents"][1]).abs().max() > 1e-3
    assert bool(apart.exact.all())
    assert "encoder_sha256" in chosen.describe(chosen.configure(controls))
    assert "encoder_sha256" not in chosen.describe()


def test_latents_to_go_on_from_go_before_it(tiny_prior, encoder_file, tiny_lr):
    method = Pulse(prior=tiny_prior, device="cpu")
    (first,) = method.upsample(tiny_lr, [0], steps=3)
    plain, told = (
        next(method.sample(method.pose(tiny_lr), [0], method.configure({"steps": 3} | more), at=first.latents))
        for more in ({}, {"encoder": str(encoder_file)})
    )
    assert torch.equal(plain.images, told.images)


def test_what_does_not_fit(tmp_path, tiny_prior, tiny_encoder, tiny_stylegan, encoder_file, tiny_lr):
    method = Pulse(prior=tiny_prior, device="cpu")
    with pytest.raises(MethodError, match=r"start and encoder .* both say where to begin"):
        method.configure({"encoder": str(encoder_file)}, guides=["start"])
    with pytest.raises(WeightsError, match=r"belongs to the prior tiny .*cannot work with tiny"):
        Pulse(prior=tiny_stylegan, device="cpu").configure({"encoder": str(encoder_file)})
    save_prior(tmp_path / "free.safetensors", tiny_encoder, {})
    with pytest.raises(
        MethodError, match="writes 6 codes of 16 numbers for pictures of 16 pixels, but tiny takes 6 of 14"
    ):
        Pulse(prior=tiny_stylegan, device="cpu").configure({"encoder": str(tmp_path / "free.safetensors")})
    save_prior(tmp_path / "prior.safetensors", tiny_prior, {})
    with pytest.raises(WeightsError, match="not an encoder"):
        method.configure({"encoder": str(tmp_path / "prior.safetensors")})
    with pytest.raises(MethodError, match="writes no latents"):
        find_encoder(tiny_prior)


def test_the_word_in_the_place_of_a_picture(tiny_prior):
    method = Pulse(prior=tiny_prior, device="cpu")
    assert split_controls(method, {"start": "pro-pulse", "encoder": "", "steps": 3}) == (
        {},
        {"encoder": "pro-pulse", "steps": 3},
    )
    assert split_controls(method, {"encoder": "", "start": "a.png"}) == ({"start": "a.png"}, {"encoder": ""})
    assert split_controls(method, {"start": "", "steps": 3}) == ({}, {"steps": 3})


def test_the_command(tmp_path, tiny_prior, encoder_file, monkeypatch):
    save_prior(tmp_path / "prior.safetensors", tiny_prior, {}, dtype=torch.float32)
    monkeypatch.setattr("preimage.weights.default_network", lambda kind, family="": str(encoder_file))
    save_png(tmp_path / "small.png", torch.rand(3, 4, 4))
    call = [
        "upsample",
        str(tmp_path / "small.png"),
        "-o",
        str(tmp_path / "out"),
        "--prior",
        str(tmp_path / "prior.safetensors"),
    ]
    assert main([*call, "--method", "pulse", "--start", "pro-pulse", "--seeds", "0-1", "--method.steps", "2"]) == 0
    about = read_yaml(tmp_path / "out" / "run.yaml")
    assert about["method"]["encoder"] == "pro-pulse"
    assert "encoder_sha256" in about["method"]
    assert "guides" not in about


@pytest.fixture(scope="module")
def flowing():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape = FlowConfig(
            resolution=16, w_dim=192, widths=(8, 16), blocks=(1, 1), embedding=8, heads=2, times=(1, 0.5, 0)
        )
        second = ConditionalConfig(resolution=32, width=8, channels=(4,), w_dim=6, z_outline=2, z_detail=3)
        flow = Flow(shape).requires_grad_(False)
        for p in flow.parameters():
            p.add_(0.03 * torch.randn_like(p))
        flow.synthesis.calibrate(0.4 + 0.2 * torch.rand(64, 3, 16, 16))
        return join(flow.eval(), ConditionalGenerator(second).eval(), "flowing").requires_grad_(False)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_search_begins_at_the_latents_of_the_photo(flowing, share):
    """Its first picture already shrinks to the photo, for every seed; seeds differ in the rows and noise behind."""
    photo = (0.4 + 0.2 * torch.rand(3, 16, 16)).mul(255).round() / 255
    method = Pulse(prior=flowing, device="cpu", batch=3)
    controls = {"steps": 1, "encoder": "inverse", "encoder_share": share}
    found = Candidates.cat(list(method.upsample(photo, [4, 0, 9], "bicubic", **controls)))
    assert float(found.error_before.max()) < 0.05  # grey levels
    assert bool(found.exact.all())
    latents = found.latents["latents"]
    assert torch.equal(latents[0, :4], latents[1, :4])
    assert bool(latents[:, 4:].any()) == bool(share)
    assert (found.images[0] - found.images[1]).abs().max() > 1e-3
    assert "encoder_sha256" not in method.describe(method.configure(controls))
    assert split_controls(method, {"start": "inverse"}) == ({}, {"encoder": "inverse"})


def test_other_sizes_begin_there_too(flowing):
    method = Pulse(prior=flowing, device="cpu")
    photo = (0.4 + 0.2 * torch.rand(3, 8, 8)).mul(255).round() / 255
    (found,) = method.upsample(photo, [0], "bicubic", steps=2, encoder="inverse")
    assert bool(found.exact.all())


def test_priors_that_cannot_be_inverted_say_so(tiny_prior):
    with pytest.raises(MethodError, match="tiny: cannot be inverted, for it does not begin with a flow"):
        Pulse(prior=tiny_prior, device="cpu").configure({"encoder": "inverse"})
