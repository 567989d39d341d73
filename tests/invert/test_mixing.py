"""Latents between two candidates."""

from __future__ import annotations

import pytest
import torch

from preimage.errors import MethodError
from preimage.invert.mixing import mixed


def test_each_kind_goes_its_own_way():
    draw = torch.Generator().manual_seed(0)
    one, other = (
        {
            "z-outline": torch.randn(1, 12, 4, 4, generator=draw),
            "z-sharpness": torch.full((1, 1), value),
            "style": torch.randn(1, 19, 8, generator=draw),
            "mask": torch.full((1, 4, 4), int(10 * value), dtype=torch.uint8),
        }
        for value in (0.0, 1.0)
    )
    found = mixed(one, other, [0.0, 0.25, 0.75, 1.0])
    for name in one:
        assert torch.equal(found[name][0], one[name][0])
        assert torch.equal(found[name][3], other[name][0])
    assert torch.allclose(found["style"][1], 0.75 * one["style"][0] + 0.25 * other["style"][0])
    assert found["z-sharpness"].flatten().tolist() == [0, 0.25, 0.75, 1]
    assert found["mask"][:, 0, 0].tolist() == [0, 0, 10, 10]
    sizes = found["z-outline"].square().mean((1, 2, 3)).sqrt()  # on the straight line they would shrink by a quarter
    assert torch.allclose(sizes[1], 0.75 * sizes[0] + 0.25 * sizes[3])


def test_different_networks_have_nothing_between_them():
    with pytest.raises(MethodError, match="no latents in common"):
        mixed({"z": torch.zeros(1, 3)}, {"z": torch.zeros(1, 4)}, [0.5])
    with pytest.raises(MethodError, match="no latents in common"):
        mixed({}, {}, [0.5])
