"""Which faces a method answers, and at which size."""

from __future__ import annotations

import pytest
import torch

import preimage
from preimage.errors import InputError, MethodError
from preimage.faces.face import Face
from preimage.faces.finding import cut_faces, how_to_find, side_for
from preimage.image import Picture
from preimage.invert.bicubic import Bicubic
from preimage.invert.posterior import Posterior


@pytest.fixture(scope="module")
def method() -> Bicubic:
    found = preimage.load("bicubic", resolution=64)
    assert isinstance(found, Bicubic)
    return found


def test_a_face_goes_in_with_all_pixels_it_has_up_to_half_a_candidate(method):
    assert [side_for(method, native) for native in (7.9, 16, 31.5, 32, 50, 63.9)] == [7, 16, 31, 32, 32, 32]
    assert [side_for(method, native, reduce=12) for native in (7.9, 16, 500)] == [7, 12, 12]
    with pytest.raises(InputError, match="--reduce 16"):
        side_for(method, 64)
    with pytest.raises(InputError, match="nothing to imagine"):
        side_for(method, 500, reduce=64)


def test_methods_say_how_much_they_take():
    assert Posterior(device="cpu").largest_side == 127
    ssrvae = preimage.load("ssrvae")
    assert side_for(ssrvae, 90.4) == 90  # its pictures grow with the photo
    assert side_for(ssrvae, 5000.0) == ssrvae.largest_side == 2048


def test_faces_are_cut_the_largest_first_and_too_large_ones_are_passed_over(method, face_at):
    faces = [face_at(30, 30, 20), face_at(150, 100, 80), face_at(90, 60, 28.4)]
    find = how_to_find("all", None, lambda photo: faces)
    assert find is not None
    picture = Picture(torch.rand(3, 160, 220))
    cuts, passed = cut_faces(method, picture, find)
    assert [cut.lr.shape[-1] for cut in cuts] == [28, 20]
    assert [cut.face for cut in cuts] == [faces[2], faces[0]]
    assert len(passed) == 1
    assert "80 pixels" in passed[0]
    cuts, passed = cut_faces(method, picture, find, reduce=16)
    assert [cut.lr.shape[-1] for cut in cuts] == [16, 16, 16]
    assert passed == []
    largest = how_to_find("largest", None, lambda photo: faces)
    assert largest is not None
    with pytest.raises(InputError, match="nothing to imagine"):
        cut_faces(method, picture, largest)


def test_a_photo_without_faces_names_the_mend(method):
    find = how_to_find("all", None, lambda photo: [])
    assert find is not None
    with pytest.raises(InputError, match=r"40x30.*--points.*--aligned.*--detector"):
        cut_faces(method, Picture(torch.rand(3, 30, 40)), find)


def test_points_by_hand_need_no_detector(method, face_at):
    points = face_at(30, 30, 20).points
    find = how_to_find(None, points, "no such detector")
    assert find is not None
    assert find.record() == {"points": points.tolist()}
    cuts, _ = cut_faces(method, Picture(torch.rand(3, 60, 60)), find)
    assert [cut.lr.shape[-1] for cut in cuts] == [20]


def test_what_is_looked_for_is_recorded_by_name():
    def mine(photo: torch.Tensor) -> list[Face]:
        return []

    find = how_to_find("centre", None, mine)
    assert find is not None
    assert find.record() == {"faces": "centre", "detector": "mine"}
    assert how_to_find(None, None) is None
    with pytest.raises(MethodError, match="all, largest, centre"):
        how_to_find("some", None)
