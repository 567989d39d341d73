"""Layers against formulas written a second time, in the papers' form."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from preimage.nets.layers import (
    EqualConv2d,
    EqualLinear,
    ModulatedConv2d,
    channels_last,
    fir,
    fir_kernel,
    fold,
    pixel_norm,
    upsample2,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def zero_insertion(x: torch.Tensor, kernel: torch.Tensor, pad: tuple[int, int], up: int = 1) -> torch.Tensor:
    """Upsample by zeros, pad, filter by shifted sums: the definition of "upfirdn", one tap at a time."""
    n, c, h, w = x.shape
    z = x.new_zeros(n, c, h * up, w * up)
    z[:, :, ::up, ::up] = x
    z = F.pad(z, (*pad, *pad))
    height, width = z.shape[2] - 3, z.shape[3] - 3
    flipped = kernel.flip(0, 1)
    return sum(flipped[i, j] * z[:, :, i : i + height, j : j + width] for i in range(4) for j in range(4))


# ----------------------------------------------------------------------------------------------------------- filters


@pytest.mark.parametrize("gain", [1.0, 4.0])
def test_kernel_sums_to_its_gain(gain):
    kernel = fir_kernel(gain)
    assert float(kernel.sum()) == pytest.approx(gain)
    assert torch.equal(kernel, kernel.flip(0))
    assert torch.equal(kernel, kernel.t())
    assert float(kernel[1, 1] / kernel[0, 0]) == pytest.approx(9)


def test_fir_is_the_sum_over_its_taps():
    x = torch.randn(2, 3, 7, 9)
    assert torch.allclose(fir(x, fir_kernel(), padding=(2, 1)), zero_insertion(x, fir_kernel(), (2, 1)), atol=1e-6)
    whole = fir(x, fir_kernel(), padding=1)
    assert torch.allclose(fir(x, fir_kernel(), padding=1, stride=2), whole[:, :, ::2, ::2], atol=1e-6)


def test_upsample_is_zero_insertion_and_keeps_constants_inside():
    x = torch.randn(2, 3, 5, 6)
    assert torch.allclose(upsample2(x, fir_kernel(4.0)), zero_insertion(x, fir_kernel(4.0), (2, 1), up=2), atol=1e-6)
    flat = upsample2(torch.full((1, 2, 6, 6), 0.7), fir_kernel(4.0))
    assert flat.shape == (1, 2, 12, 12)
    assert torch.allclose(flat[:, :, 1:-1, 1:-1], torch.tensor(0.7))


def test_pixel_norm_gives_unit_mean_square():
    x = pixel_norm(torch.randn(5, 64) * 30)
    assert torch.allclose(x.square().mean(1), torch.ones(5), atol=1e-5)
    assert bool(torch.isfinite(pixel_norm(torch.zeros(2, 4))).all())


# -------------------------------------------------------------------------------------------------- equalised layers


@pytest.mark.parametrize("multiplier", [1.0, 0.01])
def test_equal_linear(multiplier):
    layer = EqualLinear(12, 5, bias=1.0, lr_multiplier=multiplier)
    x = torch.randn(3, 12)
    assert torch.allclose(layer.bias, torch.tensor(1 / multiplier))
    expected = x @ layer.weight.t() * (multiplier / math.sqrt(12)) + 1.0
    assert torch.allclose(layer(x), expected, atol=1e-5)
    active = EqualLinear(12, 5, lr_multiplier=multiplier, activate=True)
    linear = x @ active.weight.t() * (multiplier / math.sqrt(12))
    assert torch.allclose(active(x), torch.where(linear > 0, linear, 0.2 * linear) * math.sqrt(2), atol=1e-5)


def test_equal_linear_keeps_variance_at_the_start():
    for multiplier in (1.0, 0.01):
        y = EqualLinear(256, 512, lr_multiplier=multiplier)(torch.randn(512, 256))
        assert float(y.detach().var()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("down", [False, True])
def test_equal_conv(size, down):
    layer = EqualConv2d(4, 6, size, down=down, activate=False)
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 4, 10, 10)
    weight = layer.weight / math.sqrt(4 * size * size)
    if down:  # blur at full size, then take every second pixel of the convolution
        pad = {1: (1, 1), 3: (2, 2)}[size]
        expected = F.conv2d(zero_insertion(x, fir_kernel(), pad), weight, layer.bias)[:, :, ::2, ::2]
    else:
        expected = F.conv2d(F.pad(x, (size // 2,) * 4), weight, layer.bias)
    assert expected.shape[-1] == (5 if down else 10)
    assert torch.allclose(layer(x), expected, atol=1e-5)
    layer.activate = True
    assert torch.allclose(layer(x), F.leaky_relu(expected, 0.2) * math.sqrt(2), atol=1e-5)
    assert EqualConv2d(4, 6, size, bias=False).bias is None


# ---------------------------------------------------------------------------------------------- modulated convolution


def modulated_per_sample(layer: ModulatedConv2d, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """The paper's form (StyleGAN2, equations 1 and 3): one kernel per picture, in one grouped convolution."""
    n, c, height, width = x.shape
    out, _, k, _ = layer.weight.shape
    style = w @ layer.affine.weight.t() / math.sqrt(w.shape[1]) + layer.affine.bias
    kernel = layer.weight[None] * style[:, None, :, None, None] / math.sqrt(c * k * k)
    if layer.demodulate:
        kernel = kernel * (kernel.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    x = x.reshape(1, n * c, height, width)
    if layer.up:
        y = F.conv_transpose2d(x, kernel.transpose(1, 2).reshape(n * c, out, k, k), stride=2, groups=n)
        assert y.shape[-1] == 2 * width + 1
        return zero_insertion(y.view(n, out, *y.shape[2:]), fir_kernel(4.0), (1, 1))
    return F.conv2d(x, kernel.reshape(n * out, c, k, k), padding=k // 2, groups=n).view(n, out, height, width)


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize(("size", "up"), [(1, False), (3, False), (3, True)])
def test_scale_input_form_equals_modulated_kernels(demodulate, size, up):
    layer = ModulatedConv2d(8, 5, size, 16, demodulate=demodulate, up=up)
    torch.nn.init.normal_(layer.affine.bias, 1.0, 0.5)
    x, w = torch.randn(3, 8, 6, 6), torch.randn(3, 16)
    got = layer(x, w)
    assert got.shape == (3, 5, 12, 12) if up else (3, 5, 6, 6)
    assert torch.allclose(got, modulated_per_sample(layer, x, w), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("up", [False, True])
def test_demodulated_output_has_unit_variance(up):
    layer = ModulatedConv2d(64, 48, 3, 32, up=up)
    x, w = torch.randn(8, 64, 32, 32), torch.randn(8, 32) * 3  # strong styles
    layer.requires_grad_(False)
    inside = layer(x, w)[:, :, 2:-2, 2:-2]
    expected = 1.0 if not up else float(layer(x[:1], w[:1])[:, :, 2:-2, 2:-2].var())  # the filter correlates pixels
    assert float(inside.var()) == pytest.approx(expected, rel=0.1)
    plain = ModulatedConv2d(64, 48, 3, 32, demodulate=False)(x, w)
    assert float(plain.detach().var()) > 3


def test_gradients_are_finite_also_for_a_dead_style():
    layer = ModulatedConv2d(4, 4, 3, 8, up=True)
    torch.nn.init.zeros_(layer.affine.bias)
    x, w = torch.randn(2, 4, 4, 4, requires_grad=True), torch.zeros(2, 8, requires_grad=True)
    layer(x, w).square().sum().backward()
    for grad in (x.grad, w.grad, *(p.grad for p in layer.parameters())):
        assert grad is not None
        assert bool(torch.isfinite(grad).all())


@pytest.mark.parametrize("up", [False, True])
def test_bf16_autocast_stays_close(up):
    layer = ModulatedConv2d(32, 32, 3, 16, up=up).requires_grad_(False)
    x, w = torch.randn(2, 32, 8, 8), torch.randn(2, 16)
    exact = layer(x, w)
    with torch.autocast("cpu", torch.bfloat16):
        rough = layer(x.bfloat16(), w)
    assert rough.dtype == torch.bfloat16
    assert float((rough.float() - exact).square().mean().sqrt() / exact.std()) < 0.02


def test_channels_last_changes_the_layout_only():
    layer = EqualConv2d(4, 6, 3)
    x = torch.randn(1, 4, 5, 5)
    before = layer(x)
    channels_last(layer)
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(layer(x), before, atol=1e-6)


def test_folded_kernels_make_the_same_pictures(tiny_prior):
    folded = copy.deepcopy(tiny_prior)
    fold(folded)
    latents = tiny_prior.mean_latent + torch.randn(2, *tiny_prior.latent_shape)
    noise = [torch.randn(2, 1, side, side) for side in tiny_prior.noise_sizes]
    assert torch.equal(folded.synthesize(latents, noise), tiny_prior.synthesize(latents, noise))
    assert folded.state_dict().keys() == tiny_prior.state_dict().keys()
    layer = ModulatedConv2d(3, 4, 3, 5)
    layer.fold()
    x, w = torch.randn(1, 3, 8, 8), torch.randn(1, 5)
    before = layer(x, w)
    with torch.no_grad():
        layer.weight.add_(1)
    plain = ModulatedConv2d(3, 4, 3, 5)
    plain.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x, w), plain(x, w))  # a change is seen
    assert not torch.equal(layer(x, w), before)
    layer.fold()
    assert torch.equal(layer(x, w), plain(x, w))
    cast = EqualConv2d(3, 4, 3)
    cast.fold()
    expected = cast(x)
    torch.testing.assert_close(cast.double()(x.double()).float(), expected, rtol=1e-4, atol=1e-4)
