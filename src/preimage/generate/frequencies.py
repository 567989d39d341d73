"""Pictures by frequency: their orthonormal cosine transform, how loud its frequencies are, and an order from coarse to fine."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from preimage.seeds import normal

FAINT = 1e-3
"""Least spread of a frequency in pictures of [0, 1] that counts: a quarter of a grey level."""


@lru_cache(maxsize=8)
def cosines(count: int) -> Tensor:
    """The orthonormal cosine transform (count, count): frequencies by places."""
    k, x = torch.arange(count, dtype=torch.float64)[:, None], torch.arange(count, dtype=torch.float64)[None]
    basis = (math.pi / count * (x + 0.5) * k).cos() * math.sqrt(2 / count)
    basis[0] /= math.sqrt(2)
    return basis.float()


def to_waves(x: Tensor) -> Tensor:
    """Pictures (n, 3, R, R) -> their orthonormal cosine transform over colours, rows and columns."""
    colours, basis = (cosines(count).to(x) for count in (3, x.shape[-1]))
    return torch.einsum("dc,nchw->ndhw", colours, basis @ x @ basis.t())


def from_waves(waves: Tensor) -> Tensor:
    """The inverse of `to_waves`."""
    colours, basis = (cosines(count).to(waves) for count in (3, waves.shape[-1]))
    return torch.einsum("dc,ndhw->nchw", colours, basis.t() @ waves @ basis)


@lru_cache(maxsize=8)
def order(side: int, rows: int) -> tuple[Tensor, Tensor]:
    """Where each number of the rows goes in the transformed noise (3, side, side), and its sign, both (numbers,)."""
    k = torch.arange(side)
    radius = (k[:, None].square() + k[None].square()).flatten().repeat(3)
    coarse_first = torch.argsort(radius, stable=True)
    places, signs = [], []
    for row, part in enumerate(coarse_first.chunk(rows)):
        drawn = normal([row], (2, len(part)), "flow")[0]
        places.append(part[drawn[0].argsort()] if row else part)
        signs.append(drawn[1].sign() if row else torch.ones(len(part)))
    return torch.cat(places), torch.cat(signs)


def loudness(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and spread (3, R, R) of each frequency of pictures (n, 3, R, R) and of their mirror images."""
    waves = to_waves(pictures)
    centre = waves.mean(0)
    centre[:, :, 1::2] = 0  # these change their sign with the mirror
    return centre, (waves - centre).square().mean(0).sqrt().clamp_min(FAINT)


def contrasts(pictures: Tensor, centre: Tensor, spread: Tensor) -> Tensor:
    """How loud each of the pictures (n, 3, R, R) is, 1 being usual, where all frequencies count alike; for those of `loudness`."""
    return ((to_waves(pictures) - centre) / spread).square().mean((1, 2, 3)).sqrt()
