"""Faces: closed forms with stub networks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from preimage.errors import InputError
from preimage.measure.faces import (
    attribute_difference,
    identity_similarity,
    landmark_distance,
)
from preimage.nets.landmarks import gaussian_heatmaps
from preimage.nets.mobilefacenet import MobileFaceNet


class Angle:
    """Embeds a picture as an angle: its red level, in radians, at any length."""

    name = "My Angle"

    def __init__(self) -> None:
        self.asked: list[int] = []

    def embed(self, x: Tensor) -> Tensor:
        self.asked.append(len(x))
        angle = x[:, 0].mean((1, 2))
        return torch.stack([angle.cos(), angle.sin()], 1) * (1 + x[:, 1].mean((1, 2)))[:, None]


class Peaks:
    """Two landmarks, at the mean red and at the mean green level, both times in x; y is one half."""

    def heatmaps(self, x: Tensor) -> Tensor:
        across = x[:, :2].mean((2, 3))
        return gaussian_heatmaps(torch.stack([across, torch.full_like(across, 0.5)], 2), 64, 1.5)


class Levels:
    name = "levels"
    names: Sequence[str] = ("Red Hair", "green", "blue")

    def scores(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def flat(*colours: Sequence[float]) -> Tensor:
    return torch.tensor(colours)[:, :, None, None].expand(-1, -1, 8, 8)


def test_identity_is_the_cosine_whatever_the_lengths() -> None:
    metric = identity_similarity(Angle())
    assert (metric.name, metric.lower_is_better, metric.reference) == ("identity-my-angle", False, True)
    images, reference = flat((0.1, 0, 0), (0.4, 1, 0), (1, 0.5, 1)), flat((0.1, 0, 1), (0.1, 0, 0), (0.2, 0.2, 0))
    assert metric(images, reference).tolist() == pytest.approx([1, math.cos(0.3), math.cos(0.8)], abs=1e-6)


def test_a_shared_reference_is_looked_at_once() -> None:
    network = Angle()
    metric = identity_similarity(network, name="other")
    assert metric.name == "identity-other"
    images = flat((0.1, 0, 0), (0.4, 1, 0), (1, 0.5, 1))
    values = metric(images, images[1].contiguous())
    assert network.asked == [3, 1]
    assert values.tolist() == pytest.approx([math.cos(0.3), 1, math.cos(0.6)], abs=1e-6)


def test_landmark_distance_is_equation_7() -> None:
    """Mean over landmarks, sum over pixels: by hand, and for Gaussian peaks in closed form."""
    metric = landmark_distance(Peaks())
    assert (metric.name, metric.lower_is_better) == ("landmarks-peaks", True)
    images, reference = flat((0.50, 0.30, 0), (0.5, 0.5, 0)), flat((0.53, 0.30, 1), (0.5, 0.5, 1))
    a, b = Peaks().heatmaps(images)[0], Peaks().heatmaps(reference)[0]
    by_hand = sum(float(((a[k] - b[k]) ** 2).sum()) for k in range(2)) / 2
    pixels = 0.03 * 64
    closed = 2 * math.pi * 1.5**2 * (1 - math.exp(-(pixels**2) / (4 * 1.5**2))) / 2
    values = metric(images, reference).tolist()
    assert values == pytest.approx([by_hand, 0], abs=1e-5)
    assert values[0] == pytest.approx(closed, rel=1e-4)


def test_attributes_are_compared_one_by_one() -> None:
    images, reference = flat((0.1, 0.5, 0.9), (0, 1, 0)), flat((0.4, 0.4, 0.9), (1, 0, 1))
    metric = attribute_difference(Levels())
    assert metric.name == "attributes-levels"
    assert metric(images, reference).tolist() == pytest.approx([0.4 / 3, 1], abs=1e-6)
    one = attribute_difference(Levels(), only=["Red Hair"])
    assert one.name == "attributes-levels-red-hair"
    assert one(images, reference).tolist() == pytest.approx([0.3, 1], abs=1e-6)
    assert one(images, images).tolist() == [0, 0]
    with pytest.raises(InputError, match=r"no attributes beard; there are Red Hair, green, blue"):
        attribute_difference(Levels(), only=["beard"])


def test_answers_of_the_wrong_shape_are_refused() -> None:
    class Pooled(Peaks):
        def heatmaps(self, x: Tensor) -> Tensor:
            return super().heatmaps(x).sum((2, 3))

    class Joined(Angle):
        def embed(self, x: Tensor) -> Tensor:
            return super().embed(x).flatten()[None]

    images = flat((0.1, 0.5, 0.9), (0, 1, 0))
    with pytest.raises(InputError, match=r"heatmaps of 2 pictures has shape \(2, 2\)"):
        landmark_distance(Pooled())(images, images)
    with pytest.raises(InputError, match=r"embed of 2 pictures has shape \(1, 4\)"):
        identity_similarity(Joined())(images, images[0])


def test_mobilefacenet_is_an_identity_network() -> None:
    torch.manual_seed(0)
    metric = identity_similarity(MobileFaceNet())
    x = torch.rand(2, 3, 64, 64)
    assert metric.name == "identity-mobilefacenet"
    assert metric(x, x).tolist() == pytest.approx([1, 1], abs=1e-5)
    assert bool((metric(x, x.flip(0)) < 1).all())
