"""Networks that SSRVAE is compared with, on the contract of `Upscaler`: SRCNN, EDSR, RDN, and SRResNet with SRGAN's discriminator.

The defaults are the published sizes; all learn RGB. Fresh code from the papers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.bounds import DEEPEST, WIDEST, check_whole
from preimage.errors import WeightsError
from preimage.nets.upscaler import Upscaler, UpscalerConfig, bicubic, conv, shuffled


@dataclass(frozen=True)
class SRCNNConfig(UpscalerConfig):
    """SRCNN 9-1-5 (Dong et al., 2015, section 3.3).

    Attributes:
        width, inner: channels behind the first and the second convolution.
        sizes: of the three kernels, odd.
    """

    width: int = 64
    inner: int = 32
    sizes: tuple[int, ...] = (9, 1, 5)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.sizes, list):  # a file has lists
            object.__setattr__(self, "sizes", tuple(self.sizes))
        if not isinstance(self.sizes, tuple) or len(self.sizes) != 3:
            raise WeightsError(f"SRCNN: sizes ({self.sizes!r:.40}) must list three kernels.")
        check_whole("SRCNN", {f"sizes[{i}]": size for i, size in enumerate(self.sizes)}, 1, 31)
        check_whole("SRCNN", {"width": self.width, "inner": self.inner}, 1, WIDEST)
        if not all(size % 2 for size in self.sizes):
            raise WeightsError(f"SRCNN: sizes ({list(self.sizes)}) must be odd.")


class SRCNN(Upscaler):
    """Three convolutions on a bicubic enlargement. Published for the luminance alone and without padding; here RGB, padded."""

    architecture = "srcnn"
    config: SRCNNConfig

    def __init__(self, config: SRCNNConfig | None = None, name: str = "srcnn") -> None:
        c = config or SRCNNConfig()
        super().__init__(c, name)
        self.conv0 = conv(3, c.width, c.sizes[0])
        self.conv1 = conv(c.width, c.inner, c.sizes[1])
        self.out = conv(c.inner, 3, c.sizes[2])
        self.begin(self.out)

    def enlarge(self, photo: Tensor) -> Tensor:
        x = bicubic(photo, self.scale).contiguous(memory_format=torch.channels_last)
        return self.out(F.relu(self.conv1(F.relu(self.conv0(x)))))


@dataclass(frozen=True)
class EDSRConfig(UpscalerConfig):
    """EDSR-baseline (Lim et al., 2017, table 1); the full one has blocks 32, width 256, residual_scale 0.1.

    Attributes:
        width: channels.
        blocks: residual blocks without batch norm.
        residual_scale: what each adds is multiplied by it.
    """

    width: int = 64
    blocks: int = 16
    residual_scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("EDSR", {"width": self.width}, 1, WIDEST)
        check_whole("EDSR", {"blocks": self.blocks}, 1, DEEPEST)
        if not isinstance(self.residual_scale, int | float) or not 0 < self.residual_scale <= 1:
            raise WeightsError(f"EDSR: residual_scale ({self.residual_scale!r:.40}) must be a number in (0, 1].")


class EDSRBlock(nn.Module):
    """Two convolutions with a ReLU between them, beside a skip."""

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.conv0, self.conv1, self.scale = conv(width, width), conv(width, width), scale

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.conv1(F.relu(self.conv0(x)))


class EDSR(Upscaler):
    """Residual blocks without batch norm, one long skip, sub-pixel enlargement."""

    architecture = "edsr"
    config: EDSRConfig

    def __init__(self, config: EDSRConfig | None = None, name: str = "edsr") -> None:
        c = config or EDSRConfig()
        super().__init__(c, name)
        self.shallow = conv(3, c.width)
        self.blocks = nn.Sequential(*(EDSRBlock(c.width, c.residual_scale) for _ in range(c.blocks)))
        self.deep = conv(c.width, c.width)
        self.up = shuffled(c.width, c.scale)
        self.out = conv(c.width, 3)
        self.begin(self.out)

    def enlarge(self, photo: Tensor) -> Tensor:
        x = self.shallow(photo.contiguous(memory_format=torch.channels_last))
        return self.out(self.up(x + self.deep(self.blocks(x))))


@dataclass(frozen=True)
class RDNConfig(UpscalerConfig):
    """RDN (Zhang et al., 2018, section 4.1: D 16, C 8, G 64, G0 64).

    Attributes:
        width: channels between blocks (G0).
        blocks: residual dense blocks (D).
        layers: convolutions of each (C).
        growth: channels that each of them adds (G).
    """

    width: int = 64
    blocks: int = 16
    layers: int = 8
    growth: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("RDN", {"width": self.width, "growth": self.growth}, 1, 1024)
        check_whole("RDN", {"blocks": self.blocks, "layers": self.layers}, 1, DEEPEST)


class DenseBlock(nn.Module):
    """Convolutions that see everything before them, fused by a 1x1 convolution, beside a skip (equations 5 to 7)."""

    def __init__(self, width: int, layers: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(conv(width + i * growth, growth) for i in range(layers))
        self.fuse = conv(width + layers * growth, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = [x]
        for layer in self.layers:
            seen.append(F.relu(layer(torch.cat(seen, 1))))
        return x + self.fuse(torch.cat(seen, 1))


class RDN(Upscaler):
    """Residual dense blocks whose outputs are all fused, beside a skip from the first convolution."""

    architecture = "rdn"
    config: RDNConfig

    def __init__(self, config: RDNConfig | None = None, name: str = "rdn") -> None:
        c = config or RDNConfig()
        super().__init__(c, name)
        self.shallow0, self.shallow1 = conv(3, c.width), conv(c.width, c.width)
        self.blocks = nn.ModuleList(DenseBlock(c.width, c.layers, c.growth) for _ in range(c.blocks))
        self.fuse = nn.Sequential(conv(c.blocks * c.width, c.width, 1), conv(c.width, c.width))
        self.up = shuffled(c.width, c.scale)
        self.out = conv(c.width, 3)
        self.begin(self.out)

    def enlarge(self, photo: Tensor) -> Tensor:
        first = self.shallow0(photo.contiguous(memory_format=torch.channels_last))
        x, made = self.shallow1(first), []
        for block in self.blocks:
            x = block(x)
            made.append(x)
        return self.out(self.up(first + self.fuse(torch.cat(made, 1))))


@dataclass(frozen=True)
class SRResNetConfig(UpscalerConfig):
    """SRResNet, the generator of SRGAN (Ledig et al., 2017, figure 4).

    Attributes:
        width: channels.
        blocks: residual blocks with batch norm.
    """

    width: int = 64
    blocks: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("SRResNet", {"width": self.width}, 1, WIDEST)
        check_whole("SRResNet", {"blocks": self.blocks}, 1, DEEPEST)


class SRResNet(Upscaler):
    """Residual blocks with batch norm and PReLU, one long skip, sub-pixel enlargement, kernels of 9 at both ends."""

    architecture = "srresnet"
    config: SRResNetConfig

    def __init__(self, config: SRResNetConfig | None = None, name: str = "srresnet") -> None:
        c = config or SRResNetConfig()
        super().__init__(c, name)
        self.shallow = nn.Sequential(conv(3, c.width, 9), nn.PReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(
                conv(c.width, c.width, bias=False), nn.BatchNorm2d(c.width), nn.PReLU(),
                conv(c.width, c.width, bias=False), nn.BatchNorm2d(c.width),
            )
            for _ in range(c.blocks)
        )  # fmt: skip
        self.deep = nn.Sequential(conv(c.width, c.width, bias=False), nn.BatchNorm2d(c.width))
        self.up = shuffled(c.width, c.scale, nn.PReLU)
        self.out = conv(c.width, 3, 9)
        self.begin(self.out)

    def enlarge(self, photo: Tensor) -> Tensor:
        first = self.shallow(photo.contiguous(memory_format=torch.channels_last))
        x = first
        for block in self.blocks:
            x = x + block(x)
        return self.out(self.up(first + self.deep(x)))


class SRGANDiscriminator(nn.Module):
    """Eight convolutions, every second of which halves the size, and two dense layers (Ledig et al., 2017, figure 4).

    As the other discriminators it comes in two steps, `project` and `forward`.

    Args:
        resolution: side of the pictures, a multiple of 16.
        width: channels of the first convolution; published are 64. The last have 8 times as many, the dense layer 16 times.

    Raises:
        WeightsError: another side.
    """

    def __init__(self, resolution: int, width: int = 64) -> None:
        super().__init__()
        if resolution % 16:
            raise WeightsError(
                f"SRGAN: its discriminator takes pictures whose side ({resolution}) is a multiple of 16."
            )
        layers: list[nn.Module] = [conv(3, width), nn.LeakyReLU(0.2)]
        before = width
        for i in range(1, 8):
            after = width << (i // 2)
            layers += [nn.Conv2d(before, after, 3, 1 + i % 2, padding=1, bias=False), nn.BatchNorm2d(after)]
            layers += [nn.LeakyReLU(0.2)]
            before = after
        self.body = nn.Sequential(*layers)
        self.dense = nn.Linear(before * (resolution // 16) ** 2, 16 * width)
        self.out = nn.Linear(16 * width, 1)

    def project(self, x: Tensor) -> list[Tensor]:
        """Pictures in [0, 1] (n, 3, R, R) -> what `forward` reads: the pictures in [-1, 1]."""
        return [(x * 2 - 1).contiguous(memory_format=torch.channels_last)]

    def forward(self, projected: list[Tensor]) -> list[Tensor]:
        """The output of `project` -> [scores (n, 1)], higher for real."""
        (x,) = projected
        return [self.out(F.leaky_relu(self.dense(self.body(x).flatten(1).float()), 0.2))]
