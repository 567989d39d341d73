"""Pre-activation blocks against their formula; the discriminator's depth, pools and absence of batch norm."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from preimage.nets.residual import PreActivationBlock, ResidualDiscriminator


def test_a_block_is_its_formula():
    torch.manual_seed(0)
    block = PreActivationBlock(4, 6).eval()
    x = torch.randn(2, 4, 8, 8)
    y = F.conv2d(F.relu(block.norm0(x)), block.conv0.weight, padding=1)
    y = F.conv2d(F.relu(block.norm1(y)), block.conv1.weight, block.conv1.bias, padding=1)
    assert torch.allclose(block(x), F.conv2d(x, block.skip.weight) + y, atol=1e-5)
    with torch.no_grad():
        for p in (block.conv1.weight, block.conv1.bias):
            p.zero_()
    assert torch.allclose(block(x), block.skip(x))


@pytest.mark.parametrize(("pool", "halve"), [("average", F.avg_pool2d), ("max", F.max_pool2d)])
def test_a_block_halves_its_input_first(pool, halve):
    torch.manual_seed(0)
    block = PreActivationBlock(4, 4, norm=False, pool=pool)
    flat = PreActivationBlock(4, 4, norm=False)
    flat.load_state_dict(block.state_dict())
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(block(x), flat(halve(x, 2)))
    assert isinstance(block.skip, nn.Identity)


@pytest.mark.parametrize("spectral", [False, True])
def test_the_discriminator(spectral):
    torch.manual_seed(0)
    d = ResidualDiscriminator(16, (4, 4, 6, 6, 8, 8), spectral)
    assert [b.pool for b in d.blocks] == ["", "", "", "", "max", "max"]
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in d.modules())
    x = torch.rand(3, 3, 16, 16, requires_grad=True)
    (scores,) = d(d.project(x))
    assert scores.shape == (3, 1)
    scores.sum().backward()
    assert x.grad is not None
    assert bool((x.grad.flatten(1).abs().sum(1) > 0).all())
    d.eval()
    assert torch.allclose(d(d.project(x[:1]))[0], d(d.project(x))[0][:1], atol=1e-6)
    assert bool(d.project(torch.ones(1, 3, 16, 16))[0].eq(1).all())
    assert bool(d.project(torch.zeros(1, 3, 16, 16))[0].eq(-1).all())


def test_spectral_normalisation_bounds_every_kernel():
    torch.manual_seed(0)
    d = ResidualDiscriminator(8, (4, 6), True)
    with torch.no_grad():
        for p in d.parameters():
            p.mul_(100)
    for _ in range(50):  # power iteration
        d(d.project(torch.rand(2, 3, 8, 8)))
    kernels = [m.weight.flatten(1) for m in d.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(kernels) == 1 + 2 * 2 + 1 + 1
    assert all(float(torch.linalg.matrix_norm(k.detach(), 2)) == pytest.approx(1, abs=0.05) for k in kernels)
