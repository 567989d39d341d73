"""A generator under a condition: a small photo and random numbers in, a large picture out, in one pass.

The photo of any size and downscaling arrives as its pseudo-inverse enlargement on a fixed grid; a code of it modulates every
convolution (StyleGAN2). Random numbers enter on two levels, coarse to fine, as smooth fields: independent ones at 4x4 places for the
outline and at 8x8 for detail, enlarged to the 16x16 of the trunk, where the photo gates them: much in hair, little on a wall. What
was tried instead: random numbers in the modulation became a dial of contrast that spoilt pictures; a vector through a dense layer to
16x16 places stayed what it was at first, white noise, and became beads of the size of a place, the more the farther from the mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.bounds import WIDEST, check_whole
from preimage.errors import WeightsError
from preimage.nets.layers import SQRT2, EqualConv2d, EqualLinear, ModulatedConv2d, fir_kernel, upsample2

GRID = 64
"""Side on which the network sees the photo; photos of up to 48 pixels lose nothing on it."""
UNSHUFFLE = 4
"""4x4 pixels of the grid become channels: the trunk runs at 16x16 and still sees every pixel."""
LEVELS = ("outline", "detail")
"""Random numbers by the scale that they decide, coarse to fine."""
SHARPNESS = "sharpness"
"""The level of the one number that says how sharp a photograph is asked for."""


@dataclass(frozen=True)
class ConditionalConfig:
    """Shape of the network.

    Attributes:
        resolution: side of the pictures it makes, a power of two from 32 to 1024.
        width: channels of the trunk (8x8 and 16x16).
        channels: channels of the levels behind it, from 32 px on; as many as it takes to reach `resolution`.
        w_dim: size of the code that modulates every convolution.
        z_outline, z_detail: channels of random numbers at 4x4 and at 8x8 places.
        pairs: residual pairs at 8, 16, 32, … px that begin by adding nothing, so that a trained network grows by them.
        tolerant: whether it is told how far the photo may be from the truth, so that noise need not be copied.
        sharpness: mean and spread of `sharpness` over the pictures it learns from, where it is told how sharp the picture is to be;
            empty where it is not. A small photo does not say how well its large one was in focus, and a network that has
            to guess makes a dial of its random numbers: whole answers soft, others overdone.
    """

    resolution: int = 64
    width: int = 128
    channels: tuple[int, ...] = (96, 64)
    w_dim: int = 128
    z_outline: int = 12
    z_detail: int = 12
    pairs: tuple[int, ...] = ()
    tolerant: bool = False
    sharpness: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("channels", "pairs", "sharpness"):
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)
        side = self.resolution
        if type(side) is not int or not 32 <= side <= 1024 or side & (side - 1):
            raise WeightsError(
                f"conditional generator, resolution {side!r:.40}: must be a power of two from 32 to 1024."
            )
        if not isinstance(self.channels, tuple) or 16 << len(self.channels) != side:
            raise WeightsError(
                f"conditional generator: channels ({self.channels!r:.60}) must list one width for each of 32, 64, …, {side} px."
            )
        if not isinstance(self.pairs, tuple) or len(self.pairs) > len(self.channels) + 2:
            raise WeightsError(
                f"conditional generator: pairs ({self.pairs!r:.60}) must list at most one number for each of 8, 16, …, {side} px."
            )
        if type(self.tolerant) is not bool:
            raise WeightsError(f"conditional generator: tolerant ({self.tolerant!r:.40}) must be true or false.")
        known = self.sharpness
        if not isinstance(known, tuple) or any(type(x) not in (int, float) or not math.isfinite(x) for x in known):
            raise WeightsError(f"conditional generator: sharpness ({known!r:.60}) must list numbers.")
        if known and (len(known) != 2 or known[1] <= 0):
            raise WeightsError(f"conditional generator: sharpness ({known!r:.60}) must be a mean and a spread above 0.")
        check_whole("conditional generator", {f"pairs[{i}]": c for i, c in enumerate(self.pairs)}, 0, 64)
        widths = {f"channels[{i}]": c for i, c in enumerate(self.channels)}
        names = ("width", "w_dim", "z_outline", "z_detail")
        check_whole("conditional generator", widths | {name: getattr(self, name) for name in names}, 1, WIDEST)
        if self.width % 4:
            raise WeightsError(f"conditional generator: width ({self.width}) must be a multiple of 4.")

    @property
    def z_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of the random numbers of each level, for one picture."""
        shapes: dict[str, tuple[int, ...]] = {"outline": (self.z_outline, 4, 4), "detail": (self.z_detail, 8, 8)}
        return shapes | ({SHARPNESS: (1,)} if self.sharpness else {})


