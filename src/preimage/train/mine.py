"""Mutual information by gradient ascent: MINE (Belghazi et al., 2018), equation 5 of SSRVAE."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from preimage.degrade.style_vae import Statistics


class Information(NamedTuple):
    """What `MINE` says of a batch.

    Attributes:
        value: the Donsker-Varadhan bound on the batch, in nats; for the log.
        objective: to be maximised; its gradient is that of the bound without the bias of small batches, its value means nothing.
    """

    value: Tensor
    objective: Tensor


class MINE(nn.Module):
    """Estimates I(X; Y) from pairs: sup over T of E_joint[T] - log E_marginals[exp T].

    The gradient of the logarithm divides by a mean over the batch, which is biased; MINE divides by a moving average of it
    instead (section 3.2). That is kept as a logarithm, and T is bounded smoothly, so that exp overflows nowhere and no single
    pair moves everything.

    Args:
        statistic: T; (n, …) of both sides to (n, 1) scores.
        decay: what the moving average keeps of itself at each update.
        bound: T lies within ± this; more nats than `bound` are never found.
        shifts: how many times the batch is shifted against itself for pairs of the marginals, at most all but one.
    """

    log_average: Tensor
    begun: Tensor

    def __init__(self, statistic: nn.Module, decay: float = 0.99, bound: float = 10.0, shifts: int = 1) -> None:
        super().__init__()
        self.statistic, self.decay, self.bound, self.shifts = statistic, decay, bound, shifts
        self.register_buffer("log_average", torch.zeros([]))
        self.register_buffer("begun", torch.zeros([]))

    def score(self, x: Tensor, y: Tensor) -> Tensor:
        """T, bounded, (n,)."""
        raw: Tensor = self.statistic(x, y).float().flatten()
        return self.bound * (raw / self.bound).tanh()

    def forward(self, x: Tensor, y: Tensor, update: bool = False) -> Information:
        """The estimate for pairs (x[i], y[i]).

        Args:
            x, y: n of each, 2 or more.
            update: whether this batch enters the moving average.
        """
        shifts = range(1, 1 + min(self.shifts, len(x) - 1))
        joint = self.score(x, y)
        marginal = self.score(torch.cat([x.roll(k, 0) for k in shifts]), y.repeat(len(shifts), *[1] * (y.ndim - 1)))
        log_mean = marginal.logsumexp(0) - math.log(len(marginal))
        if update:
            self._move(log_mean.detach())
        average = torch.where(self.begun > 0, self.log_average, log_mean.detach())
        objective = joint.mean() - (marginal - average).exp().mean()
        return Information(joint.detach().mean() - log_mean.detach(), objective)

    @torch.no_grad()
    def _move(self, log_mean: Tensor) -> None:
        kept, fresh = math.log(self.decay) + self.log_average, math.log1p(-self.decay) + log_mean
        self.log_average.copy_(torch.where(self.begun > 0, torch.logaddexp(kept, fresh), log_mean))
        self.begun.fill_(1)


class PairStatistic(nn.Module):
    """T for small pictures: each is described by the same convolutions, a dense part looks at both descriptions.

    So a description serves in many pairs: `MINE` gets descriptions (`describe`), not pictures.

    Args:
        width: channels of the first convolution; the last have twice as many, whose means and spreads describe a picture.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 3, 2, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 2 * width, 3, 2, padding=1), nn.LeakyReLU(0.2),
            Statistics(), nn.BatchNorm1d(4 * width, affine=False),
        )  # fmt: skip
        self.dense = nn.Sequential(
            nn.Linear(8 * width, 4 * width), nn.LeakyReLU(0.2), nn.Linear(4 * width, 4 * width), nn.LeakyReLU(0.2),
            nn.Linear(4 * width, 1),
        )  # fmt: skip

    def describe(self, pictures: Tensor) -> Tensor:
        """(n, 3, h, w) in [0, 1] -> (n, 4 * width)."""
        described: Tensor = self.trunk((pictures * 2 - 1).contiguous(memory_format=torch.channels_last))
        return described

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Descriptions of both sides, (n, 4 * width) each -> (n, 1)."""
        found: Tensor = self.dense(torch.cat([x, y], 1))
        return found
