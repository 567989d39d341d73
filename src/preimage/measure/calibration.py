"""Calibration: do the candidates disagree as much as they are wrong, and where they are wrong?"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from preimage.candidates import spread
from preimage.errors import InputError
from preimage.measure.distances import FeatureStatistics
from preimage.measure.report import Curve

EDGES = (0.5, 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64, 96)
"""Grey levels of spread between two bins; the first bin begins at 0, the last has no end."""


class Calibration:
    """Predicted and actual error of the candidates, pixel by pixel, gathered input by input.

    If truth and candidates are exchangeable draws from one distribution given the photo, with variance σ² at a pixel,
    then on average the sample variance s² of n candidates (divided by n − 1) is σ², the squared error of one candidate
    2σ², and that of the candidates' mean (1 + 1/n) σ². So a calibrated sampler has `ratio` 1.

    The curve sorts pixels by spread, and for that the theory needs care. A bin of small spread collects pixels whose n
    draws *happened* to agree: their s² is too small there, and even a perfect sampler would look over-confident at the
    low end and timid at the high end (synthetic Gaussian pixels, sampled perfectly: actual / predicted RMS from 1.55 to
    0.80 at n = 8 and equal σ everywhere, 1.18 to 0.94 where log σ varies by 0.5). Therefore each candidate in turn
    stands in for the truth: the spread of the *others* chooses the bin, the squared distance of the one left out from
    the others' mean is the prediction, that of the truth from the same mean is the outcome. Given the others, the one
    left out and the truth are exchangeable, so the curve of a calibrated sampler is the diagonal in every bin (1.00 ±
    0.02 in the same cases). `certainty` falls with the spread, so a curve that rises means that certainty predicts
    errors.

    Bins follow `Candidates.spread`, the mean of the channels' standard deviations, since `certainty` shows that; errors
    and variances are the means over the channels of *squares*, since only these obey the theory.

    Every pixel counts once, so larger pictures count more. Neighbouring pixels err together: for an interval, resample
    inputs (`update` returns each input's own ratio), never pixels.

    Args:
        edges: of the bins, grey levels, rising.

    Raises:
        InputError: edges that do not rise.
    """

    def __init__(self, edges: tuple[float, ...] = EDGES) -> None:
        if not edges or any(b <= a for a, b in pairwise(edges)) or not edges[0] > 0:
            raise InputError("calibration: the edges of the bins must be above 0 and rise.")
        self.edges = tuple(float(e) for e in edges)
        self.count = 0
        """Inputs gathered."""
        self._bins = torch.zeros(3, len(edges) + 1, dtype=torch.float64)  # pixels, predicted, actual squared error
        self._totals = torch.zeros(2, dtype=torch.float64)  # predicted, actual, of the mean of all candidates
        self._joint = FeatureStatistics()  # of (spread, absolute error)

    def update(self, images: Tensor, reference: Tensor) -> float:
        """Take in the candidates of one input.

        Two candidates are enough for `ratio` and `correlation`; the curve needs three, for with one left out a single
        one has no spread, and takes nothing from an input with two.

        Args:
            images: (n, 3, H, W) RGB in [0, 1], n at least 2.
            reference: (3, H, W), the true picture.

        Returns:
            `ratio` of this input alone.

        Raises:
            InputError: one candidate, shapes that do not fit, values that are not finite.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.numel() or reference.shape != images.shape[1:]:
            raise InputError(
                f"calibration: needs pictures (n, 3, H, W) and a true picture of their size, got {tuple(images.shape)} "
                f"and {tuple(reference.shape)}."
            )
        n = len(images)
        if n < 2:
            raise InputError("calibration: one candidate does not show how sure it is; draw at least 2, better 8.")
        levels, truth = (t.detach().cpu().double() * 255 for t in (images, reference))
        if not bool(levels.isfinite().all()) or not bool(truth.isfinite().all()):
            raise InputError("calibration: pictures hold NaN or infinite values; leave this input out.")
        mean = levels.mean(0)
        off, miss = levels - mean, truth - mean
        squares = off.square().sum(0)
        predicted, actual = squares.mean() / (n - 1) * (1 + 1 / n), miss.square().mean()
        self._totals += torch.stack([predicted, actual]) * miss[0].numel()
        self._joint.update(torch.stack([spread(levels / 255), miss.abs().mean(0)]).flatten(1).T)
        if n > 2:
            for one in off:
                self._leave_out(one, squares, miss, n)
        self.count += 1
        return _ratio(predicted, actual)

    def _leave_out(self, one: Tensor, squares: Tensor, miss: Tensor, n: int) -> None:
        """Put every pixel into the bin of the spread of all candidates but one; each of the n rounds weighs 1 / n.

        Args:
            one: (3, H, W), that candidate minus the mean of all; the mean of the others lies at −one / (n − 1).
            squares: (3, H, W), sum over all candidates of such differences squared.
            miss: (3, H, W), the truth minus the mean of all.
        """
        others = -one / (n - 1)
        variance = ((squares - one.square() - others.square() * (n - 1)) / (n - 2)).clamp_min(0)
        where = torch.bucketize(variance.sqrt().mean(0).flatten(), torch.tensor(self.edges, dtype=torch.float64))
        for row, values in enumerate((torch.ones_like(one), (one - others).square(), (miss - others).square())):
            weights = values.mean(0).flatten() / n
            self._bins[row] += torch.bincount(where, weights, minlength=self._bins.shape[1])

    def merge(self, other: Calibration) -> None:
        """Take in what another process or part of the data has gathered.

        Raises:
            InputError: other bins.
        """
        if self.edges != other.edges:
            raise InputError("calibration: two sets of bins cannot be merged; give both the same edges.")
        self._bins += other._bins
        self._totals += other._totals
        self._joint.merge(other._joint)
        self.count += other.count

    @property
    def ratio(self) -> float:
        """Actual over predicted RMS error of the candidates' mean, all pixels together; NaN where nothing is known.

        1: calibrated. Above 1: over-confident, the truth lies that many times farther out than a candidate would;
        infinite for copies that miss. Below 1: the candidates differ more than they need to.
        """
        return _ratio(self._totals[0], self._totals[1])

    @property
    def correlation(self) -> float:
        """Pearson correlation over pixels of `Candidates.spread` with the absolute error of the candidates' mean.

        The error of the mean, not of each candidate: noise added somewhere makes candidates err there and says nothing.
        NaN where one of both does not vary.
        """
        if self._joint.count < 2:
            return math.nan
        (a, c), (_, b) = self._joint.covariance.tolist()
        return c / math.sqrt(a * b) if a > 0 and b > 0 else math.nan

    @property
    def rank_correlation(self) -> float:
        """Spearman correlation of spread and actual RMS error over the bins, each weighing as many pixels as it holds.

        1: more spread always goes with more error, whatever the shape of the curve. NaN for fewer than two bins.
        """
        pixels, _, actual = self._filled()
        if len(pixels) < 2:
            return math.nan
        share = pixels / pixels.sum()
        ranks = torch.stack([_ranks(torch.arange(len(share), dtype=torch.float64), share), _ranks(actual, share)])
        ranks = ranks - (ranks * share).sum(1, keepdim=True)
        (a, c), (_, b) = ((ranks * share) @ ranks.T).tolist()
        return c / math.sqrt(a * b) if a > 0 and b > 0 else math.nan

    def curve(self) -> Curve:
        """Actual over predicted RMS error, a point for every bin that holds pixels, from certain to imagined.

        Predicted is the distance of a candidate from the mean of the others, actual that of the truth from the same
        mean; `weight` is the share of the pixels, `ideal` the diagonal.

        Raises:
            InputError: no input with three candidates or more.
        """
        pixels, predicted, actual = self._filled()
        if not len(pixels):
            raise InputError("calibration: no curve without an input that has three candidates or more.")
        x = tuple(predicted.tolist())
        return Curve(
            name="calibration",
            x_label="predicted RMS error, grey levels",
            y_label="actual RMS error, grey levels",
            x=x,
            y=tuple(actual.tolist()),
            weight=tuple((pixels / pixels.sum()).tolist()),
            ideal=x,
        )

    def _filled(self) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels, predicted and actual RMS error of the bins that hold pixels."""
        pixels, predicted, actual = self._bins[:, self._bins[0] > 0]
        return pixels, (predicted / pixels).sqrt(), (actual / pixels).sqrt()


def _ratio(predicted: Tensor, actual: Tensor) -> float:
    return float((actual / predicted).sqrt())


def _ranks(values: Tensor, share: Tensor) -> Tensor:
    """Middle of the weight below and the weight up to each value, so that ties and weights are both respected."""
    below = (values[None] < values[:, None]).double() @ share
    equal = (values[None] == values[:, None]).double() @ share
    return below + equal / 2
