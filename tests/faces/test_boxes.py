"""Overlaps and suppression, against their definitions."""

from __future__ import annotations

import pytest
import torch

from preimage.faces.boxes import overlaps, suppressed


def test_overlaps_are_shares_of_the_union_and_of_the_smaller():
    box = torch.tensor([0.0, 0, 4, 4])
    others = torch.tensor([[0.0, 0, 4, 4], [2, 0, 6, 4], [1, 1, 2, 2], [4, 4, 8, 8]])
    assert overlaps(box, others).tolist() == pytest.approx([1, 8 / 24, 1 / 16, 0])
    assert overlaps(box, others, smaller=True).tolist() == pytest.approx([1, 0.5, 1, 0])


def test_of_boxes_that_overlap_the_best_stays():
    draw = torch.Generator().manual_seed(0)
    start = torch.rand(200, 2, generator=draw) * 50
    boxes = torch.cat([start, start + 5 + 10 * torch.rand(200, 2, generator=draw)], 1)
    scores = torch.rand(200, generator=draw)
    kept = suppressed(boxes, scores, 0.3)
    assert scores[kept].tolist() == sorted(scores[kept].tolist(), reverse=True)
    for i in range(200):
        over = overlaps(boxes[i], boxes[kept])
        if i in kept:
            assert int((over > 0.3).sum()) == 1  # none but itself
        else:  # a better one that stays is the reason
            assert bool(((over > 0.3) & (scores[kept] > scores[i])).any())
    assert suppressed(torch.empty(0, 4), torch.empty(0), 0.5).tolist() == []
