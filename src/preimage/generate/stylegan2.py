"""StyleGAN2 generator (Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020), config-F layout.

Parameter names follow the published torch layout (`mapping.fc0`, `synthesis.b8.conv0`, `synthesis.b8.torgb`, …), so that
foreign checkpoints of any size map on them name by name. Skip-RGB architecture, one scalar noise strength per layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.errors import WeightsError
from preimage.generate.prior import fit_gaussian
from preimage.nets.layers import SQRT2, EqualLinear, ModulatedConv2d, fir_kernel, pixel_norm, upsample2
from preimage.seeds import normal


@dataclass(frozen=True)
class StyleGAN2Config:
    """Shape of a generator.

    Attributes:
        resolution: side of the picture, a power of two from 8 to 1024.
        channel_base: a layer of side r has min(channel_base / r, channel_max) channels (NVIDIA: 32768 for config F).
        channel_max: upper bound on channels.
        z_dim, w_dim: sizes of the latents z and w.
        mapping_layers: depth of the mapping network (8 in the paper).
    """

    resolution: int = 64
    channel_base: int = 32768
    channel_max: int = 512
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8

    def __post_init__(self) -> None:
        levels = math.log2(self.resolution) if self.resolution > 0 else 0.0
        if levels != int(levels) or not 8 <= self.resolution <= 1024:
            raise WeightsError(f"StyleGAN2 resolution {self.resolution}: must be a power of two from 8 to 1024.")

    @property
    def resolutions(self) -> tuple[int, ...]:
        """4, 8, …, resolution."""
        return tuple(2**k for k in range(2, int(math.log2(self.resolution)) + 1))

    def channels(self, side: int) -> int:
        """Width of the layers of this side."""
        return min(self.channel_base // side, self.channel_max)

    @property
    def rows(self) -> int:
        """Rows of a W+ latent: 2 log2(resolution) - 2 (18 at 1024)."""
        return 2 * len(self.resolutions)

    @property
    def noise_sizes(self) -> tuple[int, ...]:
        """Side of each noise map: 4, 8, 8, 16, 16, …"""
        return (4, *(side for side in self.resolutions[1:] for _ in range(2)))


class Mapping(nn.Module):
    """z -> w: pixel norm, then dense layers with a learning rate 100 times smaller than the rest."""

    w_avg: Tensor

    def __init__(self, config: StyleGAN2Config):
        super().__init__()
        self.depth = config.mapping_layers
        for i in range(self.depth):
            fan_in = config.z_dim if i == 0 else config.w_dim
            self.add_module(f"fc{i}", EqualLinear(fan_in, config.w_dim, lr_multiplier=0.01, activate=True))
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def forward(self, z: Tensor) -> Tensor:
        """z (n, z_dim) -> w (n, w_dim)."""
        with torch.autocast(z.device.type, enabled=False):
            w = pixel_norm(z.float())
            for i in range(self.depth):
                w = getattr(self, f"fc{i}")(w)
        return w


class StyledConv(ModulatedConv2d):
    """Modulated convolution, noise, bias, leaky ReLU with gain sqrt(2)."""

    def __init__(self, channels_in: int, channels_out: int, w_dim: int, up: bool = False):
        super().__init__(channels_in, channels_out, 3, w_dim, up=up)
        self.bias = nn.Parameter(torch.zeros(channels_out))
        self.noise_strength = nn.Parameter(torch.zeros([]))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        x, scale = self.convolve(x, w)
        assert scale is not None
        # the gain sqrt(2) goes through the homogeneous leaky ReLU into scale, bias and noise: fewer passes over x
        x = torch.addcmul((self.bias * SQRT2)[:, None, None].to(x.dtype), x, (scale * SQRT2).to(x.dtype))
        if noise is not None:
            x = x + (noise * (self.noise_strength * SQRT2)).to(x.dtype)
        return F.leaky_relu(x, 0.2)


class ToRGB(ModulatedConv2d):
    """Modulated 1x1 convolution to three channels, without demodulation."""

    def __init__(self, channels_in: int, w_dim: int):
        super().__init__(channels_in, 3, 1, w_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return super().forward(x, w).float() + self.bias[:, None, None]


class SynthesisBlock(nn.Module):
    """The layers of one resolution; the first block starts from a learned constant."""

    def __init__(self, side: int, channels_in: int, channels: int, w_dim: int):
        super().__init__()
        if side == 4:
            self.const = nn.Parameter(torch.randn(channels, 4, 4))
        else:
            self.conv0 = StyledConv(channels_in, channels, w_dim, up=True)
        self.conv1 = StyledConv(channels, channels, w_dim)
        self.torgb = ToRGB(channels, w_dim)


class Synthesis(nn.Module):
    """W+ -> picture in [-1, 1], coarse to fine; every block adds its RGB to the enlarged RGB of the block before."""

    fir4: Tensor

    def __init__(self, config: StyleGAN2Config):
        super().__init__()
        self.config = config
        previous = 0
        for side in config.resolutions:
            self.add_module(f"b{side}", SynthesisBlock(side, previous, config.channels(side), config.w_dim))
            previous = config.channels(side)
        self.register_buffer("fir4", fir_kernel(gain=4.0), persistent=False)

    def block(self, side: int) -> SynthesisBlock:
        """The layers of this side."""
        found: SynthesisBlock = getattr(self, f"b{side}")
        return found

    def forward(
        self, ws: Tensor, noise: Sequence[Tensor] | None = None, dtype: torch.dtype | None = None
    ) -> list[Tensor]:
        """ws (n, rows, w_dim) -> the RGB pictures of every side, coarse to fine, each (n, 3, side, side).

        noise: one map per layer or None for silence. dtype: of the feature maps; RGB is summed in float32.
        """
        maps = list(noise) if noise is not None else [None] * len(self.config.noise_sizes)
        block = self.block(4)
        x = block.const.to(dtype or block.const.dtype).expand(len(ws), -1, -1, -1)
        x = x.contiguous(memory_format=torch.channels_last)
        x = block.conv1(x, ws[:, 0], maps[0])
        rgb = block.torgb(x, ws[:, 1])
        pictures = [rgb]
        for j, side in enumerate(self.config.resolutions[1:]):
            block = self.block(side)
            x = block.conv0(x, ws[:, 2 * j + 1], maps[2 * j + 1])
            x = block.conv1(x, ws[:, 2 * j + 2], maps[2 * j + 2])
            # a toRGB shares its code with the next block's first convolution
            rgb = upsample2(rgb, self.fir4) + block.torgb(x, ws[:, 2 * j + 3])
            pictures.append(rgb)
        return pictures


class StyleGAN2(nn.Module):
    """A StyleGAN2 prior; meets the `Prior` contract.

    Args:
        config: its shape.
        name: for provenance.
    """

    fit_mean: Tensor
    fit_std: Tensor

    def __init__(self, config: StyleGAN2Config, name: str = "stylegan2"):
        super().__init__()
        self.config, self.name = config, name
        self.mapping = Mapping(config)
        self.synthesis = Synthesis(config)
        self.register_buffer("fit_mean", torch.zeros(config.w_dim))
        self.register_buffer("fit_std", torch.zeros(config.w_dim))

    @property
    def resolution(self) -> int:
        return self.config.resolution

    @property
    def latent_shape(self) -> tuple[int, int]:
        return self.config.rows, self.config.w_dim

    @property
    def spaces(self) -> tuple[str, ...]:
        return "Z", "W", "W+"

    @property
    def noise_sizes(self) -> tuple[int, ...]:
        return self.config.noise_sizes

    @property
    def mean_latent(self) -> Tensor:
        return self.mapping.w_avg

    @property
    def gaussian_fit(self) -> tuple[Tensor, Tensor]:
        if not bool(self.fit_std.any()):  # a network that never went through training or loading
            self.refit()
        return self.fit_mean, self.fit_std

    @torch.no_grad()
    def refit(self, samples: int = 100_000) -> None:
        """Recompute mean latent and Gaussian fit from the mapping network (needed once per checkpoint)."""
        device = self.fit_mean.device
        mean, std = fit_gaussian(lambda z: self.mapping(z.to(device)).cpu(), self.config.z_dim, samples)
        self.fit_mean.copy_(mean)
        self.fit_std.copy_(std)
        z = torch.randn(10_000, self.config.z_dim, generator=torch.Generator().manual_seed(1))
        self.mapping.w_avg.copy_(self.mapping(z.to(device)).mean(0))

    def latents(self, seeds: Sequence[int], truncation: float = 1.0) -> Tensor:
        """W+ latents (n, rows, w_dim) of these seeds: w_avg + truncation * (w - w_avg), the same w in every row."""
        w: Tensor = self.mapping(normal(seeds, (self.config.z_dim,), "z").to(self.fit_mean.device))
        w = self.mean_latent + truncation * (w - self.mean_latent)
        return w[:, None].expand(-1, self.config.rows, -1)

    def noise(self, seeds: Sequence[int], stream: str = "noise") -> list[Tensor]:
        """Random noise maps of these seeds, one (n, 1, side, side) per layer."""
        device = self.fit_mean.device
        return [normal(seeds, (1, s, s), f"{stream}{i}").to(device) for i, s in enumerate(self.noise_sizes)]

    def side_outputs(
        self, latents: Tensor, noise: Sequence[Tensor] | None = None, dtype: torch.dtype | None = None
    ) -> dict[int, Tensor]:
        """The RGB pictures of every side, {side: (n, 3, side, side)}, around [0, 1], not clamped."""
        return {rgb.shape[-1]: (rgb + 1) / 2 for rgb in self.synthesis(latents, noise, dtype)}

    def synthesize(
        self, latents: Tensor, noise: Sequence[Tensor] | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        pictures: list[Tensor] = self.synthesis(latents, noise, dtype)
        return (pictures[-1] + 1) / 2

    def forward(self, latents: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        return self.synthesize(latents, noise)

    @torch.no_grad()
    def sample(self, seeds: Sequence[int], truncation: float = 1.0) -> Tensor:
        return self.synthesize(self.latents(seeds, truncation), self.noise(seeds)).clamp(0, 1)

    def metadata(self) -> dict[str, Any]:
        """What a weight file must say to rebuild this module."""
        return {"architecture": "stylegan2", "config": asdict(self.config)}
