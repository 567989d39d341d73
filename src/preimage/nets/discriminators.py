"""Two discriminators: StyleGAN2's residual one, and heads projected on fixed features (Sauer et al., 2021).

Both come in two steps, so that a trainer computes the fixed part once for both players: `project(pictures)` is fixed and
differentiable, `forward(projected)` is learned and returns a list of scores, one tensor per head.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from preimage.nets.features import FeatureNetwork
from preimage.nets.layers import EqualConv2d, EqualLinear


def minibatch_stddev(x: Tensor, group: int = 4) -> Tensor:
    """Append one channel with the mean standard deviation over groups of pictures (Karras et al., 2018, section 3)."""
    n, _, height, width = x.shape
    group = math.gcd(n, group)
    y = x.float().reshape(group, n // group, -1)
    spread = (y.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=1)
    feature = spread.repeat(group).view(n, 1, 1, 1).expand(n, 1, height, width)
    return torch.cat([x, feature.to(x.dtype)], dim=1)


class ResidualBlock(nn.Module):
    """Two convolutions that halve the size, beside a filtered 1x1 skip; the sum keeps unit variance."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.conv0 = EqualConv2d(channels_in, channels_in, 3)
        self.conv1 = EqualConv2d(channels_in, channels_out, 3, down=True)
        self.skip = EqualConv2d(channels_in, channels_out, 1, down=True, bias=False, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv1(self.conv0(x)) + self.skip(x)) * math.sqrt(0.5)


