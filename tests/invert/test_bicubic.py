"""The baseline asks another method's network for its size alone."""

from __future__ import annotations

import pytest

import preimage


@pytest.mark.parametrize(("network", "side"), [("faces64", 64), ("posterior-16to128", 128), ("pro-pulse-32to128", 128)])
def test_pictures_are_as_large_as_those_of_any_network(network, side):
    assert preimage.load("bicubic", prior=network, device="cpu").resolution == side
