"""The conditional generator: shapes, levels of random numbers, growth."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from preimage.errors import WeightsError
from preimage.nets.conditional import (
    LEVELS,
    SHARPNESS,
    ConditionalConfig,
    ConditionalGenerator,
    Field,
    Gate,
    sharpness,
)


def inputs(config: ConditionalConfig, n: int = 2):
    torch.manual_seed(1)
    z = {level: torch.randn(n, *shape) for level, shape in config.z_shapes.items()}
    return torch.rand(n, 3, config.resolution, config.resolution), torch.full((n,), 4.0), z


@pytest.mark.parametrize(("resolution", "channels"), [(32, (8,)), (64, (8, 8)), (128, (8, 8, 4)), (256, (8, 8, 4, 4))])
def test_every_size_answers_and_every_level_counts(resolution, channels):
    config = ConditionalConfig(resolution, width=16, channels=channels, w_dim=12, z_outline=3, z_detail=2)
    torch.manual_seed(0)
    network = ConditionalGenerator(config)
    photo, size, z = inputs(config)
    found = network(photo, size, z)
    assert found.shape == photo.shape
    assert found.dtype == torch.float32
    assert 0.01 < float(found.detach().std()) < 2
    for level in LEVELS:
        assert not torch.allclose(network(photo, size, {**z, level: z[level] + 1}), found, atol=1e-4), level
    assert not torch.allclose(network(photo, size + 1, z), found, atol=1e-4)
    assert not torch.allclose(network(photo.flip(3), size, z), found, atol=1e-3)
    found.square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())


def test_a_network_that_is_told_the_sharpness_answers_by_it():
    config = ConditionalConfig(32, width=16, channels=(8,), w_dim=12, z_outline=3, z_detail=2, sharpness=(-0.5, 0.15))
    torch.manual_seed(0)
    network = ConditionalGenerator(config)
    photo, size, z = inputs(config)
    assert config.z_shapes[SHARPNESS] == (1,)
    found = network(photo, size, z)
    assert not torch.allclose(network(photo, size, {**z, SHARPNESS: z[SHARPNESS] + 1}), found, atol=1e-4)
    for wrong in ((1.0,), (0.0, 0.0), (0.0, float("nan")), "soft"):
        with pytest.raises(WeightsError, match="sharpness"):
            replace(config, sharpness=wrong)


def test_sharpness_is_the_slope_across_octaves_whatever_the_contrast():
    torch.manual_seed(0)
    noise = torch.randn(4, 3, 64, 64)
    white = 0.5 + 0.1 * noise
    soft = torch.nn.functional.avg_pool2d(white, 3, 1, 1)
    assert bool((sharpness(soft) < sharpness(white) - 0.5).all())
    torch.testing.assert_close(sharpness(white), sharpness(0.5 + 0.2 * noise), atol=0.01, rtol=0)
    torch.testing.assert_close(sharpness(torch.full((1, 3, 16, 16), 0.3)), torch.zeros(1), atol=1e-6, rtol=0)
    # means of 2x2 values of white noise are white noise of a quarter of the energy
    assert float(sharpness(white).mean()) == pytest.approx(math.log(4) / 2, abs=0.05)


def test_a_picture_of_a_batch_does_not_depend_on_the_others():
    config = ConditionalConfig(32, width=16, channels=(8,), w_dim=12, z_outline=3, z_detail=2)
    torch.manual_seed(0)
    network = ConditionalGenerator(config)
    photo, size, z = inputs(config, 3)
    whole = network(photo, size, z)
    for i in range(3):
        alone = network(photo[i : i + 1], size[:1], {level: value[i : i + 1] for level, value in z.items()})
        torch.testing.assert_close(alone[0], whole[i], atol=1e-5, rtol=1e-4)


def test_pairs_begin_by_adding_nothing_and_then_count():
    plain = ConditionalConfig(32, width=16, channels=(8,), w_dim=12, z_outline=3, z_detail=2)
    torch.manual_seed(0)
    network = ConditionalGenerator(replace(plain, pairs=[2, 1, 1]))
    state = network.state_dict()
    bare = ConditionalGenerator(plain)
    gains = [key for key in state if key.endswith("gain")]
    assert len(gains) == 4
    own = bare.state_dict()
    bare.load_state_dict({key: state[key] for key in own})
    photo, size, z = inputs(plain)
    torch.testing.assert_close(network(photo, size, z), bare(photo, size, z))
    for key in gains:
        gain = network.get_parameter(key)
        with torch.no_grad():
            gain.fill_(0.3)
        assert not torch.allclose(network(photo, size, z), bare(photo, size, z), atol=1e-3), key
        with torch.no_grad():
            gain.zero_()


def test_gates_begin_open_and_can_shut_out_chance():
    config = ConditionalConfig(32, width=16, channels=(8,), w_dim=12, z_outline=3, z_detail=2)
    torch.manual_seed(0)
    gate = Gate(16, 3)
    fields = torch.randn(2, 3, 8, 8)
    assert torch.equal(gate(torch.randn(2, 16, 8, 8), fields), fields)
    network = ConditionalGenerator(config)
    photo, size, z = inputs(config)
    with torch.no_grad():
        for each in (network.gate_outline, network.gate_detail):
            each.conv.bias.fill_(-20)
    shut = network(photo, size, z)
    other = {level: torch.randn_like(x) for level, x in z.items()}
    torch.testing.assert_close(network(photo, size, other), shut, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("small", "large"), [(4, 8), (4, 16), (8, 16)])
def test_fields_are_smooth_and_standard_normal(small, large):
    torch.manual_seed(0)
    z = torch.randn(4000, 1, small, small)
    field = Field(small, large)(z)
    torch.testing.assert_close(field.std(0), torch.ones(1, large, large), atol=0.06, rtol=0)
    wanted = torch.nn.functional.interpolate(z, (large, large), mode="bicubic", align_corners=False)
    again = wanted / wanted.std(0)  # the oracle: torch's enlargement, each place brought to one spread
    torch.testing.assert_close(field, again, atol=0.3, rtol=0.1)
    near = float((field[..., 1:] * field[..., :-1]).mean())
    far = float((field[..., large // 2 :] * field[..., : large // 2]).mean())
    assert near > 0.65
    assert abs(far) < 0.1


def test_only_a_tolerant_network_hears_the_tolerance():
    config = ConditionalConfig(32, width=16, channels=(8,), w_dim=12, z_outline=3, z_detail=2)
    photo, size, z = inputs(config)
    much = torch.full_like(size, 8.0)
    for tolerant in (True, False):
        torch.manual_seed(0)
        network = ConditionalGenerator(replace(config, tolerant=tolerant))
        none = network(photo, size, z)
        assert torch.equal(network(photo, size, z, torch.zeros_like(size)), none)
        assert torch.allclose(network(photo, size, z, much), none, atol=1e-4) is not tolerant


def test_the_shipped_size():
    network = ConditionalGenerator(ConditionalConfig())
    assert sum(p.numel() for p in network.parameters()) == 2_625_448
    assert network.metadata()["architecture"] == "conditional"
    with torch.device("meta"):
        large = ConditionalGenerator(ConditionalConfig(128, channels=(96, 64, 32)))
    assert sum(p.numel() for p in large.parameters()) > 2_625_448


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resolution": 48}, "power of two from 32"),
        ({"resolution": 16}, "power of two from 32"),
        ({"resolution": 64.0}, "power of two from 32"),
        ({"channels": (8,)}, "one width for each of 32, 64, …, 64 px"),
        ({"channels": 3}, "one width for each"),
        ({"width": 0}, r"width \(0\) must be a whole number"),
        ({"width": 6}, "multiple of 4"),
        ({"z_outline": 10**9}, r"z_outline .* from 1 to 8192"),
        ({"channels": (8, "x")}, r"channels\[1\] \('x'\)"),
        ({"pairs": (1,) * 5}, "at most one number for each of 8, 16, …, 64 px"),
        ({"pairs": (1, -1)}, r"pairs\[1\] \(-1\)"),
        ({"tolerant": 1}, "tolerant"),
    ],
)
def test_shapes_that_cannot_be(settings, message):
    with pytest.raises(WeightsError, match=message):
        ConditionalConfig(**settings)
