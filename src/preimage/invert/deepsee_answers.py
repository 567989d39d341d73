"""What DeepSEE's network answers: pictures through the projection, and the styles that seeds draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.degrade.linear import LinearOperator, make_operator
from preimage.nets.deepsee import DeepSEE
from preimage.seeds import normal
from preimage.semantics.labels import PAIRS, find_regions, one_hot

KERNEL = "bicubic"
"""The downscaling whose photos the network takes; those of others are brought to it."""
TIED = (*PAIRS, (11, 12))
"""Regions whose styles move together: left and right, both lips."""


def mask_of(network: DeepSEE, labels: Tensor) -> Tensor:
    """Labels (n, R, R) as the network takes them; one region everywhere for a network without semantics."""
    if network.config.regions == 1:
        return torch.ones(len(labels), 1, *labels.shape[1:], device=labels.device)
    return one_hot(labels)


def small_photo(network: DeepSEE, operator: LinearOperator, photo: Tensor) -> Tensor:
    """Photos (n, 3, s, s) of any linear downscaling as the network takes them, (n, 3, lr_size, lr_size)."""
    own = downscaling(network.config.resolution, network.config.lr_size)
    if operator.lr_size == own.lr_size and operator.name == own.name:
        return photo.float()
    own = own.to(photo.device) if own.rows.device != photo.device else own
    return own(operator.pinv(photo.float()))


@lru_cache(maxsize=16)
def downscaling(resolution: int, size: int) -> LinearOperator:
    """The downscaling of photos of the network's own size."""
    return make_operator(KERNEL, hr_size=resolution, lr_size=size)


def answer(
    network: DeepSEE, operator: LinearOperator, photo: Tensor, mask: Tensor, style: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Pictures of photos, differentiable.

    Args:
        network: which.
        operator: the downscaling A, from square pictures to square photos.
        photo: y, (n, 3, s, s) in [0, 1].
        mask: of `mask_of`, (n, regions, R, R).
        style: (n, regions, d).

    Returns:
        Two times (n, 3, R, R) float32 around [0, 1], not clamped: the answer, and what it was before the projection, which is
        the same of a network without.
    """
    made = network(small_photo(network, operator, photo), mask, style)
    if network.config.enlarged:
        made = made + F.interpolate(photo.float(), made.shape[-2:], mode="bicubic", align_corners=False)
    return (operator.project(made, photo.float()) if network.config.project else made), made


def noise_of(text: str, regions: int) -> Tensor:
    """How far the numbers of each region's style may move, (regions,), of "lips=0.03,hair=0.1"; a number alone is for all regions.

    Raises:
        InputError: an unknown region.
        ValueError: no number in [0, 2].
    """
    found = torch.zeros(regions)
    for part in filter(None, text.split(",")):
        name, _, value = part.rpartition("=")
        delta = float(value)
        if not 0 <= delta <= 2:
            raise ValueError(f"{value} must lie in [0, 2]")
        if not name or regions == 1:
            found[:] = delta
        else:
            found[list(find_regions(name))] = delta
    return found


def varied(network: DeepSEE, base: Tensor, seeds: Sequence[int], temperature: float, noise: Tensor) -> Tensor:
    """Styles that seeds draw around others.

    From the Gaussian of what sharp pictures have beyond their photos, where the network has one, and uniform noise (section 3.4).
    Left and right draw the same, and so do the lips.

    Args:
        network: with its Gaussian.
        base: (n, regions, d), as encoded; empty regions are 0 and stay so.
        seeds: n of them.
        temperature: spread of the Gaussian; 0 keeps its mean.
        noise: of `noise_of`.
    """
    c = network.config
    there = base.abs().amax(2, keepdim=True) > 0
    out = base
    if c.drawn and c.small_styles:
        z = tied(normal(seeds, (c.regions, c.drawn), "deepsee-style")).to(base)
        out = out + network.style_mean + temperature * torch.einsum("nkr,krd->nkd", z, network.style_root)
    if bool(noise.any()):
        uniform = torch.erf(tied(normal(seeds, (c.regions, c.style), "deepsee-noise")) / 2**0.5).to(base)
        out = out + noise.to(base)[:, None] * uniform
    return out.clamp(-1, 1) * there


def tied(x: Tensor) -> Tensor:
    """(n, regions, …) with the rows of `TIED` regions equal."""
    if x.shape[1] > max(map(max, TIED)):
        x = x.clone()
        for first, second in TIED:
            x[:, second] = x[:, first]
    return x


def rows_of(latents: Mapping[str, Tensor], n: int) -> dict[str, Tensor]:
    """One row of latents, n times."""
    return {name: x.expand(n, *x.shape[1:]) for name, x in latents.items()}
