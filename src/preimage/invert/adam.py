"""Adam (Kingma and Ba, 2015) for a handful of tensors.

The steps are those of `torch.optim.Adam`, number for number; constructing that imports torch's compiler, more than a second of every command.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class Adam:
    """As far as a search uses an optimiser of torch: `step`, `zero_grad`, `state`, and one group of parameters.

    Args:
        params: leaves with gradients.
        lr: learning rate, which `param_groups[0]["lr"]` may change.
        betas, eps: as published.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        self.param_groups: list[dict[str, Any]] = [{"params": list(params), "lr": lr}]
        self.state: dict[Tensor, dict[str, Any]] = {}
        self.betas, self.eps = betas, eps

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for p in self.param_groups[0]["params"]:
            p.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One step along the gradients there are."""
        (first, second), rate = self.betas, self.param_groups[0]["lr"]
        for p in self.param_groups[0]["params"]:
            if p.grad is None:
                continue
            if p not in self.state:
                self.state[p] = {"step": 0, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
            state = self.state[p]
            state["step"] += 1
            state["exp_avg"].lerp_(p.grad, 1 - first)
            state["exp_avg_sq"].mul_(second).addcmul_(p.grad, p.grad, value=1 - second)
            corrected = (1 - second ** state["step"]) ** 0.5
            size = state["exp_avg_sq"].sqrt().div_(corrected).add_(self.eps)
            p.addcdiv_(state["exp_avg"], size, value=-rate / (1 - first ** state["step"]))
