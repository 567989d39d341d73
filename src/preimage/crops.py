"""Squares around faces in a photo: where they are, and the small picture that is cut out of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from preimage.errors import InputError, WeightsError
from preimage.faces.align import align, quad
from preimage.faces.detect import DEFAULT
from preimage.faces.face import Detector
from preimage.faces.photo import find_faces
from preimage.files import plain_name
from preimage.image import as_picture, picture_size, to_pillow, to_uint8

MOST_PIXELS = 40_000_000
"""Of a photo that is opened to look for faces; a larger one says nothing more about them."""
CORNER, LEAST = 0.15, 4.0
"""How near to a corner it is taken, in sides, and the side below which no square is drawn, in pixels."""
MOST_FACES = 24
"""Of one photo that are offered."""


@dataclass(frozen=True)
class Square:
    """A square in a photo, perhaps turned.

    Attributes:
        x, y: its centre, in pixels from the photo's left and upper edge.
        side: length of a side, in pixels of the photo.
        turn: by which it is turned, in degrees, clockwise as seen.

    Raises:
        InputError: a number that is not finite, or a side below a pixel.
    """

    x: float
    y: float
    side: float
    turn: float = 0.0

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.x, self.y, self.side, self.turn))) or self.side < 1:
            raise InputError(f"{self}: a square needs finite numbers and a side of 1 pixel or more.")

    @property
    def corners(self) -> tuple[tuple[float, float], ...]:
        """(x, y) of the upper left corner and the others, clockwise, before it is turned."""
        angle, half = math.radians(self.turn), self.side / 2
        c, s = half * math.cos(angle), half * math.sin(angle)
        return (
            (self.x - c + s, self.y - s - c),
            (self.x + c + s, self.y + s - c),
            (self.x + c - s, self.y + s + c),
            (self.x - c - s, self.y - s + c),
        )

    @classmethod
    def of(cls, corners: Sequence[Sequence[float]]) -> Square:
        """The square of four corners (x, y): upper left, then clockwise."""
        (x0, y0), (x1, y1), (x2, y2), (x3, y3) = ((float(x), float(y)) for x, y in corners)
        right = (x1 - x0 + x2 - x3) / 2, (y1 - y0 + y2 - y3) / 2
        return cls(
            (x0 + x1 + x2 + x3) / 4, (y0 + y1 + y2 + y3) / 4, math.hypot(*right), math.degrees(math.atan2(right[1], right[0]))
        )  # fmt: skip

    def dragged(self, start: tuple[float, float], end: tuple[float, float]) -> Square:
        """What a finger makes of it that goes from one point of the photo to another.

        From near a corner the side changes, about the centre; from elsewhere inside it moves; from outside a new, upright one is drawn.
        """
        reach = [math.dist(start, corner) for corner in self.corners]
        if min(reach) < CORNER * self.side:
            centre = self.x, self.y
            return replace(self, side=max(LEAST, self.side * math.dist(end, centre) / math.dist(start, centre)))
        if self.holds(*start):
            return replace(self, x=self.x + end[0] - start[0], y=self.y + end[1] - start[1])
        right, down = end[0] - start[0], end[1] - start[1]
        side = max(LEAST, abs(right), abs(down))
        return Square(start[0] + math.copysign(side / 2, right), start[1] + math.copysign(side / 2, down), side)

    def holds(self, x: float, y: float) -> bool:
        """Whether a point of the photo lies inside."""
        angle = math.radians(self.turn)
        right = (x - self.x) * math.cos(angle) + (y - self.y) * math.sin(angle)
        down = (y - self.y) * math.cos(angle) - (x - self.x) * math.sin(angle)
        return max(abs(right), abs(down)) <= self.side / 2


Finder = Callable[[Tensor], Sequence[Square]]
"""What finds the faces in a photo (3, H, W) in [0, 1]."""


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo as opened.

    Attributes:
        pixels: (3, H, W) in [0, 1].
        name: for files, without suffix.
        faces: the squares around those that were found, the largest first.
        notes: what was changed of it, for people.
    """

    pixels: Tensor
    name: str
    faces: tuple[Square, ...]
    notes: tuple[str, ...] = ()


