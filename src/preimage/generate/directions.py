"""Latent directions: steps through the latents of a prior along which its pictures change in one respect.

They are found without labels (`unsupervised`) or from scores of pictures (`regression`). The unit of a direction is one standard
deviation of the prior's own latents along it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from preimage.bounds import WIDEST, check_whole
from preimage.errors import MethodError, WeightsError
from preimage.generate.prior import Prior, sphere_to_w
from preimage.seeds import normal

MOST = 256
"""Directions in one file."""
NAME = re.compile(r"[A-Za-z][\w-]{0,39}")
"""What a direction may be called: it is typed as `name=1.5`."""


@dataclass(frozen=True)
class DirectionsConfig:
    """What directions there are, and which latents they fit.

    Attributes:
        names: of the directions.
        made: how each was found: "sefa", "ganspace", "labels", "landmarks", or a word of the user's.
        rows, dimensions: of the latents (`Prior.latent_shape`).
    """

    names: tuple[str, ...]
    made: tuple[str, ...]
    rows: int
    dimensions: int

    def __post_init__(self) -> None:
        for key in ("names", "made"):
            value = getattr(self, key)
            object.__setattr__(self, key, tuple(value) if isinstance(value, list) else value)
        check_whole("directions", {"rows": self.rows, "dimensions": self.dimensions}, 1, WIDEST)
        for key, values in (("names", self.names), ("made", self.made)):
            words = isinstance(values, tuple) and all(isinstance(x, str) and NAME.fullmatch(x) for x in values)
            if not words or not 0 < len(values) <= MOST or len(values) != len(self.names):
                raise WeightsError(
                    f"directions: {key} ({values!r:.60}) must be 1 to {MOST} words of letters, digits and _, one for each."
                )
        if len(set(self.names)) < len(self.names):
            raise WeightsError(f"directions: names ({', '.join(self.names):.60}) must differ.")


class Directions(nn.Module):
    """Directions by name; a module, so that files, hashes and bounds of networks serve them too.

    Attributes:
        architecture: key of `preimage.weight_files.ARCHITECTURES`.
        config: what they are.
        name: for provenance.
        vectors: (k, rows, dimensions), what one unit of each adds to a latent; 0 in rows that it leaves alone.
    """

    architecture: ClassVar[str] = "directions"

    vectors: Tensor

    def __init__(self, config: DirectionsConfig, name: str = "directions"):
        super().__init__()
        self.config, self.name = config, name
        self.register_buffer("vectors", torch.zeros(len(config.names), config.rows, config.dimensions))

    @property
    def names(self) -> tuple[str, ...]:
        return self.config.names

    def check(self, changes: Mapping[str, float]) -> None:
        """Refuse names that do not exist.

        Raises:
            MethodError: naming those that do.
        """
        if unknown := [name for name in changes if name not in self.names]:
            raise MethodError(
                f"edit: {self.name} has no direction {', '.join(unknown)}; there are {', '.join(self.names)}."
            )

    def move(self, latents: Tensor, changes: Mapping[str, float]) -> Tensor:
        """Latents (n, rows, dimensions) so many units further along each direction; without changes, the same numbers.

        Raises:
            MethodError: a direction that does not exist, latents of another shape.
        """
        self.check(changes)
        if latents.shape[1:] != self.vectors.shape[1:]:
            raise MethodError(
                f"edit: {self.name} moves latents {tuple(self.vectors.shape[1:])}, not {tuple(latents.shape[1:])}."
            )
        moved = latents
        for name, units in changes.items():
            if units:
                moved = moved + units * self.vectors[self.names.index(name)].to(latents)
        return moved

    def metadata(self) -> dict[str, Any]:
        """What a file must say to rebuild this module."""
        return {"architecture": self.architecture, "config": asdict(self.config)}


def directions(names: Sequence[str], vectors: Tensor, made: str, name: str = "directions") -> Directions:
    """Directions of these vectors (k, rows, dimensions), all found in one way.

    Raises:
        WeightsError: names that are none, or not one for each vector.
    """
    config = DirectionsConfig(tuple(names), (made,) * len(names), vectors.shape[1], vectors.shape[2])
    if len(names) != len(vectors):
        raise WeightsError(f"directions: {len(names)} names for {len(vectors)} vectors; give one for each.")
    found = Directions(config, name)
    found.vectors.copy_(vectors)
    return found


def merged(parts: Sequence[Directions], name: str = "directions") -> Directions:
    """All of them together, in this order.

    Raises:
        WeightsError: a name that comes twice, or latents of several shapes.
    """
    first = parts[0].config
    if any((p.config.rows, p.config.dimensions) != (first.rows, first.dimensions) for p in parts):
        raise WeightsError("directions of latents of different shapes cannot be joined; keep them apart.")
    names, made = (tuple(x for p in parts for x in getattr(p.config, key)) for key in ("names", "made"))
    found = Directions(DirectionsConfig(names, made, first.rows, first.dimensions), name)
    found.vectors.copy_(torch.cat([p.vectors for p in parts]))
    return found


# ------------------------------------------------------------------------------------------------- latents of a prior


def sample_latents(prior: Prior, seeds: Sequence[int]) -> Tensor:
    """Latents (n, rows, dimensions) as the prior draws them for these seeds; of one that cannot say, of its Gaussian fit.

    Raises:
        WeightsError: a prior without W.
    """
    if not {"W", "W+"} & set(prior.spaces):
        raise WeightsError(
            f"{prior.name}: has no W, only {', '.join(prior.spaces)}, and directions are of W. Take a style-based prior."
        )
    own = getattr(prior, "latents", None)
    drawn: Tensor
    with torch.no_grad():
        if own is not None:
            drawn = own(seeds)
        else:
            mean, std = prior.gaussian_fit
            rows, d = prior.latent_shape
            w = sphere_to_w(normal(seeds, (d,), "latent").to(mean), mean, std)
            drawn = w[:, None].expand(-1, rows, -1)
    return drawn


def row_range(prior: Prior, rows: tuple[int, int] | None) -> range:
    """Rows from the first to the last of a pair, or all.

    Raises:
        WeightsError: rows that the prior does not have.
    """
    first, last = (0, prior.latent_shape[0] - 1) if rows is None else rows
    if not 0 <= first <= last < prior.latent_shape[0]:
        raise WeightsError(f"rows {first}-{last}: {prior.name} has the rows 0 to {prior.latent_shape[0] - 1}.")
    return range(first, last + 1)


def in_deviations(vectors: Tensor, latents: Tensor) -> Tensor:
    """Vectors (k, rows, d) of any length as long as latents (n, rows, d) vary along each: one standard deviation.

    Raises:
        WeightsError: the latents do not vary along one of them.
    """
    flat = vectors.flatten(1).double()
    unit = flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-30)
    spread = (latents.flatten(1).double() @ unit.t()).std(0)
    if not bool((spread > 0).all()):
        raise WeightsError("directions: the prior's latents do not vary along one of them; choose other rows.")
    scaled: Tensor = (unit * spread[:, None]).view_as(vectors)
    return scaled.float()


class Packed:
    """Latents as vectors, each set of rows that are always equal once, with the lengths and angles of all rows.

    Args:
        latents: (n, rows, d), which rows are equal in.
        rows: those that count.
    """

    def __init__(self, latents: Tensor, rows: Sequence[int]):
        self.shape = latents.shape[1:]
        self.groups: list[list[int]] = []
        for row in rows:
            same = (g for g in self.groups if torch.equal(latents[:, g[0]], latents[:, row]))
            if (group := next(same, None)) is not None:
                group.append(row)
            else:
                self.groups.append([row])

    def pack(self, latents: Tensor) -> Tensor:
        """(n, rows, d) -> (n, groups * d), float64."""
        return torch.cat([latents[:, g[0]].double() * math.sqrt(len(g)) for g in self.groups], dim=1)

    def unpack(self, vectors: Tensor) -> Tensor:
        """(k, groups * d) -> (k, rows, d); rows that do not count are 0."""
        out = vectors.new_zeros(len(vectors), *self.shape)
        for group, part in zip(self.groups, torch.split(vectors, self.shape[1], dim=1), strict=True):
            out[:, group] = part[:, None] / math.sqrt(len(group))
        return out.float()
