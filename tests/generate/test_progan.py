"""ProGAN: published shapes and sizes, growth, its latent sphere, and PULSE through the same code path."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from preimage.degrade.consistency import downscale_saved
from preimage.degrade.linear import bicubic
from preimage.errors import MethodError, WeightsError
from preimage.generate.prior import Prior
from preimage.generate.progan import LatentConv, ProGAN, ProGANConfig
from preimage.image import to_uint8
from preimage.invert.pulse import Pulse
from preimage.nets.layers import EqualConv2d
from preimage.seeds import normal
from preimage.weight_files import read_metadata, save_prior
from preimage.weights import load_prior

TINY = ProGANConfig(resolution=16, channel_base=128, channel_max=16, z_dim=12)


def made(config: ProGANConfig) -> ProGAN:
    """Untrained, but with biases that are not zero."""
    torch.manual_seed(0)
    prior = ProGAN(config, "tiny").eval().requires_grad_(False)
    for name, p in prior.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(p, 0.0, 0.3)
    return prior


@pytest.fixture(scope="module")
def prior() -> ProGAN:
    return made(TINY)


@pytest.fixture(scope="module")
def z() -> torch.Tensor:
    return torch.randn(3, TINY.z_dim, generator=torch.Generator().manual_seed(1))


def enlarged(pictures: torch.Tensor) -> torch.Tensor:
    return pictures.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


# ------------------------------------------------------------------------------------------------------------- shapes


def test_the_papers_widths():
    """Table 2 of Karras et al. (2018)."""
    widths = {4: 512, 8: 512, 16: 512, 32: 512, 64: 256, 128: 128, 256: 64, 512: 32, 1024: 16}
    config = ProGANConfig(1024)
    assert {side: config.channels(side) for side in config.resolutions} == widths
    assert config.depth == 9


def test_srnams_configuration():
    """SR-NAM, section 4.1: a depth of five sizes, 64x64 pictures, latent 512."""
    config = ProGANConfig()
    assert (config.depth, config.resolution, config.z_dim) == (5, 64, 512)
    assert [config.channels(side) for side in config.resolutions] == [512, 512, 512, 512, 256]


def count(z_dim: int, widths: list[int]) -> int:
    """Parameters layer by layer: 4x4 from the latent, 3x3, then two 3x3 for each further size, and a 1x1 to RGB each."""
    table = [(z_dim, widths[0], 4), (widths[0], widths[0], 3), (widths[0], 3, 1)]
    for before, width in pairwise(widths):
        table += [(before, width, 3), (width, width, 3), (width, 3, 1)]
    return sum(fan_in * out * size**2 + out for fan_in, out, size in table)


@pytest.mark.parametrize(
    ("config", "widths", "published"),
    [
        (ProGANConfig(1024), [512, 512, 512, 512, 256, 128, 64, 32, 16], 23.1e6),  # table 2, total
        (ProGANConfig(64), [512, 512, 512, 512, 256], None),
        (TINY, [16, 16, 8], None),
    ],
)
def test_parameter_count(config, widths, published):
    with torch.device("meta"):
        found = sum(p.numel() for p in ProGAN(config).parameters())
    assert found == count(config.z_dim, widths)
    if published:
        assert found == pytest.approx(published, abs=5e4)


@pytest.mark.parametrize("change", [{"resolution": 2}, {"resolution": 48}, {"resolution": 2048}, {"resolution": 0}])
def test_resolutions_that_do_not_exist(change):
    with pytest.raises(WeightsError, match="power of two from 4 to 1024"):
        replace(TINY, **change)


def test_alpha_is_a_share():
    with pytest.raises(WeightsError, match=r"alpha 1\.5"):
        replace(TINY, alpha=1.5)


# ------------------------------------------------------------------------------------------------------------- layers


def test_every_pixel_has_unit_mean_square_after_every_convolution(prior, z):
    seen = []
    layers = [layer for layer in prior.modules() if isinstance(layer, LatentConv | EqualConv2d)]
    hooks = [layer.register_forward_pre_hook(lambda _, args: seen.append(args[0])) for layer in layers]
    try:
        prior(z)
    finally:
        for hook in hooks:
            hook.remove()
    assert len(seen) == 2 * TINY.depth + 1
    for x in seen:
        assert torch.allclose(x.square().mean(dim=1), torch.ones(()), atol=1e-3)


def test_stored_weights_are_unit_and_the_rate_is_equalised():
    torch.manual_seed(0)
    prior = ProGAN(ProGANConfig(16, 1024, 64, 64))
    for name, p in prior.named_parameters():
        if name.endswith("weight"):
            assert float(p.detach().std()) == pytest.approx(1, abs=0.1)
        else:
            assert not p.any()
    scaled = (
        prior.blocks[1].conv0(torch.randn(8, 64, 8, 8)).square().mean().detach()
    )  # He's constant keeps the mean square
    assert float(scaled) == pytest.approx(1, abs=0.2)


def test_only_the_direction_of_a_latent_counts(prior, z):
    assert torch.allclose(prior(3 * z), prior(z), atol=1e-5)
    other = made(replace(TINY, normalise_latent=False))
    assert (other(3 * z) - other(z)).abs().mean() > 1e-3
    unit = z / z.square().mean(dim=1, keepdim=True).sqrt()
    assert torch.allclose(other(unit), prior(z), atol=1e-5)  # the same network apart from that


def test_normalising_the_first_layer_is_a_choice(prior, z):
    other = made(replace(TINY, normalise_first=False))
    first = prior.blocks[0].conv0(z)
    assert torch.allclose(other.blocks[0].conv0(z), first)
    assert (other(z) - prior(z)).abs().mean() > 1e-4


# ------------------------------------------------------------------------------------------------------------- growth


def test_pictures_of_every_depth(prior, z):
    assert [tuple(prior(z, depth).shape) for depth in (1, 2, 3)] == [(3, 3, 4, 4), (3, 3, 8, 8), (3, 3, 16, 16)]
    assert torch.equal(prior(z), prior(z, 3))


@pytest.mark.parametrize("depth", [2, 3])
def test_fade_in_starts_at_the_smaller_network_and_is_a_line(prior, z, depth):
    small, full = enlarged(prior(z, depth - 1)), prior(z, depth)
    assert torch.allclose(prior(z, depth, 0.0), small, atol=1e-6)
    assert torch.allclose(prior(z, depth, 1e-4), small, atol=1e-3)
    assert torch.allclose(prior(z, depth, 0.3), 0.7 * small + 0.3 * full, atol=1e-5)
    assert torch.allclose(prior(z, depth, 1 - 1e-6), full, atol=1e-4)


def test_the_first_size_has_nothing_to_fade_from(prior, z):
    assert torch.equal(prior(z, 1, 0.2), prior(z, 1))


@pytest.mark.parametrize(("depth", "alpha"), [(1, 1.0), (2, 0.4), (3, 1.0)])
def test_a_network_of_the_first_sizes(prior, z, depth, alpha):
    small = prior.at(depth, alpha)
    assert small.config == replace(TINY, resolution=4 << (depth - 1), alpha=alpha)
    assert torch.equal(small.synthesize(z[:, None]), prior(z, depth, alpha))
    assert small.name == prior.name
    assert not small.training


# -------------------------------------------------------------------------------------------------------------- prior


def test_contract(prior):
    assert isinstance(prior, Prior)
    assert prior.latent_shape == (1, 12)
    assert (prior.spaces, prior.noise_sizes, prior.resolution) == (("Z",), (), 16)
    mean, std = prior.gaussian_fit
    assert torch.equal(mean, torch.zeros(12))
    assert torch.equal(std, torch.ones(12))
    assert torch.equal(prior.mean_latent, mean)


def test_one_seed_one_picture(prior):
    together = prior.sample([5, 3, 9])
    assert together.shape == (3, 3, 16, 16)
    assert together.min() >= 0
    assert together.max() <= 1
    assert torch.allclose(prior.sample([9]), together[2:], atol=1e-6)
    assert torch.equal(prior.latents([5, 3]), normal([5, 3], (1, 12), "z"))
    assert (together[0] - together[1]).abs().mean() > 1e-3


def test_truncation_where_it_means_something(prior):
    with pytest.raises(MethodError, match=r"truncation 0\.7: tiny is a ProGAN"):
        prior.sample([0], truncation=0.7)
    other = made(replace(TINY, normalise_latent=False))
    assert torch.equal(other.latents([0], 0.5), other.latents([0]) / 2)
    assert (other.sample([0], 0.5) - other.sample([0])).abs().mean() > 1e-4


@pytest.mark.parametrize("config", [TINY, replace(TINY, alpha=0.25, normalise_latent=False, normalise_first=False)])
def test_file_and_back(tmp_path, config):
    prior, path = made(config), tmp_path / "progan.safetensors"
    save_prior(path, prior, {"images_seen": 3})
    assert read_metadata(path)["architecture"] == "progan"
    loaded = load_prior(path)
    assert isinstance(loaded, ProGAN)
    assert loaded.config == config
    assert torch.allclose(loaded.sample([0, 1]), prior.sample([0, 1]), atol=0.02)  # half precision


# -------------------------------------------------------------------------------------------------------------- PULSE


@pytest.fixture(scope="module")
def lr(prior) -> torch.Tensor:
    return (bicubic(16, lr_size=4)(prior.sample([123]))[0].clamp(0, 1) * 255).round() / 255


@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize("normalised", [True, False])
def test_pulse_walks_on_progans_own_sphere(prior, lr, preset, normalised):
    searched = prior if normalised else made(replace(TINY, normalise_latent=False))
    (found,) = Pulse(prior=searched, preset=preset, device="cpu").upsample(lr, [0, 1, 2], steps=15)
    assert found.exact.all()
    shrunk = downscale_saved(to_uint8(found.images), bicubic(16, lr_size=4))
    assert torch.equal(shrunk, to_uint8(lr).expand(3, -1, -1, -1))
    assert found.prior == "tiny"
    assert set(found.latents) == {"latents"}
    # no leaky ReLU in between: the latents are points of the spheres on which their seeds began
    radii = normal([0, 1, 2], (1, 12), "latent").norm(dim=-1)
    assert torch.allclose(found.latents["latents"].norm(dim=-1), radii, rtol=1e-4)
    (start,) = Pulse(prior=searched, preset=preset, device="cpu").upsample(lr, [0, 1, 2], steps=1)
    assert torch.allclose(start.latents["latents"], normal([0, 1, 2], (1, 12), "latent"), atol=1e-6)
    assert (found.error_before < start.error_before).all()


def test_no_noise_no_variants(prior, lr):
    pulse = Pulse(prior=prior, device="cpu")
    (found,) = pulse.upsample(lr, [0], steps=2)
    with pytest.raises(MethodError, match="pulse has no handles here"):
        pulse.steer(found, 0, {"noise": 1.0}, [0, 1])


def test_nearest_neighbour_growth(prior, z):
    """A block's first convolution sees 2x2 blocks of equal pixels, whatever interpolation would do."""
    seen = []
    hook = prior.blocks[1].conv0.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        prior(z)
    finally:
        hook.remove()
    assert torch.equal(seen[0], enlarged(F.avg_pool2d(seen[0], 2)))
