"""The sphere that stands for the latent Gaussian, and the fit of that Gaussian."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from preimage.generate.prior import Prior, fit_gaussian, inverse_leaky_relu, sphere_to_w, w_to_sphere
from preimage.generate.stylegan2 import StyleGAN2, StyleGAN2Config


@given(st.floats(-1e3, 1e3, width=32))
def test_inverse_leaky_relu(value):
    x = torch.tensor(value)
    assert torch.allclose(inverse_leaky_relu(F.leaky_relu(x, 0.2)), x, rtol=1e-6)
    assert torch.allclose(F.leaky_relu(inverse_leaky_relu(x), 0.2), x, rtol=1e-6)


def test_sphere_and_back():
    torch.manual_seed(0)
    u, mean, std = torch.randn(3, 4, 16), torch.randn(16), torch.rand(16) + 0.1
    w = sphere_to_w(u, mean, std)
    assert torch.allclose(w_to_sphere(w, mean, std), u, atol=1e-5)
    assert torch.allclose(sphere_to_w(w_to_sphere(w, mean, std), mean, std), w, atol=1e-5)
    assert torch.allclose(sphere_to_w(torch.zeros(16), mean, std), F.leaky_relu(mean, 0.2))


def test_fit_of_a_known_mapping():
    mean, std = torch.tensor([0.5, -2.0, 3.0, 0.0]), torch.tensor([1.0, 0.3, 2.0, 0.05])
    calls = []

    def mapping(z):
        calls.append(len(z))
        return F.leaky_relu(z * std + mean, 0.2)

    found_mean, found_std = fit_gaussian(mapping, 4, samples=25_000)
    assert calls == [10_000, 10_000, 5_000]
    assert found_mean.dtype == found_std.dtype == torch.float32
    assert torch.allclose(found_mean, mean, atol=0.05)
    assert torch.allclose(found_std, std, rtol=0.03)
    again = fit_gaussian(mapping, 4, samples=25_000)
    assert torch.equal(again[0], found_mean)
    assert not torch.equal(fit_gaussian(mapping, 4, samples=25_000, seed=1)[0], found_mean)


def test_fit_absorbs_the_gain():
    one = fit_gaussian(lambda z: F.leaky_relu(z, 0.2), 3, samples=10_000)
    two = fit_gaussian(lambda z: F.leaky_relu(z, 0.2) * 2**0.5, 3, samples=10_000)
    assert torch.allclose(two[1], one[1] * 2**0.5, rtol=1e-5)


def test_fit_of_a_constant_has_no_spread():
    mean, std = fit_gaussian(lambda z: torch.full((len(z), 2), -0.4), 2, samples=1_000)
    assert torch.allclose(mean, torch.tensor([-2.0, -2.0]))
    assert torch.allclose(std, torch.zeros(2), atol=1e-6)


def test_what_is_a_prior():
    assert isinstance(StyleGAN2(StyleGAN2Config(8, 64, 8, 8, 8, 1)), Prior)
    assert not isinstance(torch.nn.Linear(1, 1), Prior)


@pytest.mark.parametrize("dimensions", [64, 512])
def test_gaussian_draws_lie_near_the_sphere(dimensions):
    torch.manual_seed(0)
    norms = torch.randn(200, dimensions).norm(dim=1) / dimensions**0.5
    assert float(norms.mean()) == pytest.approx(1, abs=0.02)
