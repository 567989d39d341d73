"""Which faces of a photo a method is to answer, and at which size each of them goes in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from preimage.errors import InputError
from preimage.faces.detect import DEFAULT, load_detector
from preimage.faces.face import Detector, Face
from preimage.faces.photo import Cut, check_choice, cut_out, find_faces, real_side
from preimage.image import Picture
from preimage.invert.method import Method


@dataclass(frozen=True, eq=False)
class Finding:
    """How faces are looked for.

    Attributes:
        faces: which, of `preimage.faces.photo.CHOICES`.
        detector: loaded; not needed with points.
        points: (5, 2) of the one face that is meant, given by hand.
        name: of the detector, for records.
    """

    faces: str
    detector: Detector | None
    points: Tensor | None
    name: str

    def record(self) -> dict[str, Any]:
        """For run.yaml."""
        if self.points is not None:
            return {"points": self.points.tolist()}
        return {"faces": self.faces, "detector": self.name}


def how_to_find(
    faces: str | None, points: Sequence[Sequence[float]] | Tensor | None, detector: str | Path | Detector = DEFAULT
) -> Finding | None:
    """How faces are to be looked for; None where pictures are faces already.

    Raises:
        MethodError, InputError, WeightsError: with the mend.
    """
    if points is not None:
        return Finding("all", None, Face.at(points).points, "by hand")
    if faces is None:
        return None
    check_choice(faces)
    name = getattr(detector, "__name__", type(detector).__name__) if callable(detector) else str(detector)
    return Finding(faces, load_detector(detector), None, name)


def side_for(method: Method, native: float, reduce: int | None = None) -> int:
    """Side of the small picture that a face is cut out as: all that it has, and nothing more.

    A method takes no more than `Method.largest_side`, and no more than half a candidate's side: beyond that hardly anything is left to
    imagine, and hardly any 8-bit picture shrinks to the small one byte for byte (docs/own-photos.md). `reduce` wins where it is less.

    Raises:
        InputError: the face has as many pixels as a candidate, so there is nothing to imagine.
    """
    real = real_side(native)
    side = real if reduce is None else min(real, max(1, reduce))
    made = method.resolution_for(side)
    if side >= made:
        raise InputError(
            f"a face of {real} pixels: {method.name} makes pictures of {made}, so there is nothing to imagine. Leave it, or have "
            "it reduced first (--reduce 16)."
        )
    return min(side, method.largest_side, made // 2)


def cut_faces(
    method: Method, picture: Picture, find: Finding, reduce: int | None = None
) -> tuple[list[Cut], list[str]]:
    """The faces of a photo that a method can answer, the largest first, and what is to be said of others.

    Raises:
        InputError: there is no such face; the message says how to mend that.
    """
    found = [Face.at(find.points)] if find.points is not None else []
    if find.detector is not None:
        found = find_faces(picture.pixels, find.faces, find.detector)
    if not found:
        height, width = picture.pixels.shape[-2:]
        raise InputError(
            f"no face was found in its {width}x{height} pixels. Say where one is (--points EYE EYE NOSE MOUTH MOUTH, each "
            "as x,y), or that the picture itself is an aligned face (--aligned), or try another --detector."
        )
    cuts, passed = list[Cut](), list[str]()
    for face in found:
        whole = cut_out(picture.pixels, face, 1)
        try:
            cuts.append(cut_out(picture.pixels, face, side_for(method, whole.native, reduce)))
        except InputError as error:
            passed.append(str(error))
    if not cuts:
        raise InputError(passed[0])
    return cuts, passed
