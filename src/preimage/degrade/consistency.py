"""Exact preimages: pictures whose saved file, opened and shrunk by anybody, gives back the input byte for byte.

Two alternating moves per picture, everything in grey levels and float64:

* **project**: the nearest point to the candidate among the pictures in [0, 255] that shrink to y. With z in place of
  Dykstra's two sequences his algorithm is one line, z += A⁺(y − A clip(z)): gradient ascent on the dual problem, which
  lives in the small picture. Nesterov's momentum with restarts makes it fast where much is clipped.
* **repair**: round to bytes, look with Pillow itself which pixels miss, push only those.

Pillow shrinks horizontally, rounds and clips to bytes, then shrinks vertically. The clipping between the passes is
part of the model below; without it hard edges next to black or white never come out right.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from preimage.degrade.separable import Separable
from preimage.errors import InputError, OperatorError

_CLOSE = 0.15  # grey levels of float residual at which rounding decides, not projecting further
_LOOK = 0.4  # below this the rounded picture may already be exact
_MARGIN = 0.25  # a pixel of 0 or 255 is met from here on: beyond the end of the range every value gives that byte
_MISS = 0.48  # a byte is missed from 0.5 on; the rest is kept for what the neighbours' repairs stir up
_FIRST_ROUNDS, _FIRST_REPAIRS = 40, 20  # of the first stage; each later stage takes twice as many


@dataclass(frozen=True)
class ExactResult:
    """Pictures ready to be saved as PNG, and what their files shrink to.

    Attributes:
        images: (n, 3, H, W) uint8.
        exact: (n,) bool, whether the saved file shrinks to the input byte for byte.
        error: (n,) float32, RMS difference between the shrunken file and the input, grey levels.
        worst: (n,) int64, largest such difference, grey levels.
        moved: (n,) float32, RMS distance from the candidate (clipped to [0, 1]) to the picture, grey levels.
        rounds: (n,) int64, projections and repairs spent.
    """

    images: Tensor
    exact: Tensor
    error: Tensor
    worst: Tensor
    moved: Tensor
    rounds: Tensor


def make_exact(
    images: Tensor, lr: Tensor, operator: Separable, *, max_rounds: int = 280, repairs: int = 140
) -> ExactResult:
    """The nearest 8-bit pictures whose saved files shrink exactly to `lr`; where there are none, the closest found.

    Shrinking means Pillow's filter where Pillow has the operator's (see `Separable.pillow_filter`), else the
    operator in float64, rounded half up. Each picture is worked on alone, so its bytes do not depend on the others.

    Args:
        images: (n, 3, H, W), float around [0, 1] (it may stick out, it is clipped first) or uint8.
        lr: (3, h, w), float k / 255 in [0, 1] or uint8.
        operator: from (H, W) to (h, w).
        max_rounds: most projections per picture; typical faces take 10 to 20.
        repairs: most repairs per picture.

    Returns:
        An `ExactResult` on the CPU.

    Raises:
        InputError: NaN, wrong shape or type, an `lr` outside [0, 1] or off the 8-bit grid.
        OperatorError: an operator for other sizes.
    """
    _check_images(images, operator)
    y = lr_levels(lr, operator)
    if operator.rows.device.type != "cpu":  # Pillow decides in the end, and float64 is wanted
        operator = copy.deepcopy(operator).cpu()
    rows = [_one(_levels(image), y, operator, max_rounds, repairs) for image in images.detach().cpu()]
    pictures = torch.stack([row[0] for row in rows]) if rows else torch.empty(images.shape, dtype=torch.uint8)
    misses = downscale_saved(pictures, operator).double() - y
    return ExactResult(
        images=pictures,
        exact=(misses == 0).flatten(1).all(1),
        error=misses.square().flatten(1).mean(1).sqrt().float(),
        worst=misses.abs().flatten(1).amax(1).long(),
        moved=torch.tensor([row[1] for row in rows], dtype=torch.float32),
        rounds=torch.tensor([row[2] for row in rows], dtype=torch.int64),
    )


def make_near(images: Tensor, lr: Tensor, operator: Separable, tolerance: float) -> ExactResult:
    """8-bit pictures whose files shrink to the photo within a tolerance; none of them is called exact.

    Each picture gets a photo of its own to shrink to, the nearest to what it does shrink to. Where no 8-bit picture does, a
    nearer one is taken, at last the photo itself.

    Args:
        images: (n, 3, H, W) around [0, 1].
        lr: (3, h, w) in [0, 1] on the 8-bit grid.
        operator: the downscaling.
        tolerance: grey levels by which any value may be missed.
    """
    photo, most = (lr * 255).round(), math.floor(tolerance)
    rows: list[ExactResult] = []
    for image in images:
        wanted = (operator(image.clamp(0, 1)) * 255).round()
        tried: list[tuple[float, ExactResult]] = []
        for room in dict.fromkeys((most, max(0, most - 1), max(0, most - 2), most // 2, 0)):
            target = wanted.clamp(photo - room, photo + room).clamp(0, 255) / 255
            row = make_exact(image[None], target, operator)
            tried.append((float((downscale_saved(row.images, operator)[0].double() - photo).abs().max()), row))
            if tried[-1][0] <= tolerance:
                break
        rows.append(min(tried, key=lambda pair: pair[0])[1])
    pictures = torch.cat([row.images for row in rows])
    misses = downscale_saved(pictures, operator).double() - photo
    return ExactResult(
        images=pictures,
        exact=torch.zeros(len(pictures), dtype=torch.bool),
        error=misses.square().flatten(1).mean(1).sqrt().float(),
        worst=misses.abs().flatten(1).amax(1).long(),
        moved=torch.cat([row.moved for row in rows]),
        rounds=torch.cat([row.rounds for row in rows]),
    )


def downscale_saved(images: Tensor, operator: Separable) -> Tensor:
    """What anybody gets who opens the saved pictures and shrinks them: (n, 3, H, W) uint8 -> (n, 3, h, w) uint8.

    Raises InputError for anything but uint8 RGB and OperatorError for another size.
    """
    _check_images(images, operator)
    if images.dtype != torch.uint8:
        raise InputError(f"saved pictures are uint8, not {images.dtype}")
    small = [_shrink(image, operator) for image in images.cpu()]
    return torch.stack(small) if small else torch.empty(0, 3, *operator.lr_size, dtype=torch.uint8)


def lr_error(images: Tensor, lr: Tensor, operator: Separable) -> Tensor:
    """RMS of A x − y in grey levels, in float and before any rounding or clipping.

    Args:
        images: (n, 3, H, W), float around [0, 1] or uint8.
        lr: (3, h, w), float in [0, 1] (any value, not only k / 255) or uint8.

    Returns:
        (n,) float32 on the CPU.

    Raises:
        InputError, OperatorError: as for `make_exact`.
    """
    _check_images(images, operator)
    y = lr_levels(lr, operator, grid=False)
    errors = [(operator(_levels(image)) - y).square().mean().sqrt() for image in images.detach().cpu()]
    return torch.stack(errors).float() if errors else torch.empty(0)


def _one(x: Tensor, y: Tensor, operator: Separable, max_rounds: int, repairs: int) -> tuple[Tensor, float, int]:
    """One picture (3, H, W), grey levels: the bytes found, how far they are from it, rounds spent."""
    start = x.clamp(0, 255)
    best = _Best(start, y, operator)
    best.offer(start, 0)
    ascent = _Ascent(start, y, operator)
    more_rounds, more_repairs, gap = _FIRST_ROUNDS, _FIRST_REPAIRS, math.inf
    projected = repaired = 0
    while not best.exact and (repaired < repairs or (projected < max_rounds and ascent.gap >= _CLOSE)):
        for _ in range(min(more_rounds, max_rounds - projected)):
            if ascent.gap < _CLOSE:
                break
            ascent.step()
            projected += 1
            if ascent.gap < _LOOK and best.offer(ascent.picture, projected + repaired):
                break
        p = ascent.picture
        for k in range(min(more_repairs, repairs - repaired)):
            if best.offer(p, projected + repaired):
                break
            p = _repair(p, y, operator, narrow=k % 2 == 1)
            repaired += 1
        best.offer(p, projected + repaired)
        if ascent.gap > max(2.0, 0.8 * gap):
            break  # far off and hardly nearer than a stage ago: no picture in the box shrinks to this
        more_rounds, more_repairs, gap = 2 * more_rounds, 2 * more_repairs, min(gap, ascent.gap)
    moved = float((best.bytes.double() - start).square().mean().sqrt())
    return best.bytes, moved, best.rounds if best.exact else projected + repaired


class _Ascent:
    """Dykstra's projection onto {0 ≤ x ≤ 255, A x = y}, as accelerated gradient ascent on the dual (see module)."""

    def __init__(self, start: Tensor, y: Tensor, operator: Separable) -> None:
        self._start, self._operator = start, operator
        black, white = y == 0, y == 255
        self._low = y.masked_fill(black, -math.inf).masked_fill(white, 255 - _MARGIN)
        self._high = y.masked_fill(white, math.inf).masked_fill(black, _MARGIN)
        self._dual = self._ahead = torch.zeros_like(y)
        self._run = 0
        self._look(start)

    def step(self) -> None:
        dual = self._ahead + self._lack
        # O'Donoghue and Candès (2015): momentum that points against the gradient is dropped.
        self._run = 1 if torch.sum((dual - self._dual) * self._lack) < 0 else self._run + 1
        self._ahead = dual + (self._run - 1) / (self._run + 2) * (dual - self._dual)
        self._dual = dual
        self._look((self._start + self._operator.pinv(self._ahead)).clamp(0, 255))

    def _look(self, picture: Tensor) -> None:
        between = picture @ self._operator.cols.mT
        if self._operator.pillow_filter is not None:
            between = between.clamp(0, 255)
        small = self._operator.rows @ between
        self.picture = picture
        self._lack = small.clamp(self._low, self._high) - small
        self.gap = float(self._lack.abs().max())


