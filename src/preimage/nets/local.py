"""A second stage that is local: a sharp picture of any size becomes four times as large, by what its neighbourhood tells.

Plain convolutions and no map of places, so that it learns on crops and answers whole pictures. Random numbers are a few channels
of independent ones at the size of what goes in. `Chain` puts it behind a `ConditionalGenerator`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.bounds import WIDEST, check_whole
from preimage.errors import WeightsError
from preimage.nets.conditional import ConditionalConfig, ConditionalGenerator
from preimage.nets.layers import EqualConv2d, fir_kernel, upsample2

TEXTURE = "texture"
"""The level of random numbers of this stage, finer than those of `nets.conditional.LEVELS`."""


@dataclass(frozen=True)
class LocalConfig:
    """Shape of the network.

    Attributes:
        resolution: side of the pictures that it learns on, crops of larger ones; a multiple of 4.
        width: channels at a quarter of the side.
        channels: channels at half of the side and at the full one.
        blocks: residual blocks at a quarter of the side.
        z_texture: channels of random numbers there.
    """

    resolution: int = 128
    width: int = 64
    channels: tuple[int, ...] = (48, 24)
    blocks: int = 4
    z_texture: int = 4

    def __post_init__(self) -> None:
        if isinstance(self.channels, list):
            object.__setattr__(self, "channels", tuple(self.channels))
        if not isinstance(self.channels, tuple) or len(self.channels) != 2:
            raise WeightsError(f"local generator: channels ({self.channels!r:.60}) must list two widths.")
        widths = {f"channels[{i}]": c for i, c in enumerate(self.channels)}
        widths |= {name: getattr(self, name) for name in ("width", "z_texture", "resolution")}
        check_whole("local generator", widths, 1, WIDEST)
        check_whole("local generator", {"blocks": self.blocks}, 0, 64)
        if self.resolution % 4 or self.resolution < 32:
            raise WeightsError(f"local generator: resolution ({self.resolution}) must be a multiple of 4 from 32 on.")

    @property
    def factor(self) -> int:
        """How many times as large its pictures are."""
        return 4

    @property
    def tolerant(self) -> bool:
        """It keeps what goes in exactly."""
        return False

    @property
    def z_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of the random numbers for one picture of this resolution."""
        side = self.resolution // self.factor
        return {TEXTURE: (self.z_texture, side, side)}


class Block(nn.Module):
    """Two convolutions beside a skip, with a gain per channel that begins small."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = EqualConv2d(channels, channels, 3)
        self.second = EqualConv2d(channels, channels, 3)
        self.gain = nn.Parameter(torch.full((channels, 1, 1), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(x, self.gain.to(x.dtype), self.second(self.first(x)))


class Enlarge(nn.Module):
    """Twice the size: enlarged, beside what the picture shows there, and one convolution on it."""

    def __init__(self, channels_in: int, channels: int):
        super().__init__()
        self.narrow = EqualConv2d(channels_in, channels, 1, activate=False)
        self.picture = EqualConv2d(3, channels, 3, activate=False)
        self.conv = EqualConv2d(channels, channels, 3)
        self.rgb = EqualConv2d(channels, 3, 1, activate=False)
        self.register_buffer("fir4", fir_kernel(gain=4.0), persistent=False)

    fir4: Tensor

    def forward(self, x: Tensor, picture: Tensor) -> tuple[Tensor, Tensor]:
        x = F.leaky_relu((upsample2(self.narrow(x), self.fir4) + self.picture(picture)) * math.sqrt(0.5), 0.2)
        x = self.conv(x)
        return x, self.rgb(x)


class LocalGenerator(nn.Module):
    """Picture and random numbers to a picture of four times the side; see the module.

    Args:
        config: its shape.
        name: for provenance.
    """

    fir4: Tensor

    def __init__(self, config: LocalConfig, name: str = "posterior-local"):
        super().__init__()
        self.config, self.name = config, name
        n = config.width
        self.stem = EqualConv2d(3 * config.factor**2 + config.z_texture, n, 3)
        self.blocks = nn.Sequential(*(Block(n) for _ in range(config.blocks)))
        self.levels = nn.ModuleList(Enlarge(a, b) for a, b in pairwise((n, *config.channels)))
        self.register_buffer("fir4", fir_kernel(gain=4.0), persistent=False)

    @property
    def resolution(self) -> int:
        return self.config.resolution

    def metadata(self) -> dict[str, Any]:
        """What a weight file must say to rebuild this module."""
        return {"architecture": "local", "config": asdict(self.config)}

    def forward(self, photo: Tensor, size: Tensor, z: Mapping[str, Tensor], tolerance: Tensor | None = None) -> Tensor:
        """What a smooth enlargement lacks.

        Args:
            photo: (n, 3, H, W), the pseudo-inverse enlargement of the picture that goes in, around [0, 1]; sides are multiples of 4.
            size, tolerance: not needed here; as for `ConditionalGenerator`.
            z: "texture", (n, z_texture, H/4, W/4), standard normal.

        Returns:
            (n, 3, H, W), to be added to a smooth enlargement.
        """
        photo = (photo * 2 - 1).clamp(-2, 2).contiguous(memory_format=torch.channels_last)
        coarse = F.pixel_unshuffle(photo, self.config.factor)
        x = self.blocks(
            self.stem(
                torch.cat([coarse, z[TEXTURE].to(coarse.dtype)], dim=1).contiguous(memory_format=torch.channels_last)
            )
        )
        half, full = self.levels
        x, rgb = half(x, F.avg_pool2d(photo, 2))
        x, more = full(x, photo)
        return (upsample2(rgb, self.fir4) + more).float() * 0.1


@dataclass(frozen=True)
class ChainConfig:
    """Shapes of the two stages of a `Chain`.

    Attributes:
        first, second: as for the two networks; the second one's resolution is four times the first one's.
    """

    first: ConditionalConfig
    second: LocalConfig

    def __post_init__(self) -> None:
        for name, kind in (("first", ConditionalConfig), ("second", LocalConfig)):
            value = getattr(self, name)
            if isinstance(value, dict):
                value = kind(**value)
                object.__setattr__(self, name, value)
            if not isinstance(value, kind):
                raise WeightsError(f"chain: {name} ({value!r:.60}) describes no {kind.__name__}.")
        if self.second.resolution != self.first.resolution * self.second.factor:
            raise WeightsError(
                f"chain: its stages end at {self.first.resolution} and {self.second.resolution} pixels; the second must reach "
                f"{self.second.factor} times the first."
            )

    @property
    def resolution(self) -> int:
        return self.second.resolution

    @property
    def tolerant(self) -> bool:
        return self.first.tolerant

    @property
    def z_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of the random numbers of all levels, for one picture."""
        return {**self.first.z_shapes, **self.second.z_shapes}


class Chain(nn.Module):
    """Two stages as one network (`invert.sampler.answer` runs them, with a projection behind each).

    Args:
        first: photo to picture.
        second: picture to a larger one.
        name: for provenance.
    """

    def __init__(self, first: ConditionalGenerator, second: LocalGenerator, name: str = "posterior-chain"):
        super().__init__()
        self.config = ChainConfig(first.config, second.config)
        self.first, self.second, self.name = first, second, name

    @property
    def resolution(self) -> int:
        return self.config.resolution

    def metadata(self) -> dict[str, Any]:
        """What a weight file must say to rebuild this module."""
        return {"architecture": "chain", "config": asdict(self.config)}


def build_chain(config: ChainConfig, name: str) -> Chain:
    """A chain of this shape, untrained."""
    return Chain(ConditionalGenerator(config.first), LocalGenerator(config.second), name)
