"""A face's square in a photo, cut out and put back."""

from __future__ import annotations

import math

import pytest
import torch
from PIL import Image

from preimage.errors import InputError
from preimage.faces.align import align, mask, native_side, paste, quad
from preimage.image import to_pillow

POINTS = torch.tensor([[31.0, 40.0], [69.0, 40.0], [50.0, 58.0], [35.0, 80.0], [65.0, 80.0]])


def turned(corners: torch.Tensor, degrees: float, by: float = 1.0) -> torch.Tensor:
    angle, centre = math.radians(degrees), corners.mean(0)
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]).to(corners)
    return centre + by * (corners - centre) @ turn


def square(x: float, y: float, side: float) -> torch.Tensor:
    return torch.tensor([[x, y], [x + side, y], [x + side, y + side], [x, y + side]], dtype=torch.float64)


def smooth(height: int, width: int) -> torch.Tensor:
    """A photo without detail finer than some ten pixels, as float64."""
    y, x = torch.arange(height).double()[:, None], torch.arange(width).double()[None]
    waves = [torch.sin(x / 9 + k) * torch.cos(y / 11 - k) for k in range(3)]
    return 0.5 + 0.3 * torch.stack(waves)


def test_the_square_is_that_of_ffhq():
    # eyes 38 apart, mouth 40 below: 2.0 * 38 is more than 1.8 * 40 = 72, so half a side is 76, centred 4 below the eyes
    expected = square(50 - 76, 44 - 76, 152)
    assert torch.allclose(quad(POINTS), expected)
    assert native_side(quad(POINTS)) == pytest.approx(152)
    narrow = POINTS.clone()
    narrow[:2, 0] = torch.tensor([40.0, 60.0])  # a head in profile: the way to the mouth decides
    assert native_side(quad(narrow)) == pytest.approx(2 * 1.8 * 40)


@pytest.mark.parametrize("degrees", [-120.0, 17.0, 90.0])
def test_the_square_turns_moves_and_grows_with_the_face(degrees):
    middle = quad(POINTS).mean(0)
    angle = math.radians(degrees)
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]).double()
    moved = middle + 0.3 * (POINTS.double() - middle) @ turn + torch.tensor([5.0, -7.0])
    expected = turned(quad(POINTS), degrees, 0.3) + torch.tensor([5.0, -7.0])
    assert torch.allclose(quad(moved), expected)


def test_whole_pixels_come_out_as_they_are_and_as_their_means():
    photo = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(align(photo, square(7, 5, 24), 24), photo[:, 5:29, 7:31], atol=1e-6)
    small = to_pillow((photo * 255).round() / 255).crop((7, 5, 31, 29)).resize((8, 8), Image.Resampling.BOX)
    found = to_pillow(align((photo * 255).round() / 255, square(7, 5, 24), 8))
    differences = [abs(a - b) for a, b in zip(found.tobytes(), small.tobytes(), strict=True)]
    assert max(differences) <= 1  # Pillow rounds between its passes
    means = photo[:, :40, :40].unfold(1, 20, 20).unfold(2, 20, 20).mean((-1, -2))
    assert torch.allclose(align(photo, square(0, 0, 40), 2), means, atol=1e-6)  # averaged beforehand: 20 pixels each


def test_a_quarter_turn_is_exact():
    photo = torch.rand(3, 30, 30, generator=torch.Generator().manual_seed(2))
    corners = square(6, 4, 16).roll(-1, 0)  # its upper left corner is the upper right one of the photo's square
    assert torch.allclose(align(photo, corners, 16), photo[:, 4:20, 6:22].rot90(1, (1, 2)), atol=1e-6)


def test_beyond_the_edges_the_photo_is_mirrored():
    photo = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(3))
    found = align(photo, square(-5, 0, 20), 20)
    assert torch.allclose(found[:, :, :5], photo[:, :, :5].flip(-1), atol=1e-6)
    assert torch.allclose(found[:, :, 5:], photo[:, :, :15], atol=1e-6)