FLOOR = 1.5 / 255
"""Amplitude below which nothing is called texture."""


def octaves(pictures: Tensor, count: int) -> list[Tensor]:
    """Energy of the finest octaves, place by place: squares of what pictures have beyond the enlarged means of 2x2 pixels, summed
    over channels; (n, h, w), (n, h/2, w/2), …
    """
    found, fine = list[Tensor](), pictures.float()
    for _ in range(count):
        coarse = F.avg_pool2d(fine, 2)
        smooth = F.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
        found.append((fine - smooth).square().sum(1))
        fine = coarse
    return found


def sharpness(pictures: Tensor) -> Tensor:
    """How well a photograph is in focus, whatever it shows: half the natural logarithm of the energy of its finest octave over that of
    the next (its slope across scales, where contrast cancels out).

    Args:
        pictures: (n, c, h, w) in [0, 1], sides multiples of 4.

    Returns:
        (n,), around -0.5 for faces of 128 pixels; lower is softer. The energy of 1.5 grey levels is added to both, so that a plain
        picture has 0.
    """
    first, second = (energy.mean((1, 2)) + FLOOR**2 for energy in octaves(pictures, 2))
    return (first / second).log() / 2


def standard_sharpness(pictures: Tensor, usual: Sequence[float]) -> Tensor:
    """The sharpness of pictures as a network is told it, (n, 1): in spreads above the mean, `usual` (`ConditionalConfig.sharpness`)."""
    mean, spread = usual
    return ((sharpness(pictures) - mean) / spread)[:, None]


class Layer(ModulatedConv2d):
    """Modulated 3x3 convolution, bias, leaky ReLU with gain sqrt(2); no noise input."""

    def __init__(self, channels_in: int, channels_out: int, w_dim: int, up: bool = False):
        super().__init__(channels_in, channels_out, 3, w_dim, up=up)
        self.bias = nn.Parameter(torch.zeros(channels_out))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        x, scale = self.convolve(x, w)
        assert scale is not None
        x = torch.addcmul((self.bias * SQRT2)[:, None, None].to(x.dtype), x, (scale * SQRT2).to(x.dtype))
        return F.leaky_relu(x, 0.2)


class Pair(nn.Module):
    """Two modulated layers beside a skip."""

    def __init__(self, channels: int, w_dim: int):
        super().__init__()
        self.first, self.second = Layer(channels, channels, w_dim), Layer(channels, channels, w_dim)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return (x + self.second(self.first(x, w), w)) * math.sqrt(0.5)


class Addition(Pair):
    """Two modulated layers whose sum with the skip has a gain per channel that begins at nothing (ReZero; LayerScale)."""

    def __init__(self, channels: int, w_dim: int):
        super().__init__(channels, w_dim)
        self.gain = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return torch.addcmul(x, self.gain.to(x.dtype), self.second(self.first(x, w), w))


