"""Optimisers for batches whose rows know nothing of one another: each row has a rate, a count of steps and a memory of its own.

Their steps are those of torch's namesakes, Adam's (Kingma and Ba, 2015) number for number. Torch's know one rate and one count for all
rows; constructing them imports its compiler, more than a second of every command.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Update(Protocol):
    """One step of every row, in place."""

    def __call__(
        self, p: Tensor, grad: Tensor, memory: Sequence[Tensor], counts: Sequence[int], rates: Sequence[float]
    ) -> None:
        """
        Args:
            p: (m, …), what moves.
            grad: its gradient.
            memory: what is kept from step to step, each like p.
            counts: (m,) of each row's steps, with this one.
            rates: (m,) its learning rate now.
        """
        ...


@dataclass(frozen=True)
class Optimiser:
    """How to step, and how many tensors that keeps.

    Attributes:
        update: the step.
        keeps: how many tensors like p it remembers, zeros to begin with.
    """

    update: Update
    keeps: int

    def begin(self, p: Tensor) -> list[Tensor]:
        """The memory of rows that have not stepped yet."""
        return [torch.zeros_like(p, requires_grad=False) for _ in range(self.keeps)]


def adam(
    p: Tensor,
    grad: Tensor,
    memory: Sequence[Tensor],
    counts: Sequence[int],
    rates: Sequence[float],
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> None:
    """Adam; see `Update`."""
    (first, second), (mean, square) = betas, memory
    mean.lerp_(grad, 1 - first)
    square.mul_(second).addcmul_(grad, grad, value=1 - second)
    size = square.sqrt().div_(_rows(p, [(1 - second**k) ** 0.5 for k in counts])).add_(eps)
    p.add_(_towards(p, mean, first, counts, rates).div_(size))


def adamax(
    p: Tensor,
    grad: Tensor,
    memory: Sequence[Tensor],
    counts: Sequence[int],
    rates: Sequence[float],
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> None:
    """Adamax, of the same paper (section 7.1); see `Update`."""
    (first, second), (mean, largest) = betas, memory
    mean.lerp_(grad, 1 - first)
    largest.copy_(torch.maximum(largest.mul_(second), grad.abs().add_(eps)))
    p.add_(_towards(p, mean, first, counts, rates).div_(largest))


def sgd(
    p: Tensor, grad: Tensor, memory: Sequence[Tensor], counts: Sequence[int], rates: Sequence[float], keep: float = 0.0
) -> None:
    """Gradient descent, with momentum where there is a memory of it; see `Update`."""
    for speed in memory:
        grad = speed.mul_(keep).add_(grad)
    p.addcmul_(_rows(p, [-rate for rate in rates]), grad)


def sgdm(p: Tensor, grad: Tensor, memory: Sequence[Tensor], counts: Sequence[int], rates: Sequence[float]) -> None:
    """Gradient descent with a momentum of 0.9; see `Update`."""
    sgd(p, grad, memory, counts, rates, keep=0.9)


OPTIMISERS: dict[str, Optimiser] = {
    "adam": Optimiser(adam, 2),
    "adamax": Optimiser(adamax, 2),
    "sgd": Optimiser(sgd, 0),
    "sgdm": Optimiser(sgdm, 1),
}


def _towards(p: Tensor, mean: Tensor, beta: float, counts: Sequence[int], rates: Sequence[float]) -> Tensor:
    """Along the mean gradient, corrected for its beginning at zero."""
    return mean * _rows(p, [-rate / (1 - beta**k) for k, rate in zip(counts, rates, strict=True)])


def _rows(p: Tensor, values: Sequence[float]) -> Tensor:
    """One number for each row of p."""
    return torch.tensor(values, dtype=p.dtype, device=p.device).view(-1, *[1] * (p.ndim - 1))
