"""Baselines: published sizes, one contract, files that give the same network again."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from preimage.errors import OperatorError, WeightsError
from preimage.nets.attention import AttentionConfig, AttentionNetwork
from preimage.nets.baselines import (
    EDSR,
    RDN,
    SRCNN,
    EDSRConfig,
    RDNConfig,
    SRCNNConfig,
    SRGANDiscriminator,
    SRResNet,
    SRResNetConfig,
)
from preimage.weight_files import read_metadata, read_module, save_prior

SMALL = [
    AttentionNetwork(AttentionConfig(width=8, global_blocks=1, local_blocks=1, lr_size=8)),
    SRCNN(SRCNNConfig(width=6, inner=4, lr_size=8)),
    EDSR(EDSRConfig(width=6, blocks=1, lr_size=8)),
    RDN(RDNConfig(width=6, blocks=2, layers=2, growth=4, lr_size=8)),
    SRResNet(SRResNetConfig(width=6, blocks=1, lr_size=8)),
]


def parameters(make, *args) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in make(*args).parameters())


def test_published_sizes():
    """SRCNN for RGB; the others as their authors' code counts them for x4."""
    assert parameters(SRCNN) == (81 * 3 * 64 + 64) + (64 * 32 + 32) + (25 * 32 * 3 + 3)
    assert parameters(EDSR) == 1_517_571
    assert parameters(EDSR, EDSRConfig(width=256, blocks=32, residual_scale=0.1)) == 43_089_923
    dense = sum(9 * (64 + 64 * i) * 64 + 64 for i in range(8)) + (64 * 9 * 64 + 64)
    up = 2 * (9 * 64 * 256 + 256)
    fuse = (16 * 64 * 64 + 64) + (9 * 64 * 64 + 64)
    assert parameters(RDN) == (27 * 64 + 64) + (9 * 64 * 64 + 64) + 16 * dense + fuse + up + (9 * 64 * 3 + 3)
    assert round(parameters(RDN) / 1e6, 1) == 22.3
    block = 2 * 9 * 64 * 64 + 2 * 2 * 64 + 1
    tail = (9 * 64 * 64 + 2 * 64) + up + 2 + (81 * 64 * 3 + 3)
    assert parameters(SRResNet) == (81 * 3 * 64 + 64 + 1) + 16 * block + tail
    widths = [64, 64, 128, 128, 256, 256, 512, 512]
    body = (27 * 64 + 64) + sum(9 * a * b + 2 * b for a, b in pairwise(widths))
    assert parameters(SRGANDiscriminator, 96) == body + (512 * 36 * 1024 + 1024) + 1025


@pytest.mark.parametrize("network", SMALL, ids=lambda n: n.architecture)
def test_one_contract(network, tmp_path):
    network.eval()
    lr = torch.rand(2, 3, 5, 7)
    with torch.no_grad():
        made = network(lr)
        assert made.shape == (2, 3, 20, 28)
        assert made.dtype == torch.float32
        assert torch.allclose(network(lr[1:]), made[1:], atol=1e-5)
    assert (network.scale, network.resolution) == (4, 32)
    with pytest.raises(OperatorError, match=r"takes photos \(n, 3, h, w\), not \(3, 5, 7\)"):
        network(lr[0])
    save_prior(tmp_path / "x.safetensors", network, {}, dtype=torch.float32)
    again = read_module(tmp_path / "x.safetensors").eval()
    assert read_metadata(tmp_path / "x.safetensors")["architecture"] == network.architecture
    assert again.config == network.config
    assert torch.equal(again(lr), network(lr))


@pytest.mark.parametrize(
    ("make", "config"), [(SRCNN, SRCNNConfig), (EDSR, EDSRConfig), (RDN, RDNConfig), (SRResNet, SRResNetConfig)]
)
def test_what_an_enlargement_lacks_begins_with_nothing(make, config):
    lr = torch.rand(1, 3, 4, 4)
    assert torch.allclose(make(config(scale=2, enlarged=True))(lr), F.interpolate(lr, (8, 8), mode="bicubic"))


def test_scores_and_sizes_of_the_discriminator():
    d = SRGANDiscriminator(32, width=4)
    (scores,) = d(d.project(torch.rand(3, 3, 32, 32)))
    assert scores.shape == (3, 1)
    with pytest.raises(WeightsError, match=r"side \(24\) is a multiple of 16"):
        SRGANDiscriminator(24)


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (SRCNNConfig, {"sizes": (9, 1)}, "three kernels"),
        (SRCNNConfig, {"sizes": (9, 2, 5)}, "odd"),
        (EDSRConfig, {"residual_scale": 2.0}, r"residual_scale \(2\.0\)"),
        (EDSRConfig, {"blocks": 0}, "blocks"),
        (RDNConfig, {"growth": 0}, "growth"),
        (SRResNetConfig, {"width": 8.0}, "width"),
        (SRResNetConfig, {"lr_size": 0}, "lr_size"),
    ],
)
def test_configurations_that_cannot_be(config, settings, message):
    with pytest.raises(WeightsError, match=message):
        config(**settings)
