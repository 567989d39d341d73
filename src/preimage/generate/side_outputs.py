"""The deeply supervised generator of Pro-PULSE (Zhou et al., section III-C): one picture of the same face per resolution.

A frozen prior gets a branch of three 1x1 convolutions on the feature maps of every block of its middle sizes; each draws what the
whole picture is when it is made small. `preimage.train.side_outputs` trains them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from preimage.bounds import WIDEST, check_resolution, check_whole
from preimage.errors import MethodError, WeightsError

Tap = Callable[[int, Tensor], None]
"""Is told a side, and the feature maps (n, channels, side, side) of its block."""


def default_sides(resolution: int) -> tuple[int, ...]:
    """The sides that get a branch: from 32 px (16 for priors of 128 px and less) to half of the whole picture's."""
    sides, side = [], 16 if resolution <= 128 else 32
    while side <= resolution // 2:
        sides.append(side)
        side *= 2
    return tuple(sides)


@dataclass(frozen=True)
class SideOutputsConfig:
    """Shape of the branches; the defaults are those of config F of StyleGAN2, as published (section III-F).

    Attributes:
        resolution: side of the prior's pictures.
        sides: of the branches' pictures, coarse to fine, powers of two below the resolution.
        channels: of the prior's feature maps at each of these sides.
        widths: channels of the first two convolutions; the third has 3.
    """

    resolution: int = 1024
    sides: tuple[int, ...] = (32, 64, 128, 256, 512)
    channels: tuple[int, ...] = (512, 512, 256, 128, 64)
    widths: tuple[int, ...] = (128, 64)

    def __post_init__(self) -> None:
        for name in ("sides", "channels", "widths"):
            given: object = getattr(self, name)  # from a file, it may be anything
            if not isinstance(given, list | tuple) or not 1 <= len(given) <= 16:
                raise WeightsError(f"side outputs: {name} ({given!r:.40}) must be a list of numbers.")
            object.__setattr__(self, name, tuple(given))
            check_whole("side outputs", {f"{name}[{i}]": x for i, x in enumerate(given)}, 1, WIDEST)
        check_resolution("side outputs:", self.resolution, 8)
        for side in self.sides:
            check_resolution("side outputs: a branch's", side, 4)
        if any(one >= two for one, two in pairwise((*self.sides, self.resolution))):
            raise WeightsError(
                f"side outputs: sides ({list(self.sides)}) must rise, and stay below the resolution ({self.resolution})."
            )
        if len(self.channels) != len(self.sides) or len(self.widths) != 2:
            raise WeightsError(
                f"side outputs: channels ({list(self.channels)}) must be one number for each side, and widths "
                f"({list(self.widths)}) two."
            )


