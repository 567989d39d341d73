"""Cascade: a tiny generator and posterior's network as one prior: exact between the two, rows and maps where they belong."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import pytest
import torch

from preimage.degrade.linear import make_operator
from preimage.errors import MethodError, WeightsError
from preimage.generate.cascade import KERNEL, Cascade, CascadeConfig, join
from preimage.generate.flow import Flow, FlowConfig
from preimage.generate.prior import Prior, sphere_to_w, w_to_sphere
from preimage.generate.stylegan2 import StyleGAN2, StyleGAN2Config
from preimage.invert.encoded import noise_maps
from preimage.invert.search_settings import SearchSettings
from preimage.invert.walk import start
from preimage.nets.conditional import ConditionalConfig, ConditionalGenerator
from preimage.nets.pro_pulse import ProPulseConfig
from preimage.seeds import normal
from preimage.train.pro_pulse import random_noise
from preimage.weight_files import read_module, save_prior

FIRST = StyleGAN2Config(resolution=16, channel_base=128, channel_max=8, z_dim=12, w_dim=12, mapping_layers=2)
SECOND = ConditionalConfig(
    resolution=64, width=8, channels=(8, 4), w_dim=6, z_outline=2, z_detail=3, tolerant=True, sharpness=(-0.5, 0.15)
)
CONFIG = CascadeConfig(FIRST, SECOND)


@pytest.fixture(scope="module")
def parts() -> tuple[StyleGAN2, ConditionalGenerator]:
    torch.manual_seed(0)
    first, second = StyleGAN2(FIRST).eval(), ConditionalGenerator(SECOND).eval()
    for block in (8, 16):
        torch.nn.init.constant_(first.synthesis.block(block).conv1.noise_strength, 0.3)
    return first, second


@pytest.fixture(scope="module")
def prior(parts) -> Cascade:
    return join(*parts, "both").requires_grad_(False)


def random_rows(prior: Cascade, n: int, seed: int = 0) -> torch.Tensor:
    mean, std = prior.gaussian_fit
    return sphere_to_w(normal(range(seed, seed + n), prior.latent_shape, "rows"), mean, std)


def test_it_is_a_prior_with_the_rows_and_maps_of_both(prior):
    assert isinstance(prior, Prior)
    assert prior.resolution == 64
    assert prior.latent_shape == (6 + 4, 12)  # 4, 8, 16 px twice; 8, 16, 32, 64 px once
    assert prior.noise_sizes == (4, 8, 8, 16, 16, 4, 4, 8, 8, 8, 1)
    assert [prior.rows_up_to(side) for side in (4, 8, 16, 32, 64)] == [2, 4, 6, 9, 10]
    assert prior.sample([0, 1]).shape == (2, 3, 64, 64)


def test_shrinks_to_its_tiny_picture(prior, parts):
    first, _ = parts
    latents, noise = random_rows(prior, 3), prior.noise(range(3))
    tiny = first.synthesize(latents[:, :6], noise[:5])
    found = prior.side_outputs(latents, noise)
    assert list(found) == [4, 8, 16, 32, 64]
    assert torch.allclose(found[16], tiny, atol=1e-6)
    for side in (32, 64):
        shrunk = make_operator(KERNEL, hr_size=side, lr_size=16)(found[side])
        assert torch.allclose(shrunk, tiny, atol=1e-5)
    assert torch.equal(found[64], prior.synthesize(latents, noise))


def test_equal_rows_leave_the_second_network_as_it_was(prior, parts):
    """In W a cascade is the tiny face, enlarged as posterior answers it; other rows of its levels change the picture."""
    first, second = parts
    latents, noise = prior.latents(range(2)), prior.noise(range(2))
    tiny = first.synthesize(latents[:, :6], noise[:5])
    z = {
        "outline": torch.cat(noise[5:7], dim=1),
        "detail": torch.cat(noise[7:10], dim=1),
        "sharpness": noise[10][:, :, 0, 0],
    }
    operator = make_operator(KERNEL, hr_size=64, lr_size=16)
    smooth = torch.nn.functional.interpolate(tiny, (64, 64), mode="bicubic", align_corners=False)
    lacks = second(operator.pinv(tiny), torch.full((2,), math.log2(16)), z)
    assert torch.allclose(prior.synthesize(latents, noise), operator.project(smooth + lacks, tiny), atol=1e-5)
    for row in range(6, 10):
        other = latents.clone()
        other[:, row] = random_rows(prior, 2, seed=7)[:, row]
        assert not torch.allclose(prior.synthesize(other, noise), prior.synthesize(latents, noise), atol=1e-3)


def test_largest_stops_early_and_changes_nothing_before(prior):
    latents, noise = random_rows(prior, 2), prior.noise(range(2))
    whole = prior.side_outputs(latents, noise)
    for largest in (8, 16, 32):
        part = prior.side_outputs(latents, noise, largest=largest)
        assert list(part) == [s for s in whole if s <= largest]
        assert all(torch.equal(part[s], whole[s]) for s in part)


def test_random_numbers_are_the_maps_behind_the_tiny_generators(prior):
    """They change the picture and not what it shrinks to; the sharpness is not scaled by the temperature."""
    latents, noise = random_rows(prior, 1), prior.noise([0])
    other = [*noise[:5], *prior.noise([1])[5:]]
    a, b = prior.side_outputs(latents, noise), prior.side_outputs(latents, other)
    assert torch.equal(a[16], b[16])
    assert not torch.allclose(a[64], b[64], atol=1e-3)
    synthesis = Cascade(replace(CONFIG, temperature=0.5)).synthesis
    z = synthesis.random(noise, 1)
    assert torch.equal(z["outline"], 0.5 * torch.cat(noise[5:7], dim=1))
    assert torch.equal(z["sharpness"], noise[10].reshape(1, 1))
    assert not any(x.any() for x in synthesis.random(None, 1).values())


def test_level_rows_move_codes_as_far_as_photos_differ_in_them(prior):
    """`measure`: the covariance of what standard normal rows do is `share`² that of the codes of tiny faces."""
    codes: list[torch.Tensor] = []
    hook = prior.synthesis.second.mapping.register_forward_hook(lambda _m, _i, out: codes.append(out))
    prior.sample(range(1000))
    hook.remove()
    spread = prior.synthesis.spread
    assert torch.allclose(spread @ spread.t(), 0.25 * torch.cov(torch.cat(codes).t()), atol=1e-5)


def test_same_seed_same_picture_in_any_batch(prior):
    assert torch.allclose(prior.sample([3, 5, 8])[1], prior.sample([5])[0], atol=1e-5)


def test_file_brings_it_back(prior, tmp_path):
    save_prior(tmp_path / "both.safetensors", prior, {}, looked_through=["efficientnet-lite0"])
    found = read_module(tmp_path / "both.safetensors")
    assert isinstance(found, Cascade)
    assert found.config == prior.config
    assert torch.allclose(found.sample([0]), prior.sample([0]), atol=0.05)  # half precision


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (asdict(CONFIG) | {"temperature": 3}, "temperature 3"),
        (asdict(CONFIG) | {"temperature": True}, "temperature True"),
        (asdict(CONFIG) | {"first": 4}, "first 4"),
        (asdict(CONFIG) | {"first": {"colour": 1}}, "'colour'"),
        ({"first": replace(FIRST, resolution=64), "second": SECOND}, "64 px must be fewer"),
    ],
)
def test_unfit_descriptions_are_refused(config, says):
    with pytest.raises(WeightsError, match=says):
        CascadeConfig(**config)


def test_descriptions_come_back_from_plain_values():
    assert CascadeConfig(**asdict(CONFIG)) == CONFIG


def test_features_of_both_networks_carry_branches(prior):
    """Branches of the deeply supervised generator read the tiny generator's maps up to its side, the levels' behind it."""
    latents, noise = random_rows(prior, 2), prior.noise(range(2))
    found, whole = prior.features(latents, noise, (8, 16, 32, 64))
    assert {side: x.shape[1:] for side, x in found.items()} == {
        side: (prior.feature_widths[side], side, side) for side in (8, 16, 32, 64)
    }
    assert prior.feature_widths == {4: 8, 8: 8, 16: 8, 32: 8, 64: 4}
    assert torch.equal(whole, prior.synthesize(latents, noise))


FLOW = FlowConfig(resolution=16, w_dim=192, widths=(8, 16), blocks=(1, 1), embedding=8, heads=2, times=(1, 0.5, 0))


@pytest.fixture(scope="module")
def flowing(parts) -> Cascade:
    torch.manual_seed(0)
    flow = Flow(FLOW).requires_grad_(False)
    for p in flow.parameters():
        p.add_(0.03 * torch.randn_like(p))
    flow.synthesis.calibrate(0.4 + 0.2 * torch.rand(64, 3, 16, 16))
    return join(flow.eval(), parts[1], "flowing").requires_grad_(False)


def test_a_flow_may_stand_in_front(flowing, tmp_path):
    assert isinstance(flowing, Prior)
    assert flowing.latent_shape == (4 + 4, 192)
    assert flowing.noise_sizes == (4, 4, 8, 8, 8, 1)  # all of the second network's
    assert [flowing.rows_up_to(side) for side in (4, 8, 16, 32, 64)] == [4, 4, 4, 7, 8]
    found = flowing.side_outputs(flowing.latents([0, 1]), flowing.noise([0, 1]))
    assert list(found) == [4, 8, 16, 32, 64]
    assert torch.allclose(make_operator(KERNEL, hr_size=64, lr_size=16)(found[64]), found[16], atol=1e-5)
    save_prior(tmp_path / "both.safetensors", flowing, {}, dtype=torch.float32)
    again = read_module(tmp_path / "both.safetensors")
    assert again.config == flowing.config
    assert torch.allclose(again.sample([0]), flowing.sample([0]), atol=1e-5)


def test_rows_behind_a_flow_leave_the_second_network_alone_where_they_are_zero(flowing):
    """As in what it draws for a seed; moving a flow's own rows moves nothing else."""
    latents, noise = flowing.latents(range(3)), flowing.noise(range(3))
    assert not latents[:, 4:].any()
    spread = flowing.synthesis.spread.clone()
    before = flowing.synthesize(latents, noise)
    try:
        flowing.synthesis.spread.mul_(100)
        assert torch.equal(flowing.synthesize(latents, noise), before)
        latents[:, 4:] = 1
        assert not torch.allclose(flowing.synthesize(latents, noise), before, atol=1e-3)
    finally:
        flowing.synthesis.spread.copy_(spread)


