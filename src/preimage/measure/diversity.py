"""How different the candidates of one face are, how different faces are, and how well a candidate explains its input.

Pixel distances are root mean squares (RMS) over pixels and channels, in 8-bit grey levels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.errors import InputError

Distance = Callable[[Tensor, Tensor], Tensor]
"""(m, 3, H, W) and (m, 3, H, W) -> (m,), picture by picture."""
Features = Callable[[Tensor], Tensor]
"""(n, 3, H, W) -> (n, d)."""

_BATCH = 64  # pairs per call of a distance


def rms_distance(a: Tensor, b: Tensor) -> Tensor:
    """RMS difference in grey levels of pictures (m, 3, H, W) in [0, 1], picture by picture: (m,)."""
    return (a - b).flatten(1).square().mean(1).sqrt() * 255


def lr_psnr(rms: Tensor | float) -> Tensor:
    """Peak signal-to-noise ratio in dB of an RMS error in grey levels: 20 log10(255 / rms); infinite for 0.

    Meant for `Candidates.error`: how well the candidates explain the low-resolution picture.

    Raises:
        InputError: a negative or undefined error.
    """
    rms = torch.as_tensor(rms, dtype=torch.float64)
    if not bool((rms >= 0).all()):
        raise InputError("LR-PSNR: needs RMS errors of 0 or more, in grey levels.")
    return 20 * torch.log10(255 / rms)


def pairwise_distance(images: Tensor, distance: Distance = rms_distance) -> float:
    """Mean distance over all pairs of pictures; 0 for copies.

    Args:
        images: (n, 3, H, W) in [0, 1], n at least 2.
        distance: of two batches, picture by picture, such as `rms_distance` or a perceptual one.

    Raises:
        InputError: fewer than two pictures.
    """
    if images.ndim != 4 or len(images) < 2:
        raise InputError(f"pairwise distance: needs two pictures or more (n, 3, H, W), got {tuple(images.shape)}.")
    first, second = torch.triu_indices(len(images), len(images), 1).unbind()
    chunks = zip(torch.split(first, _BATCH), torch.split(second, _BATCH), strict=True)
    return float(torch.cat([distance(images[i], images[j]).double() for i, j in chunks]).mean())


class Spread(NamedTuple):
    """Mean distance between candidates of one face, and between candidates of different faces."""

    within: float
    between: float

    @property
    def ratio(self) -> float:
        """0: one answer per face; 1: candidates differ as much as different faces do."""
        return self.within / self.between


def spread_within_between(groups: Sequence[Tensor], features: Features | None = None) -> Spread:
    """How far apart the candidates of one face lie, beside how far apart the candidates of different faces lie.

    Args:
        groups: one tensor (n, 3, H, W) in [0, 1] per face; every face counts once, whatever its n. A face with a single
            candidate counts in `between` only.
        features: None for the RMS distance of the pixels in grey levels; else the pictures' features, whose cosine
            distance 1 − cos is taken (identity: `MobileFaceNet.embed`).

    Raises:
        InputError: fewer than two faces, or no face with two candidates.
    """
    if len(groups) < 2 or max(map(len, groups)) < 2 or min(map(len, groups)) < 1:
        raise InputError("spread: needs two faces or more, and at least one face with two candidates.")
    if features is None:
        vectors = [g.flatten(1).float() for g in groups]
        compare = _rms_matrix
    else:
        vectors = [F.normalize(features(g).double(), dim=1) for g in groups]
        compare = _cosine_matrix
    within, between = [], []
    for i, a in enumerate(vectors):
        if len(a) > 1:
            within.append(compare(a, a).sum() / (len(a) * (len(a) - 1)))
        between += [compare(a, b).mean() for b in vectors[i + 1 :]]
    return Spread(float(torch.stack(within).mean()), float(torch.stack(between).mean()))


def _rms_matrix(a: Tensor, b: Tensor) -> Tensor:
    """RMS distances in grey levels between flat pictures (n, p) and (m, p)."""
    return _distances(a, b) * (255 / math.sqrt(a.shape[1]))


def _cosine_matrix(a: Tensor, b: Tensor) -> Tensor:
    """Cosine distances between unit vectors (n, d) and (m, d): half the squared chord, 1 − cos."""
    return _distances(a, b).square() / 2


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances between rows (n, d) and (m, d), float64; exactly 0 for equal ones."""
    out: Tensor = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
    return out.double()
