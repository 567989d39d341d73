"""The queue of a batch: rows photo by photo, those that fit beside each other, few photos open at a time."""

from __future__ import annotations

import pytest
import torch

from preimage.degrade.linear import area, bicubic
from preimage.errors import MethodError
from preimage.invert.problem import Problem, find_degradation
from preimage.invert.queue import Ask, Queue, by_photo, latents_of, photos_of


def ask(seeds, side=4, degradation=None, at=None, **guides):
    return Ask(Problem(torch.rand(3, side, side), degradation or bicubic(16, lr_size=side), 16, guides), seeds, at)


def test_rows_come_photo_by_photo_and_photos_when_there_is_room():
    opened = []

    def asks():
        for seeds in ([5, 3], [7], [1, 2, 9]):
            opened.append(seeds)
            yield ask(seeds)

    queue = Queue(asks())
    assert [row.seed for row in queue.take(2)] == [5, 3]
    assert len(opened) == 1
    rows = queue.take(2)
    assert [row.seed for row in rows] == [7, 1]
    queue.put_back(rows)
    assert [row.seed for row in queue.take(9)] == [7, 1, 2, 9]
    assert queue.take(9) == []


def test_only_what_fits_is_one_batch():
    reference = torch.rand(3, 16, 16)
    apart = [
        ask([0]), ask([0], side=5), ask([0], degradation=area(16, lr_size=4)), ask([0], at={"x": torch.zeros(1, 2)}),
        ask([0], reference=reference), ask([0], reference=reference.clone()),
    ]  # fmt: skip
    for one in apart:
        for two in apart:
            assert one.fits(two) == (one is two)
    assert ask([0]).fits(ask([4]))  # an equal operator will do
    assert ask([0], reference=reference).fits(ask([1], reference=reference))
    queue = Queue([*apart[:2], *apart[1:3]])
    sizes = []
    while rows := queue.take(8):
        sizes.append(len(rows))
    assert sizes == [1, 2, 1]


def test_photos_of_one_size_share_an_operator():
    source = find_degradation("bicubic")
    assert source.build(16, (4, 4)) is source.build(16, (4, 4))
    assert source.build(16, (4, 4)) != source.build(16, (5, 5))


def test_what_a_batch_is_made_of():
    one, two = (ask([4, 5], at={"x": torch.randn(2, 3)}) for _ in range(2))
    rows = Queue([one, two]).take(3)
    assert torch.equal(photos_of(rows), torch.stack([one.problem.lr, one.problem.lr, two.problem.lr]))
    assert torch.equal(latents_of(rows)["x"], torch.cat([one.at["x"], two.at["x"][:1]]))
    assert latents_of(Queue([ask([0])]).take(1)) is None
    assert list(by_photo(rows)) == [(one, [0, 1]), (two, [2])]
    assert [row.seed for row in Queue([ask([3, 4]), ask([5, 6])], many=False).take(9)] == [3, 5]
    with pytest.raises(MethodError, match="x of 2 candidates to go on from, but 1 seeds"):
        ask([0], at={"x": torch.zeros(2, 3)})
