"""ADA: an orthogonal filter, exact where nothing is interpolated, the stated distributions, and the control of p."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from preimage.train.ada import (
    SYM6,
    OverfittingControl,
    blit,
    colour,
    colour_matrix,
    geometry,
    geometry_matrix,
    warp,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def smooth(n: int = 1, side: int = 32) -> torch.Tensor:
    """Random pictures without the finest frequencies, which no resampling keeps."""
    return F.interpolate(torch.rand(n, 3, side // 4, side // 4), size=(side, side), mode="bicubic").clamp(0, 1)


def test_the_filter_is_orthogonal_to_its_even_shifts():
    taps = torch.tensor(SYM6, dtype=torch.float64)
    products = [float(taps[2 * k :] @ taps[: len(taps) - 2 * k]) for k in range(6)]
    assert products == pytest.approx([1, 0, 0, 0, 0, 0], abs=1e-11)
    assert float(taps.sum()) == pytest.approx(math.sqrt(2))
    moments = [float((taps * (-1.0) ** torch.arange(12) * torch.arange(12.0) ** k).sum()) for k in range(6)]
    assert moments == pytest.approx([0] * 6, abs=1e-6)  # six vanishing moments of the high pass


@pytest.mark.parametrize("change", [blit, geometry, colour])
def test_nothing_happens_at_probability_0(change):
    x = smooth(4)
    y = change(x, 0.0)
    assert torch.allclose(y[:, :, 4:-4, 4:-4], x[:, :, 4:-4, 4:-4], atol=1e-5)
    assert torch.allclose(y, x, atol=0.01)  # the filter meets its own reflection at the border


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_turning_by_quarters(quarters):
    x, angle = smooth(), torch.tensor(quarters * math.pi / 2)
    c, s = float(angle.cos()), float(angle.sin())
    turned = warp(x, torch.tensor([[[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]]))
    difference = (turned - x.rot90(quarters, (2, 3)))[:, :, 4:-4, 4:-4]
    assert float(difference.abs().max()) < 0.05
    assert float(difference.abs().mean()) < 0.01


@pytest.mark.parametrize(("dx", "dy"), [(3, 0), (0, -2), (1, 5)])
def test_shifting_by_whole_pixels(dx, dy):
    x = smooth()
    matrix = torch.tensor([[[1.0, 0.0, 2 * dx / 32], [0.0, 1.0, 2 * dy / 32], [0.0, 0.0, 1.0]]])
    expected = x.roll((-dy, -dx), (2, 3))[:, :, 6:-6, 6:-6]
    assert torch.allclose(warp(x, matrix)[:, :, 6:-6, 6:-6], expected, atol=2e-3)


def test_borders_are_reflected_without_a_seam():
    shifted = warp(
        torch.full((1, 3, 16, 16), 0.7), torch.tensor([[[1.3, 0.4, 0.5], [-0.2, 1.1, 0.9], [0.0, 0.0, 1.0]]])
    )
    assert torch.allclose(shifted, torch.full_like(shifted, 0.7), atol=1e-5)


def test_blitting_copies_pixels():
    x = torch.arange(3 * 16 * 16.0).view(1, 3, 16, 16).expand(300, -1, -1, -1)
    y = blit(x, 1.0)
    assert bool(torch.isin(y, x[0]).all())
    assert bool((y[:, 1] - y[:, 0] == 256).all())  # channels stay together
    # up to an eighth is reflected in: at least (7/8)² of the pixels remain
    kept = torch.tensor([len(picture[0].unique()) for picture in y])
    assert int(kept.min()) == 14 * 14
    assert int(kept.max()) == 16 * 16
    once = [float((blit(x, p) != x).flatten(1).any(dim=1).float().mean()) for p in (0.2, 1.0)]
    unmoved = (1 - 0.2 / 2) * (1 - 0.2 * 3 / 4) * (1 - 0.2 * 24 / 25)
    assert once[0] == pytest.approx(1 - unmoved, abs=0.09)
    assert once[1] > 0.97


def test_a_picture_that_is_not_square_is_not_turned():
    assert blit(torch.rand(8, 3, 8, 16), 1.0).shape == (8, 3, 8, 16)


def test_geometry_has_the_stated_spreads():
    many = torch.empty(40_000)
    assert torch.equal(geometry_matrix(many[:3], 0.0), torch.eye(3).expand(3, 3, 3))
    maps = geometry_matrix(many, 1.0)
    areas = -torch.linalg.det(maps[:, :2, :2]).log2() / 2  # neither turns nor stretches change areas
    assert float(areas.mean()) == pytest.approx(0, abs=0.01)
    assert float(areas.std()) == pytest.approx(0.2, abs=0.01)
    ratio = torch.linalg.svdvals(maps[:, :2, :2]).log2()
    stretch = (ratio[:, 0] - ratio[:, 1]) / 2  # |normal|
    assert float(stretch.square().mean().sqrt()) == pytest.approx(0.2, abs=0.01)
    still = (geometry_matrix(many, 0.3)[:, :2, :2] - torch.eye(2)).abs().amax(dim=(1, 2)) < 1e-6
    assert float(still.float().mean()) == pytest.approx(0.7**3, abs=0.01)  # scale, stretch, and one of two turns


def test_colour_has_the_stated_effects():
    many = torch.empty(20_000)
    assert torch.allclose(colour_matrix(many[:3], 0.0), torch.eye(4).expand(3, 4, 4), atol=1e-6)
    maps = colour_matrix(many, 1.0)
    grey = torch.tensor([1.0, 1.0, 1.0, 0.0])
    moved = maps @ grey
    assert torch.allclose(moved[:, :3], moved[:, :1].expand(-1, 3), rtol=1e-4, atol=1e-4)  # greys stay grey
    assert float((moved[:, 0] < 0).float().mean()) == pytest.approx(0.5, abs=0.02)  # luma flips
    contrast = moved[:, 0].abs().log2()
    assert float(contrast.std()) == pytest.approx(0.5, abs=0.02)
    assert float((maps[:, 0, 3] / moved[:, 0]).std()) == pytest.approx(0.2, abs=0.01)  # brightness
    # two directions across the axis of greys stay orthogonal and equally long: turned, flipped or saturated alike
    a, b = (maps[:, :3, :3] @ torch.tensor(v) for v in ([1.0, -1.0, 0.0], [1.0, 1.0, -2.0]))
    assert torch.allclose((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)), torch.zeros(len(a)), atol=1e-4)
    assert torch.allclose(b.norm(dim=1) / a.norm(dim=1), torch.full((len(a),), math.sqrt(3)), rtol=1e-3)
    assert float((a.norm(dim=1) / math.sqrt(2) / moved[:, 0].abs()).log2().std()) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("change", [blit, geometry, colour])
def test_gradients_reach_the_picture(change):
    x = smooth(4).requires_grad_(True)
    change(x, 1.0).square().sum().backward()
    assert bool(torch.isfinite(x.grad).all())
    assert bool((x.grad.abs().sum(dim=(1, 2, 3)) > 0).all())


def test_the_probability_follows_the_sign_of_overfitting():
    control = OverfittingControl(p=0.0, target=0.6, images=1000)
    for _ in range(3):
        control.update(0.9, 64)
    assert control.p == pytest.approx(3 * 0.064)
    control.update(0.1, 64)
    assert control.p == pytest.approx(2 * 0.064)
    for _ in range(5):
        control.update(0.1, 64)
    assert control.p == 0
    for _ in range(20):
        control.update(0.61, 64)
    assert control.p == 1
    again = OverfittingControl()
    again.load_state_dict(control.state_dict())
    assert (again.p, again.sign) == (1, 0.61)
    fixed = OverfittingControl(p=0.5, target=0)
    fixed.update(1.0, 10**9)
    assert fixed.p == 0.5
