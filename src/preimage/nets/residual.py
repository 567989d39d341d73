"""Pre-activation residual blocks (He et al., 2016, "Identity mappings"), with and without batch norm, and a discriminator of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

Pool = Literal["", "average", "max"]


class PreActivationBlock(nn.Module):
    """[norm] ReLU conv3 [norm] ReLU conv3, added to the input; a 1x1 convolution where the width changes.

    Args:
        channels_in, channels_out: width before and after.
        norm: whether batch norm stands before each ReLU.
        pool: "average" or "max" halves the input first; "" keeps its size.
        spectral: whether the convolutions are spectrally normalised (Miyato et al., 2018).
    """

    def __init__(self, channels_in: int, channels_out: int, norm: bool = True, pool: Pool = "", spectral: bool = False):
        super().__init__()
        self.pool = pool
        self.norm0 = nn.BatchNorm2d(channels_in) if norm else nn.Identity()
        self.conv0 = _conv(channels_in, channels_out, 3, not norm, spectral)
        self.norm1 = nn.BatchNorm2d(channels_out) if norm else nn.Identity()
        self.conv1 = _conv(channels_out, channels_out, 3, True, spectral)
        same = channels_in == channels_out
        self.skip = nn.Identity() if same else _conv(channels_in, channels_out, 1, False, spectral)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels_in, h, w) -> (n, channels_out, h, w), halved where it pools."""
        if self.pool:
            x = F.avg_pool2d(x, 2) if self.pool == "average" else F.max_pool2d(x, 2)
        y = self.conv0(F.relu(self.norm0(x)))
        y = self.conv1(F.relu(self.norm1(y)))
        out: Tensor = self.skip(x) + y
        return out


class ResidualDiscriminator(nn.Module):
    """Scores small pictures: residual blocks without batch norm, max pooling in the last two (SR-NAM, section 3.2).

    As the other discriminators it comes in two steps: `project` is fixed, `forward` is learned and returns a list of scores.

    Args:
        size: side of the pictures.
        widths: channels of each block.
        spectral: see `PreActivationBlock`.
    """

    def __init__(self, size: int, widths: Sequence[int], spectral: bool = False):
        super().__init__()
        self.stem = _conv(3, widths[0], 3, True, spectral)
        before = [widths[0], *widths[:-1]]
        last = len(widths) - 2
        self.blocks = nn.Sequential(*(
            PreActivationBlock(a, b, norm=False, pool="max" if i >= last else "", spectral=spectral)
            for i, (a, b) in enumerate(zip(before, widths, strict=True))
        ))  # fmt: skip
        out = nn.Linear(widths[-1] * (size // 4) ** 2, 1)
        self.out = spectral_norm(out) if spectral else out

    def project(self, x: Tensor) -> list[Tensor]:
        """Pictures in [0, 1] (n, 3, size, size) -> what `forward` reads: the pictures in [-1, 1]."""
        return [(x * 2 - 1).contiguous(memory_format=torch.channels_last)]

    def forward(self, projected: list[Tensor]) -> list[Tensor]:
        """The output of `project` -> [scores (n, 1)], higher for real."""
        (x,) = projected
        x = F.relu(self.blocks(self.stem(x)))
        return [self.out(x.flatten(1).float())]


def _conv(channels_in: int, channels_out: int, size: int, bias: bool, spectral: bool) -> nn.Module:
    conv = nn.Conv2d(channels_in, channels_out, size, padding=size // 2, bias=bias)
    return spectral_norm(conv) if spectral else conv
