"""Sheets: every picture exact in its place, even lightness, texts that fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from preimage.errors import InputError
from preimage.sheet import candidate_grid, contact_sheet, heatmap

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def planes(array: np.ndarray) -> torch.Tensor:
    """(h, w, 3) bytes as the tensor they should be read as."""
    return torch.from_numpy(array.astype(np.float32)).permute(2, 0, 1) / 255


def lightness(colours: torch.Tensor) -> torch.Tensor:
    """CIE L* of sRGB (3, ...)."""
    linear = torch.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    y = (linear * torch.tensor([0.2126, 0.7152, 0.0722]).view(3, *[1] * (colours.ndim - 1))).sum(0)
    return torch.where(y > 216 / 24389, 116 * y.clamp(min=1e-9) ** (1 / 3) - 16, y * 24389 / 27)


def test_heatmap_lightness_rises_evenly():
    light = lightness(heatmap(torch.linspace(0, 1, 101)[None]))[0]
    steps = light.diff()
    assert float(light[0]) < 10
    assert float(light[-1]) > 90
    assert float(steps.min()) > 0.45
    assert float(steps.max()) < 1.6


def test_heatmap_clips_and_refuses():
    colours = heatmap(torch.tensor([[-1.0, 0.0, 1.0, 2.0]]))
    assert torch.equal(colours[:, 0, 0], colours[:, 0, 1])
    assert torch.equal(colours[:, 0, 2], colours[:, 0, 3])
    for bad in (torch.zeros(1, 2, 2), torch.full((2, 2), torch.nan)):
        with pytest.raises(InputError, match="heat map"):
            heatmap(bad)


def test_sheet_shows_every_picture_enlarged_exactly_and_nothing_over_it():
    lr, big = planes(RGB[:4, :4]), planes(np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    sheet = contact_sheet(
        [[lr, big], [big.mean(0, keepdim=True), None]],
        captions=[["input 4×4", "seed 0 " * 30], ["gypsy", ""]],
        row_labels=["a long label " * 20, "b"],
        column_labels=["column", "Ägq" * 40],
        cell=64,
    )
    large = lr.repeat_interleave(16, 1).repeat_interleave(16, 2)
    patches = sheet.unfold(1, 64, 1).unfold(2, 64, 1)
    found = {}
    for name, picture in {"lr": large, "big": big}.items():
        corner = (patches[..., ::21, ::21] == picture[:, ::21, ::21, None, None].permute(0, 3, 4, 1, 2)).all(0)
        places = corner.all(-1).all(-1).nonzero().tolist()
        assert len(places) == 1, name
        y, x = places[0]
        assert torch.equal(sheet[:, y : y + 64, x : x + 64], picture)
        found[name] = (y, x)
    assert found["lr"][0] == found["big"][0]
    assert found["big"][1] - found["lr"][1] == 64 + 8


def test_sheet_borders_are_white():
    sheet = contact_sheet([[torch.zeros(3, 4, 4)] * 2], captions=[["g" * 99] * 2], cell=64)
    for edge in (sheet[:, :8], sheet[:, -8:], sheet[:, :, :8], sheet[:, :, -8:], sheet[:, 8:72, 72:80]):
        assert bool((edge == 1).all())
    assert float(sheet[:, 72:].min()) < 0.5  # the caption is there


def test_sheet_keeps_proportions_and_shrinks():
    sheet = contact_sheet([[torch.zeros(3, 512, 256)]], cell=64)
    assert sheet.shape == (3, 64 + 16, 32 + 16)


@pytest.mark.parametrize("rows", [[], [[]], [[None]]])
def test_sheet_without_pictures_is_refused(rows):
    with pytest.raises(InputError, match="at least one picture"):
        contact_sheet(rows)


def test_grid_wraps_many_candidates():
    lr, images = torch.zeros(3, 2, 2), torch.zeros(11, 3, 8, 8)
    captions = [f"seed {i}" for i in range(11)]
    grid = candidate_grid(lr, images, captions, torch.ones(8, 8), columns=4)
    assert grid.shape[2] == 8 + 4 * (256 + 8)
    assert grid.shape[1] > 4 * 256
    assert candidate_grid(lr, images[:1], captions[:1]).shape[2] == 8 + 2 * (256 + 8)


def test_sheet_without_freetype(monkeypatch):
    from PIL import ImageFont

    def no_freetype(size=None):
        if size is not None:
            raise ImportError
        return ImageFont.load_default_imagefont()

    monkeypatch.setattr(ImageFont, "load_default", no_freetype)
    assert contact_sheet([[torch.zeros(3, 4, 4)]], captions=[["seed 0 × … 顔"]], cell=32).shape[2] == 48
