"""DeepSEE's network (Bühler et al., 2020): a small photo, a map of regions and a style for each of them in, a large picture out.

The published shape is the default. What is ours beside it: narrower levels, masks that shrink softly, a network that makes what a smooth
enlargement lacks and is projected onto what shrinks to the photo, and the Gaussian that styles are drawn from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.bounds import WIDEST, check_resolution, check_whole
from preimage.errors import OperatorError, WeightsError
from preimage.nets.region_blocks import SLOPE, Kind, RegionBlock, begin, conv3, resized
from preimage.nets.region_style import StyleEncoder, StyleNoise

REGIONS = 19
PURE = 5
"""The doubling from which on the style alone modulates; only networks of 32 times reach it."""


@dataclass(frozen=True)
class DeepSEEConfig:
    """Shape of the network.

    Attributes:
        lr_size: side of the photos.
        resolution: side of the pictures, a power of two times as large.
        widths: channels at the photo's size and after each doubling.
        blocks: of the first doubling; the others have one.
        hidden: channels between regions and modulation.
        regions: how many there are; 1 leaves semantics out.
        style: numbers of a region's style; 0 leaves styles out.
        encoder: channels of the style encoder's first layers.
        pooling: "image" as published, or "region" (`nets.region_style.regional_pool`).
        noise: whether noise is injected in training.
        spectral: whether convolutions of the blocks are spectrally normalised.
        soft: whether masks shrink by area instead of by the nearest pixel.
        cap: side up to which masks are used at full size.
        enlarged: whether it makes what a bicubic enlargement lacks; else its pictures end in tanh.
        project: whether pictures are projected onto those that shrink to the photo before anybody sees them.
        small_styles: whether the encoder learned small pictures too, so that styles come from the photo; else from references only.
        sharp_styles: whether it learned sharp ones.
        drawn: directions of the Gaussian that the styles of all regions are drawn from together; 0: there is none.
        legacy_512: what the published network from 16 to 512 pixels does at 512, by mistake (`RegionNorm`).
    """

    lr_size: int = 16
    resolution: int = 128
    widths: tuple[int, ...] = (512, 512, 512, 512)
    blocks: int = 2
    hidden: int = 128
    regions: int = REGIONS
    style: int = 128
    encoder: int = 32
    pooling: str = "image"
    noise: bool = True
    spectral: bool = True
    soft: bool = False
    cap: int = 256
    enlarged: bool = False
    project: bool = False
    small_styles: bool = True
    sharp_styles: bool = True
    drawn: int = 0
    legacy_512: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.widths, list):
            object.__setattr__(self, "widths", tuple(self.widths))
        check_resolution("deepsee", self.resolution, 8)
        check_whole("deepsee", {"lr_size": self.lr_size}, 4, self.resolution // 2)
        if self.lr_size << self.doublings != self.resolution:
            raise WeightsError(
                f"deepsee: resolution ({self.resolution}) must be lr_size ({self.lr_size}) times a power of two."
            )
        if not isinstance(self.widths, tuple) or len(self.widths) != self.doublings + 1:
            raise WeightsError(
                f"deepsee: widths ({self.widths!r:.60}) must list one for {self.lr_size} px and one for each of the "
                f"{self.doublings} doublings."
            )
        check_whole("deepsee", {f"widths[{i}]": w for i, w in enumerate(self.widths)}, 1, WIDEST)
        counts = {name: getattr(self, name) for name in ("blocks", "hidden", "regions", "encoder", "cap")}
        check_whole("deepsee", counts, 1, 1024)
        check_whole("deepsee", {"style": self.style}, 0, 1024)
        check_whole("deepsee", {"drawn": self.drawn}, 0, self.style)
        if self.pooling not in ("image", "region"):
            raise WeightsError(f"deepsee: pooling ({self.pooling!r:.40}) must be image or region.")
        for name in (
            "noise", "spectral", "soft", "enlarged", "project", "small_styles", "sharp_styles", "legacy_512"
        ):  # fmt: skip
            if type(getattr(self, name)) is not bool:
                raise WeightsError(f"deepsee: {name} ({getattr(self, name)!r:.40}) must be true or false.")
        if self.legacy_512 and self.style != self.hidden:
            raise WeightsError(f"deepsee: legacy_512 needs style ({self.style}) equal to hidden ({self.hidden}).")

    @property
    def doublings(self) -> int:
        """How often the side doubles."""
        return (self.resolution // self.lr_size).bit_length() - 1


class RegionGenerator(nn.Module):
    """A convolution and a block of regions alone at the photo's size, then for each doubling blocks of regions and styles."""

    def __init__(self, config: DeepSEEConfig):
        super().__init__()
        self.config, widths = config, config.widths
        shape = (config.regions, config.hidden, config.style)

        def block(width: int, kind: Kind) -> RegionBlock:
            kind = kind if config.style else "regions"
            return RegionBlock(width, (*shape, kind, config.cap, config.legacy_512), config.noise, config.spectral)

        self.stem = conv3(3, widths[0])
        self.head = block(widths[0], "regions")
        self.levels = nn.ModuleList(
            nn.ModuleList(block(width, "style" if i >= PURE else "both") for _ in range(config.blocks if i == 1 else 1))
            for i, width in enumerate(widths[1:], start=1)
        )
        self.narrow = nn.ModuleList(  # before the size doubles, which costs a quarter
            nn.Identity() if a == b else begin(nn.Conv2d(a, b, 1, bias=False), gain=1.0) for a, b in pairwise(widths)
        )
        self.out = conv3(widths[-1], 3)

    def forward(self, photo: Tensor, mask: Tensor, style: Tensor | None) -> Tensor:
        """photo (n, 3, h, w) in [-1, 1], mask (n, regions, R, R), style (n, regions, d) -> (n, 3, R, R), without an end."""
        masks: dict[int, Tensor] = {}

        def at(side: int) -> Tensor:
            side = min(side, self.config.cap)
            if side not in masks:
                masks[side] = resized(mask, (side, side), self.config.soft)
            return masks[side]

        x = self.stem(photo)
        x = self.head(x, at(x.shape[-1]), style)
        for narrow, level in zip(self.narrow, self.levels, strict=True):
            x = F.interpolate(narrow(x), scale_factor=2, mode="nearest")
            for block in cast(nn.ModuleList, level):
                x = block(x, at(x.shape[-1]), style)
        out: Tensor = self.out(F.leaky_relu(x, SLOPE))
        return out


