"""A discriminator of overlapping patches at two scales, which sees the regions beside the picture (Wang et al., 2018; DeepSEE, 3.2)."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from preimage.nets.region_blocks import SLOPE, begin


class PatchDiscriminator(nn.Module):
    """Five 4x4 convolutions; those between the first and the last are normalised, spectrally and by instance.

    Args:
        channels: of the picture and what goes with it.
        width: of the first layer; the next three double it.
    """

    def __init__(self, channels: int, width: int = 32):
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        self.layers = nn.ModuleList([nn.Sequential(_conv(channels, width, 2), nn.LeakyReLU(SLOPE))])
        for i, (a, b) in enumerate(pairwise(widths)):
            conv = spectral_norm(_conv(a, b, 1 if i == 2 else 2, bias=False))
            self.layers.append(nn.Sequential(conv, nn.InstanceNorm2d(b), nn.LeakyReLU(SLOPE)))
        self.layers.append(_conv(widths[-1], 1, 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(n, channels, h, w) -> the outcome of each layer, scores of patches (n, 1, h', w') last."""
        found: list[Tensor] = []
        for layer in self.layers:
            x = layer(x)
            found.append(x)
        return found


class TwoScaleDiscriminator(nn.Module):
    """One of them on the picture, one on it at half its size.

    Args:
        regions: channels of the mask.
        width: see `PatchDiscriminator`.
    """

    def __init__(self, regions: int, width: int = 32):
        super().__init__()
        self.scales = nn.ModuleList(PatchDiscriminator(regions + 3, width) for _ in range(2))

    def forward(self, pictures: Tensor, mask: Tensor) -> list[list[Tensor]]:
        """pictures (n, 3, R, R) in [0, 1], mask (n, regions, R, R) -> for each scale its features, scores last."""
        x, found = torch.cat([mask.to(pictures.dtype), pictures * 2 - 1], 1), []
        for scale in self.scales:
            found.append(scale(x))
            x = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
        return found


def _conv(channels_in: int, channels_out: int, stride: int, bias: bool = True) -> nn.Conv2d:
    return begin(nn.Conv2d(channels_in, channels_out, 4, stride, 2, bias=bias))
