"""The numbers in a downscaling matrix: kernels, borders and sizes along one axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preimage.errors import OperatorError

Array = NDArray[np.float64]
Size = int | Sequence[int]
Scale = float | Sequence[float]

BORDERS = ("renormalise", "reflect", "symmetric")
"""What taps beyond the picture's edge see. renormalise: nothing, the others make up for it (Pillow, torch antialias);
reflect: the mirror image, edge sample not repeated (PULSE); symmetric: the same, edge repeated (MATLAB imresize)."""


WIDEST = 16
"""Radius of the widest kernel, in sides of the picture: a kernel of any kind beyond it is flat, or a mistake."""


def axis_matrix(
    n: int, m: int, shape: Callable[[Array], Array], radius: float, border: str, phase: float | None = None
) -> Array:
    """The (m, n) matrix whose row j holds `shape` around the centre of LR pixel j; offsets and radius in HR pixels."""
    if border not in BORDERS:
        raise OperatorError(f"there is no border rule {border!r:.60}; choose one of: {', '.join(BORDERS)}")
    if not radius <= WIDEST * n or (phase is not None and not abs(phase) <= WIDEST * n):
        raise OperatorError(
            f"a kernel {2 * radius:g} pixels wide does not fit a side of {n}; give a narrower or nearer one"
        )
    scale, matrix = n / m, np.zeros((m, n))
    for j, row in enumerate(matrix):
        centre = (j + 0.5) * scale if phase is None else j * scale + phase + 0.5
        pixels = np.arange(math.floor(centre - radius + 0.5), math.floor(centre + radius + 0.5), dtype=np.int64)
        if border == "renormalise":
            pixels = pixels[(pixels >= 0) & (pixels < n)]
        offsets = pixels.astype(np.float64) - centre + 0.5
        weights = shape(offsets) if len(pixels) else offsets
        if abs(weights.sum()) <= 1e-9 * np.abs(weights).sum():
            raise OperatorError(f"at LR pixel {j} the kernel sees nothing of a side of {n}; use border 'symmetric'")
        np.add.at(row, _fold(pixels, n, border), weights / weights.sum())
    return matrix


def _fold(pixels: NDArray[np.int64], n: int, border: str) -> NDArray[np.int64]:
    """Positions on the endless line -> positions in the picture, mirrored as often as needed."""
    if border == "renormalise" or n == 1:
        return np.clip(pixels, 0, n - 1)
    period = 2 * n - 2 if border == "reflect" else 2 * n
    inside = pixels % period
    return np.where(inside < n, inside, period - inside - (border == "symmetric"))


def cubic(t: Array) -> Array:
    """Cubic convolution with a = −0.5 (Keys, 1981)."""
    d: Array = np.abs(t)
    inner, outer = (1.5 * d - 2.5) * d**2 + 1, ((-0.5 * d + 2.5) * d - 4) * d + 2
    return np.where(d < 1, inner, np.where(d < 2, outer, 0.0))


def lanczos3(t: Array) -> Array:
    return np.where((t >= -3) & (t < 3), np.sinc(t) * np.sinc(t / 3), 0.0)


def sizes(size: Size, scale: Scale | None, lr_size: Size | None) -> tuple[tuple[int, int], tuple[int, int]]:
    """Checked (H, W) and (h, w)."""
    hr = whole(size, "size")
    if (scale is None) == (lr_size is None):
        raise OperatorError("give either a scale or lr_size")
    if lr_size is not None:
        lr = whole(lr_size, "lr_size")
    else:
        factors = pair(scale, "scale")
        if min(factors) < 1:
            raise OperatorError(f"scale {scale!r} would enlarge; operators shrink, so give the factor as 8, not 1/8")
        lr = (math.floor(hr[0] / factors[0] + 0.5), math.floor(hr[1] / factors[1] + 0.5))
    if not all(1 <= low <= high for low, high in zip(lr, hr, strict=True)):
        raise OperatorError(f"cannot shrink {hr[0]}x{hr[1]} to {lr[0]}x{lr[1]}; an LR side is from 1 to the HR side")
    return hr, lr


def pair(value: Any, what: str) -> tuple[float, float]:
    try:
        first, second = (value, value) if isinstance(value, (int, float)) else value
        both = float(first), float(second)
    except (TypeError, ValueError, OverflowError) as error:
        raise OperatorError(f"{what} must be a number or a pair (vertical, horizontal), not {value!r:.60}") from error
    if not all(map(math.isfinite, both)):
        raise OperatorError(f"{what} must be finite, not {value!r:.60}")
    return both


def whole(value: Any, what: str) -> tuple[int, int]:
    both = pair(value, what)
    if any(v != int(v) or v < 1 for v in both):
        raise OperatorError(f"{what} must be whole pixels, one side or (height, width), not {value!r:.60}")
    return int(both[0]), int(both[1])
