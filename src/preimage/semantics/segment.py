"""Photos of any size -> maps of regions, by a network of `nets.segmenter`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from preimage.errors import InputError
from preimage.nets.segmenter import Segmenter as Segmenter
from preimage.nets.segmenter import SegmenterConfig as SegmenterConfig
from preimage.nets.segmenter import enlarged
from preimage.semantics.labels import NUMBER, PAIRS


@torch.no_grad()
def segment(
    network: nn.Module, pictures: Tensor, side: int | None = None, mirrored: bool = True, batch: int = 32
) -> Tensor:
    """The region of every pixel (DeepSEE, section 3.1: M = Seg(x_lr)).

    Args:
        network: a `Segmenter` in eval mode; `weights.load_network(name, "segmenter")` loads one.
        pictures: (n, 3, s, s) in [0, 1], on its device.
        side: of the maps; None: the network's own resolution. Scores are enlarged or reduced before they are compared.
        mirrored: whether the mirrored photo is looked at too, and scores are averaged; twice the time.
        batch: photos at a time.

    Returns:
        (n, side, side) int64 numbers of `LABELS`.

    Raises:
        InputError: no batch of square pictures, or a network with other labels.
    """
    if pictures.ndim != 4 or not pictures.is_floating_point():
        raise InputError(f"pictures {pictures.dtype} {tuple(pictures.shape)}: give (n, 3, s, s) in [0, 1].")
    return torch.cat([_labels(network, part, side, mirrored) for part in torch.split(pictures, batch)])


def _labels(network: nn.Module, pictures: Tensor, side: int | None, mirrored: bool) -> Tensor:
    scores: Tensor = network(pictures)
    if scores.shape[1] != NUMBER:
        raise InputError(f"a network of {scores.shape[1]} labels cannot find the {NUMBER} regions; take another one.")
    if mirrored:
        order = list(range(NUMBER))
        for left, right in PAIRS:
            order[left], order[right] = right, left
        scores = scores.log_softmax(1) + network(pictures.flip(-1)).log_softmax(1).flip(-1)[:, order]
    return enlarged(scores, side or scores.shape[-1]).argmax(1)
