"""The Inception network that Fréchet inception distances are taken in (Szegedy et al., 2016; Heusel et al., 2017).

An "FID" is a distance between features of one particular file: Google's inception-2015-12-05, which
github.com/mseitzer/pytorch-fid ported to PyTorch. That graph differs from other Inception v3 networks in three points: 1,008
classes, average pools that leave the border's zeros out of the mean, and a max pool in the last block. Keys are those of
the port.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.nets.features import FeatureNetwork

SIDE = 299
"""Pictures are resized to this side."""

Layer = tuple[int, int | tuple[int, int], int]
"""Channels, kernel, stride of a convolution."""
Chain = Sequence[Layer | tuple[Layer, Layer]]
"""Convolutions one after another; a pair at the end stands side by side."""


class ConvBN(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, channels_in: int, channels: int, kernel: int | tuple[int, int], **options: Any):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, kernel, bias=False, **options)
        self.bn = nn.BatchNorm2d(channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """A block of branches side by side and a pooled branch, their outputs concatenated in this order.

    Convolutions keep the size; those of stride 2 take no padding. A branch of one convolution is named as it is, those of a
    longer one are numbered from 1, a pair at its end is lettered: `branch3x3_2a`, `branch3x3_2b`.

    Args:
        channels_in: of the input.
        branches: name -> its convolutions.
        pool: "average" (3x3, without the border's zeros) or "max" (3x3), both followed by a 1x1 convolution; "reduce": 3x3
            max pool of stride 2 alone.
        pooled: channels of that 1x1 convolution.
    """

    def __init__(
        self,
        channels_in: int,
        branches: Mapping[str, Chain],
        pool: Literal["average", "max", "reduce"] = "average",
        pooled: int = 192,
    ):
        super().__init__()
        self.pool = pool
        self.chains: list[list[tuple[str, ...]]] = []
        self.channels = 0
        for branch, chain in branches.items():
            width, names = channels_in, []
            for i, step in enumerate(chain, start=1):
                pair = isinstance(step[0], tuple)
                layers: Sequence[Any] = step if pair else (step,)
                stem = branch if len(chain) == 1 else f"{branch}_{i}"
                names.append(tuple(stem + letter for letter in ("ab" if pair else ("",))))
                for name, (channels, kernel, stride) in zip(names[-1], layers, strict=True):
                    sides = kernel if isinstance(kernel, tuple) else (kernel, kernel)
                    padding = (sides[0] // 2, sides[1] // 2) if stride == 1 else 0
                    self.add_module(name, ConvBN(width, channels, kernel, stride=stride, padding=padding))
                width = sum(layer[0] for layer in layers)
            self.chains.append(names)
            self.channels += width
        self.branch_pool = None if pool == "reduce" else ConvBN(channels_in, pooled, 1)
        self.channels += channels_in if pool == "reduce" else pooled

    def forward(self, x: Tensor) -> Tensor:
        out = []
        for chain in self.chains:
            y = x
            for names in chain:
                ends = [getattr(self, name)(y) for name in names]
                y = torch.cat(ends, 1) if ends[1:] else ends[0]
            out.append(y)
        return torch.cat([*out, self._pooled(x)], 1)

    def _pooled(self, x: Tensor) -> Tensor:
        if self.branch_pool is None:
            return F.max_pool2d(x, 3, 2)
        if self.pool == "max":
            return self.branch_pool(F.max_pool2d(x, 3, 1, 1))
        return self.branch_pool(F.avg_pool2d(x, 3, 1, 1, count_include_pad=False))


def _block35(channels_in: int, pooled: int) -> Mixed:
    """Blocks of 35x35 (Szegedy et al., 2016, fig. 5, with one 5x5 left)."""
    branches: dict[str, Chain] = {
        "branch1x1": [(64, 1, 1)],
        "branch5x5": [(48, 1, 1), (64, 5, 1)],
        "branch3x3dbl": [(64, 1, 1), (96, 3, 1), (96, 3, 1)],
    }
    return Mixed(channels_in, branches, pooled=pooled)


def _block17(width: int) -> Mixed:
    """Blocks of 17x17 (fig. 6): 7x7 convolutions split into 1x7 and 7x1."""
    row, column = (width, (1, 7), 1), (width, (7, 1), 1)
    branches: dict[str, Chain] = {
        "branch1x1": [(192, 1, 1)],
        "branch7x7": [(width, 1, 1), row, (192, (7, 1), 1)],
        "branch7x7dbl": [(width, 1, 1), column, row, column, (192, (1, 7), 1)],
    }
    return Mixed(768, branches)


def _block8(channels_in: int, pool: Literal["average", "max"]) -> Mixed:
    """Blocks of 8x8 (fig. 7): branches that end in 1x3 and 3x1 side by side."""
    split = ((384, (1, 3), 1), (384, (3, 1), 1))
    branches: dict[str, Chain] = {
        "branch1x1": [(320, 1, 1)],
        "branch3x3": [(384, 1, 1), split],
        "branch3x3dbl": [(448, 1, 1), (384, 3, 1), split],
    }
    return Mixed(channels_in, branches, pool)


class FIDInception(FeatureNetwork):
    """Inception v3 as FID uses it, 23,850,960 parameters; `pooled` gives its pool3 features, (n, 2048).

    Pictures of any size are resized to 299x299 by plain bilinear interpolation (corners not aligned, no antialiasing) and
    scaled to [−1, 1], as pytorch-fid does; published values rest on this. Clean-fid (Parmar et al., 2022) resizes with
    antialiasing instead, so that its values of pictures larger than 299 differ. For pictures up to 299 the two agree but for
    bilinear against bicubic.

    The classifier `fc` belongs to the file; the distances make no use of it.
    """

    taps = ("pool1", "pool2", "Mixed_6e", "Mixed_7c")
    channels = (64, 192, 768, 2048)

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvBN(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = ConvBN(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvBN(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = ConvBN(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvBN(80, 192, 3)
        self.Mixed_5b = _block35(192, 32)
        self.Mixed_5c = _block35(256, 64)
        self.Mixed_5d = _block35(288, 64)
        shrink: dict[str, Chain] = {
            "branch3x3": [(384, 3, 2)],
            "branch3x3dbl": [(64, 1, 1), (96, 3, 1), (96, 3, 2)],
        }
        self.Mixed_6a = Mixed(288, shrink, "reduce")
        self.Mixed_6b = _block17(128)
        self.Mixed_6c = _block17(160)
        self.Mixed_6d = _block17(160)
        self.Mixed_6e = _block17(192)
        shrink = {
            "branch3x3": [(192, 1, 1), (320, 3, 2)],
            "branch7x7x3": [(192, 1, 1), (192, (1, 7), 1), (192, (7, 1), 1), (192, 3, 2)],
        }
        self.Mixed_7a = Mixed(768, shrink, "reduce")
        self.Mixed_7b = _block8(1280, "average")
        self.Mixed_7c = _block8(2048, "max")
        self.fc = nn.Linear(2048, 1008)
        self.train(False)

    def train(self, mode: bool = True) -> FIDInception:
        """Stays in eval mode: its batch norms keep the statistics they were trained with."""
        super().train(False)
        return self

    def forward(self, x: Tensor) -> list[Tensor]:
        """Activations at the taps, of pictures (n, 3, h, w), RGB in [0, 1]."""
        x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False)
        x = (x * 2 - 1).contiguous(memory_format=torch.channels_last)
        pool1 = F.max_pool2d(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))), 3, 2)
        pool2 = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(pool1)), 3, 2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(pool2)))
        middle = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        return [pool1, pool2, middle, self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(middle)))]

    def pooled(self, x: Tensor) -> Tensor:
        """Spatial means of the last block, the pool3 features that FID and KID compare: (n, 2048)."""
        return self(x)[-1].mean(dim=(2, 3)).float()
