"""What style-based priors share: their shape, mapping and synthesis, truncation, the Gaussian fit, noise maps, samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol, cast

import torch
from torch import Tensor, nn

from preimage.bounds import DEEPEST, WIDEST, check_resolution, check_whole
from preimage.generate.prior import fit_gaussian
from preimage.generate.side_outputs import Branched, Tap
from preimage.seeds import normal


@dataclass(frozen=True)
class StyleConfig:
    """Shape of a style-based generator.

    Attributes:
        resolution: side of the picture, a power of two from 8 to 1024.
        channel_base: a layer of side r has min(channel_base / r, channel_max) channels.
        channel_max: upper bound on channels.
        z_dim, w_dim: sizes of the latents z and w.
        mapping_layers: depth of the mapping network (8 in the papers).
    """

    family: ClassVar[str] = "generator"

    resolution: int
    channel_base: int
    channel_max: int = 512
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8

    def __post_init__(self) -> None:
        side = self.resolution
        check_resolution(self.family, side, 8)
        check_whole(self.family, {"channel_base": self.channel_base}, side, WIDEST * side)
        dimensions = {name: getattr(self, name) for name in ("channel_max", "z_dim", "w_dim")}
        check_whole(self.family, dimensions, 1, WIDEST)
        check_whole(self.family, {"mapping_layers": self.mapping_layers}, 1, DEEPEST)

    @property
    def resolutions(self) -> tuple[int, ...]:
        """4, 8, …, resolution."""
        return tuple(2**k for k in range(2, int(math.log2(self.resolution)) + 1))

    def channels(self, side: int) -> int:
        """Width of the layers of this side."""
        return min(self.channel_base // side, self.channel_max)

    @property
    def rows(self) -> int:
        """Rows of a W+ latent: 2 log2(resolution) - 2 (18 at 1024)."""
        return 2 * len(self.resolutions)

    @property
    def noise_sizes(self) -> tuple[int, ...]:
        """Side of each noise map, coarse to fine."""
        raise NotImplementedError


class Shape(Protocol):
    """What `StylePrior` reads of the configuration of a network: see `StyleConfig`."""

    @property
    def resolution(self) -> int: ...
    @property
    def z_dim(self) -> int: ...
    @property
    def w_dim(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def resolutions(self) -> tuple[int, ...]: ...
    @property
    def noise_sizes(self) -> tuple[int, ...]: ...
    def channels(self, side: int) -> int: ...


class StylePrior(Branched):
    """A mapping network and a synthesis network; meets the `Prior` contract.

    Args:
        config: its shape.
        name: for provenance.
        mapping: z (n, z_dim) -> w (n, w_dim), ending in a leaky ReLU, with a buffer `w_avg` (w_dim,).
        synthesis: W+ (n, rows, w_dim), noise maps or None, dtype of the feature maps or None, the largest side or None, a `Tap` or
            None -> pictures in [-1, 1], coarse to fine; the last one counts.

    Attributes:
        architecture: key of `preimage.weight_files.ARCHITECTURES`.
    """

    architecture: ClassVar[str]

    config: Shape
    fit_mean: Tensor
    fit_std: Tensor

    def __init__(self, config: Shape, name: str, mapping: nn.Module, synthesis: nn.Module):
        super().__init__()
        self.config, self.name = config, name
        self.mapping, self.synthesis = mapping, synthesis
        self.register_buffer("fit_mean", torch.zeros(config.w_dim))
        self.register_buffer("fit_std", torch.zeros(config.w_dim))

    @property
    def resolution(self) -> int:
        return self.config.resolution

    @property
    def latent_shape(self) -> tuple[int, int]:
        return self.config.rows, self.config.w_dim

    def rows_up_to(self, side: int) -> int:
        """How many rows of W+, coarse first, shape the picture of this side: two for each resolution."""
        return 2 * sum(resolution <= side for resolution in self.config.resolutions)

    @property
    def spaces(self) -> tuple[str, ...]:
        return "Z", "W", "W+"

    @property
    def noise_sizes(self) -> tuple[int, ...]:
        return self.config.noise_sizes

    @property
    def mean_latent(self) -> Tensor:
        return self.mapping.get_buffer("w_avg")

    @property
    def gaussian_fit(self) -> tuple[Tensor, Tensor]:
        if not bool(self.fit_std.any()):  # a network that never went through training or loading
            self.refit()
        return self.fit_mean, self.fit_std

    @torch.no_grad()
    def refit(self, samples: int = 100_000) -> None:
        """Recompute mean latent and Gaussian fit from the mapping network (needed once per checkpoint)."""
        device, known = self.fit_mean.device, getattr(self.mapping, "fit", None)
        if known is not None:
            mean, std = known()
            self.fit_mean.copy_(mean)
            self.fit_std.copy_(std)
            return
        mean, std = fit_gaussian(lambda z: self.mapping(z.to(device)).cpu(), self.config.z_dim, samples)
        self.fit_mean.copy_(mean)
        self.fit_std.copy_(std)
        z = torch.randn(10_000, self.config.z_dim, generator=torch.Generator().manual_seed(1))
        self.mean_latent.copy_(self.mapping(z.to(device)).mean(0))

    def latents(self, seeds: Sequence[int], truncation: float = 1.0) -> Tensor:
        """W+ latents (n, rows, w_dim) of these seeds: w_avg + truncation * (w - w_avg), the same w in every row."""
        w: Tensor = self.mapping(normal(seeds, (self.config.z_dim,), "z").to(self.fit_mean.device))
        w = self.mean_latent + truncation * (w - self.mean_latent)
        return w[:, None].expand(-1, self.config.rows, -1)

    def noise(self, seeds: Sequence[int], stream: str = "noise") -> list[Tensor]:
        """Random noise maps of these seeds, one (n, 1, side, side) per layer."""
        device = self.fit_mean.device
        return [normal(seeds, (1, s, s), f"{stream}{i}").to(device) for i, s in enumerate(self.noise_sizes)]

    def synthesize(
        self, latents: Tensor, noise: Sequence[Tensor] | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """`Prior.synthesize`; dtype: of the feature maps."""
        picture: Tensor = self.synthesis(latents, noise, dtype)[-1]
        return (picture + 1) / 2

    def forward(self, latents: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        return self.synthesize(latents, noise)

    @torch.no_grad()
    def sample(self, seeds: Sequence[int], truncation: float = 1.0) -> Tensor:
        return self.synthesize(self.latents(seeds, truncation), self.noise(seeds)).clamp(0, 1)

    @property
    def feature_widths(self) -> dict[int, int]:
        """See `Branched`."""
        return {side: self.config.channels(side) for side in self.config.resolutions}

    def grow(
        self, latents: Tensor, noise: Sequence[Tensor] | None, largest: int | None = None, tap: Tap | None = None
    ) -> dict[int, Tensor]:
        """See `Branched`."""
        return {rgb.shape[-1]: (rgb + 1) / 2 for rgb in self.synthesis(latents, noise, None, largest, tap)}

    def metadata(self) -> dict[str, Any]:
        """What a weight file must say to rebuild this module."""
        return {"architecture": self.architecture, "config": asdict(cast(Any, self.config))}
