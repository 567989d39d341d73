"""Calibration on samplers whose truth is known: of the same law, too sure, too timid, sure of the wrong places."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from preimage.candidates import spread
from preimage.errors import InputError
from preimage.measure.calibration import EDGES, Calibration


def faces(
    n: int, *, sigma: float = 6, vary: float = 0.7, factor: float = 1, side: int = 96, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Candidates and truth around one picture: a log-normal σ per pixel for the truth, factor · σ for the candidates."""
    rng = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    deviation = sigma * torch.exp(vary * noise(1, side, side)) / 255
    centre = 0.5 + 0.1 * noise(3, side, side)
    return centre + factor * deviation * noise(n, 3, side, side), centre + deviation * noise(3, side, side)


def measured(n: int, **kwargs: float) -> Calibration:
    out = Calibration()
    out.update(*faces(n, **kwargs))  # type: ignore[arg-type]
    return out


@pytest.mark.parametrize("n", [2, 3, 8])
def test_draws_from_the_law_of_the_truth_are_calibrated(n: int) -> None:
    assert measured(n).ratio == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("n", [2, 8])
def test_the_ratio_of_wrong_spreads_has_its_closed_form(n: int, factor: float) -> None:
    """Actual σ² (1 + f² / n) over predicted (1 + 1 / n) f² σ²."""
    expected = math.sqrt((1 + factor**2 / n) / ((1 + 1 / n) * factor**2))
    assert measured(n, factor=factor).ratio == pytest.approx(expected, rel=0.03)
    assert (expected > 1) == (factor < 1)


@pytest.mark.parametrize("vary", [0.0, 0.7])
@pytest.mark.parametrize("n", [3, 8])
def test_the_curve_of_a_calibrated_sampler_is_the_diagonal_in_every_bin(n: int, vary: float) -> None:
    curve = measured(n, vary=vary, side=256).curve()
    filled = [(x, y) for x, y, w in zip(curve.x, curve.y, curve.weight, strict=True) if w > 0.01]
    assert len(filled) >= 4
    for predicted, actual in filled:
        assert actual == pytest.approx(predicted, rel=0.05)
    assert curve.ideal == curve.x
    assert sum(curve.weight) == pytest.approx(1)


def test_the_curve_is_what_leaving_one_out_gives() -> None:
    images, truth = faces(4, side=20)
    pixels, predicted, actual = np.zeros((3, len(EDGES) + 1))
    for j in range(4):
        others = torch.cat([images[:j], images[j + 1 :]])
        where = np.digitize(spread(others).numpy().ravel(), EDGES, right=True)
        for values, into in (
            (torch.ones(20, 20), pixels),
            (((images[j] - others.mean(0)) * 255).square().mean(0), predicted),
            (((truth - others.mean(0)) * 255).square().mean(0), actual),
        ):
            np.add.at(into, where, values.numpy().ravel())
    calibration = Calibration()
    calibration.update(images, truth)
    curve, filled = calibration.curve(), pixels > 0
    assert curve.x == pytest.approx(np.sqrt(predicted[filled] / pixels[filled]).tolist(), rel=1e-9)
    assert curve.y == pytest.approx(np.sqrt(actual[filled] / pixels[filled]).tolist(), rel=1e-9)
    assert curve.weight == pytest.approx((pixels[filled] / pixels.sum()).tolist(), rel=1e-9)


def test_correlation_is_that_of_the_certainty_map_with_the_error_of_the_mean() -> None:
    calibration, xs, ys = Calibration(), [], []
    for seed in range(3):
        images, truth = faces(5, side=30, seed=seed)
        calibration.update(images, truth)
        xs.append(spread(images).flatten())
        ys.append((images.mean(0) - truth).abs().mean(0).flatten())
    expected = np.corrcoef(torch.cat(xs).numpy(), torch.cat(ys).numpy())[0, 1]
    assert calibration.correlation == pytest.approx(expected, rel=1e-9)
    assert expected > 0.5
    assert calibration.count == 3


def test_rank_correlation_weighs_bins_by_their_pixels() -> None:
    images, _ = faces(3, side=24)
    _, truth = faces(1, side=24, seed=7, vary=0)  # errs without regard to the spread, so that the curve wiggles
    calibration = Calibration()
    calibration.update(images, truth)
    curve = calibration.curve()
    counts = np.rint(np.array(curve.weight) * 24 * 24 * 3).astype(int)  # pixels, seen once for each left out
    expected = scipy.stats.spearmanr(np.repeat(np.arange(len(counts)), counts), np.repeat(curve.y, counts)).statistic
    assert calibration.rank_correlation == pytest.approx(expected, rel=1e-9)
    assert abs(expected) < 0.99
    assert measured(8).rank_correlation > 0.99


def test_spread_in_the_wrong_places_predicts_nothing() -> None:
    """Candidates that scatter around the truth's centre, but not where the truth does."""
    images, _ = faces(16)
    _, truth = faces(2, seed=1)
    centre = faces(1, sigma=0)[0][0]
    truth = truth - faces(1, sigma=0, seed=1)[0][0] + centre
    calibration = Calibration()
    calibration.update(images, truth)
    assert abs(calibration.correlation) < 0.15
    assert measured(16).correlation > 0.5


def test_merging_is_one_pass() -> None:
    whole, a, b = Calibration(), Calibration(), Calibration()
    own = []
    for seed, part in enumerate((a, a, b)):
        pair = faces(2 + seed, side=20 + seed, seed=seed)
        own.append(whole.update(*pair))
        assert part.update(*pair) == own[-1]
    a.merge(b)
    a.merge(Calibration())
    assert a.count == whole.count == 3
    assert a.ratio == pytest.approx(whole.ratio, rel=1e-12)
    assert min(own) < whole.ratio < max(own)
    assert a.correlation == pytest.approx(whole.correlation, rel=1e-9)
    assert a.rank_correlation == pytest.approx(whole.rank_correlation, rel=1e-9)
    for line, other in zip((a.curve().x, a.curve().y), (whole.curve().x, whole.curve().y), strict=True):
        assert line == pytest.approx(other, rel=1e-12)
    with pytest.raises(InputError, match="edges"):
        a.merge(Calibration((1.0, 2.0)))


def test_two_candidates_give_a_ratio_and_no_curve() -> None:
    calibration = measured(2)
    assert calibration.correlation > 0.2
    assert math.isnan(calibration.rank_correlation)
    with pytest.raises(InputError, match="three"):
        calibration.curve()


def test_copies_are_infinitely_sure() -> None:
    copies, truth = faces(1)[0].expand(4, -1, -1, -1), faces(1)[1]
    calibration = Calibration()
    assert calibration.update(copies, truth) == math.inf
    assert calibration.ratio == math.inf
    assert calibration.curve().x == (0,)
    assert math.isnan(calibration.correlation)
    assert math.isnan(calibration.rank_correlation)
    assert math.isnan(Calibration().update(copies, copies[0]))


def test_nothing_gathered_is_nothing_known() -> None:
    empty = Calibration()
    assert math.isnan(empty.ratio)
    assert math.isnan(empty.correlation)
    assert math.isnan(empty.rank_correlation)


def test_what_cannot_be_measured_is_said() -> None:
    images, truth = faces(3, side=4)
    for pictures, reference in (
        (images[:1], truth),
        (images[0], truth),
        (images, truth[:, 1:]),
        (images, images),
        (images, truth * math.nan),
    ):
        with pytest.raises(InputError):
            Calibration().update(pictures, reference)
    for edges in ((), (2.0, 1.0), (0.0, 1.0)):
        with pytest.raises(InputError, match="rise"):
            Calibration(edges)
