"""Adaptive discriminator augmentation (Karras et al., "Training GANs with Limited Data", 2020, section 3, appendix B).

Three groups of changes, each applied with probability p to each picture, differentiable, the same kind for real and imagined
pictures: pixel blitting, geometry, colour ("bgc", the paper's choice). p follows a sign of overfitting.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Symlet 6, low-pass decomposition filter: orthogonal to its own even shifts, sum sqrt(2); between blurry and aliased.
SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633,
    0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252,
    -0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip


class OverfittingControl:
    """Moves p so that the mean sign of the scores of real pictures stays at the target (section 3.1, equation 1: r_t).

    Args:
        p: at the start.
        target: of the mean sign, 0.6 in the paper; 0 leaves p alone.
        images: how many real pictures it takes p at most to go from 0 to 1.

    Attributes:
        p: probability of each change.
        sign: mean sign of the last update.
    """

    def __init__(self, p: float = 0.0, target: float = 0.6, images: int = 500_000) -> None:
        self.p, self.target, self.images, self.sign = p, target, images, 0.0

    def update(self, sign: float, shown: int) -> None:
        """sign: mean of sign(D(real)) over the last `shown` real pictures."""
        self.sign = sign
        if self.target:
            step = shown / self.images
            self.p = min(1.0, max(0.0, self.p + (step if sign > self.target else -step)))

    def state_dict(self) -> dict[str, float]:
        return {"p": self.p, "sign": self.sign}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.p, self.sign = state["p"], state["sign"]


def _happens(x: Tensor, p: float) -> Tensor:
    return torch.rand(len(x), device=x.device) < p


def _normal(x: Tensor, p: float, spread: float) -> Tensor:
    """Normal numbers of this spread where the change happens, 0 elsewhere, one per picture."""
    return torch.randn(len(x), device=x.device) * spread * _happens(x, p)


def blit(x: Tensor, p: float) -> Tensor:
    """Mirror, turn by quarters, shift by whole pixels (up to an eighth of the side, reflected): nothing is interpolated."""
    n, _, height, width = x.shape
    x = torch.where((_happens(x, p) & _happens(x, 0.5))[:, None, None, None], x.flip(3), x)
    if height == width:
        turns = torch.randint(0, 4, (n,), device=x.device) * _happens(x, p)
        turned = torch.stack([x, x.rot90(1, (2, 3)), x.rot90(2, (2, 3)), x.rot90(3, (2, 3))])
        x = turned[turns, torch.arange(n, device=x.device)]
    moved = _happens(x, p)
    picture = torch.arange(n, device=x.device)[:, None, None]
    index = []
    for size in (height, width):
        reach = size // 8
        shift = torch.randint(-reach, reach + 1, (n,), device=x.device) * moved
        i = (torch.arange(size, device=x.device)[None] + shift[:, None]).abs()
        index.append(size - 1 - (size - 1 - i).abs())  # reflected at both ends
    return x.permute(0, 2, 3, 1)[picture, index[0][:, :, None], index[1][:, None]].permute(0, 3, 1, 2)


def _matrix(rows: list[list[Tensor | float]], like: Tensor) -> Tensor:
    """(n, k, k) from entries that are numbers or one number per picture (n,)."""
    entries = [torch.as_tensor(e, dtype=torch.float32, device=like.device).expand(len(like)) for r in rows for e in r]
    return torch.stack(entries, dim=1).view(len(like), len(rows), len(rows[0]))


def _turn(angle: Tensor) -> list[list[Tensor | float]]:
    c, s = angle.cos(), angle.sin()
    return [[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]


def geometry_matrix(x: Tensor, p: float) -> Tensor:
    """Random maps (n, 3, 3) from output to input positions, in units of half a side: scale, turn, stretch, shift."""
    scale = torch.exp2(_normal(x, p, 0.2))
    stretch = torch.exp2(_normal(x, p, 0.2))
    half = 1 - math.sqrt(1 - p)  # two turns, before and after the stretch: one of them happens with probability p
    before, after = (
        (torch.rand(len(x), device=x.device) * 2 - 1) * math.pi * _happens(x, chance) for chance in (half, half)
    )
    moved = _happens(x, p)
    dx, dy = (torch.randn(len(x), device=x.device) * 0.125 * 2 * moved for _ in range(2))
    maps = [
        _matrix([[1 / scale, 0.0, 0.0], [0.0, 1 / scale, 0.0], [0.0, 0.0, 1.0]], x),
        _matrix(_turn(before), x),
        _matrix([[1 / stretch, 0.0, 0.0], [0.0, stretch, 0.0], [0.0, 0.0, 1.0]], x),
        _matrix(_turn(after), x),
        _matrix([[1.0, 0.0, dx], [0.0, 1.0, dy], [0.0, 0.0, 1.0]], x),
    ]
    total = maps[0]
    for m in maps[1:]:
        total = total @ m
    return total


def warp(x: Tensor, matrix: Tensor) -> Tensor:
    """Resample x (n, c, h, w) by `matrix` (n, 3, 3), output to input position in units of half a side; borders are reflected.

    As in appendix B.1 the picture is enlarged twice by the symlet before it is resampled bilinearly, and reduced after it.
    """
    n, channels, height, width = x.shape
    taps = torch.tensor(SYM6, device=x.device, dtype=x.dtype)
    taps = taps / taps.sum()
    before = len(SYM6) // 2 - 1  # of the taps; the way back has the other half, so that both together shift nothing
    grown = _filter(_insert_zeros(x), taps * 2, before)
    # the taps' centre of mass puts pixel i at 2i + before - centre, not at 2i + 1/2, of which all maps are about the middle
    centre = float((taps * torch.arange(len(SYM6), device=x.device)).sum())
    beside = [(0.5 - before + centre) / size for size in (width, height)]
    there, back = torch.eye(3, device=x.device).repeat(2, 1, 1)
    there[:2, 2] = torch.tensor(beside)
    back[:2, 2] = -torch.tensor(beside)
    places = (back @ matrix @ there)[:, :2]
    grid = F.affine_grid(places, [n, channels, 2 * height, 2 * width], align_corners=False)
    warped = F.grid_sample(grown, grid.to(x.dtype), mode="bilinear", padding_mode="reflection", align_corners=False)
    return _filter(warped, taps.flip(0), len(SYM6) - 1 - before)[:, :, ::2, ::2]


def _insert_zeros(x: Tensor) -> Tensor:
    n, c, height, width = x.shape
    out = x.new_zeros(n, c, height, 2, width, 2)
    out[:, :, :, 0, :, 0] = x
    return out.view(n, c, 2 * height, 2 * width)


def _filter(x: Tensor, taps: Tensor, before: int) -> Tensor:
    """Correlate rows and columns with the taps, `before` of them before each pixel."""
    channels, length = x.shape[1], len(taps)
    after = length - 1 - before
    for padding, shape in (((before, after, 0, 0), (1, length)), ((0, 0, before, after), (length, 1))):
        x = F.pad(x, padding, mode="reflect")  # of zeros and values alike: their places alternate beyond the border too
        x = F.conv2d(x, taps.view(1, 1, *shape).expand(channels, 1, *shape), groups=channels)
    return x


def geometry(x: Tensor, p: float) -> Tensor:
    """Scale (log2-normal, 0.2), turn (any angle), stretch (log2-normal, 0.2), shift by fractions (normal, an eighth)."""
    return warp(x, geometry_matrix(x, p))


def colour_matrix(x: Tensor, p: float) -> Tensor:
    """Random maps (n, 4, 4) of homogeneous colours in [-1, 1]: brightness, contrast, luma flip, hue, saturation."""
    v = torch.tensor([1.0, 1.0, 1.0, 0.0], device=x.device) / math.sqrt(3)  # the axis of greys
    luma, unit = torch.outer(v, v), torch.eye(4, device=x.device)
    b = _normal(x, p, 0.2)
    c = torch.exp2(_normal(x, p, 0.5))
    shift = _matrix([[1.0, 0.0, 0.0, b], [0.0, 1.0, 0.0, b], [0.0, 0.0, 1.0, b], [0.0, 0.0, 0.0, 1.0]], x)
    gain = _matrix([[c, 0.0, 0.0, 0.0], [0.0, c, 0.0, 0.0], [0.0, 0.0, c, 0.0], [0.0, 0.0, 0.0, 1.0]], x)
    flipped = (_happens(x, p) & _happens(x, 0.5)).float()[:, None, None]
    flip = unit - 2 * luma * flipped
    angle = (torch.rand(len(x), device=x.device) * 2 - 1) * math.pi * _happens(x, p)
    cross = torch.zeros(4, 4, device=x.device)
    cross[0, 1], cross[0, 2], cross[1, 0] = -v[2], v[1], v[2]
    cross[1, 2], cross[2, 0], cross[2, 1] = -v[0], -v[1], v[0]
    around = torch.diag(torch.tensor([1.0, 1.0, 1.0, 0.0], device=x.device))
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    hue = cosine * around + sine * cross + (1 - cosine) * luma + (unit - around)  # Rodrigues
    s = torch.exp2(_normal(x, p, 1.0))[:, None, None]
    saturation = luma + (unit - luma - (unit - around)) * s + (unit - around)
    return saturation @ hue @ flip @ gain @ shift


def colour(x: Tensor, p: float) -> Tensor:
    """Brightness (normal, 0.2 of [-1, 1]), contrast (log2-normal, 0.5), luma flip, hue (any), saturation (log2-normal, 1)."""
    matrix = colour_matrix(x, p).to(x.dtype)
    changed = torch.einsum("nij,njhw->nihw", matrix[:, :3, :3], x * 2 - 1) + matrix[:, :3, 3, None, None]
    return (changed + 1) / 2
