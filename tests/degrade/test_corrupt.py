"""The robustness set: right amounts, seeded per picture, clipped, and readable from the command line."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from preimage.degrade.corrupt import (
    CORRUPTIONS,
    gaussian_noise,
    jpeg,
    motion_blur,
    parse_corruption,
    salt_and_pepper,
)
from preimage.errors import InputError


@pytest.fixture
def pictures() -> Tensor:
    return torch.rand(3, 3, 24, 40, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_contract(name: str, pictures: Tensor) -> None:
    corrupt = CORRUPTIONS[name]
    out = corrupt(pictures, seed=5)
    assert out.shape == pictures.shape
    assert out.dtype == pictures.dtype
    assert out.min() >= 0
    assert out.max() <= 1
    assert not torch.equal(out, pictures)
    assert torch.equal(out, corrupt(pictures, seed=5))
    assert torch.equal(out[1:2], corrupt(pictures[1:2], seed=6)), "seeds count up from the first picture's"
    assert torch.equal(out.flip(0), corrupt(pictures.flip(0), seed=[7, 6, 5]))
    drawn = corrupt(pictures, generator=torch.Generator().manual_seed(1))
    assert torch.equal(drawn[:2], corrupt(pictures[:2], generator=torch.Generator().manual_seed(1)))
    if name != "jpeg":
        assert not torch.equal(out, corrupt(pictures, seed=6))
    assert corrupt(pictures[:0]).shape == (0, 3, 24, 40)
    assert corrupt(pictures.half()).dtype == torch.float16


@pytest.mark.parametrize("std", [25.0, 50.0])
def test_noise_has_its_deviation(std: float) -> None:
    grey = torch.full((1, 3, 200, 200), 0.5, dtype=torch.float64)
    noise = gaussian_noise(grey, std / 4, seed=1) - grey  # a quarter, so that clipping takes nothing
    assert noise.std() * 255 == pytest.approx(std / 4, rel=0.02)
    assert abs(float(noise.mean())) * 255 < 0.1
    assert torch.equal(gaussian_noise(grey, 0), grey)


def test_salt_and_pepper_strikes_whole_pixels() -> None:
    grey = torch.full((1, 3, 300, 300), 0.5)
    out = salt_and_pepper(grey, 0.05, seed=2)[0]
    assert torch.equal(out[0], out[1])
    assert float((out[0] == 1).float().mean()) == pytest.approx(0.025, abs=0.003)
    assert float((out[0] == 0).float().mean()) == pytest.approx(0.025, abs=0.003)
    assert torch.equal(salt_and_pepper(grey, 0.0), grey)


def test_motion_blur() -> None:
    point = torch.zeros(1, 3, 65, 65, dtype=torch.float64)
    point[..., 32, 32] = 1
    line = motion_blur(point, 20, seed=3)[0, 0]
    assert float(line.sum()) == pytest.approx(1, abs=1e-9)
    i, j = np.nonzero(line.numpy() > 1e-4)
    extent = np.hypot(i.max() - i.min(), j.max() - j.min())
    assert 19 <= extent <= 24
    assert torch.allclose(line, line.flip(0, 1), atol=1e-9), "nothing shifts"
    flat = torch.full((1, 3, 16, 16), 0.3)
    torch.testing.assert_close(motion_blur(flat, 50), flat)
    noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(motion_blur(noise, seed=4), motion_blur(noise, 100 * 64 / 1024, seed=4))
    torch.testing.assert_close(motion_blur(noise, 0), noise)
    directions = {tuple(np.argwhere(x[0].numpy() > 1e-3).max(0)) for x in motion_blur(point.expand(8, -1, -1, -1), 20)}
    assert len(directions) > 4


def test_jpeg_quality() -> None:
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    errors = [(jpeg(x, q) - x).square().mean() for q in (95, 50, 5)]
    assert errors[0] < errors[1] < errors[2]
    assert torch.allclose(jpeg(x, 50) * 255, (jpeg(x, 50) * 255).round(), atol=1e-4)


def test_stages_and_parsing() -> None:
    assert {name: c.stage for name, c in CORRUPTIONS.items()} == {
        "gaussian_noise": "lr",
        "motion_blur": "hr",
        "salt_and_pepper": "lr",
        "jpeg": "lr",
    }
    assert parse_corruption("gaussian_noise:50").amount == 50
    assert parse_corruption(" salt-and-pepper : 0.1 ").amount == 0.1
    assert parse_corruption("motion_blur").amount is None
    for text in ("gaussian_noise:25", "motion_blur", "motion_blur:12.5", "jpeg:30"):
        assert str(parse_corruption(text)) == text
    with pytest.raises(dataclasses.FrozenInstanceError):
        CORRUPTIONS["jpeg"].amount = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "text", ["", "blur", "gaussian_noise:", "gaussian_noise:x", "jpeg:0", "jpeg:50.5", "salt_and_pepper:2", "jpeg:nan"]
)
def test_parsing_refuses(text: str) -> None:
    with pytest.raises(InputError, match=r"choose one of|the amount is"):
        parse_corruption(text)


def test_refusals(pictures: Tensor) -> None:
    with pytest.raises(InputError, match="2 seeds for 3"):
        gaussian_noise(pictures, seed=[1, 2])
    with pytest.raises(InputError, match="std"):
        gaussian_noise(pictures, -1)
    with pytest.raises(InputError, match="density"):
        salt_and_pepper(pictures, 1.5)
    with pytest.raises(InputError, match="length"):
        motion_blur(pictures, float("nan"))
    with pytest.raises(InputError, match="NaN"):
        jpeg(pictures * float("nan"))
    with pytest.raises(InputError, match="float"):
        jpeg((pictures * 255).byte())
    with pytest.raises(InputError, match=r"n, 3, H, W"):
        gaussian_noise(pictures[0])
