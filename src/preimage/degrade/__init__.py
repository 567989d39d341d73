"""D: how a sharp face became a blurry one. Operators, exact preimages, corruptions, learned degradations."""

from __future__ import annotations

from preimage.degrade.linear import (
    BORDERS,
    OPERATORS,
    LinearOperator,
    area,
    bicubic,
    bilinear,
    from_kernel,
    gaussian,
    lanczos,
    make_operator,
)

__all__ = [
    "BORDERS",
    "OPERATORS",
    "LinearOperator",
    "area",
    "bicubic",
    "bilinear",
    "from_kernel",
    "gaussian",
    "lanczos",
    "make_operator",
]
