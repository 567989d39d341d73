"""Boxes around faces: how much two overlap, and which of many are the same face."""

from __future__ import annotations

import torch
from torch import Tensor


def overlaps(box: Tensor, others: Tensor, smaller: bool = False) -> Tensor:
    """Share of the union, or of the smaller one's area, that a box has in common with others.

    Args:
        box: (4,) of left, top, right, bottom.
        others: (n, 4).
        smaller: measure by the smaller of two: one inside the other counts 1.

    Returns:
        (n,) in [0, 1].
    """
    size = (torch.minimum(box[2:], others[:, 2:]) - torch.maximum(box[:2], others[:, :2])).clamp(min=0)
    common = size.prod(1)
    own, theirs = (box[2:] - box[:2]).prod(), (others[:, 2:] - others[:, :2]).prod(1)
    return common / (torch.minimum(own, theirs) if smaller else own + theirs - common).clamp(min=1e-9)


def suppressed(boxes: Tensor, scores: Tensor, most: float, smaller: bool = False) -> Tensor:
    """Non-maximum suppression: of boxes that overlap by more than `most` the one with the highest score stays.

    Args:
        boxes: (n, 4) of left, top, right, bottom.
        scores: (n,).
        most: overlap that two may have.
        smaller: see `overlaps`.

    Returns:
        Indices of those that stay, best first.
    """
    order, kept = scores.argsort(descending=True, stable=True), []
    while len(order):
        first, order = order[0], order[1:]
        kept.append(first)
        order = order[overlaps(boxes[first], boxes[order], smaller) <= most]
    return torch.stack(kept) if kept else torch.empty(0, dtype=torch.long)
