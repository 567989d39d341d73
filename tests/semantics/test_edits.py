"""Edits of maps: closed forms on small ones, and nothing is ever left without a label."""

from __future__ import annotations

import pytest
import torch
from scipy import ndimage

from preimage.errors import InputError
from preimage.semantics.edits import (
    EDITS,
    add_glasses,
    apply_edits,
    close_mouth,
    copy_region,
    fill,
    grow,
    move,
    nearest,
    parse_edit,
    remove,
    replace,
    shrink,
    spread,
    where,
)
from preimage.semantics.labels import LABELS, NUMBER, flip


@pytest.fixture
def face() -> torch.Tensor:
    """64x64: hair around skin, eyes, nose, lips with an open mouth between them, neck below."""
    labels = torch.zeros(64, 64, dtype=torch.uint8)
    labels[4:40, 8:56] = 13
    labels[12:52, 14:50] = 1
    labels[52:60, 24:40] = 17
    labels[22:26, 36:44], labels[22:26, 20:28] = 4, 5
    labels[18:20, 36:44], labels[18:20, 20:28] = 6, 7
    labels[26:34, 29:35] = 2
    labels[38:40, 26:38], labels[40:44, 26:38], labels[44:46, 26:38] = 11, 10, 12
    return labels


def count(labels: torch.Tensor, region: str) -> int:
    return int(where(labels, region).sum())


def test_distances_are_euclidean():
    inside = torch.zeros(21, 21, dtype=torch.bool)
    inside[10, 10] = True
    rows, columns = torch.meshgrid(torch.arange(21), torch.arange(21), indexing="ij")
    for pixels in (0, 1, 3, 6):
        distance = ((rows - 10).square() + (columns - 10).square()).sqrt()
        made = spread(inside, pixels)
        assert torch.equal(made, distance <= pixels)


def test_the_nearest_is_scipys():
    inside = torch.rand(17, 23, generator=torch.Generator().manual_seed(0)) < 0.05
    found, rows, columns = nearest(inside)
    assert torch.allclose(found.double().sqrt(), torch.from_numpy(ndimage.distance_transform_edt(~inside.numpy())))
    assert bool(inside[rows, columns].all())
    assert int(nearest(torch.zeros(3, 3, dtype=torch.bool))[0].min()) > 1e6


def test_a_region_grows_and_draws_back(face):
    for region, pixels in (("hair", 3), ("nose", 2), ("eyes", 2), ("lips", 1)):
        wide, narrow = grow(face, region, pixels), shrink(face, region, 1)
        inside = where(face, region)
        assert bool(where(wide, region)[inside].all())
        assert count(wide, region) > count(face, region) > count(narrow, region)
        assert torch.equal(wide[~spread(inside, pixels)], face[~spread(inside, pixels)])
        assert not bool(where(narrow, region)[~inside].any())
        assert torch.equal(narrow[~inside], face[~inside])
        assert torch.equal(grow(face, region, -1), narrow)
        assert torch.equal(shrink(face, region, -pixels), wide)
        assert torch.equal(grow(face, region, 0), face)
    assert torch.equal(grow(face, "hat", 3), face)
    assert count(shrink(face, "nose", 30), "nose") == 0


def test_regions_that_grow_together_leave_each_other_alone(face):
    made = grow(face, "lips", 2)
    for lip in ("upper-lip", "lower-lip"):
        assert bool(where(made, lip)[where(face, lip)].all())


def test_a_region_moves(face):
    made = move(face, "nose", 3, -2)
    inside = where(face, "nose")
    assert torch.equal(where(made, "nose"), inside.roll((-2, 3), (0, 1)))
    assert set(made[inside & ~where(made, "nose")].tolist()) == {1}
    assert count(move(face, "nose", 100, 0), "nose") == 0
    left = move(face, "eyes", -24, 0)  # half of them leaves the map, none comes back at the other side
    assert not bool(where(left, "eyes")[:, 40:].any())
    assert torch.equal(move(face, "hat", 1, 1), face)


def test_what_goes_is_filled_by_the_nearest():
    labels = torch.full((9, 12), 3, dtype=torch.uint8)
    labels[:, :2], labels[:, -2:] = 1, 13
    made = remove(labels, 3)
    assert made[:, :6].unique().tolist() == [1]
    assert made[:, 6:].unique().tolist() == [13]
    labels[4, 1], labels[4, 2:4] = 15, 15  # an earring does not spread, whatever is nearest
    assert int((remove(labels, 3) == 15).sum()) == 3
    assert torch.equal(fill(labels, torch.zeros(9, 12, dtype=torch.bool)), labels)
    assert fill(labels, torch.ones(9, 12, dtype=torch.bool)).unique().tolist() == [1]
    assert remove(torch.full((4, 4), 3), 3).unique().tolist() == [1]


