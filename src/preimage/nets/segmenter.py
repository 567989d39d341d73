"""DeepLab V3+ (Chen et al., 2018) on a dilated residual network (Yu et al., 2017), which finds the regions of a face.

DeepSEE (Bühler et al., 2020, section 4.2) finds its 19 regions with it in photos that were enlarged first. Fresh code from the papers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.bounds import DEEPEST, WIDEST, check_whole
from preimage.errors import InputError, WeightsError

LEVELS = ((2, 1), (2, 1), (1, 2), (1, 4))
"""Stride and dilation of each residual level; behind the stem's stride of 2 the last three stand at an eighth of the side."""


@dataclass(frozen=True)
class SegmenterConfig:
    """Shape of a segmenter. The defaults are small; `segmenter-deepsee` is DRN-D-54 below DeepLab V3+.

    Attributes:
        hr_size: side in pixels to which photos are brought, and of what it answers; a multiple of 8.
        labels: how many.
        kernel: side of the first convolution's kernel.
        stem: channels of three convolutions; the third halves the side.
        widths, blocks: channels and residual blocks of each of the four `LEVELS`.
        expansion: 1: blocks of two 3x3 convolutions; 4: bottlenecks, which answer with four times their width.
        smooth: channels of convolutions without shortcut behind them, of dilation 2 and 1, against gridding; none or two.
        pyramid: channels of each branch of the spatial pyramid (ASPP), and of what it answers.
        rates: dilations of its 3x3 branches.
        low_level: what the decoder reads beside: 0 the stem, at half the side, 1 the first level, at a quarter.
        low: channels of that.
        decoder: channels of the decoder's two convolutions.
    """

    hr_size: int = 128
    labels: int = 19
    kernel: int = 3
    stem: tuple[int, ...] = (12, 16, 24)
    widths: tuple[int, ...] = (40, 72, 112, 144)
    blocks: tuple[int, ...] = (1, 2, 2, 1)
    expansion: int = 1
    smooth: tuple[int, ...] = ()
    pyramid: int = 64
    rates: tuple[int, ...] = (3, 6, 9)
    low_level: int = 0
    low: int = 16
    decoder: int = 48

    def __post_init__(self) -> None:
        for name, lengths in {"stem": (3,), "widths": (4,), "blocks": (4,), "smooth": (0, 2), "rates": (3,)}.items():
            value = getattr(self, name)
            if isinstance(value, list):  # a file has lists
                object.__setattr__(self, name, value := tuple(value))
            if not isinstance(value, tuple) or len(value) not in lengths:
                raise WeightsError(
                    f"segmenter: {name} ({value!r:.40}) must list {' or '.join(map(str, lengths))} numbers."
                )
        most = {
            "blocks": DEEPEST,
            "labels": 256,
            "kernel": 15,
            "hr_size": 1024,
            "rates": 1024,
            "low_level": 1,
            "expansion": 4,
        }
        least = {"low_level": 0, "hr_size": 8}
        for field in fields(self):
            value = getattr(self, field.name)
            values = value if isinstance(value, tuple) else (value,)
            named = {field.name if values == (value,) else f"{field.name}[{i}]": x for i, x in enumerate(values)}
            check_whole("segmenter", named, least.get(field.name, 1), most.get(field.name, WIDEST))
        if self.hr_size % 8 or not self.kernel % 2 or self.expansion not in (1, 4):
            raise WeightsError(
                f"segmenter: hr_size ({self.hr_size}) must be a multiple of 8, kernel ({self.kernel}) odd, "
                f"expansion ({self.expansion}) 1 or 4."
            )


