"""What a sampler network answers: random numbers by address, pictures through the projection, two stages, the numbers of a reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.degrade.linear import LinearOperator, make_operator
from preimage.errors import MethodError
from preimage.invert.optimisers import OPTIMISERS
from preimage.invert.problem import GREY_LEVELS
from preimage.nets.conditional import LEVELS as STAGE
from preimage.nets.conditional import SHARPNESS, ConditionalGenerator, standard_sharpness
from preimage.nets.local import TEXTURE, Chain, LocalGenerator
from preimage.seeds import normal
from preimage.weights import load_upsampler

LEVELS = (*STAGE, TEXTURE)
"""Levels of random numbers, coarse to fine; the last one is of networks of two stages alone."""


class Drawn(Protocol):
    """Whatever says which random numbers it takes."""

    @property
    def z_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape for one picture, by level."""
        ...


Sampler = ConditionalGenerator | Chain


def draw(
    config: Drawn, seeds: Sequence[int], device: torch.device | str = "cpu", sharp: float = 0.0
) -> dict[str, Tensor]:
    """Standard normal numbers of these seeds, by level, each (n, …); the sharpness is that asked for (`PosteriorSettings.sharpness`)."""
    z = {name: normal(seeds, shape, f"posterior-{name}").to(device) for name, shape in config.z_shapes.items()}
    if SHARPNESS in z:
        z[SHARPNESS].fill_(sharp)
    return z


def answer(
    network: Callable[..., Tensor],
    operator: LinearOperator,
    photo: Tensor,
    z: Mapping[str, Tensor],
    tolerance: float = 0.0,
) -> Tensor:
    """Pictures that shrink to the photos, differentiable.

    Args:
        network: pseudo-inverse enlargement, log2 of the photo's side, z and perhaps the tolerance to what a smooth enlargement
            lacks (`ConditionalGenerator`).
        operator: the downscaling A, from square pictures to square photos.
        photo: y, (n, 3, s, s) in [0, 1].
        z: random numbers by level.
        tolerance: so many grey levels every value of the photo may be missed by; the network is told.

    Returns:
        (n, 3, R, R) float32 around [0, 1], not clamped.
    """
    photo = photo.float()
    if isinstance(network, Chain):
        return _chained(network, operator, photo, z, tolerance)
    side = operator.hr_size[0]
    enlarged = operator.pinv(photo)
    size = photo.new_full((len(photo),), math.log2(operator.lr_size[0]))
    smooth = F.interpolate(photo, (side, side), mode="bicubic", align_corners=False)
    if not tolerance:
        return operator.project((smooth + network(enlarged, size, z)).float(), photo)
    picture = (smooth + network(enlarged, size, z, torch.full_like(size, tolerance))).float()
    return _towards(picture, operator, photo, tolerance)


def _towards(picture: Tensor, operator: LinearOperator, photo: Tensor, tolerance: float) -> Tensor:
    """The nearest picture, or nearly so, whose small version misses the photo by no more than the tolerance."""
    miss, free = operator.residual(picture, photo), tolerance / GREY_LEVELS
    return picture + operator.pinv(miss - miss.clamp(-free, free))


def _chained(
    network: Chain, operator: LinearOperator, photo: Tensor, z: Mapping[str, Tensor], tolerance: float
) -> Tensor:
    """The answer of the first stage, enlarged by the second one without changing it, and then held to the photo itself."""
    first, between = stages(operator, network.first.resolution)
    picture = answer(network.first, first, photo, z, tolerance).clamp(0, 1)
    return _towards(answer(network.second, between, picture, z), operator, photo, tolerance)


@lru_cache(maxsize=64)
def stages(operator: LinearOperator, side: int) -> tuple[LinearOperator, LinearOperator]:
    """A downscaling in two steps by way of a picture of `side` pixels: its second step, and its first, which is bicubic.

    With B the first step, the second one is A B⁺: what A makes of the smoothest picture behind the middle one.
    """
    between = make_operator("bicubic", hr_size=operator.hr_size[0], lr_size=side)
    rows, cols = (
        matrix @ torch.linalg.pinv(middle)
        for matrix, middle in ((operator.rows.cpu(), between.rows), (operator.cols.cpu(), between.cols))
    )
    return LinearOperator(rows, cols, name=f"{operator.name} from {side}"), between


