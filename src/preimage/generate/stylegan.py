"""StyleGAN generator (Karras et al., "A Style-Based Generator Architecture for GANs", arXiv:1812.04948): PULSE's own prior.

What the paper leaves open (gains, order inside a layer, the two forms of the up-convolution) follows descriptions of the
published 1024x1024 FFHQ network. Weights are stored raw: the equalised learning rate scales them at run time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.generate.side_outputs import Tap
from preimage.generate.style_prior import StyleConfig, StylePrior
from preimage.nets.layers import SQRT2, EqualConv2d, EqualLinear, fir, pixel_norm

FUSED_FROM = 128  # layers of at least this side were trained with the other orientation of the up-convolution's kernel
EPS = 1e-5  # of the instance norm


@dataclass(frozen=True)
class StyleGANConfig(StyleConfig):
    """Shape of a generator; the defaults are the published FFHQ network's.

    Attributes:
        channel_base: 16384 there, which its authors write as 8192 / 2^(log2 r - 1).
    """

    family: ClassVar[str] = "StyleGAN"

    resolution: int = 1024
    channel_base: int = 16384

    @property
    def noise_sizes(self) -> tuple[int, ...]:
        """Side of each noise map: 4, 4, 8, 8, … (18 at 1024, one more than StyleGAN2 has)."""
        return tuple(side for side in self.resolutions for _ in range(2))


class Mapping(nn.Module):
    """z -> w: pixel norm, then dense layers with a learning rate 100 times smaller than the rest.

    Unlike in StyleGAN2 the gain sqrt(2) scales the weights alone, not the biases.
    """

    w_avg: Tensor

    def __init__(self, config: StyleGANConfig):
        super().__init__()
        self.depth = config.mapping_layers
        for i in range(self.depth):
            layer = EqualLinear(config.z_dim if i == 0 else config.w_dim, config.w_dim, lr_multiplier=0.01)
            layer.weight_gain *= SQRT2
            self.add_module(f"fc{i}", layer)
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def forward(self, z: Tensor) -> Tensor:
        """z (n, z_dim) -> w (n, w_dim)."""
        with torch.autocast(z.device.type, enabled=False):
            w = pixel_norm(z.float())
            for i in range(self.depth):
                w = F.leaky_relu(getattr(self, f"fc{i}")(w), 0.2)
        return w


class StyledLayer(nn.Module):
    """How every layer ends: bias, noise, leaky ReLU, then the style by AdaIN (section 2, equation 1, figure 1b)."""

    def __init__(self, channels: int, w_dim: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.noise_strength = nn.Parameter(torch.zeros(channels))
        self.affine = EqualLinear(w_dim, 2 * channels)  # scales, less 1, then shifts

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        """x (n, channels, s, s), w (n, w_dim), noise (n or 1, 1, s, s) or None -> (n, channels, s, s)."""
        with torch.autocast(x.device.type, enabled=False):  # statistics and styles are cheap and want full precision
            y = x.float() + self.bias[:, None, None]
            if noise is not None:
                y = torch.addcmul(y, noise, self.noise_strength[:, None, None])
            y = F.leaky_relu(y, 0.2)
            scale, shift = self.affine(w.float())[:, :, None, None].chunk(2, dim=1)
            mean = y.mean(dim=(2, 3), keepdim=True)
            variance = (y - mean).square().mean(dim=(2, 3), keepdim=True)
            scale = (scale + 1) * (variance + EPS).rsqrt()
            y = torch.addcmul(shift - mean * scale, y, scale)  # norm and style in one pass over y
        return y.to(x.dtype)


class StyledConv(StyledLayer):
    """A 3x3 convolution, behind an enlargement if `side` is given, and the end of a layer.

    Enlarging by nearest neighbour and convolving is the same as one transposed convolution of stride 2 whose 4x4 kernel is
    the sum of four shifts of the 3x3 kernel *turned by 180 degrees*. The published network was trained with the former below
    128 pixels and with the latter, not turned, above; both run here as the transposed convolution, at half the cost.
    """

    blur: Tensor

    def __init__(self, channels_in: int, channels: int, w_dim: int, side: int | None = None):
        super().__init__(channels, w_dim)
        self.weight = nn.Parameter(torch.randn(channels, channels_in, 3, 3))
        self.gain = SQRT2 / math.sqrt(channels_in * 9)
        self.up, self.turned = side is not None, side is not None and side < FUSED_FROM
        taps = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("blur", torch.outer(taps, taps), persistent=False)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        return super().forward(self.enlarge(x) if self.up else self.convolve(x), w, noise)

    def convolve(self, x: Tensor) -> Tensor:
        """x (n, channels_in, s, s) -> (n, channels, s, s)."""
        return F.conv2d(x, (self.weight * self.gain).to(x.dtype), padding=1)

    def enlarge(self, x: Tensor) -> Tensor:
        """x (n, channels_in, s, s) -> (n, channels, 2s, 2s), blurred by [1, 2, 1]."""
        kernel = self.weight * self.gain
        kernel = F.pad(kernel.flip(2, 3) if self.turned else kernel, (1, 1, 1, 1))
        kernel = kernel[:, :, 1:] + kernel[:, :, :-1]
        kernel = kernel[:, :, :, 1:] + kernel[:, :, :, :-1]
        x = F.conv_transpose2d(x, kernel.transpose(0, 1).to(x.dtype), stride=2, padding=1)
        return fir(x, self.blur, padding=1)


class SynthesisBlock(nn.Module):
    """The two layers of one side; the first block starts from a learned constant."""

    def __init__(self, side: int, channels_in: int, channels: int, w_dim: int):
        super().__init__()
        self.layer0: StyledLayer
        if side == 4:
            self.const = nn.Parameter(torch.ones(channels, 4, 4))
            self.layer0 = StyledLayer(channels, w_dim)
        else:
            self.layer0 = StyledConv(channels_in, channels, w_dim, side)
        self.layer1 = StyledConv(channels, channels, w_dim)


class Synthesis(nn.Module):
    """W+ -> picture in [-1, 1], coarse to fine; RGB is read from the last block alone."""

    def __init__(self, config: StyleGANConfig):
        super().__init__()
        self.config = config
        previous = 0
        for side in config.resolutions:
            self.add_module(f"b{side}", SynthesisBlock(side, previous, config.channels(side), config.w_dim))
            previous = config.channels(side)
        self.torgb = EqualConv2d(previous, 3, 1, activate=False)

    def forward(
        self,
        ws: Tensor,
        noise: Sequence[Tensor] | None = None,
        dtype: torch.dtype | None = None,
        largest: int | None = None,
        tap: Tap | None = None,
    ) -> list[Tensor]:
        """ws (n, rows, w_dim) -> the one RGB picture, (n, 3, resolution, resolution); none where `largest` ends before it.

        noise: one map per layer or None for silence. dtype: of the feature maps; RGB is float32. tap: told them.
        """
        maps = list(noise) if noise is not None else [None] * len(self.config.noise_sizes)
        const: Tensor = self.get_parameter("b4.const")
        x = const.to(dtype or const.dtype).expand(len(ws), -1, -1, -1)
        x = x.contiguous(memory_format=torch.channels_last)
        for i, side in enumerate(self.config.resolutions):
            if largest is not None and side > largest:
                return []
            block: SynthesisBlock = getattr(self, f"b{side}")
            x = block.layer0(x, ws[:, 2 * i], maps[2 * i])
            x = block.layer1(x, ws[:, 2 * i + 1], maps[2 * i + 1])
            if tap is not None:
                tap(side, x)
        rgb: Tensor = self.torgb(x.float())
        return [rgb.float()]


class StyleGAN(StylePrior):
    """A StyleGAN prior; `config` is its shape, `name` says where it comes from."""

    architecture: ClassVar[str] = "stylegan"

    config: StyleGANConfig

    def __init__(self, config: StyleGANConfig, name: str = "stylegan"):
        super().__init__(config, name, Mapping(config), Synthesis(config))

    @property
    def own_sides(self) -> tuple[int, ...]:
        """The whole picture's alone: no other block has an RGB layer."""
        return (self.config.resolution,)
