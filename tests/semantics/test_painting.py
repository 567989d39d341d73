"""Strokes on a map of regions."""

from __future__ import annotations

import pytest
import torch

from preimage.errors import InputError
from preimage.semantics.labels import LABELS, coloured
from preimage.semantics.painting import paintable, painted

HAIR = next(i for i, label in enumerate(LABELS) if label.name == "hair")


def test_every_colour_comes_back_as_its_label():
    labels = torch.arange(len(LABELS)).view(1, -1).expand(19, 19).contiguous()
    strokes = torch.cat([coloured(labels), torch.ones(1, 19, 19)])
    assert torch.equal(painted(torch.zeros_like(labels), strokes), labels)


def test_a_soft_stroke_counts_where_it_covers_half():
    labels = torch.ones(8, 8, dtype=torch.uint8)
    strokes = torch.zeros(4, 32, 32)
    strokes[:3] = coloured(torch.tensor([[HAIR]]))
    strokes[3, :, :16], strokes[3, :, 16:20] = 1.0, 0.4
    found = painted(labels, strokes)
    assert found.dtype == torch.uint8
    assert bool((found[:, :4] == HAIR).all())
    assert bool((found[:, 4:] == 1).all())


def test_no_stroke_changes_nothing():
    labels = torch.randint(0, 19, (16, 16), generator=torch.Generator().manual_seed(0))
    assert torch.equal(painted(labels, torch.zeros(4, 64, 64)), labels)
    with pytest.raises(InputError, match="give"):
        painted(labels, torch.zeros(3, 64, 64))


def test_the_ground_shows_the_map_and_the_picture():
    labels = torch.zeros(8, 8, dtype=torch.uint8)
    found = paintable(labels, torch.ones(3, 8, 8), 32)
    assert found.shape == (3, 32, 32)
    assert torch.allclose(found[0], torch.tensor(0.7 * LABELS[0].colour[0] / 255 + 0.3), atol=1e-5)
