"""A prior in two steps: a generator of tiny faces, and in front of it posterior's network, which enlarges them.

A face of 16x16 pixels is 768 numbers, and a small generator, a flow or a StyleGAN2, draws them well; what they could have been is what
posterior's network was trained for. Together they are one generator of large faces, p(x) = p(y) p(x | y), and every picture of it
shrinks to its tiny one exactly (docs/posterior.md).

To a search it is a style-based prior: its rows are those of the tiny generator, and behind them one for each level of the second
network; its noise maps are those of the tiny generator, and behind them the second network's random numbers, channel by channel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.degrade.linear import LinearOperator, make_operator
from preimage.errors import MethodError, WeightsError
from preimage.generate.flow import Flow, FlowConfig, FlowSynthesis, Standard, numbers
from preimage.generate.prior import w_to_sphere
from preimage.generate.side_outputs import Tap
from preimage.generate.style_prior import StylePrior
from preimage.generate.stylegan2 import Mapping, StyleGAN2, StyleGAN2Config, Synthesis
from preimage.nets.conditional import ConditionalConfig, ConditionalGenerator

KERNEL = "bicubic"
"""The downscaling between both steps; the second network learned to answer it."""


@dataclass(frozen=True)
class CascadeConfig:
    """Shape of both generators.

    Attributes:
        first: the tiny one.
        second: posterior's network.
        temperature: scale of the second one's random numbers, as posterior's setting of that name.
    """

    first: StyleGAN2Config | FlowConfig = field(
        default_factory=lambda: StyleGAN2Config(resolution=16, channel_base=1536)
    )
    second: ConditionalConfig = field(default_factory=lambda: ConditionalConfig(resolution=128, channels=(96, 64, 32)))
    temperature: float = 1.0

    def __post_init__(self) -> None:
        for f, kinds in (("first", (StyleGAN2Config, FlowConfig)), ("second", (ConditionalConfig,))):
            given = getattr(self, f)
            made = kinds[-1] if isinstance(given, dict) and "times" in given else kinds[0]
            if isinstance(given, dict):  # from a file
                known = {x.name for x in fields(cast(Any, made))}
                if unknown := [key for key in given if key not in known]:
                    raise WeightsError(f"cascade {f}: has {unknown[0]!r:.40}, which this version does not know.")
                object.__setattr__(self, f, made(**given))
            elif not isinstance(given, kinds):
                raise WeightsError(f"cascade {f} {given!r:.40}: must describe a network.")
        share: object = self.temperature
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 2:
            raise WeightsError(f"cascade temperature {share!r:.40}: must be a number from 0 to 2.")
        if self.first.resolution >= self.second.resolution:
            raise WeightsError(
                f"cascade: the first generator's {self.first.resolution} px must be fewer than the second one's "
                f"{self.second.resolution}."
            )

    @property
    def resolution(self) -> int:
        return self.second.resolution

    @property
    def z_dim(self) -> int:
        return self.first.z_dim

    @property
    def w_dim(self) -> int:
        return self.first.w_dim

    @property
    def resolutions(self) -> tuple[int, ...]:
        """4, 8, …, resolution; up to the tiny side they are the first network's."""
        return tuple(2**k for k in range(2, int(math.log2(self.resolution)) + 1))

    def channels(self, side: int) -> int:
        """Width of the feature maps of this side."""
        if side <= self.first.resolution:
            return self.first.channels(side)
        return self.second.channels[int(math.log2(side)) - 5]

    @property
    def levels(self) -> int:
        """Rows of the second network: one each at 8, 16, …, resolution."""
        return 2 + len(self.second.channels)

    @property
    def rows(self) -> int:
        return self.first.rows + self.levels

    @property
    def noise_sizes(self) -> tuple[int, ...]:
        """The tiny generator's maps, then a map for each channel of the second network's random numbers."""
        shapes = self.second.z_shapes.values()
        return (*self.first.noise_sizes, *(s[1] if len(s) == 3 else 1 for s in shapes for _ in range(s[0])))


@lru_cache(maxsize=16)
def between(side: int, small: int) -> LinearOperator:
    """The downscaling from pictures of `side` pixels to the tiny ones."""
    return make_operator(KERNEL, hr_size=side, lr_size=small)


