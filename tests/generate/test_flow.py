"""A flow as a prior: noise in rows and back, whitening, steps, the inverse, and a closed form."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from torch import Tensor

from preimage.errors import WeightsError
from preimage.generate.flow import Flow, FlowConfig
from preimage.generate.frequencies import contrasts, from_waves, loudness, to_waves
from preimage.generate.prior import Prior, inverse_leaky_relu
from preimage.weight_files import read_module, save_prior

CONFIG = FlowConfig(resolution=8, w_dim=48, patch=2, widths=(8, 16), blocks=(1, 1), embedding=8, heads=2)


def made(config: FlowConfig = CONFIG, loud: float = 0.1) -> Flow:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = Flow(config, "tiny").eval().requires_grad_(False)
        for p in flow.synthesis.velocity.parameters():
            p.add_(loud * torch.randn_like(p))
        flow.synthesis.calibrate(faces())
    flow.refit()
    return flow


def faces(n: int = 200) -> Tensor:
    """Pictures whose coarse frequencies are louder than their fine ones, in [0, 1] for the most part."""
    rng = torch.Generator().manual_seed(1)
    k = torch.arange(8)
    loud = 0.5 / (1 + k[:, None] ** 2 + k[None] ** 2)
    return 0.5 + from_waves(torch.randn(n, 3, 8, 8, generator=rng) * loud)


@pytest.fixture(scope="module")
def flow() -> Flow:
    return made()


def test_it_is_a_prior(flow):
    assert isinstance(flow, Prior)
    assert (flow.resolution, flow.latent_shape, flow.noise_sizes) == (8, (4, 48), ())
    assert flow.sample([3, 4]).shape == (2, 3, 8, 8)
    assert torch.allclose(flow.sample([3, 4])[1], flow.sample([4])[0], atol=1e-5)
    assert [flow.rows_up_to(side) for side in (4, 8)] == [4, 4]
    mean, std = flow.gaussian_fit
    assert not mean.any()
    assert (std == 1).all()


def test_rows_are_the_noise_from_coarse_to_fine(flow):
    w = flow.latents(range(500))
    noise = flow.synthesis.noise_of(w)
    assert torch.allclose(flow.synthesis.rows_of(noise), w, atol=1e-5)
    assert torch.allclose(noise.square().sum((1, 2, 3)), inverse_leaky_relu(w).square().sum((1, 2)), rtol=1e-4)
    assert abs(float(noise.mean())) < 0.02
    assert float(noise.std()) == pytest.approx(1, abs=0.02)


def test_one_code_in_every_row_is_noise_like_any_other(flow):
    """W: pixels of such noise have unit variance and do not go together, as those of independent rows."""
    z = torch.randn(20_000, 1, 48, generator=torch.Generator().manual_seed(0)).expand(-1, 4, -1)
    noise = flow.synthesis.noise_of(flow.mapping(z)).flatten(1)
    covariance = torch.cov(noise.t())
    assert float(covariance.diagonal().mean()) == pytest.approx(1, abs=0.02)
    apart = covariance - torch.diag(covariance.diagonal())
    assert float(apart.square().mean().sqrt()) < 0.15


def test_whitening_brings_frequencies_together():
    pictures = faces()
    spreads = {}
    for share in (0.0, 0.5, 1.0):
        flow = Flow(FlowConfig(**(asdict(CONFIG) | {"whitening": share})))
        flow.synthesis.calibrate(pictures)
        found = to_waves(flow.synthesis.whitened(pictures)).square().mean(0).sqrt()
        assert float(found.square().mean().sqrt()) == pytest.approx(1, abs=0.05)
        spreads[share] = float(found.max() / found.min())
    loud = to_waves(pictures).std(0)
    assert spreads[0.0] == pytest.approx(float(loud.max() / loud.min()), rel=0.2)
    assert spreads[0.5] == pytest.approx(spreads[0.0] ** 0.5, rel=0.2)
    assert spreads[1.0] < 1.3


def test_calibration_does_not_tell_a_face_from_its_mirror_image(flow):
    one, two = made().synthesis, made().synthesis
    two.calibrate(faces().flip(3))
    assert torch.allclose(one.centre, two.centre, atol=1e-6)
    assert torch.allclose(one.gain, two.gain, rtol=1e-4)


def test_equalised_flows_draw_pictures_as_loud_as_real_ones():
    """At each frequency, in mean and spread, whatever the steps lose; and they can still be inverted."""
    flow, pictures = made(), faces(4000)
    flow.match(pictures)
    drawn = flow.synthesize(flow.latents(range(4000)))
    (centre, spread), (own, ours) = loudness(pictures), loudness(drawn)
    assert float((ours / spread).log().abs().mean()) < 0.03
    assert float(((own - centre) / spread).abs().mean()) < 0.05
    assert torch.allclose(flow.synthesize(flow.invert(pictures[:4], 20)), pictures[:4], atol=1e-3)


def test_samples_vary_in_contrast_as_pictures_do():
    """A still flow draws its noise, so that what varies in pictures is what has to vary in the noise."""
    flow = Flow(FlowConfig(**(asdict(CONFIG) | {"whitening": 1.0}))).requires_grad_(False)
    flow.synthesis.calibrate(faces())
    for wanted in (0.0, 0.1):
        pictures = flow.synthesis.draw(4000, wanted)
        flow.match(pictures, drawn=2000)
        assert flow.config.variation == pytest.approx(wanted, abs=0.015 if wanted else 0.03)
        assert flow.synthesis.config is flow.config
    _, spread = loudness(pictures)
    found, like = (
        contrasts(x, flow.synthesis.centre, spread).std()
        for x in (flow.synthesize(flow.latents(range(2000))), pictures)
    )
    assert float(found) == pytest.approx(float(like), rel=0.1)


def test_variation_is_a_factor_of_each_seed():
    still, varied = made(), made(FlowConfig(**(asdict(CONFIG) | {"variation": 0.2})))
    seeds = [5, 2, 7]
    factors = inverse_leaky_relu(varied.latents(seeds)) / inverse_leaky_relu(still.latents(seeds))
    assert torch.allclose(factors, factors[:, :1, :1].expand_as(factors), rtol=1e-4)
    many = (inverse_leaky_relu(x.latents(range(500))).square().mean((1, 2)).sqrt() for x in (varied, still))
    assert float(next(many).div(next(many)).std()) == pytest.approx(0.2, rel=0.1)
    assert torch.equal(varied.latents([7])[0], varied.latents(seeds)[2])


def test_pictures_at_all_sides_and_no_further(flow):
    latents = flow.latents([0, 1])
    found = flow.side_outputs(latents)
    assert list(found) == [4, 8]
    assert torch.equal(found[8], flow.synthesize(latents))
    assert torch.allclose(found[4], torch.nn.functional.avg_pool2d(found[8], 2), atol=1e-6)
    assert list(flow.side_outputs(latents, largest=4)) == [4]


def test_still_network_draws_filtered_noise():
    """Without velocity the picture is the noise, filtered to be as loud as pictures at each frequency, to the share of whitening."""
    flow = Flow(CONFIG).requires_grad_(False)
    flow.synthesis.calibrate(faces())
    latents = flow.latents(range(2))
    waves = to_waves(flow.synthesize(latents))
    noise = to_waves(flow.synthesis.noise_of(latents))
    assert torch.allclose(waves, noise * flow.synthesis.gain + flow.synthesis.centre, atol=1e-4)


class Straight(torch.nn.Module):
    """The velocity of noise that goes to one picture: (x - picture) / t."""

    def __init__(self, picture: Tensor) -> None:
        super().__init__()
        self.picture = picture

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return (x - self.picture) / t[:, None, None, None]


@pytest.mark.parametrize("count", [1, 3, 8])
def test_straight_flows_arrive_in_any_number_of_steps(count):
    times = (*tuple(1 - i / count for i in range(count)), 0.0)
    flow = Flow(FlowConfig(**(asdict(CONFIG) | {"times": times})))
    picture = torch.randn(1, 3, 8, 8)
    flow.synthesis.velocity = Straight(picture)
    found = flow.synthesize(flow.latents([0, 1]))
    assert torch.allclose(flow.synthesis.whitened(found), picture.expand(2, -1, -1, -1), atol=1e-3)


def test_every_picture_has_its_noise(flow):
    pictures = torch.cat([flow.sample(range(2)), torch.rand(2, 3, 8, 8)])
    errors = [
        float((flow.synthesize(flow.invert(pictures, passes)) - pictures).abs().max()) for passes in (1, 2, 4, 20)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-4
    own = flow.latents(range(2))
    assert torch.allclose(flow.invert(flow.synthesize(own), 30), own, atol=1e-3)


def test_search_reaches_every_number(flow):
    latents = flow.latents([0]).requires_grad_(True)
    flow.synthesize(latents).square().sum().backward()
    assert bool((latents.grad != 0).all())


def test_truncation_shrinks_the_noise(flow):
    z, half = (inverse_leaky_relu(flow.latents([5], t)) for t in (1.0, 0.5))
    assert torch.allclose(half, 0.5 * z, atol=1e-6)


def test_file_brings_it_back(flow, tmp_path):
    save_prior(tmp_path / "flow.safetensors", flow, {})
    found = read_module(tmp_path / "flow.safetensors")
    assert isinstance(found, Flow)
    assert found.config == flow.config
    assert torch.allclose(found.sample([0]), flow.sample([0]), atol=0.02)  # half precision


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"w_dim": 50}, "must divide the picture's 192 numbers"),
        ({"widths": (8, 12)}, "multiples of 8 and of heads"),
        ({"widths": (8,)}, "as many as blocks"),
        ({"widths": "wide"}, "widths .* must be a list"),
        ({"patch": 8}, "cannot be taken into patches of 8"),
        ({"times": (1.0, 0.5)}, "times .* must fall from 1 to 0"),
        ({"times": (1.0, 0.2, 0.5, 0.0)}, "times .* must fall from 1 to 0"),
        ({"times": (1.0, "half", 0.0)}, "times .* must fall from 1 to 0"),
        ({"whitening": 2}, "whitening .* from 0 to 1"),
        ({"variation": -0.1}, "variation .* from 0 to 1"),
        ({"resolution": 12}, "power of two"),
    ],
)
def test_unfit_shapes_are_refused(change, says):
    with pytest.raises(WeightsError, match=says):
        FlowConfig(**(asdict(CONFIG) | change))
