"""The contract of a degradation: what made a small photo of a sharp picture, y = D(x), linear or learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor


@dataclass(frozen=True)
class Evidence:
    """Pictures as they are saved, and what their files say about the photo they answer; everything in grey levels, on the CPU.

    Attributes:
        images: (n, 3, H, W) uint8.
        error: (n,) float32, RMS difference between the degraded file and the photo.
        exact: (n,) bool, whether the file degrades to the photo byte for byte.
        moved: (n,) float32, RMS change that was made to reach that.
        worst: (n,) largest difference, where a tolerance was asked for.
        l1: (n,) float32, mean absolute difference, of degradations that prove nothing.
    """

    images: Tensor
    error: Tensor
    exact: Tensor
    moved: Tensor
    worst: Tensor | None = None
    l1: Tensor | None = None


@runtime_checkable
class Degradation(Protocol):
    """What a method answers to. Methods, files and benchmarks ask nothing beyond this.

    Attributes:
        kind: "linear" or "learned"; methods name the kinds they can invert (`Capabilities.degradations`).
        why_inexact: why no file can be exact, for people; empty where files can.
    """

    kind: str
    why_inexact: str

    @property
    def name(self) -> str:
        """For people and provenance."""
        ...

    def on(self, device: torch.device) -> Self:
        """Itself, ready for pictures on that device."""
        ...

    def draw(self, seeds: Sequence[int], stream: str = "degradation") -> Tensor | None:
        """Its own randomness, one row for each seed, on the CPU; None where it has none."""
        ...

    def __call__(self, pictures: Tensor, noise: Tensor | None = None) -> Tensor:
        """Pictures (n, 3, R, R) around [0, 1] -> (n, 3, h, w), differentiable; noise None is its average."""
        ...

    def photograph(self, pictures: Tensor, noise: Tensor | None = None) -> Tensor:
        """What a file of the small picture holds: (n, 3, R, R) uint8 -> (n, 3, h, w) uint8, on the CPU."""
        ...

    def check(self, resolution: int, lr: Tensor | None = None) -> None:
        """Refuse pictures of that side, or a photo (3, h, w), that it does not go between.

        Raises:
            OperatorError: with the mend.
        """
        ...

    def finish(self, images: Tensor, lr: Tensor, noise: Tensor | None = None, tolerance: float = 0.0) -> Evidence:
        """Pictures (n, 3, R, R) around [0, 1] as files that answer the photo as nearly as this degradation allows.

        Args:
            images: what a method found.
            lr: the photo, (3, h, w) in [0, 1] on the 8-bit grid.
            noise: (n, …) of `draw`, with which each picture was found.
            tolerance: grey levels by which values of the photo may be missed by choice; then no file is called exact.
        """
        ...

    def spec(self) -> dict[str, Any]:
        """A JSON-serialisable description that tells it from all others."""
        ...