def whole(photo: Tensor) -> Square:
    """The largest square in the middle of a photo (3, H, W)."""
    height, width = photo.shape[-2:]
    side = min(height, width)
    return Square((width - side) // 2 + side / 2, (height - side) // 2 + side / 2, side)


def open_photo(photo: object, name: str | None = None, find: Finder | None = None, aligned_below: int = 0) -> Photo:
    """Open a photo and look for faces in it.

    Args:
        photo: in any form of `preimage.image.as_picture`.
        name: for files; None takes the file's own.
        find: what finds faces; None takes the square in the middle.
        aligned_below: a square photo of fewer pixels a side is a face already, all of it.

    Raises:
        InputError: no picture, or one of more than `MOST_PIXELS`, which is not decoded.
    """
    size = picture_size(photo)
    if size is not None and size[0] * size[1] > MOST_PIXELS:
        raise InputError(
            f"{name or photo!s:.80}: {size[0]}x{size[1]} is {size[0] * size[1] / 1e6:.0f} megapixels, and no more than "
            f"{MOST_PIXELS / 1e6:.0f} are opened. Crop it to the people, or reduce it, and try again."
        )
    found = as_picture(photo)
    height, width = found.pixels.shape[-2:]
    faces, notes = tuple[Square, ...](), found.notes
    if find is not None and not height == width < aligned_below:
        try:
            faces = tuple(sorted(find(found.pixels), key=lambda face: -face.side)[:MOST_FACES])
            notes += () if faces else ("no face was found; move the square onto one",)
        except WeightsError as missing:  # the square can be moved by hand
            notes += (f"no face was looked for: {missing}",)
    name = plain_name(name or (found.path.stem if found.path else "photo"))
    return Photo(found.pixels, name, faces or (whole(found.pixels),), notes)


def cut(photo: Tensor, square: Square, pixels: int) -> Tensor:
    """What a square shows, see `preimage.faces.align.align`.

    Args:
        photo: (3, H, W) in [0, 1].
        square: where.
        pixels: side of what is cut out.

    Returns:
        (3, pixels, pixels) on the 8-bit grid.

    Raises:
        InputError: fewer than one pixel.
    """
    return to_uint8(align(photo, torch.tensor(square.corners, dtype=torch.float64), pixels)).float() / 255


def squares_by(detector: str | Detector = DEFAULT) -> Finder:
    """What finds the squares of FFHQ's alignment by a detector of faces, which is loaded when the first photo comes.

    Args:
        detector: see `preimage.faces.detect.load_detector`.
    """

    def found(photo: Tensor) -> list[Square]:
        return [Square.of(quad(face.points).tolist()) for face in find_faces(photo, "all", detector)]

    return found


def marked_scale(photo: Tensor, most: int = 1024) -> float:
    """How many times as large `marked` draws a photo."""
    return min(8.0, most / max(photo.shape[-2:]))


def marked(photo: Tensor, squares: Sequence[Square], chosen: int | None = None, most: int = 1024) -> Tensor:
    """A photo with its squares drawn and numbered from 1, for people.

    Args:
        photo: (3, H, W) in [0, 1].
        squares: in its pixels.
        chosen: the one that is drawn stronger.
        most: longest side of what is drawn; larger photos are reduced, smaller ones enlarged up to eight times.

    Returns:
        (3, H', W') in [0, 1], of the same shape.
    """
    image = to_pillow(photo)
    scale = marked_scale(photo, most)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    image = image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(max(14, max(size) // 40))
    width = max(2, max(size) // 160)
    order = [i for i in range(len(squares)) if i != chosen] + ([] if chosen is None else [chosen])
    for i in order:  # the chosen one lies on top
        points = [(x * scale, y * scale) for x, y in squares[i].corners]
        draw.line([*points, *points[:2]], fill=(20, 20, 24), width=width + 2, joint="curve")
        draw.line(
            [*points, *points[:2]], fill=(255, 196, 61) if i == chosen else (255, 255, 255), width=width, joint="curve"
        )
        if len(squares) > 1:
            at = min(points)
            draw.text(at, f" {i + 1}", fill=(255, 255, 255), font=font, stroke_width=2, stroke_fill=(20, 20, 24))
    return (
        torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(*size[::-1], 3).permute(2, 0, 1) / 255
    )
