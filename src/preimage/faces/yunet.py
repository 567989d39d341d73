"""YuNet: one small network finds faces and five points of each (Wu, Peng and Yu, Machine Intelligence Research, 2023)."""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.errors import WeightsError
from preimage.faces.boxes import suppressed
from preimage.faces.face import Face
from preimage.faces.onnx import BY_HAND, open_onnx

VARIABLE = "PREIMAGE_YUNET"
ENLARGED = 3.0
"""So many times a small photo is enlarged first: faces below some ten pixels are found no other way."""
MOST_PIXELS = 4_000_000
"""Pixels of the picture that it scans; a larger photo is reduced first, and its smallest faces are passed over."""
_STRIDES, _OVERLAP = (8, 16, 32), 0.3


class YuNet:
    """See the module; a `preimage.faces.face.Detector`.

    Args:
        path: the ONNX file, such as face_detection_yunet_2023mar.onnx of the OpenCV zoo; None takes what $PREIMAGE_YUNET names.
        sure: least score of a face.

    Raises:
        WeightsError: no such file, another network, or onnxruntime is missing.
    """

    def __init__(self, path: str | Path | None = None, sure: float = 0.6) -> None:
        path = os.environ.get(VARIABLE, "") if path is None else path
        if not str(path):
            raise WeightsError(
                f"the detector yunet is a file of yours: give its path, such as --detector yunet.onnx, or name it in ${VARIABLE}; {BY_HAND}."
            )
        kinds = ("cls", "obj", "bbox", "kps")
        self._network = open_onnx(path, tuple(f"{kind}_{stride}" for kind in kinds for stride in _STRIDES))
        self.sure = sure

    def __call__(self, photo: Tensor) -> list[Face]:
        """See `Detector`."""
        room = math.sqrt(MOST_PIXELS / (photo.shape[-1] * photo.shape[-2]))
        rows = torch.cat([self._at(photo, scale) for scale in sorted({min(ENLARGED, room), min(1.0, room)})])
        kept = suppressed(rows[:, :4], rows[:, 4], _OVERLAP)
        return [Face(rows[i, :4], rows[i, 5:].view(5, 2), float(rows[i, 4])) for i in kept]

    def _at(self, photo: Tensor, scale: float) -> Tensor:
        """Boxes, scores and points (n, 15) that it finds in a photo brought to another size, in pixels of the photo."""
        height, width = photo.shape[-2:]
        size = max(1, round(height * scale)), max(1, round(width * scale))
        way = "bicubic" if scale > 1 else "bilinear"
        levels = photo[None].float().cpu()
        if size != (height, width):
            levels = F.interpolate(levels, size, mode=way, antialias=scale < 1, align_corners=False).clamp(0, 1)
        levels = F.pad(
            levels.flip(1) * 255, (0, -size[1] % 32, 0, -size[0] % 32)
        )  # it takes BGR, and sides of 32 pixels
        port = self._network.get_inputs()[0].name
        names = [output.name for output in self._network.get_outputs()]
        made = self._network.run(None, {port: levels.numpy()})
        answers = {name: torch.from_numpy(values)[0].double() for name, values in zip(names, made, strict=True)}
        found = []
        for stride in _STRIDES:
            columns = levels.shape[-1] // stride
            scores = (answers[f"cls_{stride}"] * answers[f"obj_{stride}"]).clamp(0, 1).sqrt()[:, 0]
            kept = torch.nonzero(scores >= self.sure)[:, 0]
            place = torch.stack([kept % columns, kept // columns], 1).double()
            boxes, points = answers[f"bbox_{stride}"][kept], answers[f"kps_{stride}"][kept]
            middle, half = place + boxes[:, :2], boxes[:, 2:].exp() / 2
            where = torch.cat([middle - half, middle + half, points + place.repeat(1, 5)], 1) * stride
            where = where * torch.tensor([width / size[1], height / size[0]]).double().repeat(7)
            found.append(torch.cat([where[:, :4], scores[kept, None], where[:, 4:]], 1))
        return torch.cat(found)
