"""Faces cut out of a photo, and candidates put back."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch import Tensor

from preimage.degrade.linear import bicubic
from preimage.errors import MethodError
from preimage.faces.align import quad
from preimage.faces.face import Face
from preimage.faces.photo import (
    cut_out,
    enlarge,
    enlargement,
    find_faces,
    paste_back,
    pasting_cost,
    real_side,
)  # fmt: skip
from preimage.image import to_pillow


@pytest.fixture
def photo() -> Tensor:
    y, x = torch.arange(100.0)[:, None], torch.arange(150.0)[None]
    waves = torch.stack([torch.sin(x / 7 + k) * torch.cos(y / 8 - k) for k in range(3)])
    return ((0.5 + 0.4 * waves) * 255).round() / 255


def test_which_faces_are_meant(photo, face_at):
    faces = [face_at(40, 30, 20, 0.9), face_at(120, 60, 40, 0.8), face_at(76, 52, 30, 0.7)]

    def detector(given: Tensor) -> list[Face]:
        assert given is photo
        return faces

    assert find_faces(photo, "all", detector) == [faces[1], faces[2], faces[0]]
    assert find_faces(photo, "largest", detector) == [faces[1]]
    assert find_faces(photo, "centre", detector) == [faces[2]]
    assert find_faces(photo, "largest", lambda given: []) == []
    with pytest.raises(MethodError, match="all, largest, centre"):
        find_faces(photo, "both", detector)


def test_a_face_on_whole_pixels_is_cut_out_as_it_is(photo, face_at):
    cut = cut_out(photo, face_at(60, 50, 32))
    assert cut.native == pytest.approx(32)
    assert torch.equal(cut.lr, photo[:, 34:66, 44:76])
    assert torch.equal(cut.corners, quad(cut.face.points))
    small = to_pillow(photo).crop((44, 34, 76, 66)).resize((16, 16), Image.Resampling.BOX)
    by_area = torch.tensor(list(small.tobytes())).view(16, 16, 3).permute(2, 0, 1)
    found = (cut_out(photo, cut.face, 16).lr * 255).round()
    assert float((found - by_area).abs().max()) <= 1  # Pillow rounds between its passes


def test_no_pixel_is_invented(face_at):
    assert [real_side(x) for x in (16.0, 15.9999999, 31.7, 0.4)] == [16, 16, 31, 1]
    face = face_at(60, 50, 27.6)
    assert cut_out(torch.rand(3, 100, 150), face).lr.shape == (3, 27, 27)


def test_a_photo_is_enlarged_until_no_candidate_is_made_smaller_and_no_further_than_there_is_room():
    assert enlargement(640, 480, [32.0, 60.0], 128) == 4
    assert enlargement(640, 480, [40.0], 128) == 4  # 3.2
    assert enlargement(640, 480, [200.0], 128) == 1
    assert enlargement(6000, 1000, [20.0], 128) == 1
    assert enlargement(3000, 3000, [20.0], 128) == 2
    assert enlargement(640, 480, [], 128) == 1


def test_the_background_is_pillows_lanczos(photo):
    image = to_pillow(photo).resize((300, 200), Image.Resampling.LANCZOS)
    assert to_pillow(enlarge(photo, 2)).tobytes() == image.tobytes()
    assert torch.equal(enlarge(photo, 1), photo)


def test_pasted_photos_are_the_background_outside_the_faces_and_the_candidates_inside(photo, face_at):
    cuts = [cut_out(photo, face_at(35.2, 40.7, 31.3)), cut_out(photo, face_at(110, 60, 24))]
    background = enlarge(photo, 4)
    kept = background.clone()
    pictures = [torch.zeros(3, 128, 128), torch.ones(3, 128, 128)]
    pasted = paste_back(background, 4, cuts, pictures)
    assert torch.equal(background, kept)
    assert float(pasted[:, 240, 440].min()) == 1
    assert float(pasted[:, 163, 141].max()) == 0
    outside = torch.ones(400, 600, dtype=torch.bool)
    for cut in cuts:
        left, top = (cut.corners.amin(0) * 4).floor().long()
        right, bottom = (cut.corners.amax(0) * 4).ceil().long()
        outside[top:bottom, left:right] = False
    assert torch.equal(pasted[:, outside], background[:, outside])


def test_the_smaller_face_lies_on_top(photo, face_at):
    cuts = [cut_out(photo, face_at(60, 50, 20)), cut_out(photo, face_at(60, 50, 60))]
    pasted = paste_back(enlarge(photo, 1), 1, cuts, [torch.ones(3, 64, 64), torch.zeros(3, 64, 64)])
    assert float(pasted[:, 50, 60].min()) == 1
    assert float(pasted[:, 50, 40].max()) == 0


def test_what_pasting_costs_is_nothing_on_whole_pixels_and_little_between(photo, face_at):
    shrink = bicubic(128, lr_size=32).photograph
    for x, y, most in ((60, 50, 0.6), (60.3, 50.4, 2.0)):
        cut = cut_out(photo, face_at(x, y, 32 if x == 60 else 32.5), 32)
        picture = bicubic(128, lr_size=32).pinv(cut.lr[None].double())[0].clamp(0, 1).float()
        pasted = (paste_back(enlarge(photo, 4), 4, [cut], [picture]) * 255).round() / 255
        whole, inside = pasting_cost(pasted, 4, cut, 128, shrink)
        assert inside <= most
        assert whole < 6
    other = cut_out(photo, face_at(60, 50, 32), 32)
    white = paste_back(enlarge(photo, 4), 4, [other], [torch.ones(3, 128, 128)])
    assert pasting_cost(white, 4, other, 128, shrink)[1] > 50  # another face is seen to be one