class CascadeSynthesis(nn.Module):
    """W+ rows of both networks and noise maps -> pictures.

    Attributes:
        spread: (second's w_dim, w_dim), what a row of its own does to the code of a level of the second network: a standard
            normal row moves it as far as photos differ in it; zero until `Cascade.measure`.
    """

    spread: Tensor

    def __init__(self, config: CascadeConfig):
        super().__init__()
        self.config = config
        flows = isinstance(config.first, FlowConfig)
        self.first: Any = FlowSynthesis(cast(Any, config.first)) if flows else Synthesis(cast(Any, config.first))
        self.second = ConditionalGenerator(config.second)
        self.register_buffer("spread", torch.zeros(config.second.w_dim, config.w_dim))

    def random(self, noise: Sequence[Tensor] | None, n: int) -> dict[str, Tensor]:
        """The second network's random numbers in the maps behind the tiny generator's; without maps zeros."""
        own, at = len(self.config.first.noise_sizes), 0
        z: dict[str, Tensor] = {}
        for name, shape in self.config.second.z_shapes.items():
            count = shape[0]
            if noise is None:
                z[name] = self.spread.new_zeros(n, *shape)
            else:
                maps = torch.cat([x.expand(n, -1, -1, -1) for x in noise[own + at : own + at + count]], dim=1)
                z[name] = maps.reshape(n, *shape) * (self.config.temperature if len(shape) == 3 else 1.0)
            at += count
        return z

    def forward(
        self,
        ws: Tensor,
        noise: Sequence[Tensor] | None = None,
        dtype: torch.dtype | None = None,
        largest: int | None = None,
        tap: Tap | None = None,
        steer: Tensor | None = None,
    ) -> list[Tensor]:
        """Pictures in [-1, 1], coarse to fine, of each side up to `largest`.

        Args:
            ws: (n, rows of the first generator, w_dim).
            noise: as `CascadeConfig.noise_sizes`, or None for silence.
            dtype: of the tiny generator's feature maps.
            largest: nothing is computed beyond this side; None for all.
            tap: told the feature maps.
            steer: (n, levels, second's w_dim), added to the codes of the second network's levels.
        """
        own = len(self.config.first.noise_sizes)
        pictures: list[Tensor] = self.first(ws, None if noise is None else noise[:own], dtype, largest, tap)
        small = self.config.first.resolution
        if largest is not None and largest < 2 * small:
            return pictures
        tiny, side = (pictures[-1].float() + 1) / 2, self.config.resolution
        enlarged = between(side, small).pinv(tiny)
        size = tiny.new_full((len(ws),), math.log2(small))

        def behind(level: int, features: Tensor) -> None:
            if tap is not None and level > small:
                tap(level, features)

        z = self.random(noise, len(ws))
        lacks = self.second.rgb_pictures(enlarged, size, z, None, steer, largest, behind)
        for lack in lacks:
            side = lack.shape[-1]
            if side <= small:
                continue
            smooth = F.interpolate(tiny, (side, side), mode="bicubic", align_corners=False)
            pictures.append(between(side, small).project(smooth + lack.float(), tiny) * 2 - 1)
        return pictures


