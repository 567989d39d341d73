"""Augmentations: exact where they are, absent where they should be, and differentiable."""

from __future__ import annotations

import pytest
import torch

from preimage.train.augment import AUGMENTATIONS, augment, colour, cutout, translation


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_shape_and_gradient(name):
    x = torch.rand(6, 3, 16, 16, requires_grad=True)
    y = augment(x, (name,))
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    assert not torch.equal(y, x)
    y.square().sum().backward()
    assert bool(torch.isfinite(x.grad).all())
    assert bool((x.grad.abs().sum(dim=(1, 2, 3)) > 0).all())


def test_translation_moves_one_pixel_to_one_place():
    x = torch.full((400, 1, 16, 16), 0.5)
    x[:, :, 8, 6] = 1.0
    y = translation(x)  # by up to an eighth: two pixels
    places = (y != 0.5).nonzero()
    assert torch.equal(places[:, 0], torch.arange(400))  # one bright pixel each
    assert bool((y[y != 0.5] == 1).all())
    moves = {(int(r) - 8, int(c) - 6) for _, _, r, c in places}
    assert moves == {(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)}


def test_translation_lets_grey_in():
    y = translation(torch.ones(64, 3, 8, 8), ratio=0.5)
    assert set(y.unique().tolist()) == {0.5, 1.0}


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.3])
@pytest.mark.parametrize("side", [16, 15])
def test_cutout_is_one_square_of_its_share(ratio, side):
    y = cutout(torch.ones(500, 1, side, side), ratio)
    hole = (y == 0.5)[:, 0]
    size = round(side * ratio)
    areas = hole.sum(dim=(1, 2))
    assert int(areas.max()) == size**2  # whole where it does not stick out
    assert int(areas.min()) >= (size // 2) ** 2
    rows, columns = hole.any(dim=2).sum(1), hole.any(dim=1).sum(1)
    assert torch.equal(rows * columns, areas)  # a rectangle


def test_colour_changes_no_structure():
    x = torch.rand(8, 3, 6, 6)
    grey = x.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    y = colour(grey)
    assert torch.allclose(y, y[:, :1].expand(-1, 3, -1, -1), atol=1e-6)  # grey stays grey
    slope = (y - y.mean(dim=(1, 2, 3), keepdim=True)) / (grey - grey.mean(dim=(1, 2, 3), keepdim=True))
    assert torch.allclose(slope, slope[:, :1, :1, :1].expand_as(slope), atol=1e-2)
    assert float(slope.min()) >= 0.49
    assert float(slope.max()) <= 1.51
    moved = (y.mean(dim=(1, 2, 3)) - grey.mean(dim=(1, 2, 3))).abs()
    assert float(moved.max()) <= 0.2501


def test_probability():
    x = torch.rand(2000, 1, 4, 4)
    assert augment(x, ("colour", "cutout"), 0.0).equal(x)
    assert augment(x, (), 1.0).equal(x)
    changed = (augment(x, ("colour",), 0.25) != x).flatten(1).any(dim=1).float().mean()
    assert float(changed) == pytest.approx(0.25, abs=0.04)
    assert bool((augment(x, ("colour",), 1.0) != x).flatten(1).any(dim=1).all())


def test_adas_changes_happen_each_by_itself():
    x = torch.rand(3000, 3, 4, 4)
    unchanged = (augment(x, ("ada-colour",), 0.25) - x).abs().amax(dim=(1, 2, 3)) < 1e-5
    assert float(unchanged.float().mean()) == pytest.approx(0.75**4 * (1 - 0.25 / 2), abs=0.03)
