"""ProGAN's discriminator: the generator's mirror image, growing with it (Karras et al., 2018, section 2 and table 2)."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.nets.discriminators import minibatch_stddev
from preimage.nets.layers import EqualConv2d, EqualLinear


class ProgressiveDiscriminator(nn.Module):
    """Scores pictures of every size from 4x4 to `resolution`; which size is read from the pictures.

    As the other discriminators it comes in two steps: `project` is fixed, `forward` is learned and returns a list of scores.

    Args:
        resolution, channel_base, channel_max: as in `ProGANConfig`.
    """

    def __init__(self, resolution: int, channel_base: int = 16384, channel_max: int = 512):
        super().__init__()
        sides = [2**k for k in range(2, int(math.log2(resolution)) + 1)]
        widths = [min(channel_base // side, channel_max) for side in sides]
        self.fromrgb = nn.ModuleList(EqualConv2d(3, width, 1) for width in widths)
        self.blocks = nn.ModuleList(  # of 8x8 and up, each before its halving
            nn.Sequential(EqualConv2d(width, width, 3), EqualConv2d(width, below, 3))
            for below, width in pairwise(widths)
        )
        self.conv = EqualConv2d(widths[0] + 1, widths[0], 3)
        self.fc = EqualLinear(widths[0] * 16, widths[0], activate=True)
        self.out = EqualLinear(widths[0], 1)

    def project(self, x: Tensor) -> list[Tensor]:
        """Pictures in [0, 1] (n, 3, s, s) -> what `forward` reads: the pictures in [-1, 1]."""
        return [(x * 2 - 1).contiguous(memory_format=torch.channels_last)]

    def forward(self, projected: list[Tensor], alpha: float = 1.0) -> list[Tensor]:
        """The output of `project` -> [scores (n, 1)], higher for real.

        alpha: share of the newest size; the rest comes from the picture halved, by the path of the size before.
        """
        (picture,) = projected
        last = int(math.log2(picture.shape[-1])) - 2
        x = self.fromrgb[last](picture)
        for i in range(last, 0, -1):
            x = F.avg_pool2d(self.blocks[i - 1](x), 2)
            if i == last and alpha < 1:
                x = torch.lerp(self.fromrgb[i - 1](F.avg_pool2d(picture, 2)), x, alpha)
        x = minibatch_stddev(x)
        return [self.out(self.fc(self.conv(x).flatten(1).float()))]
