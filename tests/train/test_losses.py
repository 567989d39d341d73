"""Losses against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from preimage.train.losses import (
    between,
    drift,
    gradient_penalty,
    hinge_d,
    hinge_g,
    nonsaturating_d,
    nonsaturating_g,
    path_lengths,
    r1_penalty,
    wasserstein_d,
    wasserstein_g,
)


def scores(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(-1, 1)


def test_hinge():
    real, fake = [scores(2.0, 0.5, -1.0)], [scores(-3.0, 0.0, 1.0)]
    assert float(hinge_d(real, fake)) == pytest.approx((0 + 0.5 + 2) / 3 + (0 + 1 + 2) / 3)
    assert float(hinge_g(fake)) == pytest.approx(2 / 3)
    assert float(hinge_d([scores(1.0)], [scores(-1.0)])) == 0


def test_nonsaturating():
    real, fake = [scores(2.0, -1.0)], [scores(0.0, 3.0)]
    log = [math.log(1 + math.exp(v)) for v in (-2, 1, 0, 3)]
    assert float(nonsaturating_d(real, fake)) == pytest.approx(sum(log[:2]) / 2 + sum(log[2:]) / 2)
    expected = (math.log(2) + math.log(1 + math.exp(-3))) / 2
    assert float(nonsaturating_g(fake)) == pytest.approx(expected)
    # a blind discriminator costs 2 log 2 and log 2
    assert float(nonsaturating_d([scores(0.0)], [scores(0.0)])) == pytest.approx(2 * math.log(2))


@pytest.mark.parametrize(
    "pair", [(hinge_d, hinge_g), (nonsaturating_d, nonsaturating_g), (wasserstein_d, wasserstein_g)]
)
def test_heads_add_up_whatever_their_size(pair):
    loss_d, loss_g = pair
    torch.manual_seed(0)
    real, fake = ([torch.randn(4, places) for places in (1, 9)] for _ in range(2))
    assert float(loss_d(real, fake)) == pytest.approx(
        sum(float(loss_d([r], [f])) for r, f in zip(real, fake, strict=True))
    )
    assert float(loss_g(fake)) == pytest.approx(sum(float(loss_g([f])) for f in fake))
    with pytest.raises(ValueError, match=r"shorter|longer"):
        loss_d(real, fake[:1])


@pytest.mark.parametrize("loss_g", [hinge_g, nonsaturating_g, wasserstein_g])
def test_generator_wants_higher_scores(loss_g):
    s = torch.randn(5, 1, requires_grad=True)
    loss_g([s]).backward()
    assert bool((s.grad < 0).all())


def test_r1_of_a_linear_discriminator():
    torch.manual_seed(0)
    a, b = torch.randn(3, 8, 8, requires_grad=True), torch.randn(3, 8, 8)
    real = torch.randn(5, 3, 8, 8, requires_grad=True)
    heads = [(real * a).sum(dim=(1, 2, 3)), (real * b).sum(dim=(1, 2, 3))[:, None]]
    penalty = r1_penalty(real, heads)
    assert float(penalty.detach()) == pytest.approx(float((a + b).detach().square().sum()), rel=1e-5)
    penalty.backward()
    assert torch.allclose(a.grad, 2 * (a + b), rtol=1e-4, atol=1e-4)


def test_r1_is_a_mean_over_pictures():
    real = torch.randn(4, 1, 2, 2, requires_grad=True)
    strength = torch.tensor([0.0, 1.0, 2.0, 3.0])
    score = (real.sum(dim=(1, 2, 3)) * strength)[:, None]
    assert float(r1_penalty(real, [score]).detach()) == pytest.approx(4 * (0 + 1 + 4 + 9) / 4)


def test_wasserstein():
    real, fake = [scores(2.0, 0.5, -1.0)], [scores(-3.0, 0.0, 1.5)]
    assert float(wasserstein_d(real, fake)) == pytest.approx(-0.5 - 0.5)
    assert float(wasserstein_g(fake)) == pytest.approx(0.5)
    shifted = [[s + 7 for s in side] for side in (real, fake)]
    assert float(wasserstein_d(*shifted)) == pytest.approx(-1.0)  # only differences count


def test_drift_is_the_mean_square_of_each_head():
    assert float(drift([scores(2.0, -1.0), scores(3.0)])) == pytest.approx(2.5 + 9)


def test_points_between_real_and_imagined():
    torch.manual_seed(0)
    real = torch.zeros(64, 3, 2, 2)
    fake = torch.ones(64, 3, 2, 2, requires_grad=True)
    at = between(real, fake * 1)
    assert at.requires_grad
    assert at.is_leaf
    share = at.detach()[:, 0, 0, 0]
    assert torch.equal(at.detach(), share.view(-1, 1, 1, 1).expand_as(at))  # one share per picture
    assert 0 <= share.min() < 0.1 < 0.9 < share.max() <= 1


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 3.0])
def test_gradient_penalty_of_a_linear_critic(strength):
    torch.manual_seed(0)
    slope = torch.randn(3, 8, 8)
    slope = (slope / slope.norm() * strength).requires_grad_(True)
    at = torch.randn(5, 3, 8, 8, requires_grad=True)
    penalty = gradient_penalty(at, [(at * slope).sum(dim=(1, 2, 3))[:, None]])
    assert float(penalty.detach()) == pytest.approx((strength - 1) ** 2, abs=1e-4)
    penalty.backward()
    norm = slope.detach().norm().clamp_min(1e-6)
    assert torch.allclose(slope.grad, 2 * (norm - 1) * slope.detach() / norm, atol=1e-3)


def test_gradient_penalty_is_a_mean_over_pictures():
    at = torch.randn(4, 1, 2, 2, requires_grad=True)  # |gradient| is twice the strength: four pixels
    score = (at.sum(dim=(1, 2, 3)) * torch.tensor([0.0, 0.5, 1.0, 2.0]))[:, None]
    assert float(gradient_penalty(at, [score]).detach()) == pytest.approx((1 + 0 + 1 + 9) / 4, abs=1e-4)


def test_path_lengths_of_a_linear_generator():
    """Pictures A w: J = A whatever w is, and E |J^T y|² is |A|² for y normal."""
    torch.manual_seed(0)
    a = torch.randn(3 * 8 * 8, 5)
    ws = torch.randn(4000, 2, 5, requires_grad=True)
    pictures = ws.mean(dim=1) @ a.t()
    lengths = path_lengths(pictures.view(-1, 3, 8, 8), ws)
    assert lengths.shape == (4000,)
    # every one of two rows holds half of the slope; the direction is divided by the root of the 64 pixels
    expected = float(a.square().sum()) / 4 / 64
    assert float(lengths.detach().square().mean()) == pytest.approx(expected, rel=0.03)


def test_path_lengths_can_be_trained():
    ws = torch.ones(2, 1, 3, requires_grad=True)
    scale = torch.tensor(2.0, requires_grad=True)
    pictures = (scale * ws).view(2, 3, 1, 1).expand(2, 3, 4, 4)
    torch.manual_seed(0)
    lengths = path_lengths(pictures, ws)
    (slope,) = torch.autograd.grad(lengths.sum(), scale)
    assert float(slope) == pytest.approx(float(lengths.detach().sum()) / 2)  # lengths are proportional to the scale
