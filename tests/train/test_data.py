"""Training pictures: every source, decoded once; batches that resume and shard without a gap."""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from preimage.collection import Collection
from preimage.errors import InputError
from preimage.processes import host
from preimage.train.data import Crops, batches, load_crops, load_pictures, order, take, to_tensor


def picture(index: int, size: tuple[int, int] = (8, 8)) -> Image.Image:
    noise = np.random.default_rng(index).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise)


def png(index: int) -> bytes:
    buffer = io.BytesIO()
    picture(index).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path) -> Path:
    for i, name in enumerate(["b.png", "a.PNG", "deep/c.png", "notes.txt"]):
        path = tmp_path / "faces" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(i) if i < 3 else b"words")
    return tmp_path / "faces"


@pytest.fixture
def archive(tmp_path) -> Path:
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as file:
        for i, name in enumerate(["x/1.png", "x/0.png", "readme.md"]):
            file.writestr(name, png(10 + i) if i < 2 else b"words")
    return tmp_path / "faces.zip"


@pytest.fixture
def load(tmp_path):
    return lambda *sources, side=8: load_pictures(sources, side, tmp_path / "cache", progress=False)


# ------------------------------------------------------------------------------------------------------------ sources


def test_folder_is_read_in_the_order_of_its_names(folder, load):
    pictures = load(folder)
    assert pictures.shape == (3, 8, 8, 3)
    assert pictures.dtype == np.uint8
    for row, index in enumerate([1, 0, 2]):  # a.PNG, b.png, deep/c.png
        assert (pictures[row] == np.asarray(picture(index))).all()


def test_archive_and_several_sources(folder, archive, load):
    assert (load(archive)[0] == np.asarray(picture(11))).all()
    both = load(folder, archive)
    assert (both == np.concatenate([load(folder), load(archive)])).all()
    assert load(str(archive), archive).shape[0] == 4


def test_pictures_are_cropped_to_the_centre_and_reduced(tmp_path, load):
    (tmp_path / "wide").mkdir()
    wide = Image.new("RGB", (64, 32), "red")
    wide.paste((0, 0, 255), (16, 0, 48, 32))
    wide.save(tmp_path / "wide" / "a.png")
    Image.new("L", (32, 64), 99).save(tmp_path / "wide" / "b.png")
    first, second = load(tmp_path / "wide", side=16)
    assert (first[:, 3:-3] == np.array([0, 0, 255])).all()  # Lanczos rings at the crop's edge
    assert (first[..., 2] > first[..., 0]).all()
    assert (second == 99).all()


def test_exif_orientation_counts(tmp_path, load):
    (tmp_path / "turned").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 3
    picture(0).save(tmp_path / "turned" / "a.png", exif=exif)
    assert (load(tmp_path / "turned")[0] == np.asarray(picture(0))[::-1, ::-1]).all()


