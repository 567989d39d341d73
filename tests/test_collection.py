"""Collections: a folder and an archive of the same pictures read alike; what cannot be read is named."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from preimage.collection import Collection
from preimage.errors import InputError

INDEX = "file,source,person,group\na/1.png,lfw,p1,\nb/0.png,aaf,,female;age20\n"


def png(seed: int, size: tuple[int, int] = (12, 8)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


FILES = {
    "b/0.png": png(0), "a/1.png": png(1), "notes.txt": b"words", "index.csv": INDEX.encode(),
    ".hidden.png": b"x", "__MACOSX/a/1.png": b"x",
}  # fmt: skip


@pytest.fixture(params=["folder", "archive"])
def collection(request, tmp_path):
    if request.param == "folder":
        for name, data in FILES.items():
            (tmp_path / "faces" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "faces" / name).write_bytes(data)
        path = tmp_path / "faces"
    else:
        path = tmp_path / "faces.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in FILES.items():
                archive.writestr(name, data)
    with Collection(path) as opened:
        yield opened


def test_names_pictures_and_lines_of_the_index(collection):
    assert collection.names == ("a/1.png", "b/0.png")
    assert len(collection) == 2
    assert collection.about("b/0.png")["group"] == "female;age20"
    assert collection.about("c.png") == {}
    whole = collection.tensor("b/0.png")
    with Image.open(io.BytesIO(FILES["b/0.png"])) as picture:
        assert torch.equal((whole * 255).round().byte().permute(1, 2, 0), torch.from_numpy(np.array(picture)))
    square = collection.tensor("b/0.png", side=8)
    assert torch.equal(square, whole[:, :, 2:10])  # the central square, not resampled
    assert collection.tensor("b/0.png", side=4).shape == (3, 4, 4)


def test_sample_is_a_fixed_shuffle(tmp_path):
    for i in range(9):
        (tmp_path / f"{i}.png").write_bytes(png(i))
    collection = Collection(tmp_path)
    assert sorted(collection.sample(None)) == list(collection.names)
    assert collection.sample(4) == collection.sample(9)[:4]
    assert collection.sample(9, seed=1) != collection.sample(9)


def test_without_an_index_nothing_is_known(tmp_path):
    (tmp_path / "a.png").write_bytes(png(0))
    assert Collection(tmp_path).about("a.png") == {}
    (tmp_path / "index.csv").write_text("name;group\na;b\n")
    with pytest.raises(InputError, match=r"index\.csv has no `file` column"):
        Collection(tmp_path).about("a.png")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "no such folder or archive"),
        (lambda p: p.mkdir(), "holds no picture"),
        (lambda p: p.write_text("x"), "neither a folder nor a zip archive"),
    ],
)
def test_what_is_no_collection(tmp_path, make, message):
    path: Path = tmp_path / "faces"
    make(path)
    with pytest.raises(InputError, match=message):
        Collection(path)


def test_a_picture_that_claims_too_much_is_not_read(tmp_path, monkeypatch):
    Image.new("1", (9000, 4)).save(tmp_path / "wide.png")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(1 << 20))
    with pytest.raises(InputError, match=r"wide\.png cannot be decoded .*more than 8192"):
        Collection(tmp_path).image("wide.png")
    monkeypatch.setattr("preimage.collection.LARGEST", 1 << 16)
    with (
        Collection(tmp_path / "bomb.zip") as bomb,
        pytest.raises(InputError, match=r"a\.png cannot be read \(1,048,576 bytes"),
    ):
        bomb.bytes("a.png")


def test_a_damaged_picture_is_named(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    collection = Collection(tmp_path)
    with pytest.raises(InputError, match=r"bad\.png cannot be decoded"):
        collection.tensor("bad.png")
    with pytest.raises(InputError, match=r"gone\.png cannot be read"):
        collection.bytes("gone.png")
