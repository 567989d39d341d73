"""Natively small faces: which are taken, and that reducing them adds nothing."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from preimage.errors import RecipeError
from preimage.train.small_faces import archive_of, count_by_side, small_faces


@pytest.fixture
def folder(tmp_path) -> Path:
    """Random pictures of 8, 16, 32, 48 and 80 px, half of them in `train/`."""
    rng = np.random.default_rng(0)
    for side, inside in ((8, "train"), (16, "train"), (32, "train"), (48, "val"), (80, "train")):
        (tmp_path / "faces" / inside).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "faces" / inside / f"{side:02d}.png")
    return tmp_path / "faces"


def test_only_native_sizes_that_were_asked_for(folder):
    faces, sides = small_faces([str(folder)], 16, (16, 48))
    assert sides == [16, 32, 48]
    assert faces.shape == (3, 16, 16, 3)
    assert np.array_equal(faces[0], np.asarray(Image.open(folder / "train" / "16.png")))  # untouched
    by_hand = np.asarray(Image.open(folder / "train" / "32.png")).reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
    assert np.abs(faces[1] - by_hand).max() <= 1  # Pillow rounds after each of two passes
    assert small_faces([str(folder)], 16, (8, 100))[1] == [8, 16, 32, 80, 48]


def test_a_folder_inside_an_archive(folder, tmp_path):
    archive = tmp_path / "faces.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*.png")):
            file.write(path, path.relative_to(folder))
    assert archive_of(f"{archive}/train") == (str(archive), "train/")
    assert archive_of(str(archive)) == (str(archive), "")
    assert archive_of(str(folder)) == (str(folder), "")
    faces, sides = small_faces([f"{archive}/train"], 16, (16, 48))
    assert sides == [16, 32]
    assert np.array_equal(faces, small_faces([str(folder / "train")], 16, (16, 48))[0])


def test_crops_are_seeded_and_begin_with_the_whole_face(folder):
    plain, _ = small_faces([str(folder)], 16, (16, 48))
    cropped, sides = small_faces([str(folder)], 16, (16, 48), crops=3, zoom=0.8)
    assert len(cropped) == 3 * len(sides)
    assert np.array_equal(cropped[::3], plain)
    assert not np.array_equal(cropped[1::3], cropped[2::3])
    assert np.array_equal(cropped, small_faces([str(folder)], 16, (16, 48), 3, 0.8)[0])
    assert not np.array_equal(cropped, small_faces([str(folder)], 16, (16, 48), 3, 0.8, seed=1)[0])


def test_none_of_that_size(folder):
    with pytest.raises(RecipeError, match="no face with a native side of 17 to 20 px"):
        small_faces([str(folder)], 16, (17, 20))


def test_counts_in_words():
    assert count_by_side([16, 17, 25]) == "3 natively small ones (16 to 23 px: 2, 24 to 31 px: 1)"
