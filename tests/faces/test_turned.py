"""Turning a photo under a detector, and its findings back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from preimage.faces.face import Face
from preimage.faces.turned import Turned


def spots(photo: Tensor) -> list[Face]:
    """Five coloured spots as a face: each point is the middle of what is bright in just the channels of one colour."""
    height, width = photo.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    bright = (photo > 0.5).double()
    parts = [
        torch.stack([channel if on else 1 - channel for channel, on in zip(bright, colour, strict=True)]).prod(0)
        * photo.double().amax(0)
        for colour in COLOURS
    ]
    points = torch.stack([torch.stack([(part * x).sum(), (part * y).sum()]) / part.sum() for part in parts])
    return [Face.at(points)]


COLOURS = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1))
POINTS = torch.tensor([[30.0, 40], [50, 40], [40, 50], [34, 60], [46, 60]]).double()


@pytest.fixture
def photo() -> Tensor:
    made = torch.zeros(3, 90, 120)
    y, x = torch.meshgrid(torch.arange(90) + 0.5, torch.arange(120) + 0.5, indexing="ij")
    for colour, point in zip(COLOURS, POINTS, strict=True):
        blob = torch.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / 8)
        made += torch.tensor(colour).float()[:, None, None] * blob
    return made.clamp(0, 1)


@pytest.mark.parametrize("degrees", [0.0, 25.0, -25.0, 70.0])
def test_findings_come_back_to_where_they_are(photo, degrees):
    (found,) = Turned(spots, (degrees,))(photo)
    assert float((found.points - POINTS).abs().max()) < 0.4


def test_a_face_seen_several_times_is_one_and_the_surest_counts(photo):
    scores = iter((0.5, 0.9, 0.7))

    def doubtful(given: Tensor) -> list[Face]:
        (face,) = spots(given)
        return [Face(face.box, face.points, next(scores))]

    (found,) = Turned(doubtful)(photo)
    assert found.score == 0.9
    assert float((found.points - POINTS).abs().max()) < 0.4
    assert Turned(lambda given: [])(photo) == []


def test_a_turned_photo_is_seen_clockwise(photo):
    seen: list[Tensor] = []

    def look(given: Tensor) -> list[Face]:
        seen.append(given)
        return []

    Turned(look, (90.0,))(photo)
    assert seen[0].shape == (3, 120, 90)
    assert torch.allclose(seen[0], photo.rot90(-1, (1, 2)), atol=1e-4)


def test_huge_photos_are_reduced_first(photo, monkeypatch):
    monkeypatch.setattr("preimage.faces.turned.MOST_PIXELS", 3000)
    seen: list[Tensor] = []

    def look(given: Tensor) -> list[Face]:
        seen.append(given)
        return spots(given)

    (found,) = Turned(look, (0.0,))(photo)
    assert seen[0].shape == (3, 45, 60)
    assert float((found.points - POINTS).abs().max()) < 0.4


def test_what_is_found_outside_the_photo_does_not_count(photo):
    def corner(given: Tensor) -> list[Face]:
        return [Face.at(POINTS - POINTS.amin(0))]  # at the upper left, where a turned photo has none of its own

    assert Turned(corner, (25.0,))(photo) == []
    assert len(Turned(corner, (0.0,))(photo)) == 1
