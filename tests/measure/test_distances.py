"""Fréchet and kernel distance against closed forms, scipy and their own definitions."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from preimage.errors import InputError
from preimage.measure.distances import (
    FeatureScale,
    FeatureStatistics,
    frechet_between_gaussians,
    frechet_distance,
    kernel_distance,
)


def normal(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def whitened(n: int, d: int, seed: int) -> Tensor:
    """Vectors whose sample mean is 0 and sample covariance 1, to rounding."""
    x = normal(n, d, seed)
    x = x - x.mean(0)
    out: Tensor = torch.linalg.solve_triangular(torch.linalg.cholesky(torch.cov(x.T)), x.T, upper=False).T
    return out


def covariance(d: int, seed: int, rank: int | None = None) -> Tensor:
    root = normal(d, rank or d, seed)
    return root @ root.T


def test_frechet_of_diagonal_gaussians_is_the_distance_of_means_and_deviations() -> None:
    mean_a, mean_b = torch.tensor([1.0, 2.0, -3.0]), torch.tensor([0.0, 4.0, -3.0])
    dev_a, dev_b = torch.tensor([1.0, 0.0, 2.0]), torch.tensor([3.0, 1.0, 2.0])
    value = frechet_between_gaussians(mean_a, dev_a.square().diag(), mean_b, dev_b.square().diag())
    assert value == pytest.approx(5 + 4 + 1, rel=1e-12)


def test_frechet_of_a_rotated_pair_that_commutes() -> None:
    basis = torch.linalg.qr(normal(6, 6, 1)).Q
    a, b = torch.arange(1.0, 7.0).double(), torch.tensor([0.0, 9.0, 1.0, 4.0, 0.25, 6.0]).double()
    value = frechet_between_gaussians(
        torch.zeros(6), basis @ a.diag() @ basis.T, torch.zeros(6), basis @ b.diag() @ basis.T
    )
    assert value == pytest.approx(float((a.sqrt() - b.sqrt()).square().sum()), rel=1e-7)


def test_frechet_agrees_with_the_matrix_root_of_scipy() -> None:
    a, b, mean_a, mean_b = covariance(12, 1), covariance(12, 2), normal(1, 12, 3)[0], normal(1, 12, 4)[0]
    root = np.trace(scipy.linalg.sqrtm((a @ b).numpy()).real)
    expected = float((mean_a - mean_b).square().sum() + a.trace() + b.trace()) - 2 * root
    assert frechet_between_gaussians(mean_a, a, mean_b, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_between_gaussians(mean_b, b, mean_a, a) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rank", [1, 5, 40])
def test_frechet_of_a_gaussian_with_itself_is_zero_also_where_the_covariance_is_singular(rank: int) -> None:
    cov = covariance(40, 5, rank) * 1e3
    assert frechet_between_gaussians(normal(1, 40, 1)[0], cov, normal(1, 40, 1)[0], cov) < 1e-9 * float(cov.trace())


def test_frechet_of_sets_knows_shift_and_scale() -> None:
    x = whitened(200, 8, 7)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(x + 2, x) == pytest.approx(4 * 8, rel=1e-9)
    assert frechet_distance(3 * x, x) == pytest.approx(4 * 8, rel=1e-9)
    assert frechet_distance(x.float() + 2, x) == pytest.approx(4 * 8, rel=1e-5)


def test_scaled_frechet_counts_spreads_of_the_real_set() -> None:
    x = whitened(200, 4, 8)
    units = torch.tensor([1e-3, 1.0, 10.0, 1e3])
    real, other = x * units + 5, (x + 0.5) * units + 5
    scale = FeatureScale.of(real)
    torch.testing.assert_close(scale.spread, units.double())
    assert frechet_distance(other, real, scale) == pytest.approx(4 * 0.25, rel=1e-7)
    assert frechet_distance(FeatureStatistics.of(other), real, scale) == pytest.approx(4 * 0.25, rel=1e-7)


def test_silent_features_are_left_out_of_the_scale() -> None:
    """A channel that fires for one face in fifty is no unit, nor one that never does; one that fires for every tenth is."""
    x = whitened(200, 4, 9)
    sparse = torch.zeros(200, 3)
    sparse[:4, 0], sparse[:20, 1] = 1, 1
    real = torch.cat([x, sparse], 1)
    scale = FeatureScale.of(real)
    assert scale.spread.isfinite().tolist() == [True] * 4 + [False, True, False]
    assert scale.kept == 5
    other = real + torch.tensor([0, 0, 0, 0, 9.0, 0, 9.0])
    assert frechet_distance(other, real, scale) == pytest.approx(0, abs=1e-9)
    assert kernel_distance(other, real, 5, 50, scale=scale) == kernel_distance(real, real, 5, 50, scale=scale)


def test_few_pictures_are_warned_of() -> None:
    few, enough = normal(19, 10, 1), normal(20, 10, 2)
    with pytest.warns(UserWarning, match="19 pictures"):
        frechet_distance(few, enough)
    with pytest.warns(UserWarning, match="kernel distance"):
        frechet_distance(enough, FeatureStatistics.of(few))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frechet_distance(enough, enough)


@pytest.mark.parametrize("sizes", [[500], [1, 499], [100] * 5, [3, 0, 250, 1, 246]])
def test_streaming_gives_the_statistics_of_the_whole(sizes: list[int]) -> None:
    x = normal(500, 6, 3) * torch.tensor([1e-3, 1, 1, 5, 9, 100]) + 1e6
    stream = FeatureStatistics()
    for part in torch.split(x, sizes):
        stream.update(part)
    assert stream.count == 500
    torch.testing.assert_close(stream.mean, x.mean(0), rtol=1e-14, atol=0)
    torch.testing.assert_close(stream.covariance, torch.cov(x.T), rtol=1e-7, atol=1e-9)


def test_merging_is_streaming() -> None:
    x = normal(90, 5, 4)
    a, b = FeatureStatistics.of(x[:20]), FeatureStatistics.of(x[20:])
    a.merge(b)
    a.merge(FeatureStatistics())
    assert a.count == 90
    torch.testing.assert_close(a.mean, x.mean(0))
    torch.testing.assert_close(a.covariance, torch.cov(x.T))
    empty = FeatureStatistics()
    empty.merge(a)
    torch.testing.assert_close(empty.covariance, a.covariance)


def test_kernel_distance_of_whole_sets_is_its_definition() -> None:
    x, y = normal(7, 3, 1), normal(7, 3, 2) + 1

    def k(p: Tensor, q: Tensor) -> float:
        return (float(p @ q) / 3 + 1) ** 3

    pairs = [(i, j) for i in range(7) for j in range(7)]
    within = sum(k(x[i], x[j]) + k(y[i], y[j]) for i, j in pairs if i != j) / 42
    expected = within - 2 * sum(k(x[i], y[j]) for i, j in pairs) / 49
    assert kernel_distance(x, y, subsets=3).value == pytest.approx(expected, rel=1e-10)
    assert kernel_distance(x, y, subsets=3).deviation == pytest.approx(0, abs=1e-10)
    assert math.isnan(kernel_distance(x, y, subsets=1).deviation)


def test_kernel_distance_of_split_halves_is_zero_on_average() -> None:
    """Unbiased, however few the vectors: the mean over many splits lies within its standard error of 0."""
    x = normal(8000, 10, 5) * 2
    values = torch.tensor([kernel_distance(p[:20], p[20:], subsets=1).value for p in torch.split(x, 40)])
    error = float(values.std()) / len(values) ** 0.5
    assert abs(float(values.mean())) < 3 * error
    shifted = torch.tensor([kernel_distance(p[:20] + 0.5, p[20:], subsets=1).value for p in torch.split(x, 40)])
    assert float(shifted.mean()) > 10 * error


def test_kernel_distance_has_a_seed_and_takes_spreads() -> None:
    x, y = normal(300, 5, 1), normal(200, 5, 2) + 1
    first = kernel_distance(x, y, 10, 50, seed=3)
    assert first == kernel_distance(x, y, 10, 50, seed=3)
    assert first != kernel_distance(x, y, 10, 50, seed=4)
    units, shift = torch.tensor([1e-2, 1, 3, 50, 700]), 40.0
    plain = kernel_distance(x, y, 10, 50, scale=FeatureScale.of(y)).value
    loud = (y * units + shift, x * units + shift)
    assert kernel_distance(loud[1], loud[0], 10, 50, scale=FeatureScale.of(loud[0])).value == pytest.approx(
        plain, rel=1e-6
    )


def test_what_cannot_be_measured_is_said() -> None:
    x = normal(30, 4, 1)
    for wrong in (x[:1], x[:, :3], x[0], x.index_fill(0, torch.tensor([3]), float("nan"))):
        with pytest.raises(InputError):
            frechet_distance(wrong, x)
        with pytest.raises(InputError):
            kernel_distance(wrong, x)
    for measure in (frechet_distance, kernel_distance):
        with pytest.raises(InputError, match="4, 4, 3"):
            measure(x, x, scale=FeatureScale.of(x[:, :3]))
    with pytest.raises(InputError):
        _ = FeatureStatistics().mean
    stream = FeatureStatistics.of(x)
    with pytest.raises(InputError, match="length 3"):
        stream.update(x[:, :3])