def test_second_time_nothing_is_decoded(folder, archive, load, monkeypatch):
    first = [np.array(load(source)) for source in (folder, archive)]

    def never(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr(Collection, "bytes", never)
    for source, expected in zip((folder, archive), first, strict=True):
        again = load(source)
        assert isinstance(again, np.memmap)
        assert (again == expected).all()
    with pytest.raises(AssertionError, match="decoded again"):
        load(folder, side=4)  # another resolution is another cache


def test_what_a_killed_process_left_in_the_cache_is_removed(folder, load, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    living = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    killed = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    killed.kill()
    killed.communicate()
    try:
        litter = [cache / f"faces-8-0123456789ab.{whose}{killed.pid}.tmp.npy" for whose in ("", f"{host()}-")]
        kept = [
            cache / name
            for name in (
                f"faces-8-0123456789ab.{living.pid}.tmp.npy",
                f"faces-8-0123456789ab.{host()}-{living.pid}.tmp.npy",
                f"faces-8-0123456789ab.{'0' * 8}-{killed.pid}.tmp.npy",  # of another machine
                f"faces-8-0123456789ab.{os.getpid()}.tmp.npy",
                f"faces-8-0123456789ab.{2**70}.tmp.npy",
                "faces.tmp.npy",
                "mine.npy",
            )
        ]
        for path in (*litter, *kept):
            path.write_bytes(b"half")
        load(folder)
        assert not any(path.exists() for path in litter)
        assert all(path.exists() for path in kept)
    finally:
        living.communicate()


def test_replaced_picture_is_noticed(folder, load):
    load(folder)
    (folder / "deep" / "c.png").write_bytes(png(77))
    os.utime(folder / "deep" / "c.png", ns=(1, 1))
    assert (load(folder)[2] == np.asarray(picture(77))).all()


def test_default_cache_folder(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PREIMAGE_CACHE", str(tmp_path / "elsewhere"))
    load_pictures([folder], 8, progress=False)
    assert len(list((tmp_path / "elsewhere").glob("faces-8-*.npy"))) == 1


@pytest.mark.parametrize("damage", [b"", b"words", "half"])
def test_corrupt_picture_is_named_and_leaves_nothing(folder, archive, load, tmp_path, damage):
    content = png(3)[:90] if damage == "half" else damage
    (folder / "deep" / "d.png").write_bytes(content)
    with pytest.raises(InputError, match=r"faces: deep/d\.png cannot be decoded"):
        load(folder)
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("z.png", content)
    with pytest.raises(InputError, match=r"faces\.zip: z\.png cannot be decoded"):
        load(archive)
    assert list((tmp_path / "cache").iterdir()) == []


def test_damaged_archive_member_is_named(archive, load):
    content = bytearray(archive.read_bytes())
    place = content.index(b"x/1.png") + 80  # inside the picture: the archive's checksum fails
    content[place] ^= 0xFF
    archive.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"faces\.zip: x/1\.png cannot be read"):
        load(archive)


def test_sources_that_are_none(tmp_path, load):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("x")
    for name, message in [
        ("gone", "gone: no such folder or archive"),
        ("empty", r"empty: holds no picture"),
        ("text.txt", r"text\.txt: neither a folder nor a zip"),
    ]:
        with pytest.raises(InputError, match=message):
            load(tmp_path / name)
    with pytest.raises(InputError, match="No training data"):
        load()


# ------------------------------------------------------------------------------------------------------------ batches


def numbered(count: int) -> np.ndarray:
    """Pictures that tell who they are (red, at the left edge) and whether they are mirrored."""
    pictures = np.zeros((count, 4, 4, 3), np.uint8)
    pictures[:, :, 0, 0] = np.arange(1, count + 1)[:, None]
    return pictures


def who(batch: torch.Tensor) -> list[tuple[int, bool]]:
    edges = (batch[:, 0, 0] * 255).round().int()[:, [0, 3]].tolist()
    return [(max(left, right) - 1, right > 0) for left, right in edges]


def drawn(count: int, *, total: int, size: int = 1, **options: int) -> list[tuple[int, bool]]:
    stream = batches(numbered(count), size, seed=5, **options)
    return [each for batch in itertools.islice(stream, total // size) for each in who(batch)]


def test_batch_is_a_picture_tensor():
    pictures = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    batch = next(batches(pictures, 3, 0))
    assert batch.shape == (3, 3, 4, 4)
    assert batch.dtype == torch.float32
    levels = (batch * 255).round()
    assert torch.allclose(batch * 255, levels, atol=1e-4)
    stored = {p.tobytes() for p in (*pictures, *pictures[:, :, ::-1])}
    assert all(p.permute(1, 2, 0).byte().numpy().tobytes() in stored for p in levels)


def test_every_epoch_shows_each_picture_once_in_its_own_order():
    shown = [index for index, _ in drawn(7, total=21)]
    epochs = [shown[i : i + 7] for i in (0, 7, 14)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_half_is_mirrored():
    share = np.mean([flip for _, flip in drawn(200, total=2000, size=10)])
    assert 0.45 < share < 0.55


@pytest.mark.parametrize("start", [0, 1, 6, 7, 8, 20, 35, 700])
def test_resuming_goes_on_where_it_stopped(start):
    whole = drawn(7, total=start + 16)
    assert drawn(7, total=16, start=start) == whole[start:]
    assert drawn(7, total=16, size=4, start=start) == whole[start:]


@pytest.mark.parametrize("shards", [2, 3])
def test_shards_cover_the_same_order_exactly_once(shards):
    whole = drawn(7, total=42)
    parts = [drawn(7, total=42 // shards, shard=k, shards=shards) for k in range(shards)]
    assert [part[i] for i in range(42 // shards) for part in parts] == whole
    resumed = [drawn(7, total=2, shard=k, shards=shards, start=6 * shards) for k in range(shards)]
    assert resumed == [part[6:8] for part in parts]


def test_another_seed_is_another_order():
    orders = {tuple(who(next(batches(numbered(20), 20, seed)))) for seed in range(4)}
    assert len(orders) == 4


# ------------------------------------------------------------------------------------------------------------------ crops


def placed(n: int, side: int, start: int) -> np.ndarray:
    """Pictures whose values tell picture and place."""
    out = np.zeros((n, side, side, 3), np.uint8)
    out[..., 0] = start + np.arange(n)[:, None, None]
    out[..., 1] = np.arange(side)[:, None]
    out[..., 2] = np.arange(side)
    return out


def test_crops_are_squares_of_their_pictures_always_the_same():
    crops = Crops([placed(3, 40, 0), placed(2, 24, 3)], 16, 5)
    assert len(crops) == 25
    places = set()
    for i in range(25):
        cut = crops[i]
        assert cut.shape == (16, 16, 3)
        assert set(np.unique(cut[..., 0])) == {i // 5}
        top, left = cut[0, 0, 1:]
        assert np.array_equal(cut[..., 1], np.repeat(np.arange(top, top + 16)[:, None], 16, 1))
        places.add((i // 5, int(top), int(left)))
        assert np.array_equal(crops[i], cut)
    assert len(places) > 20
    assert not np.array_equal(Crops(crops.parts, 16, 5, seed=1)[0], crops[0])
    with pytest.raises(InputError, match="crops of 32 pixels cannot be cut from pictures of 24"):
        Crops(crops.parts, 32, 1)
    with pytest.raises(IndexError):
        crops[25]
    (batch,) = (next(batches(crops, 4, 0)),)
    assert batch.shape == (4, 3, 16, 16)


def test_a_folder_inside_an_archive_and_pictures_held_back(tmp_path, monkeypatch):
    monkeypatch.setenv("PREIMAGE_CACHE", str(tmp_path / "cache"))
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as file:
        for i in range(8):
            for where, level in (("images", 20 * i), ("masks", 255)):
                data = io.BytesIO()
                Image.new("RGB", (40, 40), (level, level, level)).save(data, "PNG")
                file.writestr(f"train/{where}/{i}.png", data.getvalue())
    source = f"{tmp_path / 'faces.zip'}/train/images"
    learned, held = load_crops([source], [32], 16, 2, hold=2, progress=False)
    assert (len(learned), len(held)) == (12, 2)
    values = [{int(crops[i].max()) for i in range(len(crops))} for crops in (learned, held)]
    assert values[1] == {0, 140}
    assert values[0] == {20, 40, 60, 80, 100, 120}
    with pytest.raises(InputError, match="holds no picture in train/none/"):
        load_pictures([f"{tmp_path / 'faces.zip'}/train/none"], 16, progress=False)


def test_bytes_become_public_tensors():
    x = to_tensor(np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3))
    assert (x.shape, x.dtype) == ((2, 3, 3, 4), torch.float32)
    assert float(x[1, 2, 0, 1]) == pytest.approx((36 + 3 + 2) / 255)


def test_what_belongs_together_stays_paired():
    """A picture and its mask, taken by one order: the same number, mirrored together."""
    pictures = numbered(10)
    masks = pictures[..., 0].copy()
    chosen = order(10, 3)
    pairs = [next(chosen) for _ in range(25)]
    assert {flip for _, flip in pairs} == {False, True}
    assert sorted(i for i, _ in pairs[:10]) == list(range(10))  # an epoch shows each once
    assert np.array_equal(take(pictures, pairs)[..., 0], take(masks, pairs))
    again = order(10, 3, start=10)
    assert [next(again) for _ in range(15)] == pairs[10:]
    halves = [order(10, 3, shard=shard, shards=2) for shard in (0, 1)]
    assert [next(halves[i % 2]) for i in range(25)] == pairs


def test_workers_bring_the_same_pictures_in_the_same_order():
    plain, ahead = (batches(numbered(12), 5, 1, workers=workers) for workers in (0, 2))
    for _ in range(4):
        assert torch.equal(next(plain), next(ahead))
    ahead.close()
    torch.manual_seed(0)
    before = torch.rand(3)
    torch.manual_seed(0)
    next(batches(numbered(12), 5, 1))
    assert torch.equal(torch.rand(3), before)  # loading draws nothing from what networks draw from