class DeepSEENetwork(nn.Module):
    """Generator and style encoder. See the module.

    Args:
        config: shape.
        name: for provenance.
    """

    architecture: ClassVar[str] = "deepsee"
    style_mean: Tensor
    style_root: Tensor

    def __init__(self, config: DeepSEEConfig, name: str = "deepsee"):
        super().__init__()
        self.config, self.name = config, name
        self.generator = RegionGenerator(config)
        self.encoder: StyleEncoder | None = None
        if config.style:
            self.encoder = StyleEncoder(config.style, config.encoder, config.pooling, config.soft)  # type: ignore[arg-type]
            self.style_noise = StyleNoise(config.regions)
            if config.drawn:  # of what the style of a sharp picture has beyond that of its photo
                self.register_buffer("style_mean", torch.zeros(config.regions, config.style))
                self.register_buffer("style_root", torch.zeros(config.regions, config.drawn, config.style))

    @property
    def resolution(self) -> int:
        return self.config.resolution

    def metadata(self) -> Mapping[str, Any]:
        """What a weight file must say to rebuild this module."""
        return {"architecture": self.architecture, "config": asdict(self.config)}

    def encode(self, picture: Tensor, mask: Tensor, sharp: bool) -> Tensor | None:
        """The styles of a picture (`StyleEncoder.forward`); None of a network without styles."""
        found: Tensor | None = None if self.encoder is None else self.encoder(picture, mask, sharp)
        return found

    def forward(self, photo: Tensor, mask: Tensor, style: Tensor | None = None) -> Tensor:
        """A picture of each photo.

        Args:
            photo: (n, 3, lr_size, lr_size) in [0, 1].
            mask: (n, regions, R, R), 1 where a region is.
            style: (n, regions, style) in [-1, 1].

        Returns:
            (n, 3, R, R): around [0, 1], or what a smooth enlargement lacks (`enlarged`).

        Raises:
            OperatorError: a photo or a mask of another shape, no styles where it needs them.
        """
        c, n = self.config, len(photo)
        if photo.shape[1:] != (3, c.lr_size, c.lr_size) or mask.shape != (n, c.regions, c.resolution, c.resolution):
            raise OperatorError(
                f"{self.name}: takes photos of {c.lr_size} px and masks (n, {c.regions}, {c.resolution}, {c.resolution}), not "
                f"{tuple(photo.shape)} and {tuple(mask.shape)}."
            )
        if c.style and (style is None or style.shape != (n, c.regions, c.style)):
            raise OperatorError(f"{self.name}: takes styles (n, {c.regions}, {c.style}).")
        made = self.generator(photo * 2 - 1, mask.to(photo.dtype), style)
        return made.float() / 2 if c.enlarged else (torch.tanh(made.float()) + 1) / 2
