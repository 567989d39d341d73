"""Photos to maps by a network, and how well maps agree."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from preimage.errors import InputError
from preimage.semantics.agreement import agreement, confusion
from preimage.semantics.labels import NUMBER, flip, one_hot, resize
from preimage.semantics.segment import Segmenter, SegmenterConfig, segment


class Reads(nn.Module):
    """Says of each pixel the label that its red value names; of one half of the photo it is surer than of the other."""

    def __init__(self, number: int = NUMBER) -> None:
        super().__init__()
        self.number = number

    def forward(self, pictures: Tensor) -> Tensor:
        scores = one_hot((pictures[:, 0] * 255).round().long()) * torch.linspace(1, 9, pictures.shape[-1])
        return scores[:, : self.number]


@pytest.fixture
def labels() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, NUMBER, (3, 8, 8)))


def painted(labels: Tensor) -> Tensor:
    return (labels / 255).float()[:, None].expand(-1, 3, -1, -1)


def test_labels_of_scores(labels):
    found = segment(Reads(), painted(labels), mirrored=False)
    assert found.dtype == torch.int64
    assert torch.equal(found, labels)
    assert segment(Reads(), painted(labels), 16).shape == (3, 16, 16)


def test_the_mirrored_photo_has_left_and_right_swapped():
    """A network that reads pixels says left eye of what a mirrored one holds as right: both halves must be brought together."""
    network = Segmenter(
        SegmenterConfig(
            16, stem=(4, 4, 4), widths=(4,) * 4, blocks=(1,) * 4, pyramid=4, rates=(1, 1, 2), low=4, decoder=8
        )
    )
    photos = torch.rand(2, 3, 16, 16)
    network.eval()
    assert torch.equal(segment(network, photos.flip(-1)), flip(segment(network, photos)))


def test_batches_do_not_matter(labels):
    whole = segment(Reads(), painted(labels))
    assert torch.equal(segment(Reads(), painted(labels), batch=1), whole)


def test_what_cannot_be_segmented(labels):
    with pytest.raises(InputError, match=r"pictures torch\.int64"):
        segment(Reads(), labels[:, None])
    with pytest.raises(InputError, match="a network of 7 labels"):
        segment(Reads(7), painted(labels))


# ----------------------------------------------------------------------------------------------------------- agreement


def test_agreement_in_closed_form():
    truth = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1]])
    found = torch.tensor([[0, 0, 0, 1], [0, 0, 2, 1]])
    table = confusion(found, truth, 4)
    assert table.tolist() == [[4, 0, 0, 0], [1, 2, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    said = agreement(table)
    assert said.iou[:3] == pytest.approx((4 / 5, 2 / 4, 0.0))
    assert math.isnan(said.iou[3])
    assert said.mean_iou == pytest.approx((0.8 + 0.5 + 0.0) / 3)
    assert said.accuracy == pytest.approx(6 / 8)


def test_tables_add_up(labels):
    found = labels.roll(1, 2)
    parts = sum(confusion(a, b) for a, b in zip(found, labels, strict=True))
    assert torch.equal(parts, confusion(found, labels))
    assert agreement(confusion(labels, labels)).mean_iou == 1.0
    with pytest.raises(InputError, match="do not cover each other"):
        confusion(resize(labels, 4), labels)
