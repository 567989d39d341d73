"""StyleGAN2: published shapes, sizes, names and forward pass; styles act where they should. The rest: test_style_prior.py."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from preimage.errors import WeightsError
from preimage.generate.stylegan2 import StyleGAN2, StyleGAN2Config

TINY = StyleGAN2Config(resolution=16, channel_base=128, channel_max=12, z_dim=10, w_dim=14, mapping_layers=3)
FACES64 = StyleGAN2Config(64, 3072, 192, 192, 192, 4)
FACES128 = StyleGAN2Config(128, 4096, 256, 256, 256, 4)


@pytest.fixture(scope="module")
def prior(random_style_prior) -> StyleGAN2:
    return random_style_prior(TINY, StyleGAN2)


def count(config: StyleGAN2Config) -> int:
    """Parameters of mapping and synthesis, layer by layer, from the paper's description."""
    w, total = config.w_dim, 0
    for i in range(config.mapping_layers):
        total += (config.z_dim if i == 0 else w) * w + w
    side, before = 4, 0
    while side <= config.resolution:
        c = min(config.channel_base // side, config.channel_max)
        total += c * 16 if side == 4 else (w * before + before) + before * c * 9 + c + 1
        total += (w * c + c) + c * c * 9 + c + 1
        total += (w * c + c) + c * 3 + 3
        side, before = 2 * side, c
    return total


# ------------------------------------------------------------------------------------------------------------- shapes


def test_config_f_at_1024():
    config = StyleGAN2Config(1024)
    assert config.rows == 18
    assert config.resolutions == (4, 8, 16, 32, 64, 128, 256, 512, 1024)
    assert config.noise_sizes == (4, 8, 8, 16, 16, 32, 32, 64, 64, 128, 128, 256, 256, 512, 512, 1024, 1024)
    widths = {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64, 1024: 32}
    assert {side: config.channels(side) for side in config.resolutions} == widths


@pytest.mark.parametrize(
    ("config", "published"),
    [(StyleGAN2Config(1024), 30_370_060), (StyleGAN2Config(256, 16384), 24_767_458), (TINY, None)],
)
def test_published_parameter_count(config, published):
    with torch.device("meta"):
        generator = StyleGAN2(config)
    found = sum(p.numel() for p in generator.parameters())
    assert found == count(config)
    if published:
        assert found == published


@pytest.mark.parametrize(
    ("config", "millions", "gigaflops"), [(FACES64, 2.53, 0.80), (FACES128, 4.56, 1.89)], ids=["faces64", "faces128"]
)
def test_size_and_work_of_the_shipped_shapes(config, millions, gigaflops):
    generator = StyleGAN2(config).requires_grad_(False)
    assert sum(p.numel() for p in generator.parameters()) == count(config) == pytest.approx(millions * 1e6, rel=0.01)
    with FlopCounterMode(display=False) as counter:
        generator.synthesize(torch.zeros(1, config.rows, config.w_dim))
    # by hand: 3x3 convolutions, of which the transposed ones work at their input's size, and two operations a product
    work = 4**2 * config.channels(4) ** 2
    for side in config.resolutions[1:]:
        work += side**2 * config.channels(side) ** 2 + (side // 2) ** 2 * config.channels(side // 2) * config.channels(
            side
        )
    assert counter.get_total_flops() == pytest.approx(2 * 9 * work, rel=0.05)  # the rest: filters, toRGB, styles
    assert counter.get_total_flops() == pytest.approx(gigaflops * 1e9, rel=0.02)


def test_names_are_the_published_ones():
    expected = {"mapping.w_avg", "synthesis.b4.const", "fit_mean", "fit_std"}
    expected |= {f"mapping.fc{i}.{p}" for i in range(3) for p in ("weight", "bias")}
    for side in (4, 8, 16):
        for layer in ("conv1",) if side == 4 else ("conv0", "conv1"):
            parts = ("weight", "bias", "noise_strength", "affine.weight", "affine.bias")
            expected |= {f"synthesis.b{side}.{layer}.{p}" for p in parts}
        expected |= {f"synthesis.b{side}.torgb.{p}" for p in ("weight", "bias", "affine.weight", "affine.bias")}
    state = StyleGAN2(TINY).state_dict()
    assert set(state) == expected
    shapes = {k: tuple(v.shape) for k, v in state.items()}
    assert shapes["mapping.fc0.weight"] == (14, 10)
    assert shapes["synthesis.b4.const"] == (12, 4, 4)
    assert shapes["synthesis.b16.conv0.weight"] == (8, 12, 3, 3)
    assert shapes["synthesis.b16.conv0.affine.weight"] == (12, 14)
    assert shapes["synthesis.b16.conv1.noise_strength"] == ()
    assert shapes["synthesis.b16.torgb.weight"] == (3, 8, 1, 1)


# ------------------------------------------------------------------------------------------------------- forward pass


def blur(x: torch.Tensor, pad: tuple[int, int]) -> torch.Tensor:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4  # per axis; gain 2 each
    kernel = torch.outer(taps, taps).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(x, (*pad, *pad)), kernel, groups=x.shape[1])


