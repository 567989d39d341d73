"""A network is known by its numbers, whatever device or precision flag it carries."""

from __future__ import annotations

import copy

import torch
from torch import nn

from preimage.nets.fingerprint import fingerprint


def test_equal_tensors_give_equal_hashes_and_any_change_another():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    twin = copy.deepcopy(network)
    assert fingerprint(network) == fingerprint(twin)
    assert len(fingerprint(network) or "") == 16
    with torch.no_grad():
        twin[1].running_mean[2] += 1e-3
    assert fingerprint(network) != fingerprint(twin)
    assert fingerprint(lambda x: x) is None
