"""Methods of one pass over several photos: one batch, each answer as if it were alone."""

from __future__ import annotations

import pytest
import torch

from preimage.degrade.linear import bicubic
from preimage.errors import OperatorError
from preimage.invert.listener import Stop
from preimage.invert.posterior import Posterior
from preimage.invert.queue import Ask
from preimage.invert.ssrvae import SSRVAE
from preimage.nets.attention import AttentionConfig, AttentionNetwork
from preimage.nets.conditional import ConditionalConfig, ConditionalGenerator


def photo(side: int, seed: int) -> torch.Tensor:
    faces = torch.rand(1, 3, 4 * side, 4 * side, generator=torch.Generator().manual_seed(seed)) * 0.3 + 0.35
    return (bicubic(4 * side, lr_size=side)(faces)[0].clamp(0, 1) * 255).round() / 255


@pytest.fixture(scope="module")
def posterior_network() -> ConditionalGenerator:
    torch.manual_seed(0)
    config = ConditionalConfig(32, width=8, channels=(8,), w_dim=12, z_outline=3, z_detail=2)
    return ConditionalGenerator(config, "tiny").eval().requires_grad_(False)


@pytest.fixture(scope="module")
def attention() -> AttentionNetwork:
    torch.manual_seed(0)
    made = AttentionNetwork(
        AttentionConfig(width=8, global_blocks=1, local_blocks=1, lr_size=8, local_window=3), "tiny"
    )
    with torch.no_grad():
        for p in made.parameters():
            if not p.any():
                p.normal_(std=0.2)
    return made.eval()


@pytest.fixture(params=["posterior", "ssrvae"])
def method(request, posterior_network, attention):
    if request.param == "posterior":
        return Posterior(weights=posterior_network, device="cpu", batch=3)
    return SSRVAE(weights=attention, device="cpu", batch=3)


@pytest.fixture
def widths(method):
    """How many pictures the network makes in each pass."""
    seen = []
    hook = method.network.register_forward_hook(lambda module, given, made: seen.append(len(made)))
    yield seen
    hook.remove()


def test_photos_of_one_size_are_one_batch_and_each_is_what_it_is_alone(method, widths):
    photos = [photo(side, i) for i, side in enumerate((8, 8, 8, 8, 6, 6, 8))]
    asks = [Ask(method.pose(lr), [i]) for i, lr in enumerate(photos)]
    found = dict(method.sample_each(iter(asks)))
    assert widths == [3, 1, 2, 1]
    assert list(found) == asks
    for i, (lr, part) in enumerate(zip(photos, found.values(), strict=True)):
        (alone,) = method.upsample(lr, [i])
        assert part.seeds == alone.seeds == (i,)
        assert torch.equal(part.lr, lr)
        assert bool(part.exact.all())
        assert float((part.images - alone.images).abs().max()) <= 1.01 / 255
        torch.testing.assert_close(part.error_before, alone.error_before, rtol=1e-3, atol=1e-3)
        assert part.latents.keys() == alone.latents.keys()
        assert all(torch.equal(x, alone.latents[name]) for name, x in part.latents.items())


def test_seeds_of_a_photo_stay_together(posterior_network):
    method = Posterior(weights=posterior_network, device="cpu", batch=3)
    asks = [Ask(method.pose(photo(8, i)), [0, 1]) for i in range(3)]
    found = [(asks.index(ask), part.seeds) for ask, part in method.sample_each(asks)]
    assert found == [(0, (0, 1)), (1, (0,)), (1, (1,)), (2, (0, 1))]


def test_a_batch_that_does_not_fit_is_halved(method, widths, monkeypatch):
    original = type(method).answers

    def short(self, rows, settings):
        if len(rows) > 1:
            raise MemoryError
        return original(self, rows, settings)

    monkeypatch.setattr(type(method), "answers", short)
    asks = [Ask(method.pose(photo(8, i)), [0]) for i in range(3)]
    assert [ask for ask, _ in method.sample_each(asks)] == asks
    assert widths == [1, 1, 1]
    if isinstance(method, SSRVAE):
        monkeypatch.setattr(type(method), "answers", lambda *_: (_ for _ in ()).throw(MemoryError()))
        with pytest.raises(OperatorError, match="a photo of 8x8 does not fit into memory"):
            list(method.sample_each(asks))


def test_a_stop_ends_it_after_the_batch(method):
    seen = []

    def listener(step):
        seen.append(step.seeds)
        assert step.preview().shape[0] == len(step.error) == len(step.seeds)
        raise Stop

    asks = [Ask(method.pose(photo(8, i)), [7]) for i in range(5)]
    assert [ask for ask, _ in method.sample_each(asks, None, listener)] == asks[:3]
    assert seen == [(7, 7, 7)]
