"""Discriminators: statistics by hand, published sizes, and what is fixed stays fixed."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from preimage.nets.discriminators import (
    FixedMix,
    ProjectedDiscriminator,
    StyleGAN2Discriminator,
    minibatch_stddev,
    patch_head,
)
from preimage.nets.features import FeatureNetwork


class TinyFeatures(FeatureNetwork):
    """Two taps, of 4 and 6 channels, at a half and a quarter of the size."""

    taps = ("a", "b")
    channels = (4, 6)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1)

    def forward(self, x):
        first = F.relu(self.a(x))
        return [first, F.relu(self.b(first))]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def projected() -> ProjectedDiscriminator:
    network = TinyFeatures().eval().requires_grad_(False)
    return ProjectedDiscriminator(network, size=32, width=8, pixel_width=4, resolution=16)


# ------------------------------------------------------------------------------------------------------- StyleGAN2's


def test_minibatch_stddev_of_identical_pictures_is_zero():
    x = torch.randn(1, 5, 4, 4).expand(8, -1, -1, -1)
    y = minibatch_stddev(x)
    assert y.shape == (8, 6, 4, 4)
    assert torch.equal(y[:, :5], x)
    assert torch.allclose(y[:, 5], torch.full((8, 4, 4), 1e-4), atol=1e-6)  # the square root of its epsilon


@pytest.mark.parametrize(("n", "group"), [(8, 4), (4, 4), (6, 2), (3, 1), (12, 4)])
def test_minibatch_stddev_by_hand(n, group):
    x = torch.randn(n, 3, 4, 4)
    feature = minibatch_stddev(x)[:, 3]
    for first in range(n // group):
        members = range(first, n, n // group)  # group g holds pictures g, g + n/group, …
        spread = 0.0
        for c in range(3):
            for i in range(4):
                for j in range(4):
                    values = [float(x[m, c, i, j]) for m in members]
                    mean = sum(values) / group
                    spread += math.sqrt(sum((v - mean) ** 2 for v in values) / group + 1e-8)
        for m in members:
            assert torch.allclose(feature[m], torch.tensor(spread / 48), atol=1e-5)


def published_count(resolution: int, base: int, most: int = 512) -> int:
    """Parameters of StyleGAN2's residual discriminator, layer by layer."""

    def c(side):
        return min(base // side, most)

    total, side = 3 * c(resolution) + c(resolution), resolution
    while side > 4:
        a, b = c(side), c(side // 2)
        total += a * a * 9 + a + a * b * 9 + b + a * b
        side //= 2
    total += (c(4) + 1) * c(4) * 9 + c(4) + 16 * c(4) * c(4) + c(4) + c(4) + 1
    return total


@pytest.mark.parametrize(
    ("resolution", "base", "published"), [(1024, 32768, 29_012_513), (256, 32768, 28_864_129), (256, 16384, 24_001_089)]
)
def test_published_size(resolution, base, published):
    assert published_count(resolution, base) == published
    with torch.device("meta"):
        d = StyleGAN2Discriminator(resolution, base)
    assert sum(p.numel() for p in d.parameters()) == published


def test_stylegan2_scores_and_gradient():
    d = StyleGAN2Discriminator(16, 128, 16)
    x = torch.rand(4, 3, 16, 16, requires_grad=True)
    (inside,) = d.project(x)
    assert torch.allclose(inside, x * 2 - 1)
    (scores,) = d([inside])
    assert scores.shape == (4, 1)
    assert scores.dtype == torch.float32
    scores.sum().backward()
    assert float(x.grad.abs().sum()) > 0
    assert bool(torch.isfinite(x.grad).all())


# --------------------------------------------------------------------------------------------------------- projected


def test_network_is_neither_saved_nor_trained(projected):
    x = torch.rand(3, 3, 16, 16, requires_grad=True)
    scores = projected(projected.project(x))
    assert len(scores) == 3  # two taps and the pixels
    assert all(s.shape[0] == 3 and s.ndim == 2 for s in scores)
    torch.stack([s.mean() for s in scores]).sum().backward()
    assert float(x.grad.abs().sum()) > 0  # one backward reaches the picture
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in projected.parameters())
    assert all(p.grad is None for p in projected.network.parameters())
    of_network = {id(p) for p in projected.network.parameters()}
    assert not of_network & {id(p) for p in projected.parameters()}
    shapes = [tuple(p.shape) for p in projected.network.parameters()]
    assert not any("network" in key for key in projected.state_dict())
    assert (4, 3, 3, 3) in shapes


def test_mixes_are_buffers_that_are_saved_and_restored(projected):
    assert not any("mix" in name for name, _ in projected.named_parameters())
    saved = {k: v.clone() for k, v in projected.state_dict().items()}
    for i in range(2):
        assert {f"mix.mix{i}", f"mix.across{i}", f"mix.spread{i}"} <= set(saved)
    x = torch.rand(2, 3, 16, 16)
    before = projected.project(x)
    with torch.no_grad():
        for buffer in projected.mix.buffers():
            buffer.add_(1.0)
    assert not torch.allclose(projected.project(x)[0], before[0])
    projected.load_state_dict(saved)
    assert all(torch.equal(a, b) for a, b in zip(projected.project(x), before, strict=True))


def test_mixes_are_the_same_in_every_process():
    torch.manual_seed(1)
    one = FixedMix((4, 6), 8).state_dict()
    torch.manual_seed(2)
    two = FixedMix((4, 6), 8).state_dict()
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_calibration_measures_the_spread_of_each_tap(projected):
    real = torch.rand(5, 3, 16, 16)
    projected.calibrate(real)
    large = F.interpolate(real, size=(32, 32), mode="bilinear")
    for i, tap in enumerate(projected.network(large)):
        assert float(getattr(projected.mix, f"spread{i}")) == pytest.approx(float(tap.std()), rel=1e-5)


def test_mix_goes_top_down():
    mix = FixedMix((4, 6), 8)
    fine, coarse = torch.randn(1, 4, 8, 8), torch.randn(1, 6, 4, 4)
    top = F.conv2d(F.conv2d(coarse, mix.mix1), mix.across1)
    below = (F.conv2d(fine, mix.mix0) + top.repeat_interleave(2, 2).repeat_interleave(2, 3)) / math.sqrt(2)
    got = mix([fine, coarse])
    assert torch.allclose(got[0], F.conv2d(below, mix.across0), atol=1e-5)
    assert torch.allclose(got[1], top, atol=1e-6)


def test_pixel_head_can_be_left_out():
    d = ProjectedDiscriminator(TinyFeatures().requires_grad_(False), 32, 8, 0, 16)
    assert d.pixel_head is None
    assert len(d(d.project(torch.rand(2, 3, 16, 16)))) == 2


@pytest.mark.parametrize("pixel_width", [0, 4])
def test_a_residual_one_beside_the_heads(pixel_width):
    """It is one more head, on the picture as a whole, and alone has its slopes penalised."""
    residual = StyleGAN2Discriminator(16, 128, 16)
    d = ProjectedDiscriminator(TinyFeatures().requires_grad_(False), 32, 8, pixel_width, 16, residual)
    x = torch.rand(4, 3, 16, 16)
    scores = d(d.project(x))
    assert len(scores) == 3 + bool(pixel_width)
    assert torch.allclose(scores[-1], residual(residual.project(x))[0], atol=1e-5)
    (penalised,) = d.penalised(x)
    assert torch.allclose(penalised, scores[-1], atol=1e-5)
    (alone,) = residual.penalised(x)
    assert torch.allclose(alone, penalised, atol=1e-5)
    assert any(key.startswith("residual.") for key in d.state_dict())
    heads = ProjectedDiscriminator(TinyFeatures().requires_grad_(False), 32, 8, pixel_width, 16)
    assert len(heads.penalised(x)) == 2 + bool(pixel_width)


@pytest.mark.parametrize(("side", "places"), [(8, 8), (12, 12), (16, 8), (63, 8), (64, 8), (31, 8)])
def test_patch_head_strides_down_to_about_eight(side, places):
    assert patch_head(4, side, 8)(torch.rand(1, 4, side, side)).shape == (1, 1, places, places)
