"""Storages: how often their numbers may be named before they cost more than a file of that size warrants."""

from __future__ import annotations

import pytest
import torch

from preimage.errors import WeightsError
from preimage.port.inert.values import Limits, Storage, TensorView


def test_everything_in_half_precision_may_have_two_names_and_not_three() -> None:
    count = 1 << 26
    limits, storage = Limits(2 * count), Storage(torch.float16, count)
    for _ in range(2):
        storage.name(count, 2, limits)
    storage.name(1 << 23, 2, limits)  # 32 MiB as float32, which any file may take
    with pytest.raises(WeightsError, match="again and again"):
        storage.name(1, 2, limits)


def test_only_what_goes_beyond_a_storage_is_counted() -> None:
    limits, storage = Limits(0), Storage(torch.float32, 10, memoryview(bytearray(40)))
    before = limits.repeats
    for offset, count in ((0, 4), (4, 6)):  # two views that together are the whole
        TensorView(storage, offset, (count,), (1,), torch.float32).tensor(limits)
    assert limits.repeats == before
    TensorView(storage, 0, (3,), (1,), torch.float32).tensor(limits)
    TensorView(storage, 0, (20,), (1,), torch.float16).tensor(limits)  # other numbers on the same bytes
    assert before - limits.repeats == (3 + 20) * 4
