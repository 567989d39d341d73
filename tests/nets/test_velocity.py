"""The network of a flow: shapes, what it is told of the time, zero at first."""

from __future__ import annotations

import pytest
import torch

from preimage.nets.velocity import WAVES, VelocityNetwork, waves


@pytest.fixture(scope="module")
def network() -> VelocityNetwork:
    torch.manual_seed(0)
    found = VelocityNetwork(2, (16, 24), (2, 1), 8, 4).eval().requires_grad_(False)
    for p in found.parameters():
        p.add_(0.1 * torch.randn_like(p))
    return found


def test_waves_tell_times_apart():
    t = torch.tensor([0.0, 0.5, 0.501, 1.0])
    found = waves(t)
    assert found.shape == (4, WAVES)
    assert torch.allclose(found[0], torch.tensor([0.0] * (WAVES // 2) + [1.0] * (WAVES // 2)))
    assert torch.allclose(found.square()[:, : WAVES // 2] + found.square()[:, WAVES // 2 :], torch.ones(1))
    assert float((found[1] - found[2]).abs().max()) > 0.1


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_answers_pictures_of_the_size_that_it_is_given(patch):
    network = VelocityNetwork(patch, (8, 16), (1, 1), 8, 2)
    assert network(torch.randn(2, 3, 16, 16), torch.rand(2)).shape == (2, 3, 16, 16)


def test_stands_still_before_it_has_learned():
    assert not VelocityNetwork(2, (8,), (1,), 8, 2)(torch.randn(2, 3, 8, 8), torch.rand(2)).any()


def test_each_picture_is_alone_and_has_its_own_time(network):
    x, t = torch.randn(3, 3, 16, 16), torch.tensor([0.1, 0.5, 0.9])
    whole = network(x, t)
    assert torch.allclose(whole[1], network(x[1:2], t[1:2])[0], atol=1e-5)
    assert not torch.allclose(whole[1], network(x[1:2], t[:1])[0], atol=1e-3)


def test_sees_the_whole_picture(network):
    """Attention: a pixel in one corner changes the velocity in the other."""
    x, t = torch.randn(1, 3, 16, 16), torch.tensor([0.5])
    other = x.clone()
    other[:, :, 0, 0] += 1
    assert (network(other, t) - network(x, t))[:, :, -1, -1].abs().max() > 1e-6


def test_learns_through_every_parameter():
    torch.manual_seed(0)
    network = VelocityNetwork(2, (8, 16), (1, 1), 8, 2)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(3):  # zero layers hide those before them at first
        optimiser.zero_grad()
        network(torch.randn(2, 3, 8, 8), torch.rand(2)).sub(1).square().mean().backward()
        optimiser.step()
    assert all(p.grad is not None and bool(p.grad.any()) for p in network.parameters())
