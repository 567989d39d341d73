"""MINE against closed forms: correlated Gaussians, and the gradient that small batches bias."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from preimage.train.mine import MINE, PairStatistic


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, 48), nn.LeakyReLU(0.2), nn.Linear(48, 48), nn.LeakyReLU(0.2), nn.Linear(48, 1)
        )

    def forward(self, x, y):
        return self.layers(torch.cat([x, y], 1))


def pairs(n: int, rho: float) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(n, 1)
    return x, rho * x + math.sqrt(1 - rho**2) * torch.randn(n, 1)


@pytest.mark.parametrize("rho", [0.0, 0.5, -0.8, 0.95])
def test_correlated_gaussians(rho):
    """I(X; Y) = -log(1 - rho²) / 2."""
    torch.manual_seed(0)
    mine = MINE(Dense())
    optimiser = torch.optim.Adam(mine.parameters(), lr=3e-3)
    for step in range(500):
        optimiser.param_groups[0]["lr"] = 3e-3 * (1 - step / 500)
        loss = -mine(*pairs(256, rho), update=True).objective
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        found = float(mine(*pairs(100_000, rho)).value)
    assert found == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.05 if abs(rho) < 0.9 else 0.1)


class Slope(nn.Module):
    """T = a x y."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.8))

    def forward(self, x, y):
        return self.a * x * y


def test_the_gradient_of_small_batches_is_that_of_a_large_one():
    """By a moving average of the denominator; the plain bound's gradient on batches of two is far off."""
    torch.manual_seed(0)
    x, y = pairs(40_000, 0.5)
    mine = MINE(Slope(), decay=0.999, bound=100.0)

    def slope(value: torch.Tensor) -> float:
        (found,) = torch.autograd.grad(value, mine.statistic.a)
        return float(found)

    large = slope(mine(x, y).objective)  # nothing moved yet: exactly the bound's gradient
    joint, marginal = mine.score(x, y), mine.score(x.roll(1, 0), y)
    assert large == pytest.approx(slope(joint.mean() - marginal.logsumexp(0)), abs=1e-4)
    with torch.no_grad():
        mine(x, y, update=True)
    plain, ours = [], []
    for i in range(0, 6000, 2):
        a, b = x[i : i + 2], y[i : i + 2]
        ours.append(slope(mine(a, b, update=True).objective))
        plain.append(slope(mine.score(a, b).mean() - mine.score(a.roll(1, 0), b).logsumexp(0)))
    error = torch.tensor(ours).std() / len(ours) ** 0.5
    assert abs(sum(ours) / len(ours) - large) < 4 * float(error)
    assert abs(sum(plain) / len(plain) - large) > 0.05


def test_the_moving_average_survives_scores_that_exp_does_not():
    mine = MINE(Slope(), bound=500.0)
    x = torch.full((4, 1), 30.0)
    found = mine(x, x, update=True)
    assert all(bool(v.isfinite()) for v in (*found, mine.log_average))
    assert float(mine.log_average) > 300
    before = float(mine.log_average)
    mine(x * 0, x, update=True)
    assert float(mine.log_average) == pytest.approx(before + math.log(0.99))
    mine(x * 0, x)
    assert float(mine.log_average) == pytest.approx(before + math.log(0.99))


def test_pairs_of_pictures():
    torch.manual_seed(0)
    statistic = PairStatistic(4)
    mine = MINE(statistic, shifts=9)
    x, y = statistic.describe(torch.rand(3, 3, 8, 8)), statistic.describe(torch.rand(3, 3, 8, 8))
    assert x.shape == (3, 16)
    found = mine(x, y, update=True)
    others = torch.cat([mine.score(x.roll(k, 0), y) for k in (1, 2)])
    expected = mine.score(x, y).mean() - others.exp().mean().log()
    assert float(found.value) == pytest.approx(float(expected.detach()), abs=1e-5)
    found.objective.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in statistic.parameters())
