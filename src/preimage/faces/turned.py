"""Detectors look for upright faces: a photo is shown to them turned as well, and the surest finding of each face counts."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.faces.align import native_side, quad
from preimage.faces.boxes import suppressed
from preimage.faces.face import Detector, Face

ANGLES = (0.0, -25.0, 25.0)
"""Degrees, clockwise, by which a photo is turned."""
MOST_PIXELS = 12_000_000
"""Of a photo that is turned; a larger one is reduced first."""
_SAME = 0.4  # share of the smaller one's square that two findings of one face have in common


class Turned:
    """A detector that is shown each photo at several angles; a `preimage.faces.face.Detector`.

    Args:
        detector: of upright faces.
        angles: see `ANGLES`.
    """

    def __init__(self, detector: Detector, angles: tuple[float, ...] = ANGLES) -> None:
        self.detector, self.angles = detector, angles

    def __call__(self, photo: Tensor) -> list[Face]:
        """See `Detector`."""
        times = math.ceil(math.sqrt(photo.shape[-1] * photo.shape[-2] / MOST_PIXELS))
        if times > 1:
            photo = F.avg_pool2d(photo[None], times)[0]
        found = [face for angle in self.angles for face in self._at(photo, angle)]
        if not found:
            return []
        squares = torch.stack([_around(face) for face in found])
        kept = suppressed(squares, torch.tensor([face.score for face in found]), _SAME, smaller=True)
        return [Face(found[i].box * times, found[i].points * times, found[i].score) for i in kept]

    def _at(self, photo: Tensor, degrees: float) -> list[Face]:
        """What is found when the photo is turned, in pixels of the photo as it is."""
        if degrees == 0:
            return self.detector(photo)
        size = torch.tensor([photo.shape[-1], photo.shape[-2]], dtype=torch.float64)
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        back = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)  # of rows (x, y) around the middle
        room = (back.abs() @ size - 1e-6).ceil()
        columns, rows = (torch.arange(int(n), dtype=torch.float64) + 0.5 - float(n) / 2 for n in room)
        x, y = columns[None, :], rows[:, None]
        grid = torch.stack([2 * (cos * x + sin * y) / size[0], 2 * (cos * y - sin * x) / size[1]], -1)
        seen = F.grid_sample(photo[None], grid[None].to(photo.dtype), "bicubic", "border", align_corners=False)[0]
        faces = []
        for face in self.detector(seen.clamp(0, 1)):
            points = (face.points - room / 2) @ back + size / 2
            if bool(((points >= 0) & (points <= size)).all()):
                box = (face.box.view(2, 2).mean(0) - room / 2) @ back + size / 2
                half = (face.box[2:] - face.box[:2]) / 2
                faces.append(Face(torch.cat([box - half, box + half]), points, face.score))
        return faces


def _around(face: Face) -> Tensor:
    """An upright box (4,) as large as a face's square, around its middle."""
    corners = quad(face.points)
    middle, half = corners.mean(0), native_side(corners) / 2
    return torch.cat([middle - half, middle + half])
