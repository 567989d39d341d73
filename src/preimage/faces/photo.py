"""Faces of a photo as small pictures of their own, and candidates of them back in the enlarged photo; no method is asked here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from preimage.errors import MethodError
from preimage.faces.align import align, mask, native_side, put, quad
from preimage.faces.detect import DEFAULT, load_detector
from preimage.faces.face import Detector, Face
from preimage.image import MAX_SIDE, to_pillow, to_uint8

CHOICES = ("all", "largest", "centre")
"""Which faces of a photo are meant."""
MOST_PIXELS = 40_000_000
"""Pixels of an enlarged photo; it is enlarged less where it would have more."""


@dataclass(frozen=True, eq=False)
class Cut:
    """A face as it was cut out of a photo.

    Attributes:
        face: where it is.
        corners: (4, 2) of its square in the photo, see `preimage.faces.align.quad`.
        native: side of that square in pixels of the photo.
        lr: (3, side, side) on the 8-bit grid.
    """

    face: Face
    corners: Tensor
    native: float
    lr: Tensor


def check_choice(faces: str) -> None:
    """Refuse a choice that does not exist.

    Raises:
        MethodError: with the mend.
    """
    if faces not in CHOICES:
        raise MethodError(f"faces ({faces!r:.40}) must be one of {', '.join(CHOICES)}.")


def find_faces(photo: Tensor, faces: str = "all", detector: str | Detector = DEFAULT) -> list[Face]:
    """The faces of a photo that are meant, the largest first.

    Args:
        photo: (3, H, W) in [0, 1].
        faces: "all", the "largest" one, or the one nearest to the "centre".
        detector: see `preimage.faces.detect.load_detector`.

    Returns:
        None, one or many of them.

    Raises:
        MethodError, WeightsError: a choice or detector that does not exist, or cannot be loaded.
    """
    check_choice(faces)
    found = sorted(load_detector(detector)(photo), key=lambda face: -native_side(quad(face.points)))
    if faces == "centre":
        middle = torch.tensor([photo.shape[-1] / 2, photo.shape[-2] / 2], dtype=torch.float64)
        found.sort(key=lambda face: float((quad(face.points).mean(0) - middle).norm()))
    return found if faces == "all" else found[:1]


def real_side(native: float) -> int:
    """The most pixels a side that a face of this native side can be given without inventing any."""
    return max(1, math.floor(native + 1e-6))


def cut_out(photo: Tensor, face: Face, side: int | None = None) -> Cut:
    """A face as a small square picture in FFHQ's alignment.

    Args:
        photo: (3, H, W) in [0, 1].
        face: where.
        side: of the picture; None takes what the face really has (`real_side`).
    """
    corners = quad(face.points)
    native = native_side(corners)
    small = align(photo, corners, real_side(native) if side is None else side)
    return Cut(face, corners, native, to_uint8(small).float() / 255)


def enlargement(width: int, height: int, natives: Iterable[float], resolution: int) -> int:
    """How many times a photo is enlarged so that no candidate has to be made smaller; a whole number, 1 or more.

    Args:
        width, height: of the photo, pixels.
        natives: sides of the squares that candidates go into.
        resolution: side of the candidates.
    """
    wanted = math.ceil(max((resolution / native for native in natives), default=1.0) - 1e-6)
    room = min(MAX_SIDE // max(width, height), int(math.sqrt(MOST_PIXELS / (width * height))))
    return max(1, min(wanted, room))


def enlarge(photo: Tensor, times: int) -> Tensor:
    """A photo (3, H, W) in [0, 1] so many times as large, by Pillow's Lanczos: (3, times H, times W) on the 8-bit grid."""
    if times == 1:
        return to_uint8(photo).float() / 255
    image = to_pillow(photo)
    large = image.resize((image.width * times, image.height * times), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(large)).permute(2, 0, 1).float() / 255


def paste_back(background: Tensor, times: int, cuts: Sequence[Cut], pictures: Sequence[Tensor]) -> Tensor:
    """One photo with a candidate in the place of each face; the smaller faces lie on top.

    Args:
        background: (3, times H, times W), the enlarged photo (`enlarge`); it stays as it is.
        times: by which it is enlarged.
        cuts: faces.
        pictures: one (3, R, R) in [0, 1] for each.

    Returns:
        (3, times H, times W) in [0, 1]; outside the masks equal to the background, bit for bit.
    """
    made = background.clone()
    order = sorted(range(len(cuts)), key=lambda i: -cuts[i].native)
    for i in order:
        put(made, pictures[i], cuts[i].corners * times)
    return made


def pasting_cost(
    pasted: Tensor, times: int, cut: Cut, resolution: int, shrink: Callable[[Tensor], Tensor]
) -> tuple[float, float]:
    """What pasting costs: how far the face in a pasted photo, cut out again and shrunk, is from the small picture that went in.

    The candidate itself misses it by nothing. A pasted one is resampled once, and its edges fade into the enlarged photo.

    Args:
        pasted: see `paste_back`; as saved, on the 8-bit grid.
        times: by which it is enlarged.
        cut: the face.
        resolution: of the candidate.
        shrink: (1, 3, R, R) uint8 to (1, 3, h, w) uint8, the degradation that the candidate answers to.

    Returns:
        RMS in grey levels over the whole square, and over the part where nothing of the background is mixed in.
    """
    again = to_uint8(align(pasted, cut.corners * times, resolution))
    miss = shrink(again[None])[0].double() - cut.lr.double() * 255
    inside = mask(cut.lr.shape[-1]) == 1
    whole = float(miss.square().mean().sqrt())
    return whole, float(miss[:, inside].square().mean().sqrt()) if bool(inside.any()) else whole
