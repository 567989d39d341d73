"""A whole photo from Python."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import preimage
from preimage.errors import InputError, MethodError
from preimage.faces.face import Face
from preimage.faces.photo import enlarge


@pytest.fixture
def photo() -> Tensor:
    y, x = torch.arange(60.0)[:, None], torch.arange(90.0)[None]
    return ((0.5 + 0.3 * torch.sin(x / 9) * torch.cos(y / 8)).expand(3, 60, 90) * 255).round() / 255


def test_faces_are_answered_and_pasted(photo, face_at):
    def two(given: Tensor) -> list[Face]:
        assert torch.equal(given, photo)
        return [face_at(20, 20, 16.5), face_at(60, 30, 20)]

    found = preimage.upsample_photo(photo, "0-1", detector=two, temperature=0.5)
    assert [cut.lr.shape[-1] for cut in found.cuts] == [20, 16]
    assert all(bool(each.exact.all()) for each in found.candidates)
    assert torch.equal(found.candidates[0].lr, found.cuts[0].lr)
    assert found.enlarged == 8
    pasted, background = found.pasted(1), enlarge(photo, 8)
    assert pasted.shape == (3, 480, 720)
    assert torch.equal(pasted[:, :, 600:], background[:, :, 600:])
    assert not torch.equal(pasted, found.pasted(0))
    alone = preimage.upsample(found.cuts[1].lr, 1, temperature=0.5)
    assert torch.equal(alone.images[0], found.candidates[1].images[1])
    with pytest.raises(InputError, match="seed 7 of face 0 was not made; there are 0-1"):
        found.pasted(7)
    mixed = found.pasted((0, 1))  # the larger face of seed 0 beside the smaller one of seed 1
    assert torch.equal(mixed[:, 160:320, 400:560], found.pasted(0)[:, 160:320, 400:560])
    assert torch.equal(mixed[:, 100:220, 100:220], pasted[:, 100:220, 100:220])
    with pytest.raises(InputError, match="3 seeds for 2 faces"):
        found.pasted([0, 0, 1])


def test_points_and_a_loaded_method(photo, face_at):
    method = preimage.load("bicubic", resolution=64)
    points = face_at(40, 30, 24).points
    found = preimage.upsample_photo(photo, method=method, points=points, reduce=12)
    assert found.candidates[0].lr.shape == (3, 12, 12)
    assert found.enlarged == 3
    with pytest.raises(MethodError, match="is loaded already"):
        preimage.upsample_photo(photo, method=method, points=points, device="cpu")
    with pytest.raises(InputError, match="no face was found"):
        preimage.upsample_photo(photo, method=method, detector=lambda given: [])
