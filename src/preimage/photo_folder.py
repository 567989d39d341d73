"""Whole photos in a folder job: their faces become inputs of their own, and what answers them is pasted back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from preimage.errors import InputError, MethodError, PreimageError
from preimage.faces.finding import Finding, cut_faces
from preimage.faces.photo import Cut, enlarge, enlargement, paste_back, pasting_cost, real_side
from preimage.files import save_png, write_text_atomic
from preimage.image import read_image, to_uint8
from preimage.invert.method import Method
from preimage.invert.problem import Source
from preimage.results import ResultFolder, is_whole, seed_file
from preimage.seeds import write_seeds
from preimage.texts import TextError, parse_json

RECORD = "photo.json"
"""What was found in a photo, where, and what pasting costs; beside its pasted pictures."""
MOST_NAMED = 8
"""Faces of a photo whose sizes are told one by one."""
NOTE = "Faces in this picture are imagined: candidates pasted into an enlarged photo. Nothing is proved of it; see the entries named in photo.json."


@dataclass(frozen=True, eq=False)
class PhotoFace:
    """A face of a photo in a folder job.

    Attributes:
        path: of the photo.
        number: from 0, the largest first.
        stem: name of its folder of results.
        cut: where it is, and its small picture.
    """

    path: Path
    number: int
    stem: str
    cut: Cut

    def __str__(self) -> str:
        return f"{self.path}, face {self.number}"


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo in a folder job; its pixels are read again when they are needed.

    Attributes:
        path, stem: its file, and the name of its folder.
        faces: of it.
        notes: for people.
    """

    path: Path
    stem: str
    faces: tuple[PhotoFace, ...]
    notes: tuple[str, ...]


def open_photo(method: Method, path: Path, stem: str, find: Finding, reduce: int | None = None) -> Photo:
    """Look for the faces of a photo.

    Raises:
        InputError: no picture, or no face in it.
    """
    picture = read_image(path)
    cuts, passed = cut_faces(method, picture, find, reduce)
    faces = tuple(PhotoFace(path, i, f"{stem}_face{i}", cut) for i, cut in enumerate(cuts))
    sizes = ", ".join(f"{cut.native:.0f}" + _reduced(cut) for cut in cuts)
    if len(cuts) > MOST_NAMED:
        sizes = f"{cuts[-1].native:.0f} to {cuts[0].native:.0f}"
    notes = (*picture.notes, f"{len(cuts)} face(s) of {sizes} pixels", *passed)
    return Photo(path, stem, faces, notes)


def _reduced(cut: Cut) -> str:
    side = cut.lr.shape[-1]
    return f" (reduced to {side})" if side < real_side(cut.native) else ""


def paste_photo(folder: ResultFolder, photo: Photo, seeds: Iterable[int] | None, source: Source) -> float | None:
    """Write DIR/<stem>/pasted_seed0000.png, … of the candidates that DIR/<stem>_face0, … hold, and photo.json.

    Of picked candidates, whose seeds are others for each face: pasted_pick0000.png, … of the first of every face, the second, ….

    What is there already, and no older than its candidates, stays.

    Args:
        folder: of the results.
        photo: and its faces.
        seeds: which; None: the candidates are picked ones.
        source: the degradation that the candidates answer to.

    Returns:
        What pasting costs, RMS in grey levels over all faces and seeds; None where nothing is pasted, or nothing can be measured.

    Raises:
        OutputError: it cannot be written.
        InputError: the photo or a candidate cannot be read any more.
    """
    target = folder.place(photo.stem)
    before = _pasted_before(target / RECORD)
    background: Tensor | None = None
    pasted: dict[str, Any] = {}
    times = 1
    for name, chosen in _together(folder, photo, seeds).items():
        files = {face: folder.path / face.stem / seed_file(seed) for face, seed in chosen.items()}
        files = {face: file for face, file in files.items() if is_whole(file)}
        if not files:
            continue
        if name in before and _newer(target / name, files.values()):
            pasted[name] = before[name]
            continue
        pictures = [read_image(file).pixels for file in files.values()]
        if background is None:
            pixels = read_image(photo.path).pixels
            natives = [face.cut.native for face in photo.faces]
            times = enlargement(pixels.shape[-1], pixels.shape[-2], natives, pictures[0].shape[-1])
            background = enlarge(pixels, times)
        made = paste_back(background, times, [face.cut for face in files], pictures)
        save_png(target / name, made, {"Software": "preimage", "Comment": NOTE, "seed": write_seeds(chosen.values())})
        made = to_uint8(made).float() / 255
        costs = [_cost(made, times, face.cut, x.shape[-1], source) for face, x in zip(files, pictures, strict=True)]
        cost = dict(zip((face.stem for face in files), costs, strict=True))
        pasted[name] = {"enlarged": times, "seeds": {face.stem: chosen[face] for face in files}, "cost": cost}
    if not pasted:
        return None
    record = {
        "photo": photo.path.name,
        "faces": {face.stem: _about(face.cut) for face in photo.faces},
        "pasted": before | pasted,
    }
    write_text_atomic(target / RECORD, json.dumps(record, indent=1) + "\n")
    found = [cost["rms"] for entry in pasted.values() for cost in entry["cost"].values() if cost]
    return float(torch.tensor(found).square().mean().sqrt()) if found else None


