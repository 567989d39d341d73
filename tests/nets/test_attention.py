"""SSRVAE's network: blocks that begin as the identity, attention against the formulas as printed, any size, exact strips."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from preimage.errors import WeightsError
from preimage.nets import attention
from preimage.nets.attention import (
    ATTENTION,
    PLACES,
    AttentionBlock,
    AttentionConfig,
    AttentionNetwork,
    GlobalAttention,
    LocalAttention,
    WindowMean,
    unit,
)

TINY = {"width": 8, "global_blocks": 1, "local_blocks": 1, "reduction": 4, "share": 4, "local_window": 3, "lr_size": 8}


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def awake(module: nn.Module) -> nn.Module:
    """The same with everything at work that begins at 0."""
    with torch.no_grad():
        for p in module.parameters():
            if not p.any():
                p.normal_(std=0.5)
    return module.eval()


def test_the_published_shape():
    """Section 3.2: a shallow convolution, 8 global and 8 local blocks, x4, a reconstruction; 1.5 M parameters at 64 channels."""
    with torch.device("meta"):
        network = AttentionNetwork()
    assert (len(network.global_blocks), len(network.local_blocks)) == (8, 8)
    assert all(isinstance(block.attention, GlobalAttention) for block in network.global_blocks)
    assert all(isinstance(block.attention, LocalAttention) for block in network.local_blocks)
    plain = 16 * 2 * (64 * 64 * 9 + 64) + (3 * 64 * 9 + 64) + 2 * (64 * 256 * 9 + 256) + (64 * 3 * 9 + 3)
    seen_whole = 4 * 64 * 8 + 1
    windows = (64 * 8 + 8) + 64 * 8 + (2 * 32 + 32) + (32 * 8 + 8) + 64 * 64 + 1
    for kind, count in {"none": 0, "global": seen_whole, "local": windows, "both": seen_whole + windows}.items():
        with torch.device("meta"):
            network = AttentionNetwork(AttentionConfig(attention=kind))
        assert sum(p.numel() for p in network.parameters()) == plain + 8 * count


@pytest.mark.parametrize("layer", [GlobalAttention(8, 4), LocalAttention(8, 3, 4), nn.Identity()])
def test_blocks_begin_as_the_identity(layer):
    x = torch.randn(2, 8, 5, 7)
    assert torch.equal(layer(x), x)
    block = AttentionBlock(8, layer)
    assert torch.equal(block(x), x)
    awake(block)
    assert float((block(x) - x).detach().abs().mean()) > 0.01


@pytest.mark.parametrize("layer", [GlobalAttention(8, 4, place="between"), LocalAttention(8, 3, 4, "between")])
def test_attention_between_the_convolutions_works_from_the_start(layer):
    """Its block is the identity, yet features of any size are compared at unit size, and its scalar is 1."""
    x, block = torch.randn(2, 8, 5, 7), AttentionBlock(8, layer, "between")
    assert torch.equal(block(x), x)
    assert float(layer.gain.detach()) == 1
    assert not torch.allclose(layer(x), x, atol=1e-3)
    assert torch.allclose(unit(x).square().mean(1), torch.ones(2, 5, 7), atol=1e-4)
    assert torch.allclose(layer(300 * x), 300 * layer(x), rtol=1e-3, atol=1e-2)
    awake(block)
    assert torch.equal(block(x), x + block.conv1(layer(F.relu(block.conv0(x)))))


@pytest.mark.parametrize("place", PLACES)
def test_with_and_without_attention_begin_as_the_same_function(place):
    made = []
    for kind in ATTENTION:
        network = AttentionNetwork(AttentionConfig(attention=kind, place=place, **TINY))
        parts = made[0][0].state_dict() if made else network.state_dict()
        network.load_state_dict({k: v for k, v in parts.items() if k in network.state_dict()}, strict=False)
        made.append((network, network(torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)))))
    assert all(torch.equal(made[0][1], other) for _, other in made)


def test_global_attention_is_equations_7_to_9():
    layer, x = awake(GlobalAttention(8, 4)), torch.randn(2, 8, 4, 5)
    rows = x.flatten(2)
    f, g, h = (m.weight[:, :, 0, 0] @ rows for m in (layer.f, layer.g, layer.h))
    share = (f.transpose(1, 2) @ g).softmax(1)  # [i, j]: how much place j sees of place i
    assert torch.allclose(share.sum(1), torch.ones(2, 20))
    expected = x + layer.gain * (layer.v.weight[:, :, 0, 0] @ (h @ share)).view_as(x)
    assert torch.allclose(layer(x), expected, atol=1e-5)


def test_global_attention_reaches_every_place_of_its_window():
    layer = awake(GlobalAttention(8, 4, window=6))
    for size, tiles in (((6, 6), 1), ((9, 12), 4)):
        x = torch.randn(1, 8, *size, requires_grad=True)
        layer(x)[0, :, 0, 0].sum().backward()
        seen = x.grad.abs().sum((0, 1)) > 0
        assert int(seen.sum()) == -(-size[0] // (1 if tiles == 1 else 2)) * (size[1] // (1 if tiles == 1 else 2))
    x = torch.randn(1, 8, 9, 12)
    corner = layer(x[:, :, :5, :6])
    assert torch.allclose(layer(x)[:, :, :5, :6], corner, atol=1e-6)


def test_local_weights_sum_to_one_also_at_the_border():
    layer, x = awake(LocalAttention(8, 5, 4)), torch.randn(2, 8, 6, 7)
    weights = layer.weights(x)
    assert weights.shape == (2, 2, 25, 6, 7)
    assert torch.allclose(weights.sum(2), torch.ones(2, 2, 6, 7))
    assert bool((weights >= 0).all())
    assert not weights[:, :, :12, 0, 0].any()  # above and left of the corner
    same = torch.full((1, 8, 6, 7), 0.3)  # a weighted mean of equal values is that value
    assert torch.allclose(layer(same), same + layer.gain * layer.out(same), atol=1e-5)


def test_local_attention_is_equations_10_and_11():
    """Against plain loops over places, windows and groups."""
    layer, x = awake(LocalAttention(8, 3, 4)), torch.randn(1, 8, 4, 5)
    q, k = layer.query(x)[0], layer.key(x)[0]
    prior = layer.geometry(layer.offsets)
    mean = torch.zeros(8, 4, 5)
    for i in range(4):
        for j in range(5):
            for group in range(2):
                places, logits = [], []
                for o, (dy, dx) in enumerate((a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)):
                    if 0 <= i + dy < 4 and 0 <= j + dx < 5:
                        places.append((i + dy, j + dx))
                        logits.append(-((q[group, i, j] - k[group, i + dy, j + dx]) ** 2) + prior[o, group])
                for weight, (a, b) in zip(torch.stack(logits).softmax(0), places, strict=True):
                    mean[4 * group : 4 * group + 4, i, j] += weight * x[0, 4 * group : 4 * group + 4, a, b]
    assert torch.allclose(layer(x), x + layer.gain * layer.out(mean[None]), atol=1e-5)


def test_the_gradient_of_windows_is_that_of_finite_differences():
    weights = torch.rand(2, 2, 9, 3, 4, dtype=torch.float64, requires_grad=True)
    padded = torch.randn(2, 2, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w, x: WindowMean.apply(w, x, 3), (weights, padded))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("strip", [1, 7 * 3, 7 * 4])
def test_strips_of_the_local_attention_change_nothing(monkeypatch, strip, place):
    layer, x = awake(LocalAttention(8, 5, 4, place)), torch.randn(2, 8, 10, 7)
    whole = layer(x)
    monkeypatch.setattr(attention, "STRIP", strip)
    assert torch.allclose(layer(x), whole, atol=1e-6)


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("enlarged", [False, True])
def test_any_size_and_scale(scale, enlarged):
    network = awake(AttentionNetwork(AttentionConfig(scale=scale, enlarged=enlarged, **TINY)))
    assert network.resolution == 8 * scale
    for h, w in ((8, 8), (5, 11), (1, 2)):
        assert network(torch.rand(2, 3, h, w)).shape == (2, 3, scale * h, scale * w)


def test_what_an_enlargement_lacks_begins_with_nothing():
    lr = torch.rand(1, 3, 6, 6)
    network = AttentionNetwork(AttentionConfig(enlarged=True, **TINY))
    assert torch.allclose(network(lr), F.interpolate(lr, (24, 24), mode="bicubic"))
    assert float(AttentionNetwork(AttentionConfig(**TINY))(lr).detach().std()) > 0


def test_gradients_reach_everything():
    network = awake(AttentionNetwork(AttentionConfig(**TINY)))
    network(torch.rand(2, 3, 8, 8)).square().sum().backward()
    lacking = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert lacking == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention": "most"}, "'most' is not one of both"),
        ({"place": "before"}, "place 'before' is not one of behind, between"),
        ({"scale": 3}, r"scale \(3\) must be one of 2, 4, 8"),
        ({"width": 20}, r"width \(20\) must be a multiple of share"),
        ({"local_window": 4}, "odd"),
        ({"width": 1 << 40}, "must be a whole number"),
        ({"global_blocks": 65}, "must be a whole number"),
        ({"enlarged": 1}, "true or false"),
    ],
)
def test_configurations_that_cannot_be(settings, message):
    with pytest.raises(WeightsError, match=message):
        AttentionConfig(**settings)
