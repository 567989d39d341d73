"""Modulation region by region: what a style reaches, what the fast form equals, what is published."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from preimage.nets.region_blocks import NoiseInjection, RegionBlock, RegionNorm, painted, resized

REGIONS, STYLE = 4, 5


@pytest.fixture
def labels() -> torch.Tensor:
    """Two maps 16x16: region 1 is a square, region 3 is nowhere in the first."""
    found = torch.zeros(2, 16, 16, dtype=torch.long)
    found[:, 4:9, 5:12] = 1
    found[:, 12:] = 2
    found[1, :2, :2] = 3
    return found


@pytest.fixture
def mask(labels) -> torch.Tensor:
    return F.one_hot(labels, REGIONS).permute(0, 3, 1, 2).float()


def random_norm(kind, **more) -> RegionNorm:
    torch.manual_seed(0)
    norm = RegionNorm(6, REGIONS, 5, STYLE, kind, **more)
    for p in norm.parameters():
        nn.init.normal_(p, std=0.3)
    return norm.eval()


def near(labels: torch.Tensor, region: int, pixels: int) -> torch.Tensor:
    """Where the region is, or no further than so many pixels away (in squares)."""
    inside = (labels == region).float()[:, None]
    return F.max_pool2d(inside, 2 * pixels + 1, 1, pixels)[:, 0] > 0


def test_a_painted_map_is_never_made(mask):
    torch.manual_seed(0)
    layer = nn.Conv2d(STYLE, 7, 3, padding=1)
    style = torch.randn(2, REGIONS, STYLE)
    drawn = torch.einsum("nkhw,nkd->ndhw", mask, style)
    assert torch.allclose(painted(mask, style, layer), layer(drawn), atol=1e-5)
    soft = torch.softmax(torch.randn(2, REGIONS, 16, 16), 1)
    assert torch.allclose(painted(soft, style, layer), layer(torch.einsum("nkhw,nkd->ndhw", soft, style)), atol=1e-5)


@pytest.mark.parametrize("kind", ["both", "style"])
def test_a_style_reaches_its_region_and_one_pixel_around_it(kind, labels, mask):
    norm, x, style = random_norm(kind), torch.randn(2, 6, 16, 16), torch.randn(2, REGIONS, STYLE)
    other = style.clone()
    other[:, 1] += 1
    off = (norm(x, mask, other) - norm(x, mask, style)).abs().amax(1)
    assert not off[~near(labels, 1, 1)].any()
    assert bool((off[labels == 1] > 0).all())


@pytest.mark.parametrize("kind", ["both", "style"])
def test_the_style_of_a_region_that_is_not_there_has_no_effect(kind, mask):
    norm, x, style = random_norm(kind), torch.randn(2, 6, 16, 16), torch.randn(2, REGIONS, STYLE)
    other = style.clone()
    other[:, 3] -= 2
    off = (norm(x, mask, other) - norm(x, mask, style)).abs().amax((1, 2, 3))
    assert off.tolist()[0] == 0
    assert off.tolist()[1] > 0


def test_one_block_reaches_three_pixels_further(labels, mask):
    """Two modulations and two convolutions; what is beyond keeps its value to the last bit."""
    torch.manual_seed(0)
    block = RegionBlock(6, (REGIONS, 5, STYLE, "both", 256, False)).eval()
    for p in block.parameters():
        nn.init.normal_(p, std=0.3)
    x, style = torch.randn(2, 6, 16, 16), torch.randn(2, REGIONS, STYLE)
    other = style.clone()
    other[:, 1] += 1
    off = (block(x, mask, other) - block(x, mask, style)).abs().amax(1)
    assert not off[~near(labels, 1, 3)].any()
    inside, outside = off[labels == 1].mean(), off[labels != 1].mean()
    assert inside.item() > 5 * outside.item()


def test_the_mixture_is_learned(mask):
    norm, x, style = random_norm("both"), torch.randn(2, 6, 16, 16), torch.randn(2, REGIONS, STYLE)
    with torch.no_grad():
        norm.mix.fill_(40)  # all style
        by_style = random_norm("style")
        by_style.by_style.load_state_dict(norm.by_style.state_dict())
        assert torch.allclose(norm(x, mask, style), by_style(x, mask, style) + norm.norm(x), atol=1e-5)
        norm.mix.fill_(-40)  # all regions
        assert torch.allclose(norm(x, mask, style), norm(x, mask, style * 0), atol=1e-5)


def test_the_legacy_form_listens_to_regions(mask):
    norm, x = random_norm("style", legacy=True), torch.randn(2, 6, 16, 16)
    assert norm.shared.weight.shape[:2] == (5, REGIONS)
    assert torch.equal(norm(x, mask, torch.ones(2, REGIONS, STYLE)), norm(x, mask, None))
    assert not hasattr(random_norm("style"), "shared")


def test_masks_beyond_the_cap_are_enlarged(mask):
    norm, style = random_norm("both"), torch.randn(2, REGIONS, STYLE)
    x = torch.randn(2, 6, 32, 32)
    small, large = resized(mask, (16, 16)), resized(mask, (32, 32))
    a, b = norm(x, small, style), norm(x, large, style)
    assert a.shape == b.shape == x.shape
    by_style = random_norm("style")
    assert torch.equal(by_style(x, small, style), by_style(x, large, style))


def test_masks_shrink_softly(mask):
    soft = resized(mask, (4, 4), soft=True)
    assert torch.allclose(soft.sum(1), torch.ones(2, 4, 4))
    assert torch.allclose(soft, F.avg_pool2d(mask, 4))
    hard = resized(mask, (4, 4))
    assert torch.equal(hard, mask[:, :, ::4, ::4])
    assert torch.equal(resized(mask, (32, 32), soft=True), mask.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_noise_only_in_training():
    noise, x = NoiseInjection(3), torch.zeros(400, 3, 4, 4)
    assert torch.equal(noise(x), x)
    nn.init.constant_(noise.strength, 0.5)
    assert float(noise.train()(x).std()) == pytest.approx(0.5, rel=0.05)
    assert torch.equal(noise.eval()(x), x)


def test_everything_in_a_block_learns(mask):
    for spectral in (True, False):
        block = RegionBlock(6, (REGIONS, 5, STYLE, "both", 256, False), noise=True, spectral=spectral)
        made = block(torch.randn(2, 6, 16, 16), mask, torch.randn(2, REGIONS, STYLE))
        assert made.shape == (2, 6, 16, 16)
        made.square().mean().backward()
        assert all(p.grad is not None for p in block.parameters())