class SideOutputs(nn.Module):
    """The branches of one prior, to be given to its `attach`.

    Args:
        config: their shape.
        name: for provenance.
    """

    architecture: ClassVar[str] = "side-outputs"

    def __init__(self, config: SideOutputsConfig, name: str = "side-outputs"):
        super().__init__()
        self.config, self.name = config, name
        first, second = config.widths
        for side, channels in zip(config.sides, config.channels, strict=True):
            branch = nn.Sequential(
                nn.Conv2d(channels, first, 1), nn.LeakyReLU(0.2),
                nn.Conv2d(first, second, 1), nn.LeakyReLU(0.2),
                nn.Conv2d(second, 3, 1),
            )  # fmt: skip
            self.add_module(f"b{side}", branch)

    def forward(self, features: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Feature maps by side, each (n, channels, side, side) -> pictures (n, 3, side, side) around [0, 1], not clamped."""
        return {side: self.draw(side, x) for side, x in features.items()}

    def draw(self, side: int, features: Tensor) -> Tensor:
        """The picture (n, 3, side, side) of one branch."""
        picture: Tensor = getattr(self, f"b{side}")(features)
        return (picture.float() + 1) / 2

    def metadata(self) -> dict[str, Any]:
        """What a weight file must say to rebuild this module."""
        return {"architecture": self.architecture, "config": asdict(self.config)}


class Branched(nn.Module):
    """Base of priors whose blocks can get branches. They are no part of the prior: its tensors, hash and file stay what they were."""

    @property
    def branches(self) -> SideOutputs | None:
        """What was attached."""
        found: SideOutputs | None = self.__dict__.get("_branches")
        return found

    @property
    def own_sides(self) -> tuple[int, ...]:
        """Sides of the pictures that it makes without branches, coarse to fine; the whole picture's is the last."""
        raise NotImplementedError

    @property
    def feature_widths(self) -> dict[int, int]:
        """Channels of the feature maps by side."""
        raise NotImplementedError

    def grow(
        self, latents: Tensor, noise: Sequence[Tensor] | None, largest: int | None = None, tap: Tap | None = None
    ) -> dict[int, Tensor]:
        """Its own pictures by side, as `side_outputs`; nothing is computed beyond `largest`, and `tap` is told every block's maps."""
        raise NotImplementedError

    def attach(self, branches: SideOutputs | None) -> Self:
        """Let these branches answer in `side_outputs` for the sides they have; None takes them away again.

        Raises:
            WeightsError: branches of a prior of another shape.
        """
        if branches is not None:
            wanted = dict(zip(branches.config.sides, branches.config.channels, strict=True))
            have = {side: self.feature_widths.get(side) for side in wanted}
            if branches.config.resolution != self.own_sides[-1] or have != wanted:
                raise WeightsError(
                    f"{branches.name}: its branches are for pictures of {branches.config.resolution} px and channels {wanted}; "
                    f"this prior has {self.own_sides[-1]} px and {have}. Take those that were trained for it."
                )
            device = next(self.parameters()).device
            branches = branches.to(device).eval().requires_grad_(False)
        self.__dict__["_branches"] = branches
        return self

    @property
    def side_sizes(self) -> tuple[int, ...]:
        """Sides of the pictures of `side_outputs`, coarse to fine; empty where the whole picture is all there is."""
        drawn = () if self.branches is None else self.branches.config.sides
        sides = tuple(sorted({*self.own_sides, *drawn}))
        return sides if len(sides) > 1 else ()

    def side_outputs(
        self, latents: Tensor, noise: Sequence[Tensor] | None = None, largest: int | None = None
    ) -> dict[int, Tensor]:
        """The face of these latents at every side: {side: (n, 3, side, side)}, RGB around [0, 1], not clamped, coarse to fine.

        Branches answer for the sides they have, the network's own RGB for the others.

        Args:
            latents, noise: as in `Prior.synthesize`.
            largest: the largest side that is wanted; nothing beyond it is computed. None takes all.

        Raises:
            MethodError: no picture of that size, or none but the whole one.
        """
        sides = self.side_sizes
        if not sides:
            raise MethodError(
                f"{type(self).__name__}: draws the whole picture only. Attach branches to it, which "
                "`preimage train` learns by a recipe of the network side-outputs."
            )
        if largest is not None and largest < sides[0]:
            raise MethodError(f"largest ({largest}) must be at least {sides[0]}, the smallest side there is.")
        branches, drawn = self.branches, dict[int, Tensor]()

        def tap(side: int, features: Tensor) -> None:
            if branches is not None and side in branches.config.sides:
                drawn[side] = branches.draw(side, features.float())

        own = self.grow(latents, noise, largest, tap)
        return {side: picture for side, picture in sorted((own | drawn).items())}

    def features(
        self, latents: Tensor, noise: Sequence[Tensor] | None, sides: Iterable[int]
    ) -> tuple[dict[int, Tensor], Tensor]:
        """Feature maps (n, channels, side, side) by side, float32, and the whole picture (n, 3, R, R), not clamped."""
        wanted, found = set(sides), dict[int, Tensor]()

        def tap(side: int, features: Tensor) -> None:
            if side in wanted:
                found[side] = features.float()

        return found, self.grow(latents, noise, None, tap)[self.own_sides[-1]]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.branches is not None:
            self.branches._apply(fn)  # type: ignore[no-untyped-call]
        return self
