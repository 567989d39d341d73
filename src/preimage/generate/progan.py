"""ProGAN generator (Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and Variation", 2018).

One latent, no mapping network and no noise inputs: the sphere that PULSE walks on is this network's own latent space. Depth
counts sizes: depth 1 makes 4x4 pictures, depth 5 makes 64x64 (the configuration of SR-NAM, section 4.1).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.bounds import WIDEST, check_resolution, check_whole
from preimage.errors import MethodError, WeightsError
from preimage.generate.side_outputs import Branched, Tap
from preimage.nets.layers import SQRT2, EqualConv2d, pixel_norm
from preimage.seeds import normal


@dataclass(frozen=True)
class ProGANConfig:
    """Shape of a generator.

    Attributes:
        resolution: side of the picture, a power of two from 4 to 1024.
        channel_base: a layer of side r has min(channel_base / r, channel_max) channels (the paper: 16384 and 512).
        channel_max: upper bound on channels.
        z_dim: size of the latent.
        normalise_latent: scale each latent to unit mean square first, so that only its direction counts.
        normalise_first: pixel norm after the first of the two 4x4 layers too, as after every other convolution.
        alpha: share of the last size in the picture, the rest is the size before, enlarged; below 1 only where a network
            was exported while its last size faded in.
    """

    resolution: int = 64
    channel_base: int = 16384
    channel_max: int = 512
    z_dim: int = 512
    normalise_latent: bool = True
    normalise_first: bool = True
    alpha: float = 1.0

    def __post_init__(self) -> None:
        side = self.resolution
        check_resolution("ProGAN", side, 4)
        check_whole("ProGAN", {"channel_base": self.channel_base}, side, WIDEST * side)
        check_whole("ProGAN", {"channel_max": self.channel_max, "z_dim": self.z_dim}, 1, WIDEST)
        for name in ("normalise_latent", "normalise_first"):
            if type(getattr(self, name)) is not bool:
                raise WeightsError(f"ProGAN: {name} ({getattr(self, name)!r:.40}) must be true or false.")
        if type(self.alpha) not in (int, float) or not 0 <= self.alpha <= 1:
            raise WeightsError(
                f"ProGAN alpha {self.alpha!r:.40}: must lie in [0, 1]; 1 is a network that has fully grown."
            )

    @property
    def resolutions(self) -> tuple[int, ...]:
        """4, 8, …, resolution."""
        return tuple(2**k for k in range(2, int(math.log2(self.resolution)) + 1))

    @property
    def depth(self) -> int:
        """Number of sizes: 1 at 4x4, 5 at 64x64."""
        return len(self.resolutions)

    def channels(self, side: int) -> int:
        """Width of the layers of this side."""
        return min(self.channel_base // side, self.channel_max)


class LatentConv(nn.Module):
    """The 4x4 transposed convolution of a single pixel, the latent, to a 4x4 map; equalised, with leaky ReLU."""

    def __init__(self, z_dim: int, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(z_dim, channels, 4, 4))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.gain = 1.0 / math.sqrt(z_dim)

    def forward(self, z: Tensor) -> Tensor:
        """z (n, z_dim) -> (n, channels, 4, 4)."""
        x = F.conv_transpose2d(z[:, :, None, None], self.weight * self.gain, self.bias)
        return F.leaky_relu(x, 0.2) * SQRT2


class FirstBlock(nn.Module):
    """The 4x4 layers."""

    def __init__(self, config: ProGANConfig):
        super().__init__()
        channels = config.channels(4)
        self.conv0 = LatentConv(config.z_dim, channels)
        self.conv1 = EqualConv2d(channels, channels, 3)
        self.normalise_first = config.normalise_first

    def forward(self, z: Tensor) -> Tensor:
        x = self.conv0(z).contiguous(memory_format=torch.channels_last)
        return pixel_norm(self.conv1(pixel_norm(x) if self.normalise_first else x))


class GrowthBlock(nn.Module):
    """The layers of one further size: nearest-neighbour enlargement, then two convolutions with pixel norm."""

    def __init__(self, channels_in: int, channels: int):
        super().__init__()
        self.conv0 = EqualConv2d(channels_in, channels, 3)
        self.conv1 = EqualConv2d(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return pixel_norm(self.conv1(pixel_norm(self.conv0(x))))


class ProGAN(Branched):
    """A ProGAN prior; meets the `Prior` contract with one row of latents, z itself.

    Args:
        config: its shape.
        name: for provenance.
    """

    z_mean: Tensor
    z_std: Tensor

    def __init__(self, config: ProGANConfig, name: str = "progan"):
        super().__init__()
        self.config, self.name = config, name
        widths = [config.channels(side) for side in config.resolutions]
        blocks: list[nn.Module] = [FirstBlock(config)]
        blocks += [GrowthBlock(before, width) for before, width in pairwise(widths)]
        self.blocks = nn.ModuleList(blocks)
        self.torgb = nn.ModuleList(EqualConv2d(width, 3, 1, activate=False) for width in widths)
        self.register_buffer("z_mean", torch.zeros(config.z_dim), persistent=False)
        self.register_buffer("z_std", torch.ones(config.z_dim), persistent=False)

    @property
    def resolution(self) -> int:
        return self.config.resolution

    @property
    def latent_shape(self) -> tuple[int, int]:
        return 1, self.config.z_dim

    @property
    def spaces(self) -> tuple[str, ...]:
        return ("Z",)

    @property
    def noise_sizes(self) -> tuple[int, ...]:
        return ()

    @property
    def mean_latent(self) -> Tensor:
        return self.z_mean

    @property
    def gaussian_fit(self) -> tuple[Tensor, Tensor]:
        return self.z_mean, self.z_std

    def forward(self, z: Tensor, depth: int | None = None, alpha: float = 1.0, tap: Tap | None = None) -> Tensor:
        """z (n, z_dim) -> pictures (n, 3, s, s) around [0, 1], not clamped; s = 4 * 2^(depth - 1).

        Args:
            z: latents.
            depth: how many sizes take part; None means all.
            alpha: share of the last of them in the picture (the fade-in of section 2 and figure 2).
            tap: told every side and its feature maps.
        """
        depth = self.config.depth if depth is None else depth
        x = z.float()
        if self.config.normalise_latent:
            x = pixel_norm(x)
        before = x
        for side, block in zip(self.config.resolutions, self.blocks[:depth], strict=False):
            before, x = x, block(x)
            if tap is not None:
                tap(side, x)
        picture: Tensor = self.torgb[depth - 1](x).float()
        if depth > 1 and alpha < 1:
            before = F.interpolate(self.torgb[depth - 2](before).float(), scale_factor=2.0, mode="nearest")
            picture = torch.lerp(before, picture, alpha)
        return (picture + 1) / 2

    def synthesize(self, latents: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Latents (n, 1, z_dim) -> pictures (n, 3, R, R), RGB around [0, 1], not clamped. There is no noise to give."""
        picture: Tensor = self(latents[:, 0], alpha=self.config.alpha)
        return picture

    @property
    def own_sides(self) -> tuple[int, ...]:
        """The whole picture's alone: the RGB layers of smaller sizes have not followed their blocks since these ceased to be the last."""
        return (self.config.resolution,)

    @property
    def feature_widths(self) -> dict[int, int]:
        """See `Branched`."""
        return {side: self.config.channels(side) for side in self.config.resolutions}

    def grow(
        self, latents: Tensor, noise: Sequence[Tensor] | None, largest: int | None = None, tap: Tap | None = None
    ) -> dict[int, Tensor]:
        """See `Branched`."""
        if largest is None or largest >= self.resolution:
            return {self.resolution: self(latents[:, 0], alpha=self.config.alpha, tap=tap)}
        self(latents[:, 0], sum(side <= largest for side in self.config.resolutions), tap=tap)
        return {}

    def latents(self, seeds: Sequence[int], truncation: float = 1.0) -> Tensor:
        """Latents (n, 1, z_dim) of these seeds, times `truncation`.

        Raises:
            MethodError: a truncation other than 1 of latents whose length does not count.
        """
        if truncation != 1 and self.config.normalise_latent:
            raise MethodError(
                f"truncation {truncation:g}: {self.name} is a ProGAN whose latents lie on a sphere, so there is no average "
                "face to move towards. Leave it at 1."
            )
        return normal(seeds, (1, self.config.z_dim), "z").to(self.z_mean.device) * truncation

    @torch.no_grad()
    def sample(self, seeds: Sequence[int], truncation: float = 1.0) -> Tensor:
        return self.synthesize(self.latents(seeds, truncation)).clamp(0, 1)

    def at(self, depth: int, alpha: float = 1.0) -> ProGAN:
        """A copy of the first `depth` sizes as a network of its own, its last size faded in by `alpha`."""
        small = copy.deepcopy(self)
        small.config = replace(self.config, resolution=self.config.resolutions[depth - 1], alpha=alpha)
        small.blocks, small.torgb = small.blocks[:depth], small.torgb[:depth]
        return small

    def metadata(self) -> dict[str, Any]:
        """What a weight file must say to rebuild this module."""
        return {"architecture": "progan", "config": asdict(self.config)}