class Cascade(StylePrior):
    """See the module; meets `Prior`, and `config` is its shape."""

    architecture: ClassVar[str] = "cascade"

    config: CascadeConfig
    synthesis: CascadeSynthesis

    def __init__(self, config: CascadeConfig, name: str = "cascade"):
        first: Any = config.first
        mapping = Standard(first) if isinstance(first, FlowConfig) else Mapping(first)
        super().__init__(config, name, mapping, CascadeSynthesis(config))

    @property
    def told(self) -> tuple[int, ...]:
        """Places of noise maps that are no noise but say how a picture is to look, 0 as usual: how sharp. A search leaves them at 0."""
        return (len(self.noise_sizes) - 1,) if self.config.second.sharpness else ()

    @property
    def shrinks_to(self) -> LinearOperator:
        """What every whole picture shrinks by to the tiny one, exactly; a search of such photos looks at tiny pictures."""
        return between(self.config.resolution, self.config.first.resolution)

    def rows_up_to(self, side: int) -> int:
        """How many rows, first ones, have a part in the picture of this side."""
        first = self.config.first
        if side <= first.resolution:
            return first.rows if isinstance(first, FlowConfig) else 2 * (int(math.log2(side)) - 1)
        return first.rows + int(math.log2(side)) - 2

    @property
    def own_sides(self) -> tuple[int, ...]:
        """All; those beyond the tiny side shrink to the tiny picture."""
        return self.config.resolutions

    def _pictures(
        self,
        latents: Tensor,
        noise: Sequence[Tensor] | None,
        dtype: torch.dtype | None = None,
        largest: int | None = None,
        tap: Tap | None = None,
    ) -> list[Tensor]:
        count = self.config.first.rows
        own, steer = latents[:, :count], None
        if largest is None or largest > self.config.first.resolution:
            mean, std = self.gaussian_fit
            u = w_to_sphere(latents, mean, std)
            behind = u[:, count:]
            if not self.invertible:  # rows that are equal, as in W, leave the second network as it was trained
                behind = behind - u[:, :count].mean(1, keepdim=True)
            steer = behind @ self.synthesis.spread.t()
        pictures: list[Tensor] = self.synthesis(own, noise, dtype, largest, tap, steer)
        return pictures

    def latents(self, seeds: Sequence[int], truncation: float = 1.0) -> Tensor:
        """W+ latents (n, rows, w_dim) of these seeds, which leave the second network as it was trained: a flow's, and zeros behind."""
        if not self.invertible:
            return super().latents(seeds, truncation)
        z = numbers(cast(FlowConfig, self.config.first), seeds).to(self.fit_mean.device)
        w: Tensor = self.mapping(truncation * z)
        return F.pad(w, (0, 0, 0, self.config.levels))

    @property
    def invertible(self) -> bool:
        """Whether the tiny generator is a map both ways (`invert`)."""
        return isinstance(self.config.first, FlowConfig)

    @torch.no_grad()
    def invert(self, tiny: Tensor, passes: int = 6) -> Tensor:
        """Latents (n, rows, w_dim) whose pictures shrink to these tiny ones, as `Flow.invert`; the rows behind as in `latents`.

        Raises:
            MethodError: the tiny generator is no flow.
        """
        if not self.invertible:
            raise MethodError(f"{self.name}: its tiny generator cannot be inverted; one that is a flow can.")
        return F.pad(self.synthesis.first.invert(tiny, passes), (0, 0, 0, self.config.levels))

    def synthesize(
        self, latents: Tensor, noise: Sequence[Tensor] | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """`Prior.synthesize`; dtype: of the tiny generator's feature maps."""
        return (self._pictures(latents, noise, dtype)[-1] + 1) / 2

    def grow(
        self, latents: Tensor, noise: Sequence[Tensor] | None, largest: int | None = None, tap: Tap | None = None
    ) -> dict[int, Tensor]:
        """See `Branched`."""
        return {p.shape[-1]: (p + 1) / 2 for p in self._pictures(latents, noise, None, largest, tap)}

    @torch.no_grad()
    def measure(self, samples: int = 1000, share: float = 0.5) -> None:
        """Find what the rows of the second network's levels do: how its codes differ from tiny face to tiny face.

        Args:
            samples: tiny faces to look at.
            share: of the differences that a standard normal row makes.
        """
        second, seeds = self.synthesis.second, range(samples)
        codes: list[Tensor] = []
        hook = second.mapping.register_forward_hook(lambda _m, _i, out: codes.append(out.detach().float()))
        try:
            for i in range(0, samples, 50):
                some = seeds[i : i + 50]  # codes come before the first level: the larger ones need not be drawn
                self.grow(self.latents(some), self.noise(some), 2 * self.config.first.resolution)
        finally:
            hook.remove()
        w = torch.cat(codes)
        values, vectors = torch.linalg.eigh(torch.cov((w - w.mean(0)).t()))
        spread = self.synthesis.spread
        k = min(spread.shape)
        root = vectors[:, -k:] * values[-k:].clamp_min(0).sqrt()
        spread.zero_()
        spread[:, :k] = share * root


@torch.no_grad()
def join(first: StyleGAN2 | Flow, second: ConditionalGenerator, name: str, temperature: float = 1.0) -> Cascade:
    """Two trained networks as one prior; copies their weights.

    Raises:
        WeightsError: a first generator whose pictures are not smaller than the second's.
    """
    device = first.fit_mean.device
    joined = Cascade(CascadeConfig(first.config, second.config, temperature), name).to(device).eval()
    joined.mapping.load_state_dict(first.mapping.state_dict())
    joined.synthesis.first.load_state_dict(first.synthesis.state_dict())
    joined.synthesis.second.load_state_dict(second.state_dict())
    joined.refit()
    joined.measure()
    return joined
