"""A face cut out of a photo in the alignment of FFHQ, and the way back: two pure functions and the square between them.

Points are (x, y) in pixels of the photo, from its left and upper edge: the first pixel reaches from 0 to 1, its middle is 0.5.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.errors import InputError

FEATHER = 0.15
"""Share of a face's side over which a pasted one fades in, from every edge."""
_TAPS = 8  # samples along a pixel of the cut-out, at most; more are averaged beforehand


def quad(points: Tensor) -> Tensor:
    """The square that FFHQ cuts out around five points of a face.

    Karras et al., *A Style-Based Generator Architecture* (CVPR 2019), appendix A, with the constants of the published data set.

    Args:
        points: (5, 2): eye, eye, nose, mouth corner, mouth corner; of each pair the one further left in an upright picture first.

    Returns:
        (4, 2) float64, its corners clockwise: upper left, upper right, lower right, lower left.

    Raises:
        InputError: another shape, numbers that are not finite, or points that are all one.
    """
    if points.shape != (5, 2):
        raise InputError(f"points: {tuple(points.shape)}, but a face has five of (x, y): eye, eye, nose, mouth, mouth.")
    left_eye, right_eye, _, left_mouth, right_mouth = points.double()
    eyes, mouth = (left_eye + right_eye) / 2, (left_mouth + right_mouth) / 2
    across, down = right_eye - left_eye, mouth - eyes
    x = across + torch.stack([down[1], -down[0]])
    length = x.norm()
    if not (bool(points.isfinite().all()) and length > 1e-6):
        raise InputError("points: eyes and mouth must be finite and lie apart; give eye, eye, nose, mouth, mouth.")
    x = x / length * torch.maximum(2.0 * across.norm(), 1.8 * down.norm())
    y = torch.stack([-x[1], x[0]])
    centre = eyes + 0.1 * down
    return torch.stack([centre - x - y, centre + x - y, centre + x + y, centre - x + y])


def native_side(corners: Tensor) -> float:
    """Side of a square in pixels of its photo: so many pixels the face really has.

    Raises:
        InputError: no four corners of a square (see `quad`).
    """
    if corners.shape != (4, 2) or not bool(corners.isfinite().all()):
        raise InputError(f"corners: {tuple(corners.shape)}, but a square has four finite ones of (x, y).")
    sides = (corners.double() - corners.double().roll(-1, 0)).norm(dim=1)
    diagonals = (corners[:2].double() - corners[2:].double()).norm(dim=1)
    even = torch.cat([sides, diagonals / math.sqrt(2)])
    side = float(even.mean())
    if side < 1e-3 or float((even - side).abs().max()) > 1e-3 * side:
        raise InputError("corners: these are not the four of a square, clockwise from the upper left.")
    return side


def align(photo: Tensor, corners: Tensor, side: int) -> Tensor:
    """What a square of a photo shows, reflected where it leaves the photo.

    By area: each pixel is the mean of samples that lie no further apart than the photo's pixels, as a coarser sensor would have seen
    it. So it was decided in `preimage.invert.problem.reduce`, and nothing overshoots: what is white stays white. A square on whole pixels
    that is not turned comes out as it is, or as the very means where `side` divides it. Between pixels it is interpolated by cubics.

    Args:
        photo: (3, H, W) in [0, 1].
        corners: (4, 2), see `quad`.
        side: of what comes out; no more than `native_side`, or pixels are invented.

    Returns:
        (3, side, side) in [0, 1], of the photo's type.

    Raises:
        InputError: corners of no square, or a side below 1.
    """
    if side < 1:
        raise InputError(f"side ({side}) must be 1 pixel or more.")
    native, own = native_side(corners), photo.dtype
    corners, photo = corners.double(), photo.double()
    times = min(int(native / side / _TAPS), *photo.shape[-2:])
    if times > 1:
        photo, corners = _coarser(photo, times), corners / times
    taps = max(1, math.ceil(native / max(times, 1) / side - 1e-6))
    steps = (torch.arange(side * taps, dtype=torch.float64) + 0.5) / (side * taps)
    across, down = corners[1] - corners[0], corners[3] - corners[0]
    places = corners[0] + steps[None, :, None] * across + steps[:, None, None] * down
    return F.avg_pool2d(_samples(photo, places)[None], taps)[0].clamp(0, 1).to(own)


