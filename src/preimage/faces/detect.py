"""Where the faces of a photo are: one protocol, and the detectors by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from preimage.errors import InputError, MethodError, WeightsError
from preimage.faces.onnx import BY_HAND, INSTALL
from preimage.image import to_uint8

DEFAULT = "mtcnn"
DETECTORS: dict[str, str] = {
    "mtcnn": "preimage.faces.mtcnn:Mtcnn",
    "yunet": "preimage.faces.yunet:YuNet",
    "uniface": "preimage.faces.detect:Uniface",
}
"""Detectors by name; an ONNX file of YuNet is named by its path."""


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


def load_detector(detector: str | Path | Detector = DEFAULT) -> Detector:
    """A detector by its name or file.

    Args:
        detector: of `DETECTORS`; the path of a YuNet (.onnx); or one that is loaded, which comes back.

    Raises:
        MethodError: there is none of this name.
        WeightsError: its files or packages are missing; the message says how to get them.
    """
    if callable(detector):
        return detector
    name = str(detector)
    if name in DETECTORS:
        module, _, kind = DETECTORS[name].partition(":")
        return cast(Detector, getattr(import_module(module), kind)())
    if name.endswith(".onnx"):
        from preimage.faces.yunet import YuNet

        return YuNet(name)
    raise MethodError(
        f"there is no detector {name!r:.60}; there are {', '.join(DETECTORS)}, or give the .onnx file of a YuNet."
    )


class Uniface:
    """SCRFD of the package uniface, which fetches its file when first used.

    Raises:
        WeightsError: the package is not installed, or it cannot fetch its file.
    """

    def __init__(self) -> None:
        try:
            uniface = import_module("uniface")
        except ImportError:
            raise WeightsError(
                f"the detector uniface needs the package of that name: pip install uniface onnxruntime; or take "
                f"{DEFAULT}, which needs no download ({INSTALL})."
            ) from None
        self._scrfd: Any = self._trying(uniface.SCRFD)

    def __call__(self, photo: Tensor) -> list[Face]:
        """See `Detector`."""
        image = to_uint8(photo).flip(0).permute(1, 2, 0).contiguous().cpu().numpy()  # it takes BGR
        found = [
            Face(
                torch.as_tensor(face.bbox).double(),
                torch.as_tensor(face.landmarks).double() + 0.5,
                float(face.confidence),
            )
            for face in self._trying(self._scrfd.detect, image)
        ]
        return sorted(found, key=lambda face: -face.score)

    def _trying(self, call: Callable[..., Any], *values: Any) -> Any:
        try:
            return call(*values)
        except Exception as error:  # whatever a download may raise
            raise WeightsError(f"uniface could not do its part ({error!s:.200}); take {DEFAULT}, {BY_HAND}.") from error
