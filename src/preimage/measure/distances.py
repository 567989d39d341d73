"""Distances between two sets of pictures, taken between feature vectors: Fréchet and kernel distance.

Both say how far apart two *sets* lie, in the eyes of one feature network. A value is named after that network: `fd-vgg`,
`kd-identity`. Only Inception features of one particular file give an "FID"; nothing here is comparable with a published one.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from preimage.errors import InputError


class FeatureStatistics:
    """Count, mean and covariance of feature vectors, gathered batch by batch in float64 (Chan et al., 1979).

    Every batch is reduced around its own mean before it joins, so that nothing is lost to a large offset, and the order
    or size of the batches changes the result in the last digits only.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean = torch.zeros(0, dtype=torch.float64)
        self._scatter = torch.zeros(0, 0, dtype=torch.float64)

    @classmethod
    def of(cls, features: Tensor) -> FeatureStatistics:
        """Statistics of one tensor of feature vectors (n, d)."""
        out = cls()
        out.update(features)
        return out

    def update(self, features: Tensor) -> None:
        """Take in feature vectors (n, d).

        Raises:
            InputError: not a matrix, not finite, or of another length than before.
        """
        if features.ndim != 2:
            raise InputError(f"feature vectors: need a matrix (n, d), got shape {tuple(features.shape)}.")
        if not len(features):
            return
        x = features.detach().double().cpu()
        if not bool(x.isfinite().all()):
            raise InputError("feature vectors: hold NaN or infinite values; look at the pictures they were taken of.")
        mean = x.mean(0)
        x = x - mean
        self._join(len(x), mean, x.T @ x)

    def merge(self, other: FeatureStatistics) -> None:
        """Take in what another process or part of the data has gathered."""
        if other.count:
            self._join(other.count, other._mean, other._scatter)

    def _join(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        if not self.count:
            self.count, self._mean, self._scatter = count, mean, scatter
            return
        if len(mean) != len(self._mean):
            raise InputError(f"feature vectors: of length {len(mean)} after others of length {len(self._mean)}.")
        total, step = self.count + count, mean - self._mean
        self._scatter = self._scatter + scatter + torch.outer(step, step) * (self.count * count / total)
        self._mean = self._mean + step * (count / total)
        self.count = total

    @property
    def mean(self) -> Tensor:
        """(d,) float64."""
        self._need(1)
        return self._mean

    @property
    def covariance(self) -> Tensor:
        """(d, d) float64, unbiased (divided by n − 1)."""
        self._need(2)
        return self._scatter / (self.count - 1)

    def state(self) -> dict[str, Tensor]:
        """Everything that was gathered, as tensors to keep in a file; see `from_state`."""
        return {"count": torch.tensor(self.count), "mean": self._mean, "scatter": self._scatter}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> FeatureStatistics:
        """Statistics that go on where `state` was taken."""
        out = cls()
        out.count = int(state["count"])
        out._mean, out._scatter = state["mean"].double(), state["scatter"].double()
        return out

    def _need(self, count: int) -> None:
        if self.count < count:
            raise InputError(f"feature statistics: need at least {count} feature vectors, have {self.count}.")


class FeatureScale(NamedTuple):
    """Units for features: their mean and spread over a set of real pictures, so that a few loud channels do not decide alone.

    Deep layers of a ReLU network hold channels that are silent for most faces. The spread of such a channel rests on a few
    pictures, and dividing by it would let exactly these decide; it is left out (spread infinite).

    Attributes:
        mean: (d,) float64.
        spread: (d,) float64 standard deviations; infinite for a feature that is left out.
    """

    mean: Tensor
    spread: Tensor

    @classmethod
    def of(cls, real: Tensor, rare: float = 0.05) -> FeatureScale:
        """Units of the real set (n, d); features that leave their median in at most `rare` of the pictures are left out."""
        stats = FeatureStatistics.of(real)
        moving = (real != real.median(dim=0).values).double().mean(0).cpu() > rare
        spread = stats.covariance.diagonal().clamp_min(0).sqrt()
        return cls(stats.mean, spread.where(moving & (spread > 0), torch.inf))

    @property
    def kept(self) -> int:
        """How many features are not left out."""
        return int(self.spread.isfinite().sum())


def frechet_between_gaussians(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """Squared 2-Wasserstein distance of two Gaussians: |m_a − m_b|² + tr(C_a + C_b − 2 (C_a C_b)^½).

    The trace of the root is taken as the sum of the singular values of C_a^½ C_b^½: no root of a product that is not
    symmetric, no root of rounding noise, exact for singular covariances (Dowson and Landau, 1982).

    Args:
        mean_a, mean_b: (d,).
        cov_a, cov_b: (d, d), symmetric and not negative.
    """
    mean_a, cov_a, mean_b, cov_b = (t.double() for t in (mean_a, cov_a, mean_b, cov_b))
    root = torch.linalg.svdvals(_root(cov_a) @ _root(cov_b)).sum()
    value = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * root
    return max(0.0, float(value))


def _root(cov: Tensor) -> Tensor:
    """Symmetric square root of a covariance."""
    values, vectors = torch.linalg.eigh(cov)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return root


def frechet_distance(
    features: Tensor | FeatureStatistics, real: Tensor | FeatureStatistics, scale: FeatureScale | None = None
) -> float:
    """Fréchet distance between two sets of feature vectors, each seen as a Gaussian (Heusel et al., 2017, eq. 6).

    Args:
        features: (n, d) of the pictures that are judged, or their statistics.
        real: (m, d) of the real pictures, or their statistics.
        scale: units of the features, `FeatureScale.of` a real set; None takes them as they are. Values are comparable
            under the same units only.

    Returns:
        The distance, in squared units of the features (with `scale`, a shift of k features by one spread gives k).

    Warns:
        UserWarning: a set with fewer than 2 d vectors. The distance of two finite samples of the *same* pictures is not 0
            but falls like 1 / n from well above it; then compare values of equal n only, or take `kernel_distance`.

    Raises:
        InputError: fewer than two vectors in a set, or vectors of different lengths.
    """
    a, b = (FeatureStatistics.of(s) if isinstance(s, Tensor) else s for s in (features, real))
    mean_a, cov_a, mean_b, cov_b = a.mean, a.covariance, b.mean, b.covariance
    _check_lengths("Fréchet distance", mean_a, mean_b, scale)
    dimensions, fewest = scale.kept if scale else len(mean_a), min(a.count, b.count)
    if fewest < 2 * dimensions:
        warnings.warn(
            f"Fréchet distance of {dimensions} features from {fewest} pictures: fewer than twice as many pictures as "
            "features bias it upwards; compare only values of equal counts, or use the kernel distance.",
            stacklevel=2,
        )
    if scale:
        mean_a, mean_b = mean_a / scale.spread, mean_b / scale.spread
        cov_a, cov_b = (c / scale.spread / scale.spread[:, None] for c in (cov_a, cov_b))
    return frechet_between_gaussians(mean_a, cov_a, mean_b, cov_b)


def _check_lengths(what: str, a: Tensor, b: Tensor, scale: FeatureScale | None) -> None:
    """Features (…, d) and units must have one length."""
    lengths = [a.shape[-1], b.shape[-1], *([len(scale.spread)] if scale else [])]
    if len(set(lengths)) > 1:
        raise InputError(f"{what}: features and units of different lengths, {', '.join(map(str, lengths))}.")


class KernelDistance(NamedTuple):
    """Squared maximum mean discrepancy: its mean over the subsets, and its standard deviation between them."""

    value: float
    deviation: float


def kernel_distance(
    features: Tensor,
    real: Tensor,
    subsets: int = 100,
    subset_size: int = 1000,
    degree: int = 3,
    scale: FeatureScale | None = None,
    seed: int = 0,
) -> KernelDistance:
    """Unbiased squared maximum mean discrepancy under the kernel (x·y / d + 1)^degree (Bińkowski et al., 2018, KID).

    Two samples of the same pictures give 0 on average, whatever their number; single values may be negative. The subsets
    overlap, so `deviation` is the spread of one subset's value, not the error of the mean.

    Args:
        features: (n, d) of the pictures that are judged.
        real: (m, d) of the real pictures.
        subsets: how many pairs of subsets to average over.
        subset_size: vectors in a subset, at most the smaller set; drawn without repetition.
        degree: of the polynomial.
        scale: units of the features, `FeatureScale.of` a real set, whose mean becomes the origin of the kernel.
        seed: of the subsets.

    Raises:
        InputError: fewer than two vectors in a set, or vectors of different lengths.
    """
    counts = [FeatureStatistics.of(s).count for s in (features, real)]  # also checks them
    size = min(subset_size, *counts)
    if size < 2 or subsets < 1:
        raise InputError(
            f"kernel distance: needs two vectors or more in a subset and one subset, got {size}, {subsets}."
        )
    _check_lengths("kernel distance", features, real, scale)
    x, y = (s.detach().double().cpu() for s in (features, real))
    if scale:
        kept = scale.spread.isfinite()
        x, y = (((s - scale.mean) / scale.spread)[:, kept] for s in (x, y))
    rng = torch.Generator().manual_seed(seed)
    values = torch.empty(subsets, dtype=torch.float64)
    for i in range(subsets):
        chosen_x, chosen_y = (torch.randperm(len(t), generator=rng)[:size] for t in (x, y))
        values[i] = _squared_discrepancy(x[chosen_x], y[chosen_y], degree)
    return KernelDistance(float(values.mean()), float(values.std()) if subsets > 1 else float("nan"))


def _squared_discrepancy(x: Tensor, y: Tensor, degree: int) -> Tensor:
    """Unbiased squared maximum mean discrepancy of (n, d) and (n, d): a vector is never compared with itself."""
    n, d = x.shape

    def kernel(p: Tensor, q: Tensor) -> Tensor:
        return (p @ q.T / d + 1).pow(degree)

    xx, yy, xy = kernel(x, x), kernel(y, y), kernel(x, y)
    within = xx.sum() - xx.trace() + yy.sum() - yy.trace()
    return within / (n * (n - 1)) - 2 * xy.mean()
