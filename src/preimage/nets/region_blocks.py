"""Blocks whose feature maps are modulated region by region: by what lies where (SPADE), and by how it looks there (SEAN).

DeepSEE (Bühler et al., 2020, section 3.2) puts them together; the constants that the paper leaves out are its published code's.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

Kind = Literal["regions", "both", "style"]
"""What modulates: the regions alone, regions and style in a learned mixture, or the style alone."""
SLOPE = 0.2


def conv3(channels_in: int, channels_out: int, bias: bool = True, stride: int = 1, spectral: bool = False) -> nn.Module:
    """A 3x3 convolution with Xavier's normal weights at gain 0.02, as all of DeepSEE's."""
    made = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=bias)
    return spectral_norm(begin(made)) if spectral else begin(made)


def begin(layer: nn.Conv2d, gain: float = 0.02) -> nn.Conv2d:
    """Draw its weights, small; biases are 0."""
    if not layer.weight.is_meta:
        nn.init.xavier_normal_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def resized(mask: Tensor, side: tuple[int, int], soft: bool = False) -> Tensor:
    """A map (n, regions, h, w) of shares at another size: nearest, or where it shrinks the mean over each area (`soft`)."""
    if tuple(mask.shape[-2:]) == side:
        return mask
    return F.interpolate(mask, side, mode="area" if soft and side[0] < mask.shape[-2] else "nearest")


def painted(mask: Tensor, style: Tensor, layer: nn.Conv2d) -> Tensor:
    """A convolution of the style map, Σ_k mask_k style_k at each place, which is never made.

    The map has as many different values as there are regions, so the layer is applied to them, and the outcome is a convolution of
    the mask with kernels of each picture's own: the same numbers, for a fraction of the cost.

    Args:
        mask: (n, regions, h, w).
        style: (n, regions, d).
        layer: from d channels, 3x3, padding 1.
    """
    n, regions = mask.shape[:2]
    kernel = torch.einsum("nkd,cdyx->nckyx", style, layer.weight.to(style.dtype))
    kernel = kernel.reshape(-1, *kernel.shape[2:]).to(mask.dtype)
    out = F.conv2d(mask.reshape(1, n * regions, *mask.shape[2:]), kernel, padding=1, groups=n)
    out = out.view(n, -1, *mask.shape[2:])
    return out if layer.bias is None else out + layer.bias.to(out.dtype)[:, None, None]


class RegionNorm(nn.Module):
    """Batch norm without parameters, then scale and shift place by place.

    Args:
        channels: of the feature maps.
        regions: how many there are.
        hidden: channels between regions and modulation.
        style: numbers of a region's style.
        kind: see `Kind`.
        cap: side up to which masks are used at full size; beyond it they are enlarged from it.
        legacy: of kind "style": what the regions say takes the place of the style, as in the published 16 to 512 network.
    """

    def __init__(
        self, channels: int, regions: int, hidden: int, style: int, kind: Kind, cap: int = 256, legacy: bool = False
    ):
        super().__init__()
        self.kind, self.cap, self.legacy = kind, cap, legacy
        self.norm = nn.BatchNorm2d(channels, affine=False)
        if kind != "style" or legacy:
            self.shared = conv3(regions, hidden)
        if kind != "style":
            self.by_region = conv3(hidden, 2 * channels)
        if kind != "regions":
            self.by_style = begin(nn.Conv2d(style, 2 * channels, 3, padding=1))
        if kind == "both":
            self.mix = nn.Parameter(torch.rand(2))

    def forward(self, x: Tensor, mask: Tensor, style: Tensor | None) -> Tensor:
        """x (n, channels, h, w), mask (n, regions, h, w) or at the cap, style (n, regions, d) -> as x."""
        side = (x.shape[-2], x.shape[-1])
        activation = resized(F.relu(self.shared(mask)), side) if hasattr(self, "shared") else None
        x = self.norm(x)
        if self.kind == "regions":
            gamma, beta = self.by_region(activation).chunk(2, 1)
            return x * (1 + gamma) + beta
        if self.kind == "style" and self.legacy:
            gamma, beta = self.by_style(activation).chunk(2, 1)
            return x * gamma + beta
        assert style is not None
        gamma, beta = painted(resized(mask, side), style, self.by_style).chunk(2, 1)
        if self.kind == "style":
            return x * gamma + beta
        region_gamma, region_beta = self.by_region(activation).chunk(2, 1)
        share = torch.sigmoid(self.mix)
        scale = 1 + share[0] * gamma + (1 - share[0]) * region_gamma
        return x * scale + share[1] * beta + (1 - share[1]) * region_beta


class NoiseInjection(nn.Module):
    """Adds normal noise with a learned strength for each channel, 0 at first; only in training."""

    def __init__(self, channels: int):
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.strength[:, None, None] * torch.randn_like(x) if self.training else x


class RegionBlock(nn.Module):
    """Norm, leaky ReLU and convolution, twice, beside a shortcut.

    Args:
        channels: width.
        norm: arguments of `RegionNorm` behind its channels.
        noise: whether noise enters before, between and on the shortcut.
        spectral: whether the convolutions are spectrally normalised.
    """

    def __init__(
        self,
        channels: int,
        norm: tuple[int, int, int, Kind, int, bool],
        noise: bool = False,
        spectral: bool = True,
    ):
        super().__init__()
        self.norm0, self.norm1 = RegionNorm(channels, *norm), RegionNorm(channels, *norm)
        self.conv0, self.conv1 = (conv3(channels, channels, spectral=spectral) for _ in range(2))
        self.noise0, self.noise1, self.noise_skip = (
            NoiseInjection(channels) if noise else nn.Identity() for _ in range(3)
        )

    def forward(self, x: Tensor, mask: Tensor, style: Tensor | None) -> Tensor:
        """x (n, channels, h, w), mask and style as of `RegionNorm` -> as x."""
        x = self.noise0(x)
        y = self.noise1(self.conv0(F.leaky_relu(self.norm0(x, mask, style), SLOPE)))
        y = self.conv1(F.leaky_relu(self.norm1(y, mask, style), SLOPE))
        out: Tensor = self.noise_skip(x) + y
        return out
