"""Natively small faces, as a learned degradation is trained and judged on them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from preimage.collection import Collection
from preimage.errors import RecipeError
from preimage.train.data import Pictures, archive_of


def small_faces(
    sources: list[str], size: int, native: tuple[int, int], crops: int = 1, zoom: float = 1.0, seed: int = 0
) -> tuple[Pictures, list[int]]:
    """Natively small faces at `size`, reduced by area only, so that the blur and noise of their cameras stay.

    Args:
        sources: folders or zip archives, `faces.zip/train` for a folder inside an archive.
        size: side of the result.
        native: smallest and largest native side (the shorter one of the picture) that is taken.
        crops: versions of each face: whole first, then random squares of `zoom` to 1 of its side.
        zoom: see `crops`.
        seed: of the crops.

    Returns:
        (faces * crops, size, size, 3) uint8, the versions of a face together; the native side of every face.

    Raises:
        RecipeError: no face of such a size.
        InputError: a source that is missing or damaged.
    """
    out: list[NDArray[np.uint8]] = []
    sides: list[int] = []
    for source in sources:
        archive, inside = archive_of(source)
        with Collection(archive) as collection:
            for name in (n for n in collection.names if n.startswith(inside)):
                picture = collection.image(name)
                side = min(picture.size)
                if not native[0] <= side <= native[1]:
                    continue
                rng = np.random.default_rng([seed, len(sides)])
                sides.append(side)
                for crop in range(crops):
                    length = side * (1.0 if crop == 0 else rng.uniform(zoom, 1.0))
                    left, top = (rng.uniform(0, s - length) if crop else (s - length) / 2 for s in picture.size)
                    box = (left, top, left + length, top + length)
                    out.append(np.asarray(picture.resize((size, size), Image.Resampling.BOX, box)))
    if not out:
        raise RecipeError(f"real: no face with a native side of {native[0]} to {native[1]} px in {', '.join(sources)}.")
    return np.stack(out), sides


def count_by_side(sides: list[int], width: int = 8) -> str:
    """How many small faces there are of each native side, in words."""
    lows, counts = np.unique(np.asarray(sides) // width * width, return_counts=True)
    parts = ", ".join(f"{low} to {low + width - 1} px: {n}" for low, n in zip(lows, counts, strict=True))
    return f"{len(sides)} natively small ones ({parts})"