class _Best:
    """The rounded picture that misses least among those offered, and when it came."""

    def __init__(self, start: Tensor, y: Tensor, operator: Separable) -> None:
        self._y, self._operator, self._error = y, operator, math.inf
        self.bytes, self.exact, self.rounds = start.to(torch.uint8), False, 0

    def offer(self, picture: Tensor, rounds: int) -> bool:
        """Whether an exact picture is known after looking at this one, (3, H, W) in grey levels."""
        if not self.exact:
            pixels = _round(picture)
            error = float((_shrink(pixels, self._operator).double() - self._y).square().sum())
            if error < self._error:
                self.bytes, self.exact, self.rounds, self._error = pixels, error == 0, rounds, error
        return self.exact


def _repair(p: Tensor, y: Tensor, operator: Separable, narrow: bool) -> Tensor:
    """Pushes the picture p (3, H, W) where its rounded version misses y; p stays in [0, 255].

    The wide push is A⁺; the narrow one moves only pixels with room left, through columns not clipped between the
    passes. In turn they reach what neither does alone: each gets the other out of the cycles rounding can lock it in.
    """
    rows, cols = operator.rows, operator.cols
    lack = y - _before_last_rounding(_round(p), operator)
    beyond = ((y == 255) & (lack < 0)) | ((y == 0) & (lack > 0))
    lack = torch.where((lack.abs() > _MISS) & ~beyond, lack, 0.0)
    if not narrow:
        return (p + operator.pinv(lack)).clamp(0, 255)
    wanted = rows.mT @ lack
    free = torch.ones_like(wanted)
    if operator.pillow_filter is not None:
        between = p @ cols.mT
        free = torch.where(wanted > 0, between < 255, between > 0).double()
    room = torch.where((free * wanted) @ cols > 0, p < 255, p > 0).double()
    gain = rows.square() @ (free * (room @ cols.square().mT))  # what a unit push of each LR pixel would give it
    full = rows.square().sum(1)[:, None] * cols.square().sum(1)
    push = (free * (rows.mT @ (lack / torch.maximum(gain, 0.05 * full)))) @ cols
    return (p + room * push).clamp(0, 255)


