"""Labels of regions: names, mirrored maps, sizes, palette PNG."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image

from preimage.errors import InputError, OutputError
from preimage.semantics.labels import (
    GROUPS,
    LABELS,
    NUMBER,
    PAIRS,
    PALETTE,
    coloured,
    find_regions,
    flip,
    one_hot,
    read_mask,
    resize,
    write_mask,
)


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, NUMBER, (24, 24), dtype=np.uint8))


def test_the_published_order():
    names = "background skin nose eyeglasses left-eye right-eye left-brow right-brow left-ear right-ear mouth upper-lip lower-lip hair"
    assert [label.name for label in LABELS] == [*names.split(), "hat", "earring", "necklace", "neck", "cloth"]
    assert len({label.colour for label in LABELS}) == NUMBER == 19
    for left, right in PAIRS:
        assert LABELS[right].name == LABELS[left].name.replace("left", "right")


def test_a_mirrored_map_is_one_of_the_mirrored_face(labels):
    made = flip(labels)
    assert made.dtype == labels.dtype
    assert torch.equal(flip(made), labels)
    there = (labels == 4).nonzero().tolist()
    assert there
    assert all(made[y, 23 - x] == 5 for y, x in there)
    others = ~torch.isin(labels, torch.tensor([n for pair in PAIRS for n in pair]))
    assert torch.equal(made.flip(-1)[others], labels[others])
    assert torch.equal(flip(torch.stack([labels, made]).long()), torch.stack([made, labels]).long())


def test_one_hot(labels):
    made = one_hot(labels[None].long())
    assert made.shape == (1, NUMBER, 24, 24)
    assert torch.equal(made.argmax(1)[0], labels.long())
    assert torch.equal(made.sum(1), torch.ones(1, 24, 24))
    for wrong in (labels, torch.full((1, 2, 2), 19), torch.zeros(1, 2, 2)):
        with pytest.raises(InputError, match="labels"):
            one_hot(wrong)


@pytest.mark.parametrize("side", [48, 24, 60, 12, 7, 1])
def test_sizes_invent_no_label(labels, side):
    labels = torch.where(labels < 9, labels, labels.new_tensor(18))
    made = resize(labels, side)
    assert made.shape == (side, side)
    assert made.dtype == labels.dtype
    assert set(made.unique().tolist()) <= set(labels.unique().tolist())


def test_a_map_that_shrinks_keeps_the_most():
    blocks = np.random.default_rng(1).integers(0, NUMBER, (6, 6, 4, 4))
    small = resize(torch.from_numpy(blocks.transpose(0, 2, 1, 3).reshape(24, 24)), 6)
    most = [[np.bincount(blocks[y, x].ravel(), minlength=NUMBER).argmax() for x in range(6)] for y in range(6)]
    assert small.tolist() == most
    assert torch.equal(resize(resize(small, 48), 6), small)
    assert torch.equal(resize(torch.stack([small, small]), 3)[1], resize(small, 3))


def test_colours(labels):
    picture = (coloured(labels) * 255).round().byte()
    assert picture.shape == (3, 24, 24)
    assert tuple(picture[:, 3, 4].tolist()) == LABELS[int(labels[3, 4])].colour


# --------------------------------------------------------------------------------------------------------------- names


def test_names_of_regions():
    assert find_regions("hair,lips") == (13, 11, 12)
    assert find_regions("Left Eye, left_eye,eyes") == (4, 5)
    assert all(find_regions(label.name) == (n,) for n, label in enumerate(LABELS))
    assert not GROUPS.keys() & {label.name for label in LABELS}
    with pytest.raises(InputError, match=r"region 'hairs'.*did you mean hair\?.*background, skin.*lips"):
        find_regions("lips,hairs")


# --------------------------------------------------------------------------------------------------------------- files


def test_files_come_back(labels, tmp_path):
    write_mask(tmp_path / "a" / "map.png", labels.long())
    assert torch.equal(read_mask(tmp_path / "a" / "map.png"), labels)
    with Image.open(tmp_path / "a" / "map.png") as image:
        assert image.mode == "P"
        seen = np.asarray(image.convert("RGB"))
    assert np.array_equal(seen, (coloured(labels) * 255).round().byte().permute(1, 2, 0).numpy())


def test_grey_files_and_palettes_of_others(labels, tmp_path):
    image = Image.fromarray(labels.numpy())
    image.save(tmp_path / "grey.png")
    other = image.copy()
    other.putpalette([(37 * i + 11) % 256 for i in range(768)])
    other.save(tmp_path / "other.png")
    for name in ("grey.png", "other.png"):
        assert torch.equal(read_mask(tmp_path / name), labels)


def test_an_editor_that_numbers_colours_anew(labels, tmp_path):
    order = np.random.default_rng(2).permutation(NUMBER)
    image = Image.fromarray(np.argsort(order)[labels.numpy()].astype(np.uint8))
    image.putpalette([c for n in order for c in LABELS[n].colour])
    image.save(tmp_path / "map.png")
    assert torch.equal(read_mask(tmp_path / "map.png"), labels)


@pytest.mark.parametrize(
    ("values", "mode", "name", "message"),
    [
        (np.full((4, 4), 19), "L", "a.png", r"a\.png: holds the value 19, and labels go from 0 \(background\) to 18"),
        (np.full((4, 4, 3), 1), "RGB", "b.png", r"b\.png: is a picture of mode RGB.*palette or grey PNG"),
        (np.full((4, 5), 1), "L", "c.png", r"c\.png: is 5x4 pixels.*square"),
        (np.full((4, 4), 1), "L", "d.bmp", r"d\.bmp: is a BMP file.*square PNG"),
    ],
)
def test_files_that_are_no_maps(values, mode, name, message, tmp_path):
    Image.fromarray(values.astype(np.uint8), mode).save(tmp_path / name)
    with pytest.raises(InputError, match=message):
        read_mask(tmp_path / name)


def test_files_that_cannot_be_read_or_written(labels, tmp_path):
    with pytest.raises(InputError, match=r"gone\.png: no such file"):
        read_mask(tmp_path / "gone.png")
    with pytest.raises(OutputError, match=re.escape(str(tmp_path))):
        write_mask(tmp_path, labels)
    for wrong in (labels.float(), labels[None], labels + 1):
        with pytest.raises(InputError, match=r"map\.png: (labels|holds the value 19)"):
            write_mask(tmp_path / "map.png", wrong)
    assert not (tmp_path / "map.png").exists()
    assert len(PALETTE) == 3 * NUMBER
