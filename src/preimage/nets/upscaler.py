"""The contract of networks that enlarge a photo of any size by a fixed factor, in one pass and without chance, and what they share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from preimage.bounds import check_whole
from preimage.errors import OperatorError, WeightsError

SCALES = (2, 4, 8)


@dataclass(frozen=True)
class UpscalerConfig:
    """What the shapes of all such networks have.

    Attributes:
        scale: how many times as large the pictures are: 2, 4 or 8.
        lr_size: side of the photos that it learned on; it takes any other too.
        enlarged: whether it makes what a bicubic enlargement lacks, and so begins as one. Not in the papers; it saves a short
            training the way there.
    """

    scale: int = 4
    lr_size: int = 16
    enlarged: bool = False

    def __post_init__(self) -> None:
        if self.scale not in SCALES or type(self.scale) is not int:
            raise WeightsError(f"upscaler: scale ({self.scale!r:.40}) must be one of {', '.join(map(str, SCALES))}.")
        if type(self.enlarged) is not bool:
            raise WeightsError(f"upscaler: enlarged ({self.enlarged!r:.40}) must be true or false.")
        check_whole("upscaler", {"lr_size": self.lr_size}, 1, 1024)


class Upscaler(nn.Module):
    """Base of the networks; a photo (n, 3, h, w) in [0, 1] becomes (n, 3, scale * h, scale * w) around [0, 1].

    A subclass writes `enlarge`, and calls `begin` with its last layer.

    Args:
        config: shape.
        name: for provenance.
    """

    architecture: ClassVar[str]
    """In weight files."""

    def __init__(self, config: UpscalerConfig, name: str) -> None:
        super().__init__()
        self.config, self.name = config, name

    @property
    def scale(self) -> int:
        return self.config.scale

    @property
    def resolution(self) -> int:
        """Side of the pictures that it learned to make."""
        return self.config.scale * self.config.lr_size

    def metadata(self) -> dict[str, Any]:
        """What a weight file must say to rebuild this module."""
        return {"architecture": self.architecture, "config": asdict(self.config)}

    def begin(self, last: nn.Conv2d) -> None:
        """Let a network that makes what an enlargement lacks begin with nothing."""
        if self.config.enlarged:
            nn.init.zeros_(last.weight)
            if last.bias is not None:
                nn.init.zeros_(last.bias)

    def enlarge(self, photo: Tensor) -> Tensor:
        """Photos around 0, (n, 3, h, w) in [-0.5, 0.5], to pictures around 0, (n, 3, scale * h, scale * w)."""
        raise NotImplementedError

    def forward(self, lr: Tensor) -> Tensor:
        """See the class.

        Raises:
            OperatorError: something that is no batch of RGB pictures.
        """
        if lr.ndim != 4 or lr.shape[1] != 3:
            raise OperatorError(f"{self.name}: takes photos (n, 3, h, w), not {tuple(lr.shape)}.")
        made = self.enlarge(lr - 0.5)
        return (made + bicubic(lr, self.scale) if self.config.enlarged else made + 0.5).float()


def bicubic(lr: Tensor, scale: int) -> Tensor:
    """Bicubic enlargement of (n, 3, h, w)."""
    size = (lr.shape[-2] * scale, lr.shape[-1] * scale)
    return F.interpolate(lr, size, mode="bicubic", align_corners=False)


def conv(channels_in: int, channels_out: int, size: int = 3, bias: bool = True) -> nn.Conv2d:
    """A convolution that keeps the size."""
    return nn.Conv2d(channels_in, channels_out, size, padding=size // 2, bias=bias)


def shuffled(width: int, scale: int, activation: type[nn.Module] | None = None) -> nn.Sequential:
    """Enlargement of feature maps by sub-pixel convolutions (Shi et al., 2016), a factor of 2 each.

    Args:
        width: channels before and after.
        scale: a power of two.
        activation: behind each of them, or None.
    """
    layers: list[nn.Module] = []
    for _ in range(scale.bit_length() - 1):
        layers += [conv(width, 4 * width), nn.PixelShuffle(2)]
        layers += [activation()] if activation is not None else []
    return nn.Sequential(*layers)
