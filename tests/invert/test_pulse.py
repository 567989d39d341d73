"""PULSE as a method: contract, presets, batches, fine noise, user's own priors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from preimage.candidates import Candidates
from preimage.degrade.consistency import downscale_saved
from preimage.degrade.linear import area, bicubic
from preimage.errors import InputError, MethodError, OperatorError
from preimage.generate.prior import Prior
from preimage.image import to_uint8
from preimage.invert.pulse import Pulse
from preimage.invert.registry import METHODS, list_methods, load
from preimage.invert.search_settings import SearchSettings

QUICK = {"steps": 15}


def test_candidates_are_exact_and_say_how_they_came_about(tiny_prior, tiny_lr):
    batches = list(Pulse(prior=tiny_prior, batch=3).upsample(tiny_lr, [4, 0, 9, 2], **QUICK))
    assert [len(b) for b in batches] == [3, 1]
    candidates = Candidates.cat(batches)
    assert candidates.seeds == (4, 0, 9, 2)
    assert candidates.images.shape == (4, 3, 16, 16)
    assert candidates.exact.all()
    assert candidates.error.max() == 0
    shrunk = downscale_saved(to_uint8(candidates.images), bicubic(16, lr_size=4))
    assert torch.equal(shrunk, to_uint8(tiny_lr).expand(4, -1, -1, -1))
    assert (candidates.error_before > 0).all()
    assert (candidates.moved > 0).all()
    assert candidates.method == "pulse"
    assert candidates.prior == "tiny"
    assert (candidates.steps <= 15).all()
    assert (candidates.images[0] - candidates.images[1]).abs().mean() > 1e-3


def test_the_same_seed_gives_the_same_picture_in_any_batch_and_order(tiny_prior, tiny_lr):
    def pictures(batch, seeds):
        parts = list(Pulse(prior=tiny_prior, batch=batch).upsample(tiny_lr, seeds, **QUICK))
        return dict(zip(seeds, Candidates.cat(parts).images, strict=True))

    one, many = pictures(1, [0, 1, 2]), pictures(8, [2, 0, 1])
    for seed in (0, 1, 2):
        assert (one[seed] - many[seed]).abs().max() <= 2 / 255  # float rounding may flip a grey level


def test_presets_hold_the_paper_and_our_best():
    assert Pulse.presets["paper"] == SearchSettings()
    assert Pulse.presets["default"].stop > 0
    with pytest.raises(MethodError, match="pulse has paper, default"):
        Pulse(prior="ignored", preset="best")


def test_another_operator_is_answered_exactly_too(tiny_prior):
    lr = torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(0)).mul(160).add(40).round() / 255
    (candidates,) = Pulse(prior=tiny_prior).upsample(lr, [0, 1], "area", **QUICK)
    assert candidates.exact.all()
    assert torch.equal(downscale_saved(to_uint8(candidates.images), area(16, lr_size=5))[0], to_uint8(lr))


def test_fine_noise_varies_detail_and_keeps_the_latent(tiny_prior, tiny_lr):
    pulse = Pulse(prior=tiny_prior, preset="paper")
    (found,) = pulse.upsample(tiny_lr, [0, 1], **QUICK)
    varied = pulse.steer(found, 1, {"noise": 1.0}, [0, 1, 2])
    assert varied.exact.all()
    assert torch.equal(varied.latents["latents"], found.latents["latents"][1:].expand(3, -1, -1))
    apart = (varied.images[0] - varied.images[1]).abs().mean()
    assert 0 < apart < (found.images[0] - found.images[1]).abs().mean()
    (plain,) = load("bicubic", resolution=16).upsample(tiny_lr, [0])
    with pytest.raises(MethodError, match="no latents"):
        pulse.steer(plain, 0, {"noise": 1.0}, [0])


class Decoder(nn.Module):
    """A user's own prior: a linear decoder without noise inputs."""

    name, resolution, latent_shape, spaces, noise_sizes = "mine", 16, (2, 8), ("W", "W+"), ()

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 3 * 256, generator=torch.Generator().manual_seed(0)) * 0.05)
        self.mean_latent = torch.zeros(8)
        self.gaussian_fit = torch.zeros(8), torch.ones(8)

    def synthesize(self, latents, noise=None):
        return (0.5 + latents.flatten(1) @ self.weight).view(-1, 3, 16, 16)

    def sample(self, seeds, truncation=1.0):
        raise NotImplementedError


def test_any_module_that_meets_the_contract_is_a_prior(tiny_lr):
    assert isinstance(Decoder(), Prior)
    (candidates,) = Pulse(prior=Decoder()).upsample(tiny_lr, [0, 1], **QUICK)
    assert candidates.exact.all()
    assert candidates.prior == "mine"
    with pytest.raises(MethodError, match="Linear is not a prior"):
        Pulse(prior=nn.Linear(2, 2))


def test_photos_that_do_not_fit_get_a_clear_answer(tiny_prior, tiny_lr):
    pulse = Pulse(prior=tiny_prior)
    with pytest.raises(OperatorError, match=r"6x4.*square faces"):
        pulse.upsample(torch.zeros(3, 4, 6), [0])
    with pytest.raises(OperatorError, match="nothing to imagine"):
        pulse.upsample(torch.zeros(3, 16, 16), [0])
    with pytest.raises(OperatorError, match="operator goes from"):
        pulse.upsample(tiny_lr, [0], bicubic(32, lr_size=4))
    with pytest.raises(InputError, match="NaN"):
        pulse.upsample(torch.full((3, 4, 4), float("nan")), [0])
    with pytest.raises(InputError):
        pulse.upsample(tiny_lr * 255, [0])
    with pytest.raises(MethodError, match="unknown control"):
        pulse.upsample(tiny_lr, [0], stps=3)


def test_bicubic_is_one_exact_answer(tiny_lr):
    (candidates,) = load("bicubic", resolution=16).upsample(tiny_lr, [4, 5])
    assert candidates.exact.all()
    assert candidates.seeds == (4,)
    with pytest.raises(MethodError, match="unknown control steps; there are none"):
        list(load("bicubic", resolution=16).upsample(tiny_lr, [0], steps=3))


def test_the_registry_says_what_each_method_can_do():
    assert (
        list_methods() == list(METHODS) == ["pulse", "bicubic", "sr-nam", "posterior", "ssrvae", "pro-pulse", "deepsee"]
    )
    assert Pulse.capabilities.prior
    assert Pulse.capabilities.many
    with pytest.raises(MethodError, match="there are pulse, bicubic"):
        load("magic")
