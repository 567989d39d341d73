"""Coarse to fine: the first steps of a search look at a smaller picture of the same face, which costs less than the whole one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from preimage.degrade.degradation import Degradation
from preimage.degrade.linear import OPERATORS, LinearOperator
from preimage.errors import MethodError
from preimage.generate.prior import Prior, has_side_outputs, side_sizes
from preimage.invert.search_settings import SearchSettings


@dataclass(frozen=True)
class Coarse:
    """What the first steps look at.

    Attributes:
        side: of the prior's smaller picture (`Prior`, side outputs).
        steps: how many look at it, at most.
        degradation: from that picture to the photo.
        exact: whether the whole picture shrinks to that one, so that no step has to look at it (`shrinks_to`).
    """

    side: int
    steps: int
    degradation: Degradation
    exact: bool = False


def check_coarse(prior: object, settings: SearchSettings) -> None:
    """Refuse to begin on smaller pictures with a prior that draws none.

    Raises:
        MethodError: with the mend.
    """
    if settings.coarse and not has_side_outputs(prior):
        raise MethodError(
            f"coarse ({settings.coarse:g}): {getattr(prior, 'name', 'this prior')} draws the whole picture only. Set coarse to 0, or "
            "take a prior with side outputs, such as a StyleGAN2."
        )


def coarse_of(prior: Prior, degradation: Degradation, settings: SearchSettings) -> Coarse | None:
    """What the first steps look at: the prior's smallest picture that is no smaller than the photo.

    A prior whose whole picture shrinks to a smaller one of its own (`shrinks_to`) is searched there without being asked: the
    whole picture is drawn once, of the best iterate, and nothing is lost.

    Returns:
        None where every step looks at the whole picture, because the settings say so or no smaller one is large enough.

    Raises:
        MethodError: a prior without side outputs, or a degradation that is made for pictures of one size.
    """
    if side := shrinks_to(prior, degradation):
        return Coarse(side, settings.steps, resized(cast(LinearOperator, degradation), side), exact=True)
    steps = min(round(settings.coarse * settings.steps), settings.steps - 1)
    if steps < 1:
        return None
    check_coarse(prior, settings)
    if not isinstance(degradation, LinearOperator) or degradation.name not in OPERATORS or degradation.name == "kernel":
        raise MethodError(
            f"coarse ({settings.coarse:g}): {degradation.name} is made for pictures of {prior.resolution} px and cannot shrink smaller "
            "ones. Set coarse to 0, or choose a downscaling by name, such as bicubic."
        )
    sides = [side for side in side_sizes(prior) if side >= max(degradation.lr_size)]
    if not sides or sides[0] >= prior.resolution:
        return None
    return Coarse(sides[0], steps, resized(degradation, sides[0]))


def shrinks_to(prior: object, degradation: Degradation) -> int:
    """Side of the prior's own picture that this downscaling makes of its whole one, exactly; 0 where there is none.

    A prior says so by `shrinks_to`, a linear downscaling to square photos (`generate.cascade`).
    """
    own = getattr(prior, "shrinks_to", None)
    return max(own.lr_size) if isinstance(own, LinearOperator) and own == degradation else 0


def resized(operator: LinearOperator, side: int) -> LinearOperator:
    """The same downscaling to the same photo, from square pictures of another side; lengths in their pixels change with it."""
    spec = operator.spec()
    if "sigma" in spec:
        spec["sigma"] = [s * side / n for s, n in zip(spec["sigma"], operator.hr_size, strict=True)]
    return LinearOperator.from_spec(spec | {"hr_size": [side, side]})
