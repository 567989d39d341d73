"""The space of solutions of one input: what many candidates offer together that one alone cannot.

The protocol is that of the "NTIRE 2021 Learning the Super-Resolution Space Challenge" (Lugmayr et al., CVPR Workshops
2021; again in 2022): ten candidates per input, LPIPS (AlexNet, pixel by pixel) to the true picture, the diversity
score, and how well the candidates explain the input. Everything here belongs to one input; a table averages over the
inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.errors import InputError
from preimage.measure.diversity import Distance, Features, lr_psnr, pairwise_distance, rms_distance

DistanceMaps = Callable[[Tensor, Tensor], Tensor]
"""(m, 3, H, W) and (m, 3, H, W) -> (m, h, w), distances of 0 or more, pixel by pixel."""

PASS_MARK = 45.0
"""LR-PSNR in dB that a method of the challenge has to reach on average; 1.43 grey levels RMS."""

_BATCH = 16  # candidates per call of a network


@dataclass(frozen=True)
class SolutionSpace:
    """All candidates of one input, in numbers; NaN for what was not measured.

    "Distance" is the one given to `solution_space`, "truth" the true picture. With a distance whose name is not LPIPS
    none of these is comparable with a published number.

    Attributes:
        count: candidates.
        distance_mean: to the truth, mean over the candidates.
        distance_best: to the truth, of the closest candidate.
        diversity: score in percent, `diversity_score`; 0 for one candidate or copies.
        pairwise: mean distance over all pairs of candidates; NaN for one.
        pairwise_rms: the same as RMS in grey levels.
        identity_spread: mean 1 − cos over all pairs of face embeddings, 0 (one person) to 2; NaN for one candidate.
        coverage: expected distance of the best of k candidates to the truth, k = 1 to `count`, see `coverage`.
        lr_psnr_mean: dB, mean over the candidates as in the protocol (both small pictures rounded to 8 bits): infinite
            as soon as one file is exact.
        lr_psnr_worst: dB, of the worst candidate; infinite where all files are exact.
        lr_psnr_pooled: dB, of the RMS error over all candidates together; infinite only where all files are exact, and
            never above `lr_psnr_mean`: the mean to print for a method that is exact now and then.
        exact: how many candidates have no downscaling error at all.
        passing: share of the candidates at `PASS_MARK` or above, 0 to 1; it averages over inputs whatever is infinite.
    """

    count: int
    distance_mean: float
    distance_best: float
    diversity: float
    pairwise: float
    pairwise_rms: float
    identity_spread: float
    coverage: tuple[float, ...]
    lr_psnr_mean: float = math.nan
    lr_psnr_worst: float = math.nan
    lr_psnr_pooled: float = math.nan
    exact: int | None = None
    passing: float = math.nan


def diversity_score(maps: Tensor) -> float:
    """How much closer to the truth the candidates come if every pixel may choose its own, in percent.

    (global best − local best) / global best · 100, where the global best is the smallest of the maps' means and the
    local best the mean of their pixel-wise minimum (Lugmayr et al., 2021). Copies score 0, and 100 would mean that
    every pixel is met exactly by some candidate. The score tends to rise with n, and noise scores too: compare at
    equal n, beside the distance.

    Args:
        maps: (n, H, W), distance of every candidate to the truth, pixel by pixel, 0 or more.

    Returns:
        0 to 100; 0 by convention where a candidate is perfect (global best 0): nothing is left to gain.

    Raises:
        InputError: no map, or values that are negative or not finite.
    """
    best = _Best()
    best.take(maps)
    return best.score()


def coverage(distances: Tensor | Sequence[float]) -> Tensor:
    """Expected distance of the best of k candidates, for every k: how fast more seeds come closer to the truth.

    The mean of the minimum over all subsets of k out of the n candidates, not along one random order: the i-th smallest
    distance is the minimum of C(n − i, k − 1) of the C(n, k) subsets.

    Args:
        distances: (n,) to the truth; infinite ones are allowed.

    Returns:
        (n,) float64 on the CPU, k = 1 (the mean) to n (the minimum); never rising.

    Raises:
        InputError: no distance, or NaN.
    """
    ordered = torch.as_tensor(distances).detach().double().cpu().flatten().sort().values
    n = len(ordered)
    if not n or bool(ordered.isnan().any()):
        raise InputError("coverage: needs at least one distance and no NaN.")
    out = torch.empty_like(ordered)
    for k in range(1, n + 1):
        i = torch.arange(1, n - k + 1, dtype=torch.float64)  # the step from the share of rank i to that of rank i + 1
        steps = (n - i - k + 1) / (n - i)
        shares = torch.cat([torch.ones(1, dtype=torch.float64), steps]).cumprod(0) * (k / n)
        out[k - 1] = (shares * ordered[: n - k + 1]).sum()
    return out


def solution_space(
    images: Tensor,
    reference: Tensor,
    *,
    maps: DistanceMaps | None = None,
    distance: Distance | None = None,
    embed: Features | None = None,
    errors: Tensor | Sequence[float] | None = None,
) -> SolutionSpace:
    """All that is measured of the candidates of one input; at most 16 of them go through a network at a time.

    Args:
        images: (n, 3, H, W) RGB in [0, 1].
        reference: (3, H, W), the true picture.
        maps: a distance that keeps its pixels, for the diversity score; None leaves the score out (NaN, but 0
            for n = 1).
        distance: for the distance to the truth and between candidates; None takes the means of the maps, or the RMS in
            grey levels where there are no maps either.
        embed: faces to vectors (`MobileFaceNet.embed`), for the identity spread; None leaves it out.
        errors: (n,) RMS downscaling errors in grey levels, as in `Candidates.error`; exactly 0 for an exact file. None
            leaves LR-PSNR out.

    Raises:
        InputError: shapes that do not fit, pictures, distances or errors that are not finite, or negative distances.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not len(images) or reference.shape != images.shape[1:]:
        raise InputError(
            f"space of solutions: needs pictures (n, 3, H, W), n at least 1, and a true picture of their size, got "
            f"{tuple(images.shape)} and {tuple(reference.shape)}."
        )
    if not bool(images.isfinite().all()) or not bool(reference.isfinite().all()):
        raise InputError("space of solutions: pictures hold NaN or infinite values; leave this input out.")
    judge = distance or (_mean_of(maps) if maps else rms_distance)
    best, to_truth = _Best(), []
    with torch.inference_mode():
        for part in torch.split(images, _BATCH):
            truth = reference.expand_as(part)
            if maps:
                best.take(maps(part, truth))
            if distance or not maps:
                to_truth.append(judge(part, truth).cpu().double())
        distances = torch.cat(to_truth) if to_truth else torch.tensor(best.means, dtype=torch.float64)
        if not bool((distances.isfinite() & (distances >= 0)).all()):
            raise InputError("space of solutions: the distance to the true picture must be finite and not negative.")
        several = len(images) > 1
        return SolutionSpace(
            count=len(images),
            distance_mean=float(distances.mean()),
            distance_best=float(distances.min()),
            diversity=best.score() if maps else math.nan if several else 0.0,
            pairwise=_mean_over_pairs(images, judge) if several else math.nan,
            pairwise_rms=pairwise_distance(images, rms_distance) if several else math.nan,
            identity_spread=_cosine_spread(images, embed) if several and embed else math.nan,
            coverage=tuple(coverage(distances).tolist()),
            **_explained(errors, len(images)),  # type: ignore[arg-type]
        )