class Segmenter(nn.Module):
    """A photo to the scores of each label at each pixel; `semantics.segment` makes labels of them.

    Args:
        config: shape.
        name: for provenance.
    """

    architecture = "segmenter"

    def __init__(self, config: SegmenterConfig | None = None, name: str = "segmenter") -> None:
        super().__init__()
        self.config, self.name = config or SegmenterConfig(), name
        c = self.config
        self.stem = nn.Sequential(
            normed(3, c.stem[0], c.kernel), normed(c.stem[0], c.stem[1]), normed(c.stem[1], c.stem[2], stride=2)
        )
        before, levels = c.stem[2], list[nn.Module]()
        for width, count, (stride, dilation) in zip(c.widths, c.blocks, LEVELS, strict=True):
            blocks = list[nn.Module]()
            for i in range(count):
                blocks.append(DilatedBlock(before, width, 1 if i else stride, dilation, c.expansion))
                before = width * c.expansion
            levels.append(nn.Sequential(*blocks))
        self.levels = nn.ModuleList(levels)
        ends = [before, *c.smooth]
        self.smooth = nn.Sequential(
            *(normed(a, b, dilation=d) for a, b, d in zip(ends, c.smooth, (2, 1), strict=False))
        )
        self.pyramid = Pyramid(ends[-1], c.pyramid, c.rates)
        self.low = normed(c.stem[2] if c.low_level == 0 else c.widths[0] * c.expansion, c.low, 1)
        self.decoder = nn.Sequential(normed(c.pyramid + c.low, c.decoder), normed(c.decoder, c.decoder))
        self.out = nn.Conv2d(c.decoder, c.labels, 1)

    @property
    def resolution(self) -> int:
        """Side of what it answers."""
        return self.config.hr_size

    def metadata(self) -> dict[str, Any]:
        """What a weight file must say to rebuild this module."""
        return {"architecture": self.architecture, "config": asdict(self.config)}

    def forward(self, pictures: Tensor) -> Tensor:
        """Photos (n, 3, h, w) in [0, 1], square, of any size -> scores (n, labels, hr_size, hr_size), float32.

        Raises:
            InputError: something that is no batch of square RGB pictures.
        """
        if pictures.ndim != 4 or pictures.shape[1] != 3 or pictures.shape[2] != pictures.shape[3]:
            raise InputError(
                f"{self.name}: takes square pictures (n, 3, s, s), not {tuple(pictures.shape)}; crop them."
            )
        x = brought_to(pictures * 2 - 1, self.resolution).contiguous(memory_format=torch.channels_last)
        x = low = self.stem(x)
        for number, level in enumerate(self.levels):
            x = level(x)
            if number == 0 and self.config.low_level == 1:
                low = x
        x = self.pyramid(self.smooth(x))
        x = torch.cat([enlarged(x, low.shape[-1]), self.low(low)], 1)
        return enlarged(self.out(self.decoder(x)).float(), self.resolution)


class DilatedBlock(nn.Module):
    """A residual block (He et al., 2015) whose 3x3 convolutions are dilated; a 1x1 convolution where shape changes.

    Args:
        before: channels that come in.
        width: of its convolutions.
        stride: of the first 3x3 convolution.
        dilation: of all of them.
        expansion: 1: 3x3, 3x3; otherwise 1x1, 3x3, 1x1 to `expansion * width` channels.
    """

    def __init__(self, before: int, width: int, stride: int, dilation: int, expansion: int) -> None:
        super().__init__()
        after = width * expansion
        if expansion == 1:
            self.body = nn.Sequential(
                normed(before, width, stride=stride, dilation=dilation),
                normed(width, after, dilation=dilation, active=False),
            )
        else:
            self.body = nn.Sequential(
                normed(before, width, 1),
                normed(width, width, stride=stride, dilation=dilation),
                normed(width, after, 1, active=False),
            )
        same = before == after and stride == 1
        self.skip = nn.Identity() if same else normed(before, after, 1, stride, active=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, before, h, w) -> (n, expansion * width, h / stride, w / stride)."""
        return F.relu(self.body(x) + self.skip(x))


class Pyramid(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al., 2017, section 3.3): a 1x1 and dilated 3x3 branches, and the mean of the picture.

    Args:
        before: channels that come in.
        width: of each branch and of the answer.
        rates: dilations.
    """

    def __init__(self, before: int, width: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList([normed(before, width, 1), *(normed(before, width, dilation=r) for r in rates)])
        self.mean = nn.Conv2d(before, width, 1)  # without batch norm, which a single number could not have
        self.join = normed(width * (len(rates) + 2), width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, before, h, w) -> (n, width, h, w)."""
        mean = F.relu(self.mean(x.mean((2, 3), keepdim=True))).expand(-1, -1, *x.shape[-2:])
        out: Tensor = self.join(torch.cat([*(branch(x) for branch in self.branches), mean], 1))
        return out


def normed(
    before: int, after: int, kernel: int = 3, stride: int = 1, dilation: int = 1, active: bool = True
) -> nn.Module:
    """A convolution of this stride that keeps the size otherwise, batch norm, and ReLU where `active`."""
    conv = nn.Conv2d(before, after, kernel, stride, dilation * (kernel // 2), dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU(True) if active else nn.Identity())


def brought_to(x: Tensor, side: int) -> Tensor:
    """Pictures (n, c, s, s) at another side: enlarged by bicubic, reduced by antialiased bilinear interpolation."""
    if x.shape[-1] > side:
        return F.interpolate(x, (side, side), mode="bilinear", align_corners=False, antialias=True)
    return x if x.shape[-1] == side else F.interpolate(x, (side, side), mode="bicubic", align_corners=False)


def enlarged(x: Tensor, side: int) -> Tensor:
    """Feature maps (n, c, s, s) at another side, bilinear."""
    return x if x.shape[-1] == side else F.interpolate(x, (side, side), mode="bilinear", align_corners=False)
