"""The second stage: local, of any size, and the chain of two stages."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from preimage.errors import WeightsError
from preimage.nets.conditional import ConditionalConfig, ConditionalGenerator
from preimage.nets.local import Chain, ChainConfig, LocalConfig, LocalGenerator
from preimage.weight_files import read_module, save_prior

TINY = LocalConfig(64, width=8, channels=(6, 4), blocks=2, z_texture=2)
FIRST = ConditionalConfig(32, width=8, channels=(4,), w_dim=8, z_outline=2, z_detail=1)


def test_it_answers_pictures_of_any_size():
    torch.manual_seed(0)
    network, size = LocalGenerator(TINY), torch.full((2,), 5.0)
    for side in (32, 64, 100):
        photo, z = torch.rand(2, 3, side, side), {"texture": torch.randn(2, 2, side // 4, side // 4)}
        found = network(photo, size, z)
        assert found.shape == photo.shape
        assert found.dtype == torch.float32
        assert not torch.allclose(network(photo, size, {"texture": z["texture"] + 1}), found, atol=1e-4)
    found.square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())


def test_it_is_local():
    """What is far away changes nothing, so crops teach what whole pictures need."""
    torch.manual_seed(0)
    network, size = LocalGenerator(TINY).eval(), torch.full((1,), 6.0)
    photo, z = torch.rand(1, 3, 256, 256), {"texture": torch.randn(1, 2, 64, 64)}
    with torch.no_grad():
        whole = network(photo, size, z)
        crop = network(photo[..., 64:192, 64:192], size, {"texture": z["texture"][..., 16:48, 16:48]})
    torch.testing.assert_close(crop[..., 40:88, 40:88], whole[..., 104:152, 104:152], atol=1e-5, rtol=1e-4)


def test_a_chain_is_one_file(tmp_path):
    torch.manual_seed(0)
    chain = Chain(ConditionalGenerator(FIRST, "first"), LocalGenerator(replace(TINY, resolution=128), "second"), "both")
    assert chain.resolution == 128
    assert chain.config.z_shapes == {"outline": (2, 4, 4), "detail": (1, 8, 8), "texture": (2, 32, 32)}
    save_prior(tmp_path / "chain.safetensors", chain, {}, dtype=torch.float32)
    again = read_module(tmp_path / "chain.safetensors")
    assert isinstance(again, Chain)
    assert (again.name, again.config) == ("both", chain.config)
    assert all(torch.equal(value, chain.state_dict()[key]) for key, value in again.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": (8,)}, "two widths"),
        ({"channels": (8, 0)}, r"channels\[1\] \(0\)"),
        ({"resolution": 66}, "multiple of 4"),
        ({"resolution": 16}, "from 32 on"),
        ({"blocks": -1}, "blocks"),
        ({"width": 1.5}, "width"),
    ],
)
def test_shapes_that_cannot_be(settings, message):
    with pytest.raises(WeightsError, match=message):
        LocalConfig(**settings)


def test_stages_that_do_not_meet():
    with pytest.raises(WeightsError, match="end at 32 and 64 pixels; the second must reach 4 times"):
        ChainConfig(FIRST, TINY)
    with pytest.raises(WeightsError, match=r"first \(3\) describes no ConditionalConfig"):
        ChainConfig(3, TINY)  # type: ignore[arg-type]
