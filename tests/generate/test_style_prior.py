"""What every style-based prior does: one seed, one picture; truncation, fit and noise; files, precision, export; PULSE."""

from __future__ import annotations

import pytest
import torch

from preimage.degrade.consistency import downscale_saved
from preimage.degrade.linear import bicubic
from preimage.errors import WeightsError
from preimage.generate.prior import Prior
from preimage.generate.style_prior import StylePrior
from preimage.generate.stylegan import StyleGAN, StyleGANConfig
from preimage.generate.stylegan2 import StyleGAN2, StyleGAN2Config
from preimage.image import to_uint8
from preimage.invert.pulse import Pulse
from preimage.weight_files import ARCHITECTURES, save_prior
from preimage.weights import load_prior

SIDES = {"stylegan": (4, 4, 8, 8, 16, 16), "stylegan2": (4, 8, 8, 16, 16)}  # of the noise maps
FAMILIES = {"stylegan": (StyleGAN, StyleGANConfig), "stylegan2": (StyleGAN2, StyleGAN2Config)}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def prior(family, random_style_prior) -> StylePrior:
    kind, config = family
    return random_style_prior(config(16, 128, 12, z_dim=10, w_dim=14, mapping_layers=3), kind)


@pytest.mark.parametrize("resolution", [0, -8, 4, 48, 100, 2048])
def test_resolutions_that_do_not_exist(family, resolution):
    kind, config = family
    with pytest.raises(WeightsError, match=rf"^{kind.__name__} resolution .*power of two from 8 to 1024"):
        config(resolution)


def test_which_rows_shape_a_picture_of_a_side(prior):
    """Changing the rows behind them changes larger pictures only."""
    assert [prior.rows_up_to(side) for side in (2, 4, 8, 16, 64)] == [0, 2, 4, 6, 6]
    latents = prior.latents([0])
    for side in (4, 8):
        other = latents.clone()
        other[:, prior.rows_up_to(side) :] += 1.0
        plain, changed = ({x.shape[-1]: x for x in prior.synthesis(w, None, None)} for w in (latents, other))
        assert all(torch.equal(plain[k], changed[k]) == (k <= side) for k in plain)


# -------------------------------------------------------------------------------------------------------------- seeds


def test_same_seed_same_picture(prior):
    together = prior.sample([3, 7, 1])
    assert together.shape == (3, 3, 16, 16)
    assert float(together.min()) >= 0
    assert float(together.max()) <= 1
    for row, seed in enumerate([3, 7, 1]):
        assert torch.allclose(prior.sample([seed])[0], together[row], atol=1e-5)
    assert torch.allclose(prior.sample([1, 3, 7])[[1, 2, 0]], together, atol=1e-5)
    assert torch.equal(prior.sample([3, 7, 1]), together)
    assert not torch.allclose(together[0], together[1], atol=0.05)


def test_global_randomness_does_not_matter(prior):
    torch.manual_seed(1)
    one = prior.sample([0])
    torch.manual_seed(2)
    assert torch.equal(prior.sample([0]), one)


def test_truncation_moves_towards_the_mean_latent(prior):
    full, half, none = (prior.latents([0, 5], t) for t in (1.0, 0.5, 0.0))
    assert torch.allclose(none, prior.mean_latent.expand_as(none), atol=1e-6)
    assert torch.allclose(half, (full + none) / 2, atol=1e-6)
    assert full.shape == (2, *prior.latent_shape)
    assert torch.equal(full[:, 0], full[:, -1])


def test_mean_latent_and_fit_describe_the_mapping(prior):
    w = prior.mapping(torch.randn(20_000, 10, generator=torch.Generator().manual_seed(9)))
    assert torch.allclose(prior.mean_latent, w.mean(0), atol=0.05)
    v = torch.where(w < 0, w * 5, w)
    mean, std = prior.gaussian_fit
    assert torch.allclose(mean, v.mean(0), atol=0.15 * float(std.max()))
    assert torch.allclose(std, v.std(0), rtol=0.1)


def test_a_fresh_network_fits_itself_on_first_use(family):
    kind, config = family
    fresh = kind(config(8, 64, 8, 6, 6, 1))
    assert not bool(fresh.fit_std.any())
    assert bool((fresh.gaussian_fit[1] > 0).all())
    assert bool(fresh.mean_latent.any())


# ----------------------------------------------------------------------------------------------------- noise and rows


def test_noise_is_normal_and_has_its_own_streams(prior):
    maps = prior.noise(range(50))
    sides = SIDES[prior.architecture]
    assert prior.noise_sizes == sides
    assert [tuple(m.shape) for m in maps] == [(50, 1, s, s) for s in sides]
    assert float(maps[-1].std()) == pytest.approx(1, abs=0.03)
    assert not torch.equal(maps[-2], maps[-1])
    assert not torch.equal(prior.noise([0], "other")[0], maps[0][:1])


