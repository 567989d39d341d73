"""What a face in a photo is, and what finds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from preimage.errors import InputError


@dataclass(frozen=True, eq=False)
class Face:
    """A face in a photo, in its pixels: the first one reaches from 0 to 1.

    Attributes:
        box: (4,) of left, top, right, bottom.
        points: (5, 2) of (x, y): eye, eye, nose, mouth corner, mouth corner; the one further left in an upright picture first.
        score: how sure the detector is, in [0, 1].
    """

    box: Tensor
    points: Tensor
    score: float = 1.0

    @classmethod
    def at(cls, points: Tensor | Sequence[Sequence[float]]) -> Face:
        """A face at five points that somebody gave; its box is what they span.

        Raises:
            InputError: not five of (x, y).
        """
        try:
            found = torch.as_tensor(points, dtype=torch.float64)
        except (TypeError, ValueError):
            found = torch.empty(0)
        if found.shape != (5, 2) or not bool(found.isfinite().all()):
            raise InputError(
                "points: give five of x,y in pixels: eye, eye, nose, mouth corner, mouth corner, left ones first."
            )
        return cls(torch.cat([found.amin(0), found.amax(0)]), found)


class Detector(Protocol):
    """What finds faces; any function of this shape is one."""

    def __call__(self, photo: Tensor) -> list[Face]:
        """The faces in a photo (3, H, W), RGB in [0, 1], surest first."""
        ...
