"""Bicubic enlargement made exact: the baseline without imagination."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from preimage.candidates import Candidates
from preimage.invert.finish import finish
from preimage.invert.listener import Listener
from preimage.invert.method import Capabilities, Method
from preimage.invert.problem import Problem
from preimage.invert.settings import Settings
from preimage.weights import declaration_of, load_encoder, load_prior, load_upsampler


@dataclass(frozen=True)
class BicubicSettings(Settings):
    """Controls of `Bicubic`: none."""


class Bicubic(Method):
    """Cubic interpolation, then the nearest exact picture: one answer, whatever seed is asked for.

    Args:
        prior: a prior or a network of another method, by name, path or as it is; only its size matters. None takes the
            default prior's.
        resolution: side of the pictures, instead.
    """

    name = "bicubic"
    capabilities = Capabilities(
        summary="cubic interpolation made exact; one blurry answer, for comparison", prior=True, many=False
    )
    presets: ClassVar[Mapping[str, BicubicSettings]] = {"default": BicubicSettings()}

    def __init__(self, *, resolution: int | None = None, **networks: Any) -> None:
        self._resolution = resolution or 0
        super().__init__(**networks)

    def load(self, prior: Any, weights: Any) -> None:
        if not self._resolution:
            loaded = _network(prior) if prior is None or isinstance(prior, str | Path) else prior
            self._resolution = int(loaded.resolution)

    @property
    def resolution(self) -> int:
        return self._resolution

    def describe(self, settings: Settings | None = None) -> dict[str, Any]:
        return super().describe(settings) | {"resolution": self.resolution}

    def sample(
        self,
        problem: Problem,
        seeds: Sequence[int],
        settings: Settings | None = None,
        listener: Listener | None = None,
        at: Mapping[str, Tensor] | None = None,
    ) -> Iterator[Candidates]:
        """One candidate, of the first seed; see `Method.sample`."""
        if not seeds:
            return
        began = time.monotonic()
        side = (self.resolution, self.resolution)
        image = F.interpolate(problem.lr[None], size=side, mode="bicubic", align_corners=False)
        yield finish(image, problem, seeds[:1], method=self.name, began=began)


def _network(name: str | Path | None) -> Any:
    """A prior, an upsampler or an encoder of this name."""
    load = {"upsampler": load_upsampler, "encoder": load_encoder}.get(declaration_of(name).kind, load_prior)
    return load(name)