def test_photos_have_latents_before_a_flow(flowing, prior):
    photos = 0.4 + 0.2 * torch.rand(3, 3, 16, 16)
    latents = flowing.invert(photos, passes=20)
    tiny = flowing.side_outputs(latents, None, largest=16)[16]
    assert torch.allclose(tiny, photos, atol=1e-4)
    assert not w_to_sphere(latents, *flowing.gaussian_fit)[:, 4:].any()
    assert (flowing.invertible, prior.invertible) == (True, False)
    with pytest.raises(MethodError, match="both: its tiny generator cannot be inverted"):
        prior.invert(photos)


def test_searches_leave_the_sharpness_at_that_of_usual_pictures(flowing):
    """Samples of the prior are of any sharpness; candidates of one photo are of the usual one, unless theirs is given."""
    assert flowing.told == (5,)
    begun = start(flowing, [0, 1], SearchSettings())
    maps = [*begun.searched, *begun.frozen]
    assert not maps[5].any()
    assert all(bool(x.any()) for x in maps[:5])
    given = {f"noise{i}": x for i, x in enumerate(flowing.noise([0, 1]))}
    assert torch.equal(
        [*(b := start(flowing, [0, 1], SearchSettings(), at=given)).searched, *b.frozen][5], given["noise5"]
    )
    assert not noise_maps(flowing, [0, 1], 0)[5].any()
    assert not random_noise(flowing, 2, ProPulseConfig(silent=0))[5].any()  # as its encoders learn
    plain = ConditionalConfig(resolution=64, width=8, channels=(8, 4), w_dim=6, z_outline=2, z_detail=3)
    assert Cascade(CascadeConfig(FLOW, plain)).told == ()


def test_seeds_of_a_flow_differ_in_every_row_of_its_own(flowing):
    one, two = flowing.latents([1, 2])
    assert ((one[:4] - two[:4]).abs() > 1e-6).all()
    half = flowing.latents([1], truncation=0.5)[0]
    assert torch.allclose(half, 0.5 * one, atol=1e-6)