def test_noise_is_heard_and_none_is_silence(prior):
    latents = prior.latents([0])
    zeros = [torch.zeros(1, 1, s, s) for s in prior.noise_sizes]
    assert torch.allclose(prior.synthesize(latents), prior.synthesize(latents, zeros), atol=1e-6)
    assert not torch.allclose(prior.synthesize(latents), prior.synthesize(latents, prior.noise([0])), atol=1e-3)


def test_one_noise_map_serves_a_batch(prior):
    latents, noise = prior.latents([0, 1]), prior.noise([4])
    shared = prior.synthesize(latents, noise)
    for row in range(2):
        assert torch.allclose(prior.synthesize(latents[row : row + 1], noise)[0], shared[row], atol=1e-5)


def test_zero_strength_makes_noise_irrelevant(family):
    kind, config = family
    torch.manual_seed(0)
    silent = kind(config(16, 128, 12, 10, 14, 3)).requires_grad_(False)  # strengths start at zero
    latents = silent.latents([0])
    assert torch.equal(silent.synthesize(latents, silent.noise([1])), silent.synthesize(latents, silent.noise([2])))


def test_gradient_reaches_every_row_and_noise_map(prior):
    latents = prior.latents([0, 1]).clone().requires_grad_()
    noise = [m.requires_grad_() for m in prior.noise([0, 1])]
    prior.synthesize(latents, noise).square().sum().backward()
    assert bool((latents.grad.abs().sum(dim=2) > 0).all())
    assert bool(torch.isfinite(latents.grad).all())
    assert all(float(m.grad.abs().sum()) > 0 for m in noise)


# --------------------------------------------------------------------------------- contract, files, precision, export


def test_it_is_a_prior_and_its_metadata_rebuilds_it(prior, family):
    assert isinstance(prior, Prior)
    assert (prior.resolution, prior.spaces, prior.name) == (16, ("Z", "W", "W+"), "tiny")
    about = prior.metadata()
    again = ARCHITECTURES[about["architecture"]](about["config"], "again")
    assert type(again) is family[0]
    assert again.config == prior.config
    again.load_state_dict(prior.state_dict())
    assert torch.equal(again.sample([2]), prior.sample([2]))


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float16, 0.02), (torch.float32, 1e-6)])
def test_it_comes_back_from_a_file(prior, family, tmp_path, dtype, atol):
    save_prior(tmp_path / "a.safetensors", prior, {"images_seen": 0}, dtype=dtype)
    again = load_prior(tmp_path / "a.safetensors")
    assert type(again) is family[0]
    assert again.config == prior.config
    assert all(v.dtype == torch.float32 for v in again.state_dict().values())
    assert torch.allclose(again.sample([2]), prior.sample([2]), atol=atol)
    assert torch.allclose(again.gaussian_fit[1], prior.gaussian_fit[1], rtol=1e-3)


def test_bf16_stays_close(prior):
    latents, noise = prior.latents([0, 1]), prior.noise([0, 1])
    exact, rough = prior.synthesize(latents, noise), prior.synthesize(latents, noise, torch.bfloat16)
    assert rough.dtype == torch.float32
    assert float((rough - exact).square().mean().sqrt() / exact.std()) < 0.03


def test_exports(prior):
    latents, noise = prior.latents([0, 1]), prior.noise([0, 1])
    program = torch.export.export(prior, (latents, noise))
    assert torch.allclose(program.module()(latents, noise), prior.synthesize(latents, noise), atol=1e-5)


def test_pulse_searches_it_and_every_candidate_is_exact(prior):
    operator = bicubic(16, lr_size=4)
    lr = (operator(prior.sample([123]))[0].clamp(0, 1) * 255).round() / 255
    (candidates,) = Pulse(prior=prior).upsample(lr, [0, 1], steps=15)
    assert candidates.exact.all()
    shrunk = downscale_saved(to_uint8(candidates.images), operator)
    assert torch.equal(shrunk, to_uint8(lr).expand(2, -1, -1, -1))
    (short,) = Pulse(prior=prior).upsample(lr, [0, 1], steps=1)
    assert (candidates.error_before < short.error_before).all()  # the search, not the projection alone
    # PULSE's settings for StyleGAN: the last noise map is silent
    last = len(prior.noise_sizes) - 1
    controls = {"steps": 5, "trainable_noise": last, "silent_noise": (last,)}
    (silent,) = Pulse(prior=prior, preset="paper").upsample(lr, [0], **controls)
    assert silent.exact.all()
    assert not silent.latents[f"noise{last}"].any()
