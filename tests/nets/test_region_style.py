"""Styles of regions: means over areas, empty regions, both branches, noise."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from preimage.nets.region_style import StyleEncoder, StyleNoise, regional_pool


@pytest.fixture
def mask() -> torch.Tensor:
    labels = torch.zeros(1, 8, 8, dtype=torch.long)
    labels[:, 2:5, 1:4] = 1
    return F.one_hot(labels, 3).permute(0, 3, 1, 2).float()


def test_pooling(mask):
    features = torch.randn(1, 5, 8, 8)
    found = regional_pool(features, mask)
    assert torch.allclose(found[0, 1], features[0, :, 2:5, 1:4].mean((1, 2)), atol=1e-6)
    assert torch.allclose(regional_pool(features, mask, "image")[0, 1], found[0, 1] * 9 / 64, atol=1e-6)
    assert not found[0, 2].any()
    constant = torch.full((1, 5, 8, 8), 0.25)
    assert torch.allclose(regional_pool(constant, mask)[0, :2], torch.full((2, 5), 0.25))


def test_styles_of_small_and_of_sharp_pictures(mask):
    torch.manual_seed(0)
    encoder = StyleEncoder(style=6, width=2).eval()
    large = F.interpolate(mask, (32, 32), mode="nearest")
    for side, sharp, seen in ((8, False, 16), (32, True, 16)):
        taken = {}
        hook = encoder.shared.register_forward_hook(lambda _m, _i, out, taken=taken: taken.update(out=out))
        found = encoder(torch.rand(1, 3, side, side), large, sharp)
        hook.remove()
        assert taken["out"].shape[-1] == seen
        assert found.shape == (1, 3, 6)
        assert bool((found.abs() <= 1).all())
        assert not found[0, 2].any()
        assert found[0, :2].any(1).all()


def test_a_style_looks_at_its_region(mask):
    """Of the shared layer's outcome nothing but the region's own places counts."""
    features = torch.randn(1, 4, 8, 8)
    other = features.clone()
    other[mask[:, 1:2].expand_as(other) == 0] += 3
    assert torch.allclose(regional_pool(features, mask)[:, 1], regional_pool(other, mask)[:, 1])


def test_noise_is_bounded_and_learned():
    noise, style = StyleNoise(3), torch.zeros(500, 3, 4)
    found = noise(style, 0.2)
    assert 0.09 < float(found.abs().max()) <= 0.1  # a half of it at first
    assert float(found.std()) == pytest.approx(0.1 / 3**0.5, rel=0.05)
    assert float(noise(torch.ones(1, 3, 4), 1.0).max()) <= 1
    found.square().sum().backward()
    assert bool((noise.share.grad != 0).all())