def reference(
    state: dict[str, torch.Tensor],
    sides: tuple[int, ...],
    ws: torch.Tensor,
    noise: list[torch.Tensor],
    clamp: float = math.inf,
):
    """The published forward pass for one latent, from a state dict: modulated kernels, skip pictures, in [-1, 1]."""

    def conv(x, name, w, up=False, rgb=False):
        weight, affine = state[f"{name}.weight"], state[f"{name}.affine.weight"]
        style = affine @ w / math.sqrt(len(w)) + state[f"{name}.affine.bias"]
        kernel = weight * style[None, :, None, None] / math.sqrt(weight[0].numel())
        if not rgb:
            kernel = kernel * (kernel.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).rsqrt()
        if up:
            return blur(F.conv_transpose2d(x, kernel.transpose(0, 1), stride=2), (1, 1))
        return F.conv2d(x, kernel, padding=weight.shape[-1] // 2)

    def layer(x, name, k, row, up=False):
        x = conv(x, name, ws[row], up) + noise[k] * state[f"{name}.noise_strength"]
        x = F.leaky_relu(x + state[f"{name}.bias"][:, None, None], 0.2) * math.sqrt(2)
        return x.clamp(-clamp, clamp)

    def rgb(x, name, row):
        return (conv(x, name, ws[row], rgb=True) + state[f"{name}.bias"][:, None, None]).clamp(-clamp, clamp)

    x = layer(state["synthesis.b4.const"][None], "synthesis.b4.conv1", 0, 0)
    picture = rgb(x, "synthesis.b4.torgb", 1)
    pictures = [picture]
    for j, side in enumerate(sides[1:]):
        name = f"synthesis.b{side}"
        x = layer(x, f"{name}.conv0", 2 * j + 1, 2 * j + 1, up=True)
        x = layer(x, f"{name}.conv1", 2 * j + 2, 2 * j + 2)
        spread = picture.new_zeros(*picture.shape[:2], side, side)
        spread[:, :, ::2, ::2] = picture
        picture = blur(spread, (2, 1)) + rgb(x, f"{name}.torgb", 2 * j + 3)
        pictures.append(picture)
    return pictures


def test_forward_equals_the_published_one(prior):
    torch.manual_seed(1)
    ws = torch.randn(2, TINY.rows, TINY.w_dim)
    noise = [torch.randn(2, 1, s, s) for s in TINY.noise_sizes]
    got = prior.synthesis(ws, noise)
    for i in range(2):
        expected = reference(prior.state_dict(), TINY.resolutions, ws[i], [m[i : i + 1] for m in noise])
        for a, b in zip(got, expected, strict=True):
            assert torch.allclose(a[i : i + 1], b, atol=2e-5), a.shape


def test_clamped_forward_equals_the_published_one(prior):
    clamped = StyleGAN2(replace(TINY, conv_clamp=0.7)).requires_grad_(False)
    clamped.load_state_dict(prior.state_dict())
    torch.manual_seed(1)
    ws, noise = torch.randn(1, TINY.rows, TINY.w_dim), [torch.randn(1, 1, s, s) for s in TINY.noise_sizes]
    got = clamped.synthesis(ws, noise)
    for a, b in zip(got, reference(prior.state_dict(), TINY.resolutions, ws[0], noise, 0.7), strict=True):
        assert torch.allclose(a, b, atol=2e-5), a.shape
    assert not torch.allclose(got[-1], prior.synthesis(ws, noise)[-1], atol=0.1)
    half = clamped.synthesis(ws, noise, torch.bfloat16)[-1]
    assert (half - got[-1]).abs().mean() < 0.05
    loose = StyleGAN2(replace(TINY, conv_clamp=1e300)).requires_grad_(False)  # beyond what float32 holds
    loose.load_state_dict(prior.state_dict())
    assert torch.equal(loose.synthesis(ws, noise)[-1], prior.synthesis(ws, noise)[-1])


@pytest.mark.parametrize("clamp", [0, -1.0, math.nan, math.inf, pytest.param(10**400, id="huge"), True, "256", [256]])
def test_clamps_that_cannot_be(clamp):
    with pytest.raises(WeightsError, match=r"StyleGAN2 conv_clamp .*: must be a finite number above 0, or None"):
        StyleGAN2Config(conv_clamp=clamp)


def test_mapping_equals_its_formula(prior):
    z = torch.randn(4, TINY.z_dim)
    w = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
    for i in range(3):
        weight, bias = prior.state_dict()[f"mapping.fc{i}.weight"], prior.state_dict()[f"mapping.fc{i}.bias"]
        w = F.leaky_relu(w @ weight.t() * (0.01 / math.sqrt(w.shape[1])) + 0.01 * bias, 0.2) * math.sqrt(2)
    assert torch.allclose(prior.mapping(z), w, atol=1e-5)
    assert torch.allclose(prior.mapping(z * 7), w, atol=1e-5)  # only the direction of z counts


def test_side_outputs(prior):
    latents = prior.latents([0, 1])
    sides = prior.side_outputs(latents)
    assert {side: tuple(rgb.shape) for side, rgb in sides.items()} == {s: (2, 3, s, s) for s in (4, 8, 16)}
    assert torch.equal(sides[16], prior.synthesize(latents))
    assert torch.equal(prior(latents), prior.synthesize(latents))


# ----------------------------------------------------------------------------------------------------------- locality


@pytest.mark.parametrize("row", range(6))
def test_a_row_changes_only_what_comes_after_it(prior, row):
    # rows 0, 1: conv and toRGB at 4; 1, 2, 3: both convs and toRGB at 8; 3, 4, 5: at 16
    first = {0: 4, 1: 4, 2: 8, 3: 8, 4: 16, 5: 16}[row]
    latents = prior.latents([0]).clone()
    before = prior.side_outputs(latents)
    latents[:, row] += torch.randn(TINY.w_dim, generator=torch.Generator().manual_seed(row))
    after = prior.side_outputs(latents)
    for side in (4, 8, 16):
        assert torch.equal(before[side], after[side]) == (side < first), side