class StyleGAN2Discriminator(nn.Module):
    """StyleGAN2's residual discriminator with minibatch statistics.

    Args:
        resolution, channel_base, channel_max: as in `StyleGAN2Config`.
        group: pictures per group of the minibatch statistics.
    """

    def __init__(self, resolution: int, channel_base: int = 32768, channel_max: int = 512, group: int = 4):
        super().__init__()
        self.group = group

        def width(side: int) -> int:
            return min(channel_base // side, channel_max)

        self.fromrgb = EqualConv2d(3, width(resolution), 1)
        sides = [2**k for k in range(int(math.log2(resolution)), 2, -1)]
        self.blocks = nn.Sequential(*(ResidualBlock(width(s), width(s // 2)) for s in sides))
        self.conv = EqualConv2d(width(4) + 1, width(4), 3)
        self.fc = EqualLinear(width(4) * 16, width(4), activate=True)
        self.out = EqualLinear(width(4), 1)

    def project(self, x: Tensor) -> list[Tensor]:
        """Pictures in [0, 1] (n, 3, R, R) -> what `forward` reads: here the pictures themselves in [-1, 1]."""
        return [(x * 2 - 1).contiguous(memory_format=torch.channels_last)]

    def forward(self, projected: list[Tensor]) -> list[Tensor]:
        """The output of `project` -> [scores (n, 1)], higher for real."""
        (x,) = projected
        x = minibatch_stddev(self.blocks(self.fromrgb(x)), self.group)
        return [self.out(self.fc(self.conv(x).flatten(1).float()))]

    def penalised(self, x: Tensor) -> list[Tensor]:
        """The scores of pictures in [0, 1] whose slope R1 is for: all there are."""
        return self(self.project(x))


class FixedMix(nn.Module):
    """Random 1x1 mixing across channels (per tap) and, top-down, across scales; never trained (Projected GANs, 4.1)."""

    def __init__(self, channels: tuple[int, ...], width: int, seed: int = 0):
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        for i, c in enumerate(channels):
            self.register_buffer(f"mix{i}", torch.randn(width, c, 1, 1, generator=rng) / math.sqrt(c))
            self.register_buffer(f"across{i}", torch.randn(width, width, 1, 1, generator=rng) / math.sqrt(width))
            self.register_buffer(f"spread{i}", torch.ones([]))
        self.count = len(channels)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        out: list[Tensor] = []
        above: Tensor | None = None
        for i in reversed(range(self.count)):
            f = features[i]
            x = F.conv2d(f / getattr(self, f"spread{i}").to(f.dtype), getattr(self, f"mix{i}").to(f.dtype))
            if above is not None:
                x = (x + F.interpolate(above, size=x.shape[2:], mode="nearest")) * math.sqrt(0.5)
            above = F.conv2d(x, getattr(self, f"across{i}").to(x.dtype))
            out.append(above)
        return out[::-1]


def _conv(channels_in: int, channels_out: int, size: int, stride: int = 1) -> nn.Module:
    return spectral_norm(nn.Conv2d(channels_in, channels_out, size, stride=stride, padding=size // 2))


def patch_head(channels: int, side: int, width: int, target: int = 8) -> nn.Sequential:
    """Spectrally normalised convolutions: strides down to about `target` pixels, then one score per place."""
    layers: list[nn.Module] = []
    while side > target * 1.5:
        layers += [_conv(channels, width, 3, stride=2), nn.LeakyReLU(0.2)]
        side, channels = (side + 1) // 2, width
    layers += [_conv(channels, width, 3), nn.LeakyReLU(0.2), _conv(width, 1, 3)]
    return nn.Sequential(*layers)


class ProjectedDiscriminator(nn.Module):
    """Small heads on the fixed features of a pretrained network, and one patch head on the pixels themselves.

    The picture is enlarged to `size`, goes through the frozen network, its taps are mixed by fixed random projections,
    and each mixed tap has its own head. Features of a frozen network barely see fine texture, hence the pixel head.

    Args:
        network: frozen features; its weights are not part of this module's state dict.
        size: side the pictures are enlarged to before the network.
        width: channels of the mixes and of the heads.
        pixel_width: channels of the pixel head; 0 leaves it out.
        resolution: native side of the pictures.
        residual: StyleGAN2's discriminator beside the heads, which sees at once what fixed features do not tell; None: without.
    """

    def __init__(
        self,
        network: FeatureNetwork,
        size: int,
        width: int,
        pixel_width: int,
        resolution: int,
        residual: StyleGAN2Discriminator | None = None,
    ):
        super().__init__()
        self._network = [network]  # in a list: not a submodule, so neither saved nor trained
        self.size = size
        self.mix = FixedMix(network.channels, width)
        with torch.no_grad():
            sides = [f.shape[-1] for f in network(torch.zeros(1, 3, size, size))]
        self.heads = nn.ModuleList(patch_head(width, side, width) for side in sides)
        self.pixel_head: nn.Module | None = None
        if pixel_width:
            body: list[nn.Module] = [_conv(3, pixel_width, 3), nn.LeakyReLU(0.2)]
            body += [_conv(pixel_width, 2 * pixel_width, 3, stride=2), nn.LeakyReLU(0.2)]
            self.pixel_head = nn.Sequential(*body, *patch_head(2 * pixel_width, resolution // 2, 2 * pixel_width))
        self.residual = residual

    @property
    def network(self) -> FeatureNetwork:
        return self._network[0]

    def enlarge(self, x: Tensor) -> Tensor:
        if x.shape[-1] == self.size:
            return x
        return F.interpolate(x, size=(self.size, self.size), mode="bilinear", align_corners=False)

    @torch.no_grad()
    def calibrate(self, real: Tensor) -> None:
        """Measure the spread of each tap on real pictures once, so that every scale speaks equally loud."""
        for i, f in enumerate(self.network(self.enlarge(real))):
            getattr(self.mix, f"spread{i}").copy_(f.float().std())

    def project(self, x: Tensor) -> list[Tensor]:
        """The fixed part: mixed features of pictures in [0, 1], and the pixels. Differentiable in x."""
        features: list[Tensor] = self.mix(self.network(self.enlarge(x)))
        return features if self.pixel_head is None and self.residual is None else [*features, x * 2 - 1]

    def forward(self, projected: list[Tensor]) -> list[Tensor]:
        """The learned part: one tensor of scores (n, places) per head, higher for real; of the residual one, which comes last, (n, 1)."""
        heads = [*self.heads, self.pixel_head] if self.pixel_head is not None else list(self.heads)
        theirs = projected[:-1] if self.pixel_head is None and self.residual is not None else projected
        scores = [head(f).flatten(1).float() for head, f in zip(heads, theirs, strict=True)]
        return scores if self.residual is None else scores + self.residual(projected[-1:])

    def penalised(self, x: Tensor) -> list[Tensor]:
        """The scores of pictures in [0, 1] whose slope R1 is for: the residual one's, for the heads are spectrally normalised."""
        return self(self.project(x)) if self.residual is None else self.residual.penalised(x)