def mask(side: int, feather: float = FEATHER) -> Tensor:
    """How much of a face is pasted: 1 within, 0 at the edges and in the corners, smooth between.

    Args:
        side: of the face, pixels.
        feather: share of the side over which it fades, of (0, 0.5].

    Returns:
        (side, side) float64 in [0, 1], symmetric.
    """
    if side < 1 or not 0 < feather <= 0.5:
        raise InputError(f"mask: side ({side}) must be 1 or more, feather ({feather}) above 0 and no more than 0.5.")
    steps = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    return _fading(steps[None, :].expand(side, side), steps[:, None].expand(side, side), feather)


def paste(photo: Tensor, face: Tensor, corners: Tensor, feather: float = FEATHER) -> Tensor:
    """A photo with a face put into a square of it, under a soft mask that is computed in the face's own frame.

    Each pixel within looks its place in the face up once, by cubics; a face that has more pixels than its square is averaged
    there first. Outside the square, and where the mask is 0, the photo stays as it is, bit for bit.

    Args:
        photo: (3, H, W) in [0, 1], perhaps enlarged.
        face: (3, R, R) in [0, 1].
        corners: (4, 2) in pixels of this photo, see `quad`.
        feather: see `mask`.

    Returns:
        (3, H, W), a new tensor of the photo's type.

    Raises:
        InputError: corners of no square, a face that is none, or a feather out of range.
    """
    return put(photo.clone(), face, corners, feather)


def put(photo: Tensor, face: Tensor, corners: Tensor, feather: float = FEATHER) -> Tensor:
    """`paste` into the photo itself, which comes back; for several faces of a large one."""
    if face.ndim != 3 or face.shape[-1] != face.shape[-2] or face.shape[0] != photo.shape[0]:
        raise InputError(f"face: {tuple(face.shape)}, but a square one (3, R, R) is pasted.")
    if not 0 < feather <= 0.5:
        raise InputError(f"feather ({feather}) must be above 0 and no more than 0.5.")
    native = native_side(corners)
    corners = corners.double()
    height, width = photo.shape[-2:]
    low, high = corners.amin(0).floor().long().tolist(), corners.amax(0).ceil().long().tolist()
    left, top, right, bottom = max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height)
    if left >= right or top >= bottom:
        return photo
    rows, columns = torch.arange(top, bottom).double() + 0.5, torch.arange(left, right).double() + 0.5
    x, y = columns[None, :] - corners[0, 0], rows[:, None] - corners[0, 1]
    across, down = (corners[1] - corners[0]) / native**2, (corners[3] - corners[0]) / native**2
    u, v = x * across[0] + y * across[1], x * down[0] + y * down[1]
    share = _fading(u, v, feather)
    picture = _nearly(face.double(), native)
    drawn = _samples(picture, torch.stack([u, v], -1) * picture.shape[-1]).clamp(0, 1)
    area = photo[:, top:bottom, left:right]
    mixed = (area.double() * (1 - share) + drawn * share).to(photo.dtype)
    photo[:, top:bottom, left:right] = torch.where(share > 0, mixed, area)
    return photo


def _fading(u: Tensor, v: Tensor, feather: float) -> Tensor:
    """The mask at places (u, v) of a square of side 1: a smooth step of the distance to its edge, corners rounded."""
    across, down = ((0.5 - (x - 0.5).abs()).clamp(0, feather) / feather for x in (u, v))
    away = torch.hypot(1 - across, 1 - down).clamp(max=1)
    depth = 1 - away
    return depth**2 * (3 - 2 * depth)


def _nearly(face: Tensor, side: float) -> Tensor:
    """A face with hardly more pixels than `side`, by area, so that looking single places up does not alias."""
    wanted = max(1, math.ceil(side))
    if face.shape[-1] <= wanted:
        return face
    return F.interpolate(face[None], (wanted, wanted), mode="bilinear", antialias=True, align_corners=False)[0]


def _coarser(photo: Tensor, times: int) -> Tensor:
    """A photo so many times smaller, by area; the rest at its right and lower edge is repeated first."""
    height, width = photo.shape[-2:]
    padded = F.pad(photo[None], (0, -width % times, 0, -height % times), mode="replicate")
    return F.avg_pool2d(padded, times)[0]


def _samples(picture: Tensor, places: Tensor) -> Tensor:
    """Values (3, h, w) at places (h, w, 2), by cubics, reflected at the edges."""
    height, width = picture.shape[-2:]
    grid = 2 * places / places.new_tensor([width, height]) - 1
    return F.grid_sample(picture[None], grid[None], mode="bicubic", padding_mode="reflection", align_corners=False)[0]
