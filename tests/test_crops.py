"""Squares in a photo: what is cut out of them, and photos that cannot be opened."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from preimage.crops import Square, cut, marked, open_photo, squares_by, whole
from preimage.errors import InputError, WeightsError
from preimage.faces.align import quad
from preimage.faces.face import Face


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    return torch.randint(0, 256, (3, 40, 60), generator=torch.Generator().manual_seed(0)).float() / 255


def test_whole_pixels_come_out_as_they_are(photo):
    assert torch.equal(cut(photo, Square(30, 20, 16), 16), photo[:, 12:28, 22:38])
    assert torch.equal(cut(photo, whole(photo), 40), photo[:, :, 10:50])


def test_a_whole_factor_gives_pillows_means(photo):
    image = Image.fromarray((photo * 255).byte().permute(1, 2, 0).numpy())
    expected = np.asarray(image.resize((8, 8), Image.Resampling.BOX, box=(10, 0, 50, 40)))
    found = (cut(photo, whole(photo), 8) * 255).permute(1, 2, 0).numpy()
    assert np.abs(found - expected.astype(float)).max() <= 1


def test_a_square_is_dragged_as_a_finger_goes():
    square = Square(30, 20, 16)
    assert square.dragged((33, 18), (40, 28)) == Square(37, 30, 16)  # from inside: moved
    wider = square.dragged((22, 12), (18, 8))  # from a corner: about the centre, which stays
    assert (wider.x, wider.y) == (30, 20)
    assert wider.side == pytest.approx(24)
    assert square.dragged((50, 30), (70, 45)) == Square(60, 40, 20)  # from outside: a new one
    assert square.dragged((50, 30), (40, 24)) == Square(45, 25, 10)
    turned = Square(30, 20, 16, 45)
    assert turned.dragged((30, 20), (31, 20)) == Square(31, 20, 16, 45)
    top = turned.corners[0]
    assert turned.dragged(top, (30 + 2 * (top[0] - 30), 20 + 2 * (top[1] - 20))).side == pytest.approx(32)
    assert square.dragged((50, 30), (50, 30)).side == 4  # never nothing


def test_a_quarter_turn_turns_the_picture(photo):
    straight, turned = cut(photo, Square(30, 20, 16), 16), cut(photo, Square(30, 20, 16, 90), 16)
    assert torch.equal(turned, torch.rot90(straight, 1, (1, 2)))


def test_a_large_square_is_reduced_by_area():
    ramp = torch.linspace(0, 1, 2000).expand(3, 2000, 2000)
    found = cut(ramp, whole(ramp), 4)
    assert torch.allclose(found[0, 0], torch.tensor([0.125, 0.375, 0.625, 0.875]), atol=0.004)


def test_beyond_the_edge_the_photo_is_mirrored(photo):
    found = cut(photo, Square(0, 20, 16), 16)
    assert torch.equal(found[:, :, :8], found[:, :, 8:].flip(-1))


@pytest.mark.parametrize("turn", [0.0, 30.0, -117.0])
def test_corners_and_back(turn):
    square = Square(31.5, 17.25, 24, turn)
    again = Square.of(square.corners)
    assert all(
        math.isclose(a, b, abs_tol=1e-9) for a, b in zip(vars(again).values(), vars(square).values(), strict=True)
    )
    assert square.holds(
        *[sum(c[i] for c in square.corners[:2]) * 0.49 + 0.02 * (square.x, square.y)[i] / 1 for i in (0, 1)]
    )
    assert not square.holds(square.x + 24, square.y)


def test_squares_are_drawn_into_a_copy(photo):
    drawn = marked(photo, [Square(30, 20, 16), Square(10, 10, 8)], 0)
    assert drawn.shape == (3, 320, 480)
    assert float((drawn - drawn.mean()).abs().max()) > 0
    yellow = torch.tensor([255, 196, 61]).view(3, 1) / 255
    assert torch.allclose(drawn[:, 160, 22 * 8 - 1 : 22 * 8 + 1], yellow.expand(3, 2), atol=0.01)


def test_faces_come_largest_first_and_no_more_than_can_be_shown(photo):
    many = [Square(30, 20, 4 + i % 30) for i in range(200)]
    found = open_photo(photo, "people", lambda _: many)
    assert len(found.faces) == 24
    assert found.faces[0].side == 33
    assert found.name == "people"


def test_a_photo_without_faces_gets_a_square_to_move(photo):
    found = open_photo(photo, None, lambda _: [])
    assert found.faces == (whole(photo),)
    assert "no face was found" in found.notes[-1]


def test_a_detector_that_is_not_there_leaves_the_square_to_the_hand(photo):
    def missing(_: torch.Tensor) -> list[Square]:
        raise WeightsError("onnxruntime is not installed")

    found = open_photo(photo, None, missing)
    assert found.faces == (whole(photo),)
    assert "onnxruntime" in found.notes[-1]


def test_squares_are_those_of_the_alignment(photo):
    points = torch.tensor([[20.0, 15], [40, 17], [30, 22], [23, 30], [37, 31]])
    (square,) = squares_by(lambda _: [Face.at(points)])(photo)
    assert torch.allclose(torch.tensor(square.corners, dtype=torch.float64), quad(points), atol=1e-9)


def test_a_small_square_is_a_face_already(photo):
    def refuse(_: torch.Tensor) -> list[Square]:
        raise AssertionError("nothing is to be searched")

    assert open_photo(photo[:, :16, :16], None, refuse, 128).faces == (Square(8, 8, 16),)


def test_what_cannot_be_opened_says_why(tmp_path):
    Image.new("L", (8000, 6250)).save(tmp_path / "huge.png")
    with pytest.raises(InputError, match=r"8000x6250 is 50 megapixels.*Crop it"):
        open_photo(tmp_path / "huge.png")
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    with pytest.raises(InputError, match="damaged"):
        open_photo(tmp_path / "bad.jpg")
    with pytest.raises(InputError, match="side of 1 pixel"):
        Square(0, 0, math.nan)
