"""Faces with their maps of regions and a reference each, which stay paired through shuffling and mirroring."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from preimage.collection import Collection
from preimage.errors import InputError, RecipeError
from preimage.semantics.labels import resize
from preimage.texts import one_line
from preimage.train.data import Chosen, Pictures, archive_of, load_pictures, order, take, to_tensor
from preimage.train.deepsee_settings import Recipe
from preimage.train.masks import Masks, load_masks, load_pseudo_labels, take_masks

PART = 64
"""Maps that are resized at once."""


@dataclass(frozen=True)
class Faces:
    """What is learned from.

    Attributes:
        pictures: (n, R, R, 3) uint8.
        labels: (n, R, R) uint8.
        found: (n, R, R) uint8, the regions as found in the small photos; None where the recipe does not ask for them.
        persons: of each picture who it shows; "" where nobody knows.
    """

    pictures: Pictures
    labels: Masks
    persons: tuple[str, ...]
    found: Masks | None = None

    def __len__(self) -> int:
        return len(self.pictures)

    def only(self, where: NDArray[np.bool_]) -> Faces:
        """Those of them."""
        kept = tuple(p for p, w in zip(self.persons, where.tolist(), strict=True) if w)
        return Faces(self.pictures[where], self.labels[where], kept, None if self.found is None else self.found[where])


@dataclass(frozen=True)
class Shown:
    """A batch: `truth` (n, 3, R, R) in [0, 1] with its `labels` (n, R, R), the same of a reference for each, and the `found` labels."""

    truth: Tensor
    labels: Tensor
    reference: Tensor
    reference_labels: Tensor
    found: Tensor | None = None


def load_faces(recipe: Recipe, network: nn.Module | None, progress: bool = True) -> Faces:
    """All faces of a recipe.

    Args:
        recipe: with data and masks.
        network: finds regions where the recipe names no masks, and those of small photos; what it finds is cached.
        progress: whether a bar is shown.

    Raises:
        InputError, RecipeError: sources that are missing, or maps that do not belong to them.
    """
    side = recipe.generator.resolution
    pictures = load_pictures(recipe.data, side, progress=progress)
    persons = tuple(person for source in recipe.data for person in _persons(source))
    if recipe.masks:
        each = [_labels(m, s, side) for m, s in zip(recipe.masks, recipe.data, strict=True)]
        labels = each[0] if len(each) == 1 else np.concatenate(each)
    elif network is not None:
        labels = load_pseudo_labels(recipe.data, side, network, progress=progress)
    else:
        raise RecipeError("masks: name the maps of each source, or a segmenter that finds them.")
    if not len(pictures) == len(labels) == len(persons):
        raise RecipeError(f"masks: {len(labels)} maps for {len(pictures)} pictures; give one for each.")
    found = None
    if recipe.found_share and network is not None and recipe.generator.regions > 1:
        found = load_pseudo_labels(recipe.data, side, network, progress=progress, small=recipe.generator.lr_size)
    return Faces(pictures, labels, persons, found)


def _names(source: str) -> list[str]:
    archive, inside = archive_of(source)
    with Collection(archive) as collection:
        return [name for name in collection.names if name.startswith(inside)]


def _persons(source: str) -> list[str]:
    archive, inside = archive_of(source)
    with Collection(archive) as collection:
        return [collection.about(name).get("person", "") for name in collection.names if name.startswith(inside)]


def _labels(masks: str, source: str, side: int) -> Masks:
    """The maps of one source."""
    if Path(masks).suffix != ".npy":
        there, wanted = ([PurePosixPath(name).stem for name in _names(each)] for each in (masks, source))
        if lone := sorted(set(wanted) ^ set(there)):
            raise InputError(
                f"masks: {masks} and {source} do not go together: {lone[0]} is in one of them only; each picture needs a map of its name."
            )
        return load_masks([masks], side)
    try:
        found = np.load(masks, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"masks: {masks} is no readable array ({one_line(error)}); give an (n, S, S) uint8 .npy file."
        ) from None
    if found.ndim != 3 or found.dtype != np.uint8:
        raise InputError(f"masks: {masks} holds {found.dtype} {found.shape}; it must hold uint8 (n, S, S).")
    if found.shape[1] == side:
        return found
    parts = [torch.from_numpy(np.array(found[i : i + PART])) for i in range(0, len(found), PART)]
    return np.concatenate([resize(part, side).numpy() for part in parts])


class Companions:
    """Which picture stands beside another as its reference.

    Args:
        persons: of `Faces`.
        person, anyone: shares, of `deepsee_settings.References`.
        seed: of the choice.
    """

    def __init__(self, persons: Sequence[str], person: float, anyone: float, seed: int = 0) -> None:
        self.person, self.anyone, self.seed, self.persons = person, anyone, seed, persons
        self.of = defaultdict[str, list[int]](list)
        for number, name in enumerate(persons):
            if name:
                self.of[name].append(number)

    def __call__(self, picture: int, position: int) -> int:
        """The reference of a picture that is the `position`-th to be shown; the picture itself where there is no other."""
        key = hashlib.blake2b(f"{self.seed}/{position}".encode(), digest_size=16).digest()
        share, draw = int.from_bytes(key[:8], "big") / 2**64, int.from_bytes(key[8:], "big")
        if share < self.anyone:
            return draw % len(self.persons)
        others = [i for i in self.of.get(self.persons[picture], ()) if i != picture]
        return others[draw % len(others)] if share < self.anyone + self.person and others else picture


def paired(faces: Faces, chosen: Sequence[Chosen]) -> tuple[Tensor, Tensor]:
    """Pictures (n, 3, R, R) in [0, 1] and labels (n, R, R) of these, mirrored where they are to be; left and right change places then."""
    return to_tensor(take(faces.pictures, chosen)), take_masks(faces.labels, chosen)


def stream(
    faces: Faces,
    size: int,
    companions: Companions,
    seed: int,
    start: int = 0,
    shard: int = 0,
    shards: int = 1,
    device: torch.device | str = "cpu",
) -> Iterator[Shown]:
    """Endless batches in the order of `train.data.order`; a reference is mirrored with its face."""
    chosen, position = order(len(faces), seed, start, shard, shards), start + shard
    while True:
        ones = [next(chosen) for _ in range(size)]
        others = [(companions(i, position + k * shards), turned) for k, (i, turned) in enumerate(ones)]
        position += size * shards
        found = None if faces.found is None else take_masks(faces.found, ones).to(device)
        truth, labels, reference, reference_labels = (
            x.to(device) for x in (*paired(faces, ones), *paired(faces, others))
        )
        yield Shown(truth, labels, reference, reference_labels, found)