@pytest.mark.parametrize(("degrees", "side"), [(0, 64.0), (12, 50.3), (-30, 71.8), (180, 40.0)])
def test_what_is_cut_out_and_put_back_changes_nothing(degrees, side):
    photo = smooth(120, 140)
    corners = turned(square(40, 25, side), degrees)
    again = paste(photo, align(photo, corners, math.ceil(side)), corners)
    assert float((again - photo).abs().max()) * 255 < 0.5


@pytest.mark.parametrize("degrees", [0, 25])
def test_a_face_put_in_is_found_again(degrees):
    corners = turned(square(30, 30, 60), degrees)
    face = smooth(60, 60).flip(-1)
    pasted = paste(torch.zeros(3, 120, 120).double(), face, corners)
    inside = mask(60) == 1
    assert int(inside.sum()) > 0.4 * 60 * 60
    found = align(pasted, corners, 60)
    assert float((found - face)[:, inside].abs().max()) * 255 < 1.5


def test_outside_the_mask_not_a_bit_changes():
    photo = torch.rand(3, 90, 70, generator=torch.Generator().manual_seed(4))
    before, corners = photo.clone(), turned(square(20, 30, 33.3), 20)
    pasted = paste(photo, torch.zeros(3, 128, 128), corners)
    assert torch.equal(photo, before)  # nothing is written into what was given
    changed = (pasted != photo).any(0)
    y, x = torch.nonzero(changed, as_tuple=True)
    centre = corners.mean(0)
    way = torch.stack([x + 0.5, y + 0.5], -1).double() - centre
    axes = torch.stack([corners[1] - corners[0], corners[3] - corners[0]]) / 33.3
    assert bool(((way @ axes.T).abs() <= 33.3 / 2).all())
    assert bool(changed[int(centre[1]), int(centre[0])])
    untouched = torch.ones(90, 70, dtype=torch.bool)
    untouched[y.min() : y.max() + 1, x.min() : x.max() + 1] = False
    assert torch.equal(pasted[:, untouched], photo[:, untouched])


def test_a_face_beyond_the_edge_is_pasted_as_far_as_there_is_photo():
    photo, face = torch.zeros(3, 30, 30), torch.ones(3, 20, 20)
    part = paste(photo, face, square(-8, 4, 20))
    whole = paste(torch.zeros(3, 30, 50), face, square(12, 4, 20))
    assert torch.allclose(part, whole[:, :, 20:])
    assert torch.equal(paste(photo, face, square(100, 100, 20)), photo)


def test_the_mask_is_one_inside_nothing_at_the_edges_and_even():
    found = mask(64, 0.2)
    assert float(found.max()) == 1
    assert float(found[0].max()) < 0.01
    for other in (found.flip(0), found.flip(1), found.T):
        assert torch.allclose(found, other)
    assert bool((found[32, :31].diff() >= 0).all())


def test_large_faces_are_averaged_before_they_are_put_in():
    stripes = (torch.arange(256) % 2).double().expand(3, 256, 256)
    pasted = paste(torch.full((3, 40, 40), 0.5).double(), stripes, square(4, 4, 32))
    assert float((pasted - 0.5).abs().max()) < 0.01  # no stripes appear that are not there


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: quad(torch.zeros(5, 2)), "lie apart"),
        (lambda: quad(torch.full((5, 2), math.nan)), "lie apart"),
        (lambda: quad(torch.zeros(4, 2)), "five of"),
        (lambda: native_side(torch.zeros(4, 2)), "not the four of a square"),
        (lambda: native_side(torch.tensor([[0, 0], [2, 0], [2, 1], [0, 1.0]])), "not the four of a square"),
        (lambda: align(torch.zeros(3, 9, 9), square(0, 0, 4), 0), "1 pixel or more"),
        (lambda: paste(torch.zeros(3, 9, 9), torch.zeros(3, 4, 5), square(0, 0, 4)), "a square one"),
        (lambda: paste(torch.zeros(3, 9, 9), torch.zeros(3, 4, 4), square(0, 0, 4), 0), "feather"),
        (lambda: mask(9, 0.6), "feather"),
    ],
)
def test_what_cannot_be_done_says_so(call, message):
    with pytest.raises(InputError, match=message):
        call()