class Field(nn.Module):
    """Independent random numbers (n, c, a, a) as smooth fields (n, c, b, b), each value still standard normal (cubic convolution)."""

    matrix: Tensor

    def __init__(self, small: int, large: int):
        super().__init__()
        rows = F.interpolate(
            torch.eye(small, device="cpu")[None, None], (large, small), mode="bicubic", align_corners=False
        )[0, 0]
        self.register_buffer("matrix", rows / rows.norm(dim=1, keepdim=True), persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        return self.matrix @ z @ self.matrix.t()


class Gate(nn.Module):
    """Scales fields of random numbers, channel by channel and place by place, from 0 to 2, by what the photo shows; 1 at first."""

    def __init__(self, channels: int, fields: int):
        super().__init__()
        self.conv = EqualConv2d(channels, fields, 3, activate=False)
        nn.init.zeros_(self.conv.weight)

    def forward(self, x: Tensor, fields: Tensor) -> Tensor:
        return 2 * self.conv(x).sigmoid() * fields


class Level(nn.Module):
    """Twice the size: up-convolution, what the photo shows at this size, convolution, and a contribution to the RGB picture."""

    def __init__(self, channels_in: int, channels: int, w_dim: int, pairs: int = 0):
        super().__init__()
        self.up = Layer(channels_in, channels, w_dim, up=True)
        self.photo = EqualConv2d(3, channels, 3)
        self.conv = Layer(channels, channels, w_dim)
        self.pairs = nn.ModuleList(Addition(channels, w_dim) for _ in range(pairs))
        self.rgb = ModulatedConv2d(channels, 3, 1, w_dim, demodulate=False)

    def forward(self, x: Tensor, photo: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        x = (self.up(x, w) + self.photo(photo)) * math.sqrt(0.5)
        x = self.conv(x, w)
        for pair in self.pairs:
            x = pair(x, w)
        return x, self.rgb(x, w)


class ConditionalGenerator(nn.Module):
    """Photo and random numbers to picture; see the module.

    Args:
        config: its shape.
        name: for provenance.
    """

    fir4: Tensor

    def __init__(self, config: ConditionalConfig, name: str = "posterior"):
        super().__init__()
        self.config, self.name = config, name
        c = config
        n, quarter = c.width, c.width // 4
        self.stem = EqualConv2d(3 * UNSHUFFLE**2, n, 3)
        self.place = nn.Parameter(
            torch.randn(1, n, 16, 16) * 0.5
        )  # faces are aligned: where a thing is means something
        self.look = EqualConv2d(n, n, 3)
        self.down = nn.Sequential(EqualConv2d(n, n, 3, down=True), EqualConv2d(n, n, 3))
        self.squeeze = EqualConv2d(n, quarter, 1)
        self.code = EqualLinear(quarter * 64, c.w_dim, activate=True)
        known = c.w_dim + 1 + c.tolerant + bool(c.sharpness)
        sizes = [known, c.w_dim, c.w_dim, c.w_dim]
        self.mapping = nn.Sequential(*(EqualLinear(a, b, lr_multiplier=0.5, activate=True) for a, b in pairwise(sizes)))
        self.low_outline, self.high_outline, self.high_detail = Field(4, 8), Field(4, 16), Field(8, 16)
        self.gate_outline, self.gate_detail = Gate(n, c.z_outline), Gate(n, c.z_outline + c.z_detail)
        self.outline = nn.ModuleList(
            [Layer(n + c.z_outline, n, c.w_dim), Layer(n, n, c.w_dim), Layer(n, n, c.w_dim, up=True)]
        )
        more = (*c.pairs, *(0,) * (2 + len(c.channels) - len(c.pairs)))
        self.more_outline = nn.ModuleList(Addition(n, c.w_dim) for _ in range(more[0]))
        self.detail = Layer(n + c.z_outline + c.z_detail, n, c.w_dim)
        self.trunk = nn.ModuleList(
            [Pair(n, c.w_dim), Pair(n, c.w_dim), *(Addition(n, c.w_dim) for _ in range(more[1]))]
        )
        self.rgb = ModulatedConv2d(n, 3, 1, c.w_dim, demodulate=False)
        widths = (n, *c.channels)
        self.levels = nn.ModuleList(
            Level(a, b, c.w_dim, count) for (a, b), count in zip(pairwise(widths), more[2:], strict=True)
        )
        self.register_buffer("fir4", fir_kernel(gain=4.0), persistent=False)

    @property
    def resolution(self) -> int:
        return self.config.resolution

    def metadata(self) -> dict[str, Any]:
        """What a weight file must say to rebuild this module."""
        return {"architecture": "conditional", "config": asdict(self.config)}

    @property
    def sides(self) -> tuple[int, ...]:
        """Sides of its levels, 8, 16, …, resolution; each takes a code of its own (`rgb_pictures`)."""
        return tuple(8 << i for i in range(2 + len(self.levels)))

    def forward(self, photo: Tensor, size: Tensor, z: Mapping[str, Tensor], tolerance: Tensor | None = None) -> Tensor:
        """What a smooth enlargement of the photo lacks.

        Args:
            photo: (n, 3, R, R), the pseudo-inverse enlargement of the small picture, around [0, 1].
            size: (n,), log2 of the side of the small picture: the same for a network and for a larger one grown from it.
            z: standard normal numbers by level, each (n, …) as `ConditionalConfig.z_shapes` says; "sharpness" in spreads of it above
                its mean.
            tolerance: (n,), how many grey levels the photo may be off; None for 0. Networks that are not `tolerant` ignore it.

        Returns:
            (n, 3, R, R), to be added to a smooth enlargement.
        """
        return self.rgb_pictures(photo, size, z, tolerance)[-1]

    def rgb_pictures(
        self,
        photo: Tensor,
        size: Tensor,
        z: Mapping[str, Tensor],
        tolerance: Tensor | None = None,
        steer: Tensor | None = None,
        largest: int | None = None,
        tap: Callable[[int, Tensor], None] | None = None,
    ) -> list[Tensor]:
        """`forward`, with the pictures of the levels before the last.

        Args:
            photo, size, z, tolerance: as of `forward`.
            steer: (n, levels, w_dim), added to the code of each level (`sides`); None for nothing.
            largest: nothing is computed beyond this side; None for all.
            tap: is told the side and the feature maps of every level from 16 on.

        Returns:
            One (n, 3, s, s) for each side from 16 on.
        """
        photo = (photo * 2 - 1).clamp(-2, 2)  # pseudo-inverses overshoot at edges
        views = {photo.shape[-1]: photo.contiguous(memory_format=torch.channels_last)}
        while min(views) > 32:
            views[min(views) // 2] = F.avg_pool2d(views[min(views)], 2)
        grid = (
            views[GRID] if GRID in views else F.interpolate(photo, (GRID, GRID), mode="bilinear", align_corners=False)
        )
        x = self.stem(F.pixel_unshuffle(grid, UNSHUFFLE).contiguous(memory_format=torch.channels_last)) + self.place
        x = x + 0.5 * self.look(x)
        low = self.down(x)
        known = self.code(self.squeeze(low).flatten(1))
        told = [size - 4]
        if self.config.tolerant:
            told.append(torch.zeros_like(size) if tolerance is None else (1 + tolerance).log2())
        if self.config.sharpness:
            told.append(z[SHARPNESS][:, 0].to(size.dtype))
        w = self.mapping(torch.cat([known, torch.stack(told, dim=1)], dim=1))
        codes = [w] * len(self.sides) if steer is None else list((w[:, None] + steer.to(w.dtype)).unbind(1))
        first, second, up = self.outline
        chance = self.gate_outline(low, self.low_outline(z["outline"]))
        low = second(first(torch.cat([low, chance], dim=1), codes[0]), codes[0])
        for pair in self.more_outline:
            low = pair(low, codes[0])
        x = (x + 2 * up(low, codes[0])) * math.sqrt(0.2)
        fields = torch.cat([self.high_outline(z["outline"]), self.high_detail(z["detail"])], dim=1)
        chance = self.gate_detail(x, fields)
        x = x + self.detail(torch.cat([x, chance], dim=1), codes[1])
        x = x * math.sqrt(0.5)
        for pair in self.trunk:
            x = pair(x, codes[1])
        rgb: Tensor = self.rgb(x, codes[1])
        pictures = [rgb.float() * 0.25]
        if tap is not None:
            tap(x.shape[-1], x)
        for level, code in zip(self.levels, codes[2:], strict=True):
            if largest is not None and 2 * x.shape[-1] > largest:
                break
            x, more = level(x, views[2 * x.shape[-1]], code)
            rgb = upsample2(rgb, self.fir4) + more
            pictures.append(rgb.float() * 0.25)
            if tap is not None:
                tap(x.shape[-1], x)
        return pictures