def _together(folder: ResultFolder, photo: Photo, seeds: Iterable[int] | None) -> dict[str, Mapping[PhotoFace, int]]:
    """The seed of each face in every pasted picture, by its name."""
    if seeds is not None:
        return {f"pasted_{seed_file(seed)}": dict.fromkeys(photo.faces, seed) for seed in seeds}
    picked = {face: folder.picked(face.stem) for face in photo.faces}
    most = max((len(each) for each in picked.values()), default=0)
    return {
        f"pasted_pick{place:04d}.png": {face: each[place] for face, each in picked.items() if place < len(each)}
        for place in range(most)
    }


def _cost(made: Tensor, times: int, cut: Cut, resolution: int, source: Source) -> dict[str, float] | None:
    """RMS in grey levels; None of a learned degradation, to which no face answers exactly."""
    if source.kind != "linear":
        return None
    shrink = source.build(resolution, (cut.lr.shape[-2], cut.lr.shape[-1])).photograph
    whole, inside = pasting_cost(made, times, cut, resolution, shrink)
    return {"rms": round(whole, 3), "rms_inside": round(inside, 3)}


def _about(cut: Cut) -> dict[str, Any]:
    rounded = [[round(value, 3) for value in row] for row in cut.corners.tolist()]
    points = [[round(value, 3) for value in row] for row in cut.face.points.tolist()]
    about = {"native_side": round(cut.native, 2), "side": cut.lr.shape[-1], "score": round(cut.face.score, 4)}
    return about | {"corners": rounded, "points": points}


def _pasted_before(record: Path) -> dict[str, Any]:
    """What photo.json says of pasted pictures that are still there."""
    try:
        values = parse_json(record.read_text())
    except (OSError, UnicodeDecodeError, TextError):
        return {}
    known = values.get("pasted") if isinstance(values, Mapping) else None
    kept = known if isinstance(known, Mapping) else {}
    return {name: about for name, about in kept.items() if _entry(about) and is_whole(record.parent / str(name))}


def _entry(about: object) -> bool:
    costs = about.get("cost") if isinstance(about, Mapping) else None
    return isinstance(costs, Mapping) and all(
        cost is None or (isinstance(cost, Mapping) and isinstance(cost.get("rms"), float)) for cost in costs.values()
    )


def _newer(file: Path, others: Iterable[Path]) -> bool:
    try:
        return file.stat().st_mtime_ns >= max(other.stat().st_mtime_ns for other in others)
    except OSError:
        return False


def sort_inputs(
    method: Method, stems: Mapping[Path, str], find: Finding | None, reduce: int | None
) -> tuple[dict[Path | PhotoFace, str], list[Photo], dict[Path, PreimageError]]:
    """What a folder job has to answer, the photos it came from, and what failed.

    Args:
        method: loaded.
        stems: name by file.
        find: how faces are looked for; None takes every file as a face.
        reduce: see `side_for`.
    """
    if find is None:
        whole: dict[Path | PhotoFace, str] = {}
        whole.update(stems.items())
        return whole, [], {}
    if find.points is not None and len(stems) > 1:
        raise MethodError(f"points belong to one photo, but {len(stems)} are given; name that one.")
    items: dict[Path | PhotoFace, str] = {}
    photos, failed = list[Photo](), dict[Path, PreimageError]()
    for path, stem in stems.items():
        try:
            photo = open_photo(method, path, stem, find, reduce)
        except PreimageError as error:
            failed[path] = error
            continue
        if taken := {face.stem for face in photo.faces} & set(stems.values()):
            failed[path] = InputError(
                f"its face would be called {min(taken)}, as another input is; rename one of them."
            )
            continue
        photos.append(photo)
        items.update((face, face.stem) for face in photo.faces)
    return items, photos, failed