def test_one_region_becomes_another(face):
    made = replace(face, "mouth", "lower-lip")
    assert count(made, "mouth") == 0
    assert count(made, "lower-lip") == count(face, "lower-lip") + count(face, "mouth")
    with pytest.raises(InputError, match="replace: lips is 2 regions"):
        replace(face, "mouth", "lips")


def test_a_region_of_another_face(face):
    other = move(grow(face, "nose", 2), "nose", 0, 4)
    made = copy_region(face, other, "nose")
    assert torch.equal(where(made, "nose"), where(other, "nose"))
    still = ~where(face, "nose") & ~where(other, "nose")
    assert torch.equal(made[still], face[still])
    assert torch.equal(copy_region(face, face.repeat_interleave(2, 0).repeat_interleave(2, 1), "hair,lips"), face)
    assert count(copy_region(face, torch.ones_like(face), "mouth"), "mouth") == 0


def test_a_mouth_closes(face):
    made = close_mouth(face)
    assert count(made, "mouth") == 0
    assert count(made, "lips") == count(face, "lips") + count(face, "mouth")
    assert made[38:46, 30].tolist() == [11, 11, 11, 11, 12, 12, 12, 12]
    assert torch.equal(close_mouth(made), made)
    assert torch.equal(where(made, "skin"), where(face, "skin"))
    without = remove(face, "upper-lip")
    assert set(close_mouth(without)[40:44, 30].tolist()) == {12}
    bare = remove(remove(face, "upper-lip"), "lower-lip")
    assert set(close_mouth(replace(bare, "lips", "skin"))[40:44, 30].tolist()) == {1}


def test_glasses(face):
    made = add_glasses(face)
    assert count(made, "eyes,brows") < count(face, "eyes,brows")
    assert count(made, "eyes") == 0
    assert torch.equal(where(made, "hair"), where(face, "hair"))
    assert torch.equal(where(made, "lips"), where(face, "lips"))
    assert bool(where(made, "eyeglasses")[23:25, 20:44].all())  # lenses and bridge
    assert torch.equal(add_glasses(flip(face)), flip(made))
    assert count(add_glasses(face, 0.5), "eyeglasses") < count(made, "eyeglasses")
    one = add_glasses(remove(face, "left-eye"))
    assert bool(where(one, "eyeglasses")[24, 38:42].all())
    dark = replace(face, "eyes", "eyeglasses")
    assert torch.equal(add_glasses(dark), dark)
    with pytest.raises(InputError, match="add-glasses: the map has no eye"):
        add_glasses(remove(face, "eyes"))


def test_every_edit_keeps_the_map_whole_and_its_argument_as_it_was(face):
    before = face.clone()
    values = {"region": "nose", "pixels": "2"}
    for labels in (face, face.long()):
        for name, edit in EDITS.items():
            made = parse_edit(":".join([name, *(values[kind] for kind in edit.takes)]))(labels)
            assert made.shape == labels.shape
            assert made.dtype == labels.dtype
            assert 0 <= int(made.min()) <= int(made.max()) < NUMBER
    assert torch.equal(face, before)


def test_edits_in_words(face):
    assert torch.equal(parse_edit("grow:hair:3")(face), grow(face, 13, 3))
    assert torch.equal(parse_edit("Move: left eye :1:-2")(face), move(face, 4, 1, -2))
    both = apply_edits(face, ["close_mouth", "replace:hair:hat"])
    assert torch.equal(both, replace(close_mouth(face), 13, 14))
    assert torch.equal(apply_edits(face, []), face)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grw:hair:3", r"edit 'grw:hair:3'.*did you mean grow\? Edits: grow:REGION:PIXELS, .*close-mouth"),
        ("", "edit '': there is none of this name"),
        ("grow:hair", r"write grow:REGION:PIXELS"),
        ("close-mouth:3", r"write close-mouth"),
        ("grow:hare:3", r"edit 'grow:hare:3': region 'hare'.*did you mean hair"),
        ("grow:hair:much", r"'much' is no whole number of pixels below 1024"),
        ("grow:hair:99999", r"'99999' is no whole number"),
    ],
)
def test_words_that_are_none(text, message):
    with pytest.raises(InputError, match=message):
        parse_edit(text)


def test_maps_and_regions_that_are_none(face):
    for wrong in (face.float(), face[None]):
        with pytest.raises(InputError, match="are no map"):
            grow(wrong, "hair", 1)
    with pytest.raises(InputError, match=r"region 19: labels go from 0 to 18"):
        grow(face, 19, 1)
    assert LABELS[13].name == "hair"
