"""StyleGAN: published shapes and counts; the published forward pass; one seed, one picture; PULSE through the same path."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from preimage.degrade.consistency import downscale_saved
from preimage.degrade.linear import bicubic
from preimage.errors import WeightsError
from preimage.generate.prior import Prior
from preimage.generate.stylegan import FUSED_FROM, StyledConv, StyleGAN, StyleGANConfig
from preimage.image import to_uint8
from preimage.invert.pulse import Pulse
from preimage.weights import load_prior, save_prior

TINY = StyleGANConfig(resolution=16, channel_base=128, channel_max=12, z_dim=10, w_dim=14, mapping_layers=3)
TALL = StyleGANConfig(resolution=128, channel_base=256, channel_max=4, z_dim=6, w_dim=6, mapping_layers=1)


def make(config: StyleGANConfig) -> StyleGAN:
    """Untrained, but with noise that is heard, and biases and a constant that are not trivial."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = StyleGAN(config, "tiny").eval().requires_grad_(False)
        for name, p in made.named_parameters():
            if name.endswith(("noise_strength", "bias", "const")):
                torch.nn.init.normal_(p, 0.0, 0.3 if name.startswith("synthesis") else 3.0)
    made.refit(2_000)
    return made


@pytest.fixture(scope="module")
def prior() -> StyleGAN:
    return make(TINY)


# ------------------------------------------------------------------------------------------------------------- shapes