class _Best:
    """Global and local best of distance maps that come a few at a time; none of them is kept."""

    def __init__(self) -> None:
        self.means: list[float] = []
        self._local: Tensor | None = None

    def take(self, maps: Tensor) -> None:
        """Note the means of (m, h, w) maps and their pixel-wise minimum."""
        if maps.ndim != 3 or not maps.numel():
            raise InputError(f"diversity score: needs distance maps (n, H, W), got {tuple(maps.shape)}.")
        maps = maps.detach().cpu().double()
        if not bool((maps.isfinite() & (maps >= 0)).all()):
            raise InputError("diversity score: distance maps must be finite and not negative.")
        self.means += [_mean(one) for one in maps]  # one by one: copies give equal means to the last bit
        lowest = maps.amin(0)
        self._local = lowest if self._local is None else torch.minimum(self._local, lowest)

    def score(self) -> float:
        best = min(self.means)
        if self._local is None or best == 0:
            return 0.0
        return max(0.0, (best - _mean(self._local)) / best * 100)


def _mean(picture: Tensor) -> float:
    return float(picture.contiguous().mean())


def _mean_of(maps: DistanceMaps) -> Distance:
    """The distance whose maps these are."""

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return maps(a, b).flatten(1).mean(1)

    return distance


def _mean_over_pairs(images: Tensor, judge: Distance) -> float:
    """`pairwise_distance`, the pairs a few at a time: a network keeps many maps of each."""

    def in_parts(a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([judge(p, q) for p, q in zip(torch.split(a, _BATCH), torch.split(b, _BATCH), strict=True)])

    return pairwise_distance(images, in_parts)


def _cosine_spread(images: Tensor, embed: Features) -> float:
    """Mean 1 − cos over all pairs of embeddings: half the squared chord of the unit vectors, 0 for copies."""
    vectors = F.normalize(torch.cat([embed(part) for part in torch.split(images, _BATCH)]).cpu().double(), dim=1)
    if not bool(vectors.isfinite().all()):
        raise InputError("identity spread: the embedding of a candidate holds NaN or infinite values.")
    return float(F.pdist(vectors).square().mean() / 2)


def _explained(errors: Tensor | Sequence[float] | None, count: int) -> dict[str, float]:
    """How well the candidates explain the input, from their RMS downscaling errors in grey levels."""
    if errors is None:
        return {}
    rms = torch.as_tensor(errors, dtype=torch.float64).detach().cpu()
    if rms.shape != (count,) or not bool(rms.isfinite().all()):
        raise InputError(
            f"LR-PSNR: needs one finite error for each of {count} candidates, got shape {tuple(rms.shape)}."
        )
    psnr = lr_psnr(rms)
    return {
        "lr_psnr_mean": float(psnr.mean()),
        "lr_psnr_worst": float(psnr.min()),
        "lr_psnr_pooled": float(lr_psnr(rms.square().mean().sqrt())),
        "exact": int((rms == 0).sum()),
        "passing": float((psnr >= PASS_MARK).double().mean()),
    }
