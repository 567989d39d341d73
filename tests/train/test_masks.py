"""Faces and maps in step: from folders, cached, found by a segmenter, mirrored and moved together."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from preimage.errors import InputError
from preimage.nets.segmenter import Segmenter, SegmenterConfig
from preimage.semantics.labels import flip, resize
from preimage.semantics.segment import segment
from preimage.train import masks as module
from preimage.train.data import load_pictures, order, to_tensor
from preimage.train.masks import jitter, load_masks, load_pairs, load_pseudo_labels, pairs, pseudo_labels

SHAPE = SegmenterConfig(
    16, stem=(4, 4, 4), widths=(4,) * 4, blocks=(1,) * 4, pyramid=4, rates=(1, 1, 2), low=4, decoder=8
)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Six pairs of 32 px in which the red of a face is its map."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (tmp_path / "pairs" / part).mkdir(parents=True)
    for i in range(6):
        labels = rng.integers(0, 19, (8, 8), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
        Image.fromarray(np.stack([labels, labels * 0, labels * 0], 2)).save(tmp_path / "pairs" / "images" / f"{i}.png")
        Image.fromarray(labels).save(tmp_path / "pairs" / "masks" / f"{i}.png")
    return tmp_path / "pairs"


@pytest.fixture
def network() -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(SHAPE, "tiny").eval().requires_grad_(False)


def test_pairs_of_a_folder(folder, tmp_path):
    pictures, labels = load_pairs([folder, str(folder)], 32, tmp_path / "cache", progress=False)
    assert (pictures.shape, labels.shape, labels.dtype) == ((12, 32, 32, 3), (12, 32, 32), np.uint8)
    assert np.array_equal(pictures[..., 0], labels)
    small = load_masks([folder / "masks"], 8, tmp_path / "cache", progress=False)
    assert np.array_equal(small, labels[:6, ::4, ::4])
    assert len(list((tmp_path / "cache").iterdir())) == 3  # faces and maps of one archive have a file each


def test_decoded_once(folder, tmp_path, monkeypatch):
    first = load_pairs([folder], 16, tmp_path, progress=False)
    monkeypatch.setattr(module, "mask_of", None)
    assert np.array_equal(load_pairs([folder], 16, tmp_path, progress=False)[1], first[1])


def test_pairs_that_are_none(folder, tmp_path):
    (folder / "masks" / "3.png").unlink()
    with pytest.raises(InputError, match=r"images: 3 has no partner of this name in .*masks"):
        load_pairs([folder], 16, tmp_path, progress=False)
    (folder / "images" / "3.png").unlink()
    Image.fromarray(np.full((8, 8), 40, np.uint8)).save(folder / "masks" / "4.png")
    with pytest.raises(InputError, match=r"masks: 4\.png: holds the value 40"):
        load_pairs([folder], 16, tmp_path, progress=False)
    (folder / "masks" / "4.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match=r"masks: 4\.png cannot be decoded"):
        load_pairs([folder], 16, tmp_path, progress=False)
    with pytest.raises(InputError, match="No maps of regions"):
        load_masks([], 16, tmp_path)


def test_batches_stay_paired(folder, tmp_path):
    pictures, labels = load_pairs([folder], 32, tmp_path, progress=False)
    chosen = list(islice(order(6, 3), 8))
    assert {mirror for _, mirror in chosen} == {True, False}
    faces, maps = next(pairs(pictures, labels, 8, iter(chosen)))
    for face, found, (number, mirror) in zip(faces, maps, chosen, strict=True):
        truth = torch.from_numpy(np.array(labels[number])).long()
        assert torch.equal(found, flip(truth) if mirror else truth)
        assert torch.equal((face[0] * 255).round().long(), truth.flip(-1) if mirror else truth)


def test_a_face_and_its_map_move_together():
    torch.manual_seed(0)
    labels = torch.zeros(4, 32, 32, dtype=torch.long)
    labels[:, 8:20, 10:26] = 13
    faces = (labels == 13).float()[:, None].expand(-1, 3, -1, -1)
    moved, found = jitter(faces, labels, 20.0, 0.2, 0.1)
    assert found.dtype == torch.int64
    assert set(found.unique().tolist()) == {0, 13}
    assert ((moved[:, 0] > 0.5) == (found == 13)).float().mean() > 0.97
    assert len({int((x == 13).sum()) for x in found}) > 1  # each in its own way
    still, same = jitter(faces, labels, 0.0, 0.0, 0.0)
    assert torch.equal(same, labels)
    assert torch.allclose(still, faces, atol=1e-5)


# ------------------------------------------------------------------------------------------------- found by a network


def test_maps_that_a_network_finds(folder, tmp_path, network):
    pictures = load_pictures([folder / "images"], 16, tmp_path, progress=False)
    found = pseudo_labels(pictures, network, batch=4)
    assert (found.shape, found.dtype) == ((6, 16, 16), np.uint8)
    assert np.array_equal(found, segment(network, to_tensor(np.array(pictures))).numpy())
    small = pseudo_labels(pictures, network, 8)
    assert np.array_equal(small, resize(torch.from_numpy(found), 8).numpy())


def test_they_are_found_once(folder, tmp_path, network, monkeypatch):
    found = load_pseudo_labels([folder / "images"], 8, network, tmp_path, progress=False)
    assert found.shape == (6, 8, 8)
    large = load_pseudo_labels([folder / "images"], 32, network, tmp_path, progress=False)
    assert large.shape == (6, 32, 32)
    with torch.no_grad():
        other = Segmenter(SHAPE).eval()
    assert len(load_pseudo_labels([folder / "images"], 8, other, tmp_path, progress=False)) == 6
    monkeypatch.setattr(module, "pseudo_labels", None)
    assert np.array_equal(load_pseudo_labels([folder / "images"], 8, network, tmp_path, progress=False), found)
    assert len(list(tmp_path.glob("labels-*.npy"))) == 3