def test_the_published_network_at_1024():
    config = StyleGANConfig()
    assert (config.resolution, config.rows, config.w_dim, config.mapping_layers) == (1024, 18, 512, 8)
    assert config.noise_sizes == tuple(2 ** (i // 2 + 2) for i in range(18))  # as PULSE's program counts them
    widths = {4: 512, 8: 512, 16: 512, 32: 512, 64: 256, 128: 128, 256: 64, 512: 32, 1024: 16}
    assert {side: config.channels(side) for side in config.resolutions} == widths


def test_published_parameter_count():
    # the layer table of the FFHQ network: side, width in (0: the constant), width out
    table = [(4, 0, 512), (8, 512, 512), (16, 512, 512), (32, 512, 512), (64, 512, 256), (128, 256, 128)]
    table += [(256, 128, 64), (512, 64, 32), (1024, 32, 16)]
    total = 8 * (512 * 512 + 512)  # mapping
    for _, before, width in table:
        end = width + width + (512 * 2 * width + 2 * width)  # bias, noise, style
        total += (before * width * 9 if before else width * 4 * 4) + end
        total += width * width * 9 + end
    total += 16 * 3 + 3  # RGB of the last size
    with torch.device("meta"):
        found = sum(p.numel() for p in StyleGAN(StyleGANConfig()).parameters())
    assert found == total == 26_212_019
    # its authors count 26,219,627: with the RGB layers of the smaller sizes, idle once the network has grown
    assert total + sum(width * 3 + 3 for side, _, width in table if side < 1024) == 26_219_627


@pytest.mark.parametrize("resolution", [0, -8, 4, 48, 2048])
def test_resolutions_that_do_not_exist(resolution):
    with pytest.raises(WeightsError, match=r"StyleGAN resolution .*power of two from 8 to 1024"):
        StyleGANConfig(resolution)


def test_names_and_shapes():
    state = {k: tuple(v.shape) for k, v in StyleGAN(TINY).state_dict().items()}
    layer = {"bias": (12,), "noise_strength": (12,), "affine.weight": (24, 14), "affine.bias": (24,)}
    assert {k: v for k, v in state.items() if k.startswith("synthesis.b4.")} == {
        "synthesis.b4.const": (12, 4, 4),
        "synthesis.b4.layer1.weight": (12, 12, 3, 3),
        **{f"synthesis.b4.layer{i}.{k}": v for i in (0, 1) for k, v in layer.items()},
    }
    assert state["synthesis.b16.layer0.weight"] == (8, 12, 3, 3)
    assert state["synthesis.torgb.weight"] == (3, 8, 1, 1)
    assert state["mapping.fc0.weight"] == (14, 10)
    assert {k for k in state if "." not in k} == {"fit_mean", "fit_std"}


# ------------------------------------------------------------------------------------------------------- forward pass


def enlarge(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The published up-convolution: nearest neighbour and a convolution below 128, the fused form from there on; blur."""
    side = 2 * x.shape[-1]
    if side < 128:
        x = F.conv2d(F.interpolate(x, size=(side, side), mode="nearest"), weight, padding=1)
    else:
        four = sum(F.pad(weight, (a, 1 - a, b, 1 - b)) for a in (0, 1) for b in (0, 1))
        x = F.conv_transpose2d(x, four.transpose(0, 1), stride=2, padding=1)
    blur = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    return F.conv2d(x, blur.expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])


def reference(state: dict[str, torch.Tensor], sides: tuple[int, ...], ws: torch.Tensor, noise: list[torch.Tensor]):
    """The published forward pass, layer by layer from a state dict, in [-1, 1]."""
    rows, maps, x = iter(ws.unbind(1)), iter(noise), None
    for side in sides:
        for k in (0, 1):
            name = f"synthesis.b{side}.layer{k}"
            if f"{name}.weight" in state:
                weight = state[f"{name}.weight"]
                weight = weight * math.sqrt(2 / weight[0].numel())  # equalised: He's gain at run time
                x = enlarge(x, weight) if k == 0 else F.conv2d(x, weight, padding=1)
            else:
                x = state["synthesis.b4.const"].expand(len(ws), -1, -1, -1)
            x = x + state[f"{name}.bias"][:, None, None] + next(maps) * state[f"{name}.noise_strength"][:, None, None]
            x = F.instance_norm(F.leaky_relu(x, 0.2))
            affine = state[f"{name}.affine.weight"]
            style = next(rows) @ affine.t() / math.sqrt(affine.shape[1]) + state[f"{name}.affine.bias"]
            scale, shift = style.view(len(ws), 2, -1, 1, 1).unbind(1)
            x = x * (scale + 1) + shift
    weight = state["synthesis.torgb.weight"]
    return F.conv2d(x, weight / math.sqrt(weight.shape[1]), state["synthesis.torgb.bias"])


@pytest.mark.parametrize("config", [TINY, TALL], ids=["tiny", "with a fused layer"])
def test_forward_equals_the_published_one(config):
    prior = make(config)
    torch.manual_seed(1)
    ws = torch.randn(2, config.rows, config.w_dim)
    noise = [torch.randn(2, 1, s, s) for s in config.noise_sizes]
    expected = (reference(prior.state_dict(), config.resolutions, ws, noise) + 1) / 2
    assert torch.allclose(prior.synthesize(ws, noise), expected, atol=1e-4)


def test_mapping_equals_its_formula(prior):
    z = torch.randn(4, TINY.z_dim)
    w = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
    for i in range(3):
        weight, bias = prior.state_dict()[f"mapping.fc{i}.weight"], prior.state_dict()[f"mapping.fc{i}.bias"]
        w = F.leaky_relu(w @ weight.t() * (math.sqrt(2 / w.shape[1]) * 0.01) + 0.01 * bias, 0.2)
    assert torch.allclose(prior.mapping(z), w, atol=1e-5)
    assert torch.allclose(prior.mapping(z * 7), w, atol=1e-5)  # only the direction of z counts


@pytest.mark.parametrize("side", [FUSED_FROM // 2, FUSED_FROM])
def test_the_two_enlargements_differ_by_half_a_turn_of_the_kernel(side):
    torch.manual_seed(0)
    x, one = torch.randn(1, 2, side // 2, side // 2), StyledConv(2, 3, 4, side).requires_grad_(False)
    other = StyledConv(2, 3, 4, FUSED_FROM if side < FUSED_FROM else FUSED_FROM // 2).requires_grad_(False)
    assert torch.allclose(one.enlarge(x), enlarge(x, one.weight * one.gain), atol=1e-5)
    other.weight.copy_(one.weight)
    assert not torch.allclose(one.enlarge(x), other.enlarge(x), atol=1e-2)
    other.weight.copy_(one.weight.flip(2, 3))
    assert torch.allclose(one.enlarge(x), other.enlarge(x), atol=1e-5)


def test_a_style_sets_mean_and_deviation_of_every_channel(prior):
    layer = prior.synthesis.b8.layer1
    w, x = torch.randn(2, TINY.w_dim), torch.randn(2, 12, 32, 32)
    scale, shift = layer.affine(w).chunk(2, dim=1)
    y = layer(x, w)
    assert torch.allclose(y.mean((2, 3)), shift, atol=1e-4)
    assert torch.allclose(y.std((2, 3), correction=0), (scale + 1).abs(), atol=1e-3)


# -------------------------------------------------------------------------------------------------------------- seeds


def test_same_seed_same_picture(prior):
    together = prior.sample([3, 7, 1])
    assert together.shape == (3, 3, 16, 16)
    assert float(together.min()) >= 0
    assert float(together.max()) <= 1
    for row, seed in enumerate([3, 7, 1]):
        assert torch.allclose(prior.sample([seed])[0], together[row], atol=1e-5)
    torch.manual_seed(5)
    assert torch.equal(prior.sample([3, 7, 1]), together)
    assert not torch.allclose(together[0], together[1], atol=0.05)


def test_truncation_moves_towards_the_mean_latent(prior):
    full, half, none = (prior.latents([0, 5], t) for t in (1.0, 0.5, 0.0))
    assert torch.allclose(none, prior.mean_latent.expand_as(none), atol=1e-6)
    assert torch.allclose(half, (full + none) / 2, atol=1e-6)
    assert full.shape == (2, *prior.latent_shape)


def test_mean_latent_and_fit_describe_the_mapping(prior):
    w = prior.mapping(torch.randn(20_000, TINY.z_dim, generator=torch.Generator().manual_seed(9)))
    assert torch.allclose(prior.mean_latent, w.mean(0), atol=0.05)
    v = torch.where(w < 0, w * 5, w)
    mean, std = prior.gaussian_fit
    assert torch.allclose(mean, v.mean(0), atol=0.15 * float(std.max()))
    assert torch.allclose(std, v.std(0), rtol=0.1)
    fresh = StyleGAN(StyleGANConfig(8, 64, 8, 6, 6, 1))
    assert bool((fresh.gaussian_fit[1] > 0).all())  # fits itself on first use
    assert bool(fresh.mean_latent.any())


# ----------------------------------------------------------------------------------------------------- noise and rows


def test_noise_is_heard_and_none_is_silence(prior):
    latents = prior.latents([0, 1])
    zeros = [torch.zeros(1, 1, s, s) for s in prior.noise_sizes]
    assert torch.allclose(prior.synthesize(latents), prior.synthesize(latents, zeros), atol=1e-6)
    maps = prior.noise([4])
    shared = prior.synthesize(latents, maps)
    assert not torch.allclose(prior.synthesize(latents), shared, atol=1e-3)
    for row in range(2):
        assert torch.allclose(prior.synthesize(latents[row : row + 1], maps)[0], shared[row], atol=1e-5)


def test_every_row_and_noise_map_matters_and_gets_a_gradient(prior):
    latents = prior.latents([0, 1]).clone().requires_grad_()
    noise = [m.requires_grad_() for m in prior.noise([0, 1])]
    prior.synthesize(latents, noise).square().sum().backward()
    assert bool((latents.grad.abs().sum(dim=2) > 0).all())
    assert bool(torch.isfinite(latents.grad).all())
    assert all(float(m.grad.abs().sum()) > 0 for m in noise)


# --------------------------------------------------------------------------------- contract, files, precision, export


def test_it_is_a_prior_and_comes_back_from_a_file(prior, tmp_path):
    assert isinstance(prior, Prior)
    assert (prior.resolution, prior.spaces, prior.name) == (16, ("Z", "W", "W+"), "tiny")
    save_prior(tmp_path / "a.safetensors", prior, {"images_seen": 0})
    again = load_prior(tmp_path / "a.safetensors")
    assert isinstance(again, StyleGAN)
    assert again.config == TINY
    assert torch.allclose(again.sample([2]), prior.sample([2]), atol=0.02)  # half precision
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
    (candidates,) = Pulse(prior).sample(lr, [0, 1], steps=15)
    assert candidates.exact.all()
    shrunk = downscale_saved(to_uint8(candidates.images), operator)
    assert torch.equal(shrunk, to_uint8(lr).expand(2, -1, -1, -1))
    (short,) = Pulse(prior).sample(lr, [0, 1], steps=1)
    assert (candidates.error_before < short.error_before).all()  # the search, not the projection alone
    # PULSE's settings for this network: the last noise map is silent
    (silent,) = Pulse(prior, preset="paper").sample(lr, [0], steps=5, silent_noise=(len(prior.noise_sizes) - 1,))
    assert silent.exact.all()
    assert not silent.latents["noise5"].any()
