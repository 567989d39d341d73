"""What DeepSEE's network answers: pictures through the projection, and the styles that seeds draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.degrade.linear import LinearOperator, make_operator
from preimage.nets.deepsee import DeepSEENetwork
from preimage.seeds import normal
from preimage.semantics.labels import PAIRS, find_regions, one_hot

KERNEL = "bicubic"
"""The downscaling whose photos the network takes; those of others are brought to it."""
TIED = (*PAIRS, (11, 12))
"""Regions whose styles move together: left and right, both lips."""


def mask_of(network: DeepSEENetwork, labels: Tensor) -> Tensor:
    """Labels (n, R, R) as the network takes them; one region everywhere for a network without semantics."""
    if network.config.regions == 1:
        return torch.ones(len(labels), 1, *labels.shape[1:], device=labels.device)
    return one_hot(labels)


def small_photo(network: DeepSEENetwork, operator: LinearOperator, photo: Tensor) -> Tensor:
    """Photos (n, 3, s, s) of any linear downscaling as the network takes them, (n, 3, lr_size, lr_size)."""
    own = downscaling(network.config.resolution, network.config.lr_size)
    if operator.lr_size == own.lr_size and operator.name == own.name:
        return photo.float()
    own = own.to(photo.device) if own.rows.device != photo.device else own
    small: Tensor = own(operator.pinv(photo.float()))
    return small


@lru_cache(maxsize=16)
def downscaling(resolution: int, size: int) -> LinearOperator:
    """The downscaling of photos of the network's own size."""
    return make_operator(KERNEL, hr_size=resolution, lr_size=size)


def answer(
    network: DeepSEENetwork, operator: LinearOperator, photo: Tensor, mask: Tensor, style: Tensor | None
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


def varied(network: DeepSEENetwork, base: Tensor, seeds: Sequence[int], temperature: float) -> Tensor:
    """Styles that seeds draw around those of a photo, from the Gaussian of what sharp pictures have beyond their photos.

    The styles of all regions are drawn together, so that they go with one another. A network without that Gaussian keeps them.

    Args:
        network: which.
        base: (n, regions, d), as encoded from photos; empty regions are 0 and stay so.
        seeds: n of them.
        temperature: spread; 0 takes the mean.
    """
    c = network.config
    if not (c.drawn and c.small_styles):
        return base
    return spread_by(network, base, normal(seeds, (c.drawn,), "deepsee-style").to(base), temperature)


def spread_by(network: DeepSEENetwork, base: Tensor, z: Tensor, temperature: float = 1.0) -> Tensor:
    """Styles (n, regions, d) moved by standard normal numbers z (n, drawn), as `varied` does by those of seeds."""
    more = torch.einsum("nr,krd->nkd", z, network.style_root)
    return (base + network.style_mean + temperature * more).clamp(-1, 1) * present(base)


def jittered(style: Tensor, seeds: Sequence[int], noise: Tensor) -> Tensor:
    """Styles (n, regions, d) with uniform noise (section 3.4), at most `noise` (regions,) of each region; left and right alike, and so the lips."""
    if not bool(noise.any()):
        return style
    uniform = torch.erf(tied(normal(seeds, tuple(style.shape[1:]), "deepsee-noise")) / 2**0.5).to(style)
    return (style + noise.to(style)[:, None] * uniform).clamp(-1, 1) * present(style)


def present(style: Tensor) -> Tensor:
    """Whether a region has a style, (n, regions, 1); those of empty regions are 0 throughout."""
    return style.abs().amax(2, keepdim=True) > 0


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
