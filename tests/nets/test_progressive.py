"""The growing discriminator: published size, fade-in, minibatch statistics, and a slope of its slope."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from preimage.generate.progan import ProGAN, ProGANConfig
from preimage.nets.progressive import ProgressiveDiscriminator


@pytest.fixture
def judge() -> ProgressiveDiscriminator:
    """Up to 16x16, with biases that are not zero."""
    torch.manual_seed(0)
    made = ProgressiveDiscriminator(16, channel_base=128, channel_max=12)
    for name, p in made.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(p, 0.0, 0.3)
    return made


def count(widths: list[int]) -> int:
    """Parameters layer by layer, coarse to fine, after table 2 of Karras et al. (2018)."""
    c = widths[0]
    table = [(c + 1, c, 3), (c, c, 4), (c, 1, 1), (3, c, 1)]
    for below, width in pairwise(widths):
        table += [(3, width, 1), (width, width, 3), (width, below, 3)]
    return sum(fan_in * out * size**2 + out for fan_in, out, size in table)


@pytest.mark.parametrize(
    ("resolution", "widths", "published"),
    [
        (1024, [512, 512, 512, 512, 256, 128, 64, 32, 16], 23.1e6),  # table 2, total
        (64, [512, 512, 512, 512, 256], None),
    ],
)
def test_published_size(resolution, widths, published):
    with torch.device("meta"):
        made = ProgressiveDiscriminator(resolution)
    found = sum(p.numel() for p in made.parameters())
    assert found == count(widths)
    if published:
        assert found == pytest.approx(published, abs=5e4)


def test_mirrors_the_generator(judge):
    g = ProGAN(ProGANConfig(16, 128, 12, 8))
    assert [conv.weight.shape[0] for conv in judge.fromrgb] == [conv.weight.shape[1] for conv in g.torgb]
    for up, down in zip(list(g.blocks)[1:], judge.blocks, strict=True):
        assert up.conv0.weight.shape[:2] == down[1].weight.shape[:2][::-1]
        assert up.conv1.weight.shape == down[0].weight.shape


@pytest.mark.parametrize("side", [4, 8, 16])
@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_one_score_per_picture_of_any_size(judge, side, alpha):
    (scores,) = judge(judge.project(torch.rand(6, 3, side, side)), alpha)
    assert scores.shape == (6, 1)


@pytest.mark.parametrize("side", [8, 16])
def test_fade_in_starts_at_the_smaller_network(judge, side):
    (x,) = judge.project(torch.rand(4, 3, side, side))
    (small,) = judge([F.avg_pool2d(x, 2)])
    (faded,) = judge([x], 0.0)
    assert torch.allclose(faded, small, atol=1e-6)
    assert torch.allclose(judge([x], 1e-5)[0], small, atol=1e-3)
    assert torch.allclose(judge([x], 1 - 1e-6)[0], judge([x])[0], atol=1e-3)
    assert (judge([x], 0.5)[0] - small).abs().mean() > 1e-4


def test_projection_is_the_range_of_the_network(judge):
    (x,) = judge.project(torch.tensor([0.0, 0.25, 1.0]).view(1, 3, 1, 1).expand(2, 3, 4, 4))
    assert x[0, :, 0, 0].tolist() == [-1, -0.5, 1]


def test_a_score_depends_on_the_company(judge):
    """Minibatch statistics, section 3: a generator that repeats itself is seen."""
    picture, others = torch.rand(1, 3, 8, 8), torch.rand(3, 3, 8, 8)
    (alone,) = judge(judge.project(picture.expand(4, -1, -1, -1)))
    (mixed,) = judge(judge.project(torch.cat([picture, others])))
    assert torch.allclose(alone, alone[:1].expand(4, 1), atol=1e-5)
    assert (alone[0] - mixed[0]).abs() > 1e-4


def test_a_penalty_on_the_slope_can_be_trained(judge):
    (x,) = judge.project(torch.rand(4, 3, 16, 16))
    x.requires_grad_(True)
    (slope,) = torch.autograd.grad(judge([x], 0.5)[0].sum(), x, create_graph=True)
    slope.square().sum().backward()
    trained = {name for name, p in judge.named_parameters() if p.grad is not None and p.grad.any()}
    assert {"fromrgb.2.weight", "fromrgb.1.weight", "blocks.1.0.weight", "conv.weight", "out.weight"} <= trained
    assert "fromrgb.0.weight" not in trained  # the path of 4x4 pictures takes no part
