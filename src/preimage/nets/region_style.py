"""DeepSEE's style encoder: one vector for each region of a face, from a small picture or a sharp one (section 3.2)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from preimage.nets.region_blocks import SLOPE, begin, resized

Pooling = Literal["region", "image"]


def regional_pool(features: Tensor, mask: Tensor, pooling: Pooling = "region") -> Tensor:
    """The mean of features over each region.

    Args:
        features: (n, d, h, w).
        mask: (n, regions, h, w), shares in [0, 1].
        pooling: "region" divides by the area of the region, "image" by that of the picture, as the published networks do: the
            styles of small regions are then small.

    Returns:
        (n, regions, d); 0 where a region is empty.
    """
    total = torch.einsum("ndyx,nkyx->nkd", features, mask.to(features.dtype))
    if pooling == "image":
        return total / (features.shape[-2] * features.shape[-1])
    area = mask.sum((2, 3))[..., None].to(total.dtype)
    return total.float() / area.clamp_min(1e-4) * (area > 0)


class StyleEncoder(nn.Module):
    """Two branches, one for small pictures and one for sharp ones, and a last layer that both share.

    Every layer is a 3x3 convolution without bias, spectrally normalised, then instance norm and a leaky ReLU; the shared one ends
    in tanh.

    Args:
        style: numbers of a style.
        width: channels of the first layers.
        pooling: see `regional_pool`.
        soft: whether masks are shrunk by area.
    """

    def __init__(self, style: int = 128, width: int = 32, pooling: Pooling = "region", soft: bool = False):
        super().__init__()
        self.pooling, self.soft = pooling, soft
        w = width
        self.small = nn.Sequential(_layer(3, w), _layer(w, 2 * w), _layer(2 * w, 4 * w), _twice(), _layer(4 * w, 8 * w))
        self.sharp = nn.Sequential(
            _layer(3, w), _layer(w, 2 * w, 2), _layer(2 * w, 4 * w, 2), _twice(), _layer(4 * w, 8 * w)
        )
        self.shared = nn.Sequential(_conv(8 * w, style), nn.InstanceNorm2d(style))

    def forward(self, picture: Tensor, mask: Tensor, sharp: bool) -> Tensor:
        """The styles of a picture.

        Args:
            picture: (n, 3, h, w) in [0, 1].
            mask: (n, regions, H, W), of any size.
            sharp: whether it is a sharp one.

        Returns:
            (n, regions, style) in [-1, 1].
        """
        found = torch.tanh(self.shared((self.sharp if sharp else self.small)(picture * 2 - 1)))
        side = (found.shape[-2], found.shape[-1])
        return regional_pool(found.float(), resized(mask.float(), side, self.soft), self.pooling)


class StyleNoise(nn.Module):
    """Uniform noise on styles, with a learned share for each region, a half at first (section 3.4)."""

    def __init__(self, regions: int):
        super().__init__()
        self.share = nn.Parameter(torch.zeros(regions))

    def forward(self, style: Tensor, delta: float) -> Tensor:
        """style (n, regions, d) -> the same, within [-1, 1]; each number moves by at most delta times the share of its region."""
        noise = (torch.rand_like(style) * 2 - 1) * delta
        return (style + noise * torch.sigmoid(self.share)[:, None]).clamp(-1, 1)


def _conv(channels_in: int, channels_out: int, stride: int = 1) -> nn.Module:
    return spectral_norm(begin(nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)))


def _layer(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(_conv(channels_in, channels_out, stride), nn.InstanceNorm2d(channels_out), nn.LeakyReLU(SLOPE))


class _Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="nearest")


def _twice() -> nn.Module:
    return _Twice()
