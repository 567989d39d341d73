"""Between two candidates: their latents mixed, from which a method goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from preimage.errors import MethodError

GAUSSIAN = ("z-", "noise")
"""How the names of latents begin that are Gaussian random numbers; between two such there are none on the straight line."""


def mixed(one: Mapping[str, Tensor], other: Mapping[str, Tensor], shares: Sequence[float]) -> dict[str, Tensor]:
    """Latents on the way from one candidate to another.

    Random numbers go round, so that their size is that of such numbers all along; whole numbers (labels) are those of the nearer
    candidate; everything else goes straight.

    Args:
        one, other: latents of a candidate each, by name, (1, …).
        shares: how far each row has gone, 0 to 1.

    Returns:
        By name (n, …).

    Raises:
        MethodError: candidates of different networks.
    """
    if shapes(one) != shapes(other) or not one:
        raise MethodError("these two candidates have no latents in common; choose two of the same method and network.")
    out = {}
    for name, x in one.items():
        y = other[name]
        share = torch.tensor(list(shares), dtype=torch.float32).view(-1, *[1] * (x.ndim - 1))
        if not x.is_floating_point():
            out[name] = torch.where(share < 0.5, x, y)
        elif name.startswith(GAUSSIAN) and x.numel() > 1:
            out[name] = _round(x, y, share)
        else:
            out[name] = (1 - share) * x + share * y
    return out


def shapes(latents: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of each."""
    return {name: tuple(x.shape) for name, x in latents.items()}


def _round(x: Tensor, y: Tensor, share: Tensor) -> Tensor:
    """From x to y along a circle; the root mean square goes straight from that of the one to that of the other."""
    axes = tuple(range(1, x.ndim))
    size = [v.square().mean(axes, keepdim=True).sqrt() for v in (x, y)]
    way = (share * (math.pi / 2)).cos() * x + (share * (math.pi / 2)).sin() * y
    found = way.square().mean(axes, keepdim=True).sqrt().clamp_min(1e-12)
    moved = way * ((1 - share) * size[0] + share * size[1]) / found
    return torch.where(share <= 0, x, torch.where(share >= 1, y, moved))
