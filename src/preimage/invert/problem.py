"""What a method is asked: the photo, checked, with the downscaling it is to be explained by."""

from __future__ import annotations

from torch import Tensor

from preimage.degrade.linear import LinearOperator, make_operator
from preimage.errors import OperatorError

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
    height, width = lr.shape[-2:]
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
    if scale is not None and round(width * scale) != resolution:
        raise OperatorError(
            f"a {width}-pixel picture times {scale:g} is {width * scale:g} pixels, but the prior makes {resolution}. "
            "Leave out the scale, or choose a prior of that size."
        )


def operator_for(lr: Tensor, resolution: int, operator: LinearOperator | str | None = None) -> LinearOperator:
    """The downscaling from a square picture of side `resolution` to this photo.

    Args:
        lr: (3, h, w).
        resolution: side of the prior's pictures.
        operator: one made before, a name, or None for bicubic.

    Raises:
        OperatorError: a photo or an operator that does not fit.
    """
    check_size(lr, resolution)
    side, size = (resolution, resolution), (lr.shape[-2], lr.shape[-1])
    if not isinstance(operator, LinearOperator):
        return make_operator(operator or "bicubic", hr_size=side, lr_size=size)
    if operator.hr_size != side or operator.lr_size != size:
        raise OperatorError(
            f"the operator goes from {operator.hr_size} to {operator.lr_size}, but prior and photo need {side} to {size}."
        )
    return operator
