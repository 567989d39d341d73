"""What a method is asked: the photo, checked, with the downscaling it is to be explained by."""

from __future__ import annotations

import math

from torch import Tensor

from preimage.degrade.learned import LearnedDegradation, Operator, check_learned
from preimage.degrade.linear import OPERATORS, LinearOperator, make_operator
from preimage.errors import OperatorError
from preimage.weights import load_degradation, weight_table

GREY_LEVELS = 255.0


def check_size(lr: Tensor, resolution: int, scale: float | None = None) -> None:
    """Refuse a photo that the prior's pictures cannot downscale to.

    Args:
        lr: (3, h, w).
        resolution: side of the prior's pictures.
        scale: what the user believes it to be, or None.

    Raises:
        OperatorError: not square, not smaller than the prior's pictures, or of another scale.
    """
    check_sides(lr.shape[-1], lr.shape[-2], resolution, scale)


def check_sides(width: int, height: int, resolution: int, scale: float | None = None) -> None:
    """`check_size` of a picture that is not decoded yet, by its width and height in pixels."""
    if height != width:
        raise OperatorError(
            f"the picture is {width}x{height}, but the prior makes square faces. Crop it to a square around the face "
            "(eyes at about two fifths of the height) and try again."
        )
    if height >= resolution:
        raise OperatorError(
            f"the picture is {width}x{height}, but the prior makes {resolution}x{resolution} pictures: there is nothing to "
            f"imagine. Reduce it below {resolution} pixels first (`preimage degrade`), or choose a larger prior."
        )
    if scale is not None and (isinstance(scale, str) or not math.isfinite(scale)):
        raise OperatorError(f"scale ({scale!r:.40}) must be a finite number, such as 4, or left out.")
    if scale is not None and round(width * scale) != resolution:
        raise OperatorError(
            f"a {width}-pixel picture times {scale:g} is {width * scale:g} pixels, but the prior makes {resolution}. "
            "Leave out the scale, or choose a prior of that size."
        )


def operator_for(
    lr: Tensor, resolution: int, operator: Operator | str | None = None, border: str = "renormalise"
) -> LinearOperator:
    """The linear downscaling from a square picture of side `resolution` to this photo.

    Args:
        lr: (3, h, w).
        resolution: side of the prior's pictures.
        operator: one made before, a name, or None for bicubic.
        border: of one made here.

    Raises:
        OperatorError: a photo or an operator that does not fit, or a learned degradation.
    """
    check_size(lr, resolution)
    side, size = (resolution, resolution), (lr.shape[-2], lr.shape[-1])
    if isinstance(operator, LearnedDegradation):
        raise OperatorError(
            f"{operator.name} is a learned degradation; this method answers to linear downscalings only."
        )
    if not isinstance(operator, LinearOperator):
        return make_operator(operator or "bicubic", hr_size=side, lr_size=size, border=border)
    if operator.hr_size != side or operator.lr_size != size:
        raise OperatorError(
            f"the operator goes from {operator.hr_size} to {operator.lr_size}, but prior and photo need {side} to {size}."
        )
    return operator


def degradation_for(
    lr: Tensor, resolution: int, operator: Operator | str | None = None, border: str = "renormalise"
) -> Operator:
    """The downscaling, linear or learned, from a square picture of side `resolution` to this photo; see `operator_for`.

    Args:
        operator: also a learned degradation, or its name, path or hub id.

    Raises:
        OperatorError: a photo or a downscaling that does not fit.
        WeightsError: a learned degradation that cannot be loaded.
    """
    check_size(lr, resolution)
    found = by_name(operator) if isinstance(operator, str) else operator
    if not isinstance(found, LearnedDegradation):
        return operator_for(lr, resolution, found, border)
    check_learned(found, resolution, lr)
    return found


def by_name(operator: str) -> LearnedDegradation | str:
    """A learned degradation by name, path or hub id; the name of a linear downscaling stays what it is.

    Raises:
        OperatorError: neither.
        WeightsError: a degradation that cannot be loaded.
    """
    if operator in OPERATORS:
        return operator
    entries = weight_table()
    embedded = [name for name, entry in entries.items() if entry.kind == "degradation"]
    if (
        operator in entries
        or operator == "degradation-gan"
        or operator.startswith("hf-hub:")
        or operator.endswith(".safetensors")
    ):
        return load_degradation(operator)
    raise OperatorError(
        f"there is no operator {operator!r}; choose one of: {', '.join([*OPERATORS, *embedded])}, or give the path of a "
        "learned degradation (.safetensors)."
    )