def _before_last_rounding(pixels: Tensor, operator: Separable) -> Tensor:
    """Bytes (3, H, W) shrunk as in `_shrink` but for its last rounding: float64 (3, h, w), grey levels."""
    if operator.pillow_filter is None:
        return operator.forward(pixels.double())
    return operator.rows @ _pillow(pixels, (operator.hr_size[0], operator.lr_size[1]), operator).double()


def _shrink(pixels: Tensor, operator: Separable) -> Tensor:
    if operator.pillow_filter is None:
        return _round(operator(pixels.double()))
    return _pillow(pixels, operator.lr_size, operator)


def _pillow(pixels: Tensor, size: tuple[int, int], operator: Separable) -> Tensor:
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))
    small = np.array(image.resize((size[1], size[0]), operator.pillow_filter))
    return torch.from_numpy(small).permute(2, 0, 1)


def _round(x: Tensor) -> Tensor:
    return (x + 0.5).floor().clamp(0, 255).to(torch.uint8)


def _levels(image: Tensor) -> Tensor:
    return image.double() if image.dtype == torch.uint8 else image.double() * 255


def _check_images(images: Tensor, operator: Separable) -> None:
    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"pictures must be (n, 3, H, W), not {tuple(images.shape)}")
    if tuple(images.shape[-2:]) != operator.hr_size:
        raise OperatorError(f"{operator!r} does not fit pictures of {images.shape[-2]}x{images.shape[-1]}")
    _check_values(images, "pictures")


def lr_levels(lr: Tensor, operator: Separable, grid: bool = True) -> Tensor:
    """The LR picture in grey levels, float64 (3, h, w); with `grid` exactly on the whole numbers."""
    if lr.ndim != 3 or lr.shape[0] != 3:
        raise InputError(f"lr must be one picture (3, h, w), not {tuple(lr.shape)}")
    if tuple(lr.shape[-2:]) != operator.lr_size:
        raise OperatorError(f"{operator!r} does not make an lr of {lr.shape[-2]}x{lr.shape[-1]}")
    _check_values(lr, "lr")
    levels = _levels(lr.detach().cpu())
    if levels.min() < -0.1 or levels.max() > 255.1:
        raise InputError(f"lr must lie in [0, 1], not in [{float(lr.min()):.3g}, {float(lr.max()):.3g}]")
    if not grid:
        return levels
    if (levels - levels.round()).abs().max() > 0.1:
        raise InputError("lr must hold 8-bit values, k / 255; round it first: (lr * 255).round() / 255")
    return levels.round().clamp(0, 255)


def _check_values(x: Tensor, what: str) -> None:
    if not x.is_floating_point() and x.dtype != torch.uint8:
        raise InputError(f"{what} must be float in [0, 1] or uint8, not {x.dtype}")
    if not x.isfinite().all():
        raise InputError(f"{what} hold NaN or infinite values")