def encode(
    network: Sampler, operator: LinearOperator, picture: Tensor, steps: int = 60, rate: float = 0.1
) -> dict[str, Tensor]:
    """Random numbers with which a picture's own small version is answered by that picture, as nearly as the network can.

    Adam from zero, on the mean absolute difference at full size and at half, with the density of the numbers as a prior.

    Args:
        network: frozen.
        operator: the downscaling between the sizes at hand.
        picture: (3, R, R) in [0, 1].
        steps: of the search.
        rate: of Adam.

    Returns:
        One row of numbers by level, none longer than such numbers are on average.
    """
    truth = picture[None].to(next(network.parameters()).device).float()
    photo = operator(truth).clamp(0, 1)
    z = {level: torch.zeros(1, *shape, device=truth.device) for level, shape in network.config.z_shapes.items()}
    told = {SHARPNESS: _sharpness_of(network, truth)} if SHARPNESS in z else {}
    z = {level: x for level, x in z.items() if level not in told}
    adam, moving = OPTIMISERS["adam"], [x.requires_grad_() for x in z.values()]
    memory = [adam.begin(x) for x in moving]
    for step in range(steps):
        with torch.enable_grad():
            miss = answer(network, operator, photo, z | told) - truth
            loss = miss.abs().mean() + F.avg_pool2d(miss, 2).abs().mean()
            loss = loss + 1e-6 * torch.stack([x.square().sum() for x in z.values()]).sum()
            torch.autograd.backward(loss)
        with torch.no_grad():
            for x, kept in zip(moving, memory, strict=True):
                assert x.grad is not None
                adam.update(x, x.grad, kept, [step + 1], [rate])
                x.grad = None
    return told | {level: x.detach() / x.detach().square().mean().sqrt().clamp_min(1) for level, x in z.items()}


def _sharpness_of(network: Sampler, picture: Tensor) -> Tensor:
    """The sharpness of (1, 3, R, R) as the network is told it, within what it has seen."""
    first = network.first if isinstance(network, Chain) else network
    seen = F.interpolate(picture, (first.resolution,) * 2, mode="area")
    return standard_sharpness(seen, first.config.sharpness).clamp(-2, 3)


def blend(z: Mapping[str, Tensor], other: Mapping[str, Tensor], shares: Sequence[float]) -> dict[str, Tensor]:
    """Random numbers moved from z towards other; their spread goes from that of the one to that of the other.

    Args:
        z: numbers by level, each (n, …).
        other: the same, or one row.
        shares: how far each row moves, from 0 to 1.
    """
    angles, out = torch.tensor(shares) * (math.pi / 2), dict[str, Tensor]()
    for level, x in z.items():
        c, s = (part.to(x.device).view(-1, *[1] * (x.ndim - 1)) for part in (angles.cos(), angles.sin()))
        y, axes = other[level], tuple(range(1, x.ndim))
        if level == SHARPNESS:  # no random number
            out[level] = x + torch.tensor(shares, device=x.device)[:, None] * (y - x)
            continue
        mixed = c * x + s * y
        own, target, found = (v.square().mean(axes, keepdim=True).sqrt() for v in (x, y, mixed))
        out[level] = mixed * (c.square() * own + s.square() * target) / found.clamp_min(1e-6)
    return out


def load_sampler(name: str | Path | None = None, device: str | torch.device = "cpu") -> Sampler:
    """A network of this method, frozen and in eval mode.

    Raises:
        WeightsError: see `preimage.weights.load_upsampler`.
        MethodError: a network of another method.
    """
    module = load_upsampler(name, device, "posterior")
    if not isinstance(module, ConditionalGenerator | Chain):
        more = "; give the chain.safetensors beside it" if isinstance(module, LocalGenerator) else ""
        raise MethodError(f"{name}: holds a {type(module).__name__}, which posterior cannot use{more}.")
    return module
