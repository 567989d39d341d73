"""StyleGAN2 generator (Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020), config-F layout.

Parameter names follow the published torch layout (`mapping.fc0`, `synthesis.b8.conv0`, `synthesis.b8.torgb`, …), so that
foreign checkpoints of any size map on them name by name. Skip-RGB architecture, one scalar noise strength per layer.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.errors import WeightsError
from preimage.generate.side_outputs import Tap
from preimage.generate.style_prior import StyleConfig, StylePrior
from preimage.nets.layers import SQRT2, EqualLinear, ModulatedConv2d, fir_kernel, pixel_norm, upsample2


@dataclass(frozen=True)
class StyleGAN2Config(StyleConfig):
    """Shape of a generator.

    Attributes:
        channel_base: NVIDIA: 32768 for config F.
        conv_clamp: what NVIDIA's mixed-precision networks clamp each convolution's output to after activation and gain, and
            each toRGB's after its bias: [-conv_clamp, conv_clamp], 256 in the published ones; None: no clamp.
    """

    family: ClassVar[str] = "StyleGAN2"

    resolution: int = 64
    channel_base: int = 32768
    conv_clamp: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        clamp: object = self.conv_clamp  # from a file, it may be anything
        if clamp is None:
            return
        if isinstance(clamp, bool) or not isinstance(clamp, int | float) or not 0 < clamp <= sys.float_info.max:
            raise WeightsError(f"{self.family} conv_clamp {clamp!r:.40}: must be a finite number above 0, or None.")

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
    """Modulated convolution, noise, bias, leaky ReLU with gain sqrt(2), clamp."""

    def __init__(self, channels_in: int, channels_out: int, w_dim: int, up: bool = False, clamp: float | None = None):
        super().__init__(channels_in, channels_out, 3, w_dim, up=up)
        self.clamp = clamp
        self.bias = nn.Parameter(torch.zeros(channels_out))
        self.noise_strength = nn.Parameter(torch.zeros([]))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        x, scale = self.convolve(x, w)
        assert scale is not None
        # the gain sqrt(2) goes through the homogeneous leaky ReLU into scale, bias and noise: fewer passes over x
        x = torch.addcmul((self.bias * SQRT2)[:, None, None].to(x.dtype), x, (scale * SQRT2).to(x.dtype))
        if noise is not None:
            x = x + (noise * (self.noise_strength * SQRT2)).to(x.dtype)
        return _clamped(F.leaky_relu(x, 0.2), self.clamp)


class ToRGB(ModulatedConv2d):
    """Modulated 1x1 convolution to three channels, without demodulation; clamp."""

    def __init__(self, channels_in: int, w_dim: int, clamp: float | None = None):
        super().__init__(channels_in, 3, 1, w_dim, demodulate=False)
        self.clamp = clamp
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return _clamped(super().forward(x, w).float() + self.bias[:, None, None], self.clamp)


def _clamped(x: Tensor, most: float | None) -> Tensor:
    if most is None:
        return x
    most = min(most, torch.finfo(x.dtype).max)
    return x.clamp(-most, most)


class SynthesisBlock(nn.Module):
    """The layers of one resolution; the first block starts from a learned constant."""

    def __init__(self, side: int, channels_in: int, channels: int, w_dim: int, clamp: float | None = None):
        super().__init__()
        if side == 4:
            self.const = nn.Parameter(torch.randn(channels, 4, 4))
        else:
            self.conv0 = StyledConv(channels_in, channels, w_dim, up=True, clamp=clamp)
        self.conv1 = StyledConv(channels, channels, w_dim, clamp=clamp)
        self.torgb = ToRGB(channels, w_dim, clamp)


class Synthesis(nn.Module):
    """W+ -> picture in [-1, 1], coarse to fine; every block adds its RGB to the enlarged RGB of the block before."""

    fir4: Tensor

    def __init__(self, config: StyleGAN2Config):
        super().__init__()
        self.config = config
        previous = 0
        for side in config.resolutions:
            width = config.channels(side)
            self.add_module(f"b{side}", SynthesisBlock(side, previous, width, config.w_dim, config.conv_clamp))
            previous = width
        self.register_buffer("fir4", fir_kernel(gain=4.0), persistent=False)

    def block(self, side: int) -> SynthesisBlock:
        """The layers of this side."""
        found: SynthesisBlock = getattr(self, f"b{side}")
        return found

    def forward(
        self,
        ws: Tensor,
        noise: Sequence[Tensor] | None = None,
        dtype: torch.dtype | None = None,
        largest: int | None = None,
        tap: Tap | None = None,
    ) -> list[Tensor]:
        """ws (n, rows, w_dim) -> the RGB pictures of every side up to `largest`, coarse to fine, each (n, 3, side, side).

        noise: one map per layer or None for silence. dtype: of the feature maps; RGB is summed in float32. tap: told them.
        """
        maps = list(noise) if noise is not None else [None] * len(self.config.noise_sizes)
        block = self.block(4)
        x = block.const.to(dtype or block.const.dtype).expand(len(ws), -1, -1, -1)
        x = x.contiguous(memory_format=torch.channels_last)
        x = block.conv1(x, ws[:, 0], maps[0])
        rgb = block.torgb(x, ws[:, 1])
        pictures = [rgb]
        if tap is not None:
            tap(4, x)
        for j, side in enumerate(self.config.resolutions[1:]):
            if largest is not None and side > largest:
                break
            block = self.block(side)
            x = block.conv0(x, ws[:, 2 * j + 1], maps[2 * j + 1])
            x = block.conv1(x, ws[:, 2 * j + 2], maps[2 * j + 2])
            # a toRGB shares its code with the next block's first convolution
            rgb = upsample2(rgb, self.fir4) + block.torgb(x, ws[:, 2 * j + 3])
            pictures.append(rgb)
            if tap is not None:
                tap(side, x)
        return pictures


class StyleGAN2(StylePrior):
    """A StyleGAN2 prior; `config` is its shape, `name` says where it comes from."""

    architecture: ClassVar[str] = "stylegan2"

    config: StyleGAN2Config

    def __init__(self, config: StyleGAN2Config, name: str = "stylegan2"):
        super().__init__(config, name, Mapping(config), Synthesis(config))

    @property
    def own_sides(self) -> tuple[int, ...]:
        """All: every block adds its RGB to the picture of the block before."""
        return self.config.resolutions
