"""MobileFaceNet: who a face looks like, as 128 numbers (Chen et al., 2018, arXiv:1804.07573).

Not shipped, as the other feature networks: the user gives its file (`MobileFaceNet.from_file`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.errors import InputError
from preimage.nets.features import FeatureNetwork

SIDE, TOP, LEFT = 146, 17, 25
"""The crop: the aligned picture resized to SIDE x SIDE, then rows TOP to TOP + 112, columns LEFT to LEFT + 96."""


class ConvBN(nn.Module):
    """Convolution without bias, batch norm, and PReLU unless linear."""

    def __init__(
        self,
        channels_in: int,
        channels: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        linear: bool = False,
    ):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.prelu = nn.Identity() if linear else nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.prelu(self.bn(self.conv(x)))
        return out


class Bottleneck(nn.Module):
    """1x1 expansion, 3x3 depthwise, linear 1x1 projection; added to its input where the shapes agree."""

    def __init__(self, channels_in: int, channels: int, stride: int, expansion: int):
        super().__init__()
        inner = channels_in * expansion
        self.residual = stride == 1 and channels_in == channels
        self.conv = nn.Sequential(
            nn.Conv2d(channels_in, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.PReLU(inner),
            nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            nn.PReLU(inner),
            nn.Conv2d(inner, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return x + out if self.residual else out


class MobileFaceNet(FeatureNetwork):
    """Identity embedding of aligned faces, 1.0 M parameters; keys of Xiaoccer/MobileFaceNet_Pytorch.

    It was trained on 112 x 96 pictures whose eyes, nose and mouth corners lie on five template points (`encode`). FFHQ
    alignment puts the eyes at .47 and the mouth at .75 of the picture's height, so one crop serves all faces: resized to
    146 x 146, rows 17 to 129, columns 25 to 121, these points meet the template.

    Measured on 600 faces of 300 people (two each) of the LFW training archive, 256 px, over 19 crops with resized sides
    132 to 160 and tops within 8 pixels of the derived one: separation (difference of the mean cosines of equal and of
    different people, in pooled standard deviations) 3.24, within .02 of the best; true accept rate at one false accept
    in 1,000: .853, no crop better. Sides 146 to 153 cannot be told apart; 4 pixels up or down cost .03 to .11 of
    separation. A seventh of these pairs fails under every crop. On the 138 validation faces with a second picture (142
    pairs), mean cosine .657 for equal, .016 for different people (99th percentile .28), area under the curve .9999;
    reduced to 64 px first: .632, .015, .27, .9997. A face and its mirror image: .952.
    """

    taps = ("dw_conv1", "blocks.4", "blocks.11", "conv2")
    channels = (64, 64, 128, 512)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvBN(3, 64, 3, 2, 1)
        self.dw_conv1 = ConvBN(64, 64, 3, 1, 1, groups=64)
        blocks, channels_in = [], 64
        for expansion, channels, count, stride in [
            (2, 64, 5, 2),
            (4, 128, 1, 2),
            (2, 128, 6, 1),
            (4, 128, 1, 2),
            (2, 128, 2, 1),
        ]:
            for i in range(count):
                blocks.append(Bottleneck(channels_in, channels, stride if i == 0 else 1, expansion))
                channels_in = channels
        self.blocks = nn.Sequential(*blocks)
        self.conv2 = ConvBN(128, 512, 1)
        self.linear7 = ConvBN(512, 512, (7, 6), groups=512, linear=True)
        self.linear1 = ConvBN(512, 128, 1, linear=True)

    def train(self, mode: bool = True) -> MobileFaceNet:
        """Stays in eval mode: its batch norms keep the statistics of the faces it was trained on."""
        super().train(False)
        return self

    @staticmethod
    def crop(x: Tensor) -> Tensor:
        """FFHQ-aligned faces (n, 3, s, s) of any side -> (n, 3, 112, 96), all in [0, 1].

        Raises:
            InputError: not a batch of square RGB pictures.
        """
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] != x.shape[3]:
            raise InputError(f"identity network: needs square aligned faces (n, 3, s, s), got {tuple(x.shape)}.")
        x = F.interpolate(x.float(), (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        return x[:, :, TOP : TOP + 112, LEFT : LEFT + 96]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Activations at the taps, of aligned faces (n, 3, s, s), RGB in [0, 1]."""
        return self._taps(self.crop(x))

    def pooled(self, x: Tensor) -> Tensor:
        """The embedding before normalisation, (n, 128), of aligned faces: the vector that Fréchet distances are taken of."""
        return self.encode(self.crop(x))

    def embed(self, x: Tensor) -> Tensor:
        """Unit vectors (n, 128) of aligned faces (n, 3, s, s), RGB in [0, 1]; their dot product is the identity cosine."""
        return F.normalize(self.pooled(x), dim=1)

    def encode(self, x: Tensor) -> Tensor:
        """The embedding before normalisation of faces (n, 3, 112, 96) that are already on the five template points.

        The points (x, y) of both eyes, the nose and both mouth corners: (30.29, 51.70), (65.53, 51.50), (48.03, 71.74),
        (33.55, 92.37), (62.73, 92.20).
        """
        out: Tensor = self.linear1(self.linear7(self._taps(x)[-1]))
        return out.flatten(1)

    def _taps(self, x: Tensor) -> list[Tensor]:
        x = ((x * 255 - 127.5) / 128).contiguous(memory_format=torch.channels_last)
        x = self.dw_conv1(self.conv1(x))
        out = [x]
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in (4, 11):
                out.append(x)
        return [*out, self.conv2(x)]
