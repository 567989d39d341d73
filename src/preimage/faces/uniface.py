"""SCRFD of the package uniface (well kept, MIT), which fetches its file itself."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from preimage.errors import WeightsError
from preimage.faces.face import Face
from preimage.faces.onnx import BY_HAND, INSTALL
from preimage.image import to_uint8


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
                f"mtcnn, which needs no download ({INSTALL})."
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
            raise WeightsError(f"uniface could not do its part ({error!s:.200}); take mtcnn, {BY_HAND}.") from error
