"""Latent directions from scores of pictures: a linear model of each score, and steps that change one score and no other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from preimage.errors import WeightsError
from preimage.generate.directions import Packed

SHARES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Ridges that are tried, as shares of the mean variance of an input."""
HELD = 5
"""One of so many rows is held out to choose the ridge and to say how well the model does."""


def ridge(x: Tensor, y: Tensor, share: float) -> Tensor:
    """Weights (d, k) of the linear model of centred y (n, k) from centred x (n, d) with squares of weights penalised.

    share: of the mean variance of an input, added to the variance of each.
    """
    x, y = x.double() - x.double().mean(0), y.double() - y.double().mean(0)
    covariance = x.t() @ x / len(x)
    covariance.diagonal().add_(share * covariance.diagonal().mean())
    weights: Tensor = torch.linalg.solve(covariance, x.t() @ y / len(x))
    return weights


def fit(x: Tensor, y: Tensor, shares: Sequence[float] = SHARES) -> tuple[Tensor, Tensor]:
    """A ridge regression of each score whose penalty is chosen on rows that it did not see.

    Args:
        x: (n, d).
        y: (n, k).
        shares: of `ridge`, to choose from.

    Returns:
        weights (d, k) from all rows, and the explained share of variance (k,) of the rows that were held out.

    Raises:
        WeightsError: too few rows, or a score that does not vary.
    """
    if len(x) < 2 * HELD:
        raise WeightsError(
            f"directions: {len(x)} scored pictures are too few; take {2 * HELD} or more, better thousands."
        )
    if not bool((y.double().std(0) > 0).all()):
        raise WeightsError("directions: a score is the same for all pictures; nothing can be learned of it.")
    held = torch.arange(len(x)) % HELD == HELD - 1
    shown, truth = x[~held], y[held].double()
    best = torch.full((y.shape[1],), -torch.inf, dtype=torch.float64)
    weights = torch.zeros(x.shape[1], y.shape[1], dtype=torch.float64)
    for share in shares:
        w = ridge(shown, y[~held], share)
        guess = (x[held].double() - shown.double().mean(0)) @ w + y[~held].double().mean(0)
        explained = 1 - (guess - truth).square().mean(0) / truth.var(0, correction=0)
        better = explained > best
        if bool(better.any()):
            weights[:, better], best = ridge(x, y, share)[:, better], torch.maximum(best, explained)
    return weights, best


def conditional(normals: Tensor, covariance: Tensor | None = None) -> Tensor:
    """Steps that each change one linear score and leave the others as they are (InterFaceGAN, section 3.3, figure 2).

    Of all such steps the shortest. Measured with the identity they are the paper's: each normal less its projection on the others.

    Args:
        normals: (d, k) weights of the scores.
        covariance: (d, d) of the latents: lengths are then in their deviations, so that steps go where latents are; None for the
            identity.

    Returns:
        (k, d); row i changes score i by 1.

    Raises:
        WeightsError: scores of which one follows from the others.
    """
    moved = normals if covariance is None else covariance @ normals
    gram = normals.t() @ moved
    scale = gram.diagonal().sqrt()
    if float(torch.linalg.cond(gram / scale / scale[:, None])) > 1e8:
        raise WeightsError("directions: one attribute follows from the others; leave one of them out.")
    steps: Tensor = torch.linalg.solve(gram, moved.t())
    return steps


def from_scores(
    latents: Tensor, scores: Tensor, rows: Sequence[int] | None = None, likely: bool = True
) -> tuple[Tensor, Tensor]:
    """A direction for each score of the pictures that latents gave, conditioned on the other scores.

    Args:
        latents: (n, rows, d).
        scores: (n, k).
        rows: that count, and that the directions move; None for all.
        likely: the shortest steps in deviations of the latents; else in their numbers, as in the paper.

    Returns:
        (k, rows, d), of any length, and the explained share (k,) of each score's variance on pictures held out.

    Raises:
        WeightsError: see `fit` and `conditional`.
    """
    packed = Packed(latents, range(latents.shape[1]) if rows is None else rows)
    x = packed.pack(latents)
    normals, explained = fit(x, scores)
    return packed.unpack(conditional(normals, torch.cov(x.t()) if likely else None)), explained
