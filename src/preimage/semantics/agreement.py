"""How well two maps of regions agree: confusion, intersection over union, pixel accuracy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from preimage.errors import InputError
from preimage.semantics.labels import NUMBER


@dataclass(frozen=True)
class Agreement:
    """Of all pixels of a set together, as segmentation is usually judged.

    Attributes:
        iou: of each label, intersection over union; NaN where neither map has it.
        mean_iou: of the labels that are somewhere.
        accuracy: share of pixels with the right label.
    """

    iou: tuple[float, ...]
    mean_iou: float
    accuracy: float


def confusion(found: Tensor, truth: Tensor, labels: int = NUMBER) -> Tensor:
    """(labels, labels) int64: pixels by what they are (rows) and what was found (columns); tables of several sets add up.

    Raises:
        InputError: maps of different shapes.
    """
    if found.shape != truth.shape:
        raise InputError(f"maps {tuple(found.shape)} and {tuple(truth.shape)} do not cover each other; resize one.")
    pairs = truth.flatten().long() * labels + found.flatten().long()
    return torch.bincount(pairs, minlength=labels * labels).reshape(labels, labels)


def agreement(table: Tensor) -> Agreement:
    """What a table of `confusion` comes to."""
    table = table.double()
    both = table.diagonal()
    either = table.sum(0) + table.sum(1) - both
    iou = tuple((both / either).tolist())
    there = [x for x in iou if not math.isnan(x)]
    return Agreement(iou, sum(there) / max(len(there), 1), float(both.sum() / table.sum().clamp_min(1)))
