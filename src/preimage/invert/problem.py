"""What a method is asked: a photo, the degradation that made it, and whatever guides the answer; made and checked once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

from torch import Tensor

from preimage.degrade.degradation import Degradation
from preimage.degrade.learned import Learned, LearnedDegradation
from preimage.degrade.linear import OPERATORS, area, make_operator
from preimage.errors import OperatorError
from preimage.image import to_uint8
from preimage.weights import FAMILIES, load_degradation, weight_table

GREY_LEVELS = 255.0


@dataclass(frozen=True, eq=False)
class Problem:
    """A photo to be explained; made by `Method.pose`, which checks it.

    Attributes:
        lr: the photo, (3, h, w) RGB in [0, 1] on the 8-bit grid.
        degradation: what made it of a sharp picture.
        resolution: side of the pictures that are wanted.
        guides: further inputs by name (`Capabilities.inputs`).
    """

    lr: Tensor
    degradation: Degradation
    resolution: int
    guides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A degradation that does not know its sizes yet.

    Attributes:
        name: as it was asked for.
        kind: of `Degradation`.
        build: the degradation from pictures of a side, or of (height, width), to photos of (height, width).
    """

    name: str
    kind: str
    build: Callable[[int | tuple[int, int], tuple[int, int]], Degradation]


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


def reduced_size(width: int, height: int, side: int | None) -> tuple[int, int]:
    """Width and height after `reduce`."""
    longest = max(width, height)
    if side is None or longest <= side:
        return width, height
    return round(width * side / longest), round(height * side / longest)


def reduce(lr: Tensor, side: int | None) -> Tensor:
    """A photo no larger than `side`: a soft one says no more than a smaller one, and that can be answered sharply.

    Args:
        lr: (3, h, w) in [0, 1].
        side: the most pixels on the longer side; None keeps the photo.

    Returns:
        (3, h', w') on the 8-bit grid, reduced by area (Pillow's BOX) where it was larger.

    Raises:
        OperatorError: a side below 1.
    """
    if side is not None and side < 1:
        raise OperatorError(f"reduce ({side}) must be a number of pixels, such as 16, or left out.")
    size = reduced_size(lr.shape[-1], lr.shape[-2], side)
    if size == (lr.shape[-1], lr.shape[-2]):
        return lr
    small = area((lr.shape[-2], lr.shape[-1]), lr_size=(size[1], size[0])).photograph(to_uint8(lr)[None])[0]
    return small.float() / GREY_LEVELS


def check_sides(width: int, height: int, resolution: int, scale: float | None = None) -> None:
    """`check_size` of a picture that is not decoded yet, by its width and height in pixels."""
    if height != width:
        raise OperatorError(
            f"the picture is {width}x{height}, but the prior makes square faces. Crop it to a square around the face "
            "(eyes at about two fifths of the height), or let the faces in it be found (--faces all), and try again."
        )
    if height >= resolution:
        raise OperatorError(
            f"the picture is {width}x{height}, but the prior makes {resolution}x{resolution} pictures: there is nothing to "
            f"imagine. Reduce it below {resolution} pixels first (`preimage degrade`), choose a larger prior, or let smaller faces in it be found (--faces all)."
        )
    if scale is not None and (isinstance(scale, str) or not math.isfinite(scale)):
        raise OperatorError(f"scale ({scale!r:.40}) must be a finite number, such as 4, or left out.")
    if scale is not None and round(width * scale) != resolution:
        raise OperatorError(
            f"a {width}-pixel picture times {scale:g} is {width * scale:g} pixels, but the prior makes {resolution}. "
            "Leave out the scale, or choose a prior of that size."
        )


def find_degradation(given: Degradation | LearnedDegradation | Source | str, border: str = "renormalise") -> Source:
    """The degradation that is meant, before any photo is known.

    Args:
        given: one made before, a learned network, the name of a linear downscaling, or name, path or hub id of a learned one.
        border: of a linear one that is made here by name.

    Raises:
        OperatorError: neither.
        WeightsError: a learned degradation that cannot be loaded.
    """
    if isinstance(given, Source):
        return given
    if isinstance(given, str):
        if given in OPERATORS:
            make = partial(make_operator, given, border=border)
            # photos of one size share one operator, and with it the pseudo-inverse that it keeps
            return Source(given, "linear", lru_cache(64)(lambda side, size: make(hr_size=side, lr_size=size)))
        given = _learned(given)
    found = given if isinstance(given, Degradation) else Learned(given)
    if not isinstance(found, Degradation) or not isinstance(found.name, str):
        raise OperatorError(f"degradation ({given!r:.40}) must be a name, a path, or a `Degradation`.")
    return Source(found.name, found.kind, lambda side, size: found)


def _learned(name: str) -> Learned:
    """A learned degradation by name, path or hub id."""
    entries = weight_table()
    embedded = [entry.name for entry in entries.values() if entry.kind == "degradation"]
    if name in entries or name in FAMILIES or name.startswith("hf-hub:") or name.endswith(".safetensors"):
        return Learned(load_degradation(name))
    raise OperatorError(
        f"there is no degradation {name!r}; choose one of: {', '.join([*OPERATORS, *embedded])}, or give the path of a "
        "learned one (.safetensors)."
    )


def degradation_for(
    lr: Tensor,
    resolution: int,
    given: Degradation | LearnedDegradation | Source | str | None = None,
    border: str = "renormalise",
) -> Degradation:
    """The degradation from a square picture of side `resolution` to this photo.

    Args:
        lr: (3, h, w).
        resolution: side of the pictures that are wanted.
        given: see `find_degradation`; None for bicubic.
        border: of a linear one that is made here by name.

    Raises:
        OperatorError: a photo or a degradation that does not fit.
        WeightsError: a learned degradation that cannot be loaded.
    """
    check_size(lr, resolution)
    found = find_degradation("bicubic" if given is None else given, border)
    made = found.build(resolution, (lr.shape[-2], lr.shape[-1]))
    made.check(resolution, lr)
    return made
