"""A whole photo from Python: its faces found, answered, and pasted back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from preimage.candidates import Candidates
from preimage.errors import InputError, MethodError
from preimage.faces.detect import DEFAULT as DETECTOR
from preimage.faces.face import Detector
from preimage.faces.finding import cut_faces, how_to_find
from preimage.faces.photo import Cut, enlarge, enlargement, paste_back
from preimage.image import as_picture
from preimage.invert.method import Method
from preimage.invert.registry import DEFAULT
from preimage.seeds import write_seeds
from preimage.upsampling import as_method, upsample


@dataclass(frozen=True, eq=False)
class PhotoCandidates:
    """Candidates of the faces of one photo.

    Attributes:
        photo: (3, H, W) in [0, 1].
        cuts: its faces, the largest first.
        candidates: of each; they shrink to its `Cut.lr`.
        notes: what was changed or passed over, for people.
    """

    photo: Tensor
    cuts: tuple[Cut, ...]
    candidates: tuple[Candidates, ...]
    notes: tuple[str, ...] = ()

    @property
    def enlarged(self) -> int:
        """How many times as large `pasted` is."""
        natives, side = [cut.native for cut in self.cuts], self.candidates[0].images.shape[-1]
        return enlargement(self.photo.shape[-1], self.photo.shape[-2], natives, side)

    def pasted(self, seed: int | Sequence[int]) -> Tensor:
        """The enlarged photo with the candidate of this seed in the place of each face, (3, H', W') in [0, 1].

        Args:
            seed: of all faces, or one for each.

        Raises:
            InputError: a seed that was not asked for, or not one for each face.
        """
        wanted = [seed] * len(self.cuts) if isinstance(seed, int) else list(seed)
        if len(wanted) != len(self.cuts):
            raise InputError(f"{len(wanted)} seeds for {len(self.cuts)} faces; give one for all, or one for each.")
        for i, (each, found) in enumerate(zip(wanted, self.candidates, strict=True)):
            if each not in found.seeds:
                raise InputError(f"seed {each} of face {i} was not made; there are {write_seeds(found.seeds)}.")
        pictures = [found.images[found.seeds.index(each)] for each, found in zip(wanted, self.candidates, strict=True)]
        return paste_back(enlarge(self.photo, self.enlarged), self.enlarged, self.cuts, pictures)


def upsample_photo(
    photo: object,
    seeds: str | int | Iterable[int] = "0-7",
    *,
    faces: str = "all",
    points: Sequence[Sequence[float]] | Tensor | None = None,
    detector: str | Path | Detector = DETECTOR,
    method: str | Method = DEFAULT,
    reduce: int | None = None,
    prior: Any = None,
    weights: Any = None,
    preset: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    batch: int | str | None = None,
    **options: Any,
) -> PhotoCandidates:
    """Many sharp faces behind each small face of a photo.

    Args:
        photo: of any kind and size, in any form of `preimage.image.as_picture`.
        seeds: as in `preimage.upsample`, for each face.
        faces: "all", the "largest", or the one nearest to the "centre".
        points: (5, 2), where the one face is that is meant (`preimage.faces.face.Face`); nothing is looked for then.
        detector: a name or file, or a function (`preimage.faces.detect.load_detector`).
        method, prior, weights, preset, device, precision, batch: as in `preimage.upsample`.
        reduce: side to which larger faces are brought, `preimage.faces.finding.side_for`.
        **options: the others of `preimage.upsample`, such as `degradation` and the controls of the method.

    Returns:
        Faces and candidates.

    Raises:
        PreimageError: of the kind that fits; a photo in which no face is found is one.
    """
    find = how_to_find(faces, points, detector)
    if find is None:
        raise MethodError("faces: say which of the photo are meant, all, largest or centre.")
    picture = as_picture(photo)
    built = {
        "prior": prior, "weights": weights, "preset": preset, "device": device, "precision": precision, "batch": batch,
    }  # fmt: skip
    loaded = as_method(method, {name: value for name, value in built.items() if value is not None})
    cuts, passed = cut_faces(loaded, picture, find, reduce)
    wanted = seeds if isinstance(seeds, str | int) else list(seeds)
    made = tuple(upsample(cut.lr, wanted, method=loaded, **options) for cut in cuts)
    return PhotoCandidates(picture.pixels, tuple(cuts), made, (*picture.notes, *passed))
