"""What a photo leaves open: the principal directions of its candidates, as sliders whose pictures shrink to the photo too.

Two exact candidates shrink to the same photo, so their difference shrinks to nothing: mean + Σ t_k d_k, with d_k out of such
differences, shrinks to the photo for any t. This holds before rounding; `Degradation.finish` then makes it hold byte for byte.
Principal components of posterior samples as a way to look at what is uncertain: Nehme, Yair, Michaeli, "Uncertainty
Quantification via Neural Posterior Principal Components" (NeurIPS 2023), there by a network, here of the candidates themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from preimage.candidates import Candidates
from preimage.degrade.separable import Separable
from preimage.errors import InputError
from preimage.invert.finish import finish
from preimage.invert.problem import Problem
from preimage.seeds import write_seeds


@dataclass(frozen=True, eq=False)
class OpenDirections:
    """See the module.

    Attributes:
        candidates: whose directions they are, n of them.
        mean: (3, H, W) float32, their mean; it shrinks to the photo, and is soft where they disagree.
        directions: (k, 3, H, W) float32, each as long as one standard deviation of the candidates along it, orthogonal to the
            others; the downscaling takes it to 0.
        shares: (k,) float32, which part of the variance of the candidates each explains, falling.
    """

    candidates: Candidates
    mean: Tensor
    directions: Tensor
    shares: Tensor

    def __len__(self) -> int:
        return len(self.directions)

    def move(
        self, index: int | Sequence[int], amount: float | Sequence[float], start: int | Candidates | None = None
    ) -> Candidates:
        """One candidate, moved.

        Args:
            index: a direction, or several.
            amount: how far along it, or along each, in standard deviations of the candidates; they lie within about ±2.
            start: from which of the candidates, or from another one of the same photo; None: from their mean.

        Returns:
            One candidate, made as exact as those it comes from. No seed gives it again: `Candidates.edit` says how it was made, its seed is that of the
            candidate it began from, or the first of all.

        Raises:
            InputError: no such direction or candidate, amounts that are not finite or as many as the directions.
        """
        which = [index] if isinstance(index, int) else list(index)
        amounts = [float(amount)] if isinstance(amount, int | float) else [float(value) for value in amount]
        if len(which) != len(amounts) or not which or any(not 0 <= k < len(self) for k in which):
            raise InputError(f"move {which} by {amounts}: needs an amount for each direction, of 0 to {len(self) - 1}.")
        if not all(abs(value) < float("inf") for value in amounts):
            raise InputError(f"move {which} by {amounts}: amounts must be finite, in standard deviations.")
        if isinstance(start, int) and not 0 <= start < len(self.candidates):
            raise InputError(
                f"start ({start}): there are {len(self.candidates)} candidates, 0 to {len(self.candidates) - 1}."
            )
        known = self.candidates
        if isinstance(start, Candidates):
            if not torch.equal(start.lr, known.lr) or start.images.shape[1:] != self.mean.shape:
                raise InputError("start answers to another photo, or has another size; give a candidate of this one.")
            one = start
        else:
            one = known.select([start or 0])
        picture = self.mean if start is None else one.images[0]
        for k, value in zip(which, amounts, strict=True):
            picture = picture + value * self.directions[k]
        problem = Problem(known.lr, known.degradation, picture.shape[-1])
        seed = one.seeds[0]
        origin = f"mean of seeds {write_seeds(known.seeds)}" if start is None else f"seed {seed}"
        moves = ", ".join(f"direction {k} by {value:g}" for k, value in zip(which, amounts, strict=True))
        edit = "; ".join([*filter(None, [one.edit]), f"{origin}: {moves}"])
        return finish(
            picture[None], problem, [seed], method=known.method, prior=known.prior, tolerance=known.tolerance, edit=edit
        )


def open_directions(candidates: Candidates, k: int = 4) -> OpenDirections:
    """The k directions of pixel space in which candidates of one photo differ most.

    Principal components by the eigenvectors of the n x n products of the centred candidates, in float64; what the downscaling
    still sees of them, which is the rounding of the files, is taken out.

    Args:
        candidates: at least 3, of a linear degradation; 64 are better.
        k: how many, at most n − 1.

    Returns:
        The directions, their sign such that the largest change of a pixel is a brightening.

    Raises:
        InputError: too few candidates or directions, candidates that are all alike, a degradation that is not linear.
    """
    operator, n = candidates.degradation, len(candidates)
    if not isinstance(operator, Separable):
        raise InputError(
            f"{operator.name} is no linear downscaling: what it leaves open has no directions; choose a linear one."
        )
    if not 1 <= k < n or n < 3:
        raise InputError(
            f"{k} directions of {n} candidates: at least 1, and fewer than candidates, 3 or more; draw more."
        )
    images = candidates.images.double().cpu()
    mean = images.mean(0)
    rows = images - mean
    rows = (rows - operator.pinv(operator(rows))).flatten(1)
    values, vectors = torch.linalg.eigh(rows @ rows.mT / (n - 1))
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    total = float(values.sum())
    if total <= 0 or float(values[k - 1]) <= 1e-9 * total:
        raise InputError(f"{n} candidates differ in fewer than {k} directions; draw more of them, or ask for fewer.")
    # u'X has length sqrt(λ (n − 1)) already
    found = vectors[:, :k].mT @ rows / (n - 1) ** 0.5
    largest = found.gather(1, found.abs().argmax(1, keepdim=True))
    found = (found * largest.sign()).view(k, *mean.shape)
    return OpenDirections(
        candidates,
        operator.project(mean, candidates.lr.double().cpu()).float(),
        found.float(),
        (values[:k] / total).float(),
    )
