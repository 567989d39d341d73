"""Distances between two sets of pictures, taken between feature vectors: Fréchet and kernel distance.

Both say how far apart two *sets* lie, in the eyes of one feature network. A value is named after that network: `fd-vgg`,
`kd-identity`. Only Inception features of one particular file give an "FID"; nothing here is comparable with a published one.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from preimage.errors import InputError

_SPREAD_FLOOR = 1e-6  # of the largest spread: below it a feature of the real set is constant, and cannot be a unit


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

    def _need(self, count: int) -> None:
        if self.count < count:
            raise InputError(f"feature statistics: need at least {count} feature vectors, have {self.count}.")


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
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T


def frechet_distance(
    features: Tensor | FeatureStatistics, real: Tensor | FeatureStatistics, scaled: bool = False
) -> float:
    """Fréchet distance between two sets of feature vectors, each seen as a Gaussian (Heusel et al., 2017, eq. 6).

    Args:
        features: (n, d) of the pictures that are judged, or their statistics.
        real: (m, d) of the real pictures, or their statistics.
        scaled: measure each feature in units of its standard deviation over the real set, so that a few loud channels
            do not decide alone; features that the real set holds constant are left out. Not symmetric any more.

    Returns:
        The distance, in squared units of the features (`scaled`: a shift of every feature by one spread gives d).

    Warns:
        UserWarning: a set with fewer than 2 d vectors. The distance of two finite samples of the *same* pictures is not 0
            but grows like d / n; then compare values of equal n only, or take `kernel_distance`.

    Raises:
        InputError: fewer than two vectors in a set, or vectors of different lengths.
    """
    a, b = _statistics(features), _statistics(real)
    mean_a, cov_a, mean_b, cov_b = a.mean, a.covariance, b.mean, b.covariance
    if len(mean_a) != len(mean_b):
        raise InputError(f"Fréchet distance: features of length {len(mean_a)} against length {len(mean_b)}.")
    dimensions, fewest = len(mean_a), min(a.count, b.count)
    if fewest < 2 * dimensions:
        warnings.warn(
            f"Fréchet distance of {dimensions} features from {fewest} pictures: fewer than twice as many pictures as "
            "features bias it upwards; compare only values of equal counts, or use the kernel distance.",
            stacklevel=2,
        )
    if scaled:
        unit, kept = _units(cov_b.diagonal())
        square = torch.outer(unit, unit)
        mean_a, mean_b = mean_a[kept] / unit, mean_b[kept] / unit
        cov_a, cov_b = cov_a[kept][:, kept] / square, cov_b[kept][:, kept] / square
    return frechet_between_gaussians(mean_a, cov_a, mean_b, cov_b)


def _statistics(features: Tensor | FeatureStatistics) -> FeatureStatistics:
    return FeatureStatistics.of(features) if isinstance(features, Tensor) else features


def _units(variance: Tensor) -> tuple[Tensor, Tensor]:
    """Standard deviations of the features that vary, and which these are, from all variances (d,)."""
    spread = variance.clamp_min(0).sqrt()
    kept = spread > _SPREAD_FLOOR * spread.max()
    return spread[kept], kept


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
    scaled: bool = False,
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
        scaled: measure each feature in units of its standard deviation over the real set, as in `frechet_distance`.
        seed: of the subsets.

    Raises:
        InputError: fewer than two vectors in a set, or vectors of different lengths.
    """
    a, b = FeatureStatistics.of(features), FeatureStatistics.of(real)
    size = min(subset_size, a.count, b.count)
    if size < 2 or subsets < 1:
        raise InputError(
            f"kernel distance: needs two vectors or more in a subset and one subset, got {size}, {subsets}."
        )
    if len(a.mean) != len(b.mean):
        raise InputError(f"kernel distance: features of length {len(a.mean)} against length {len(b.mean)}.")
    x, y = features.detach().double().cpu(), real.detach().double().cpu()
    if scaled:
        unit, kept = _units(b.covariance.diagonal())
        x, y = x[:, kept] / unit, y[:, kept] / unit
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
        return (p @ q.T / d + 1) ** degree

    xx, yy, xy = kernel(x, x), kernel(y, y), kernel(x, y)
    within = xx.sum() - xx.trace() + yy.sum() - yy.trace()
    return within / (n * (n - 1)) - 2 * xy.mean()
