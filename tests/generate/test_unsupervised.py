"""Directions without labels: closed forms against an independent decomposition and against what was planted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from preimage.errors import WeightsError
from preimage.generate.directions import row_range, sample_latents
from preimage.generate.stylegan2 import StyleGAN2
from preimage.generate.unsupervised import affine_weights, ganspace, ganspace_of, sefa


def planted(n=4000, d=8) -> tuple[torch.Tensor, torch.Tensor]:
    """W latents (n, 4, d) of a planted covariance, and its eigenvectors, the largest first, (d, d)."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q
    deviations = 2.0 ** -torch.arange(d, dtype=torch.float64)
    w = torch.randn(n, d, generator=generator, dtype=torch.float64) * deviations @ basis.t() + 3
    return w[:, None].expand(-1, 4, -1).float(), basis.t()


def test_ganspace_of_noise_follows_what_it_makes():
    """Latents without directions of their own: those found move the loudest part of the pictures first."""
    z = torch.randn(4000, 3, 5, generator=torch.Generator().manual_seed(0))
    a, b = z[:, 0, 1] * 0.6 + z[:, 2, 4] * 0.8, z[:, 1, 0]
    pictures = torch.stack([3 * a, -3 * a, 2 * b], 1)
    found = ganspace_of(pictures, z, 2)
    assert found.shape == (2, 3, 5)
    assert torch.allclose(found.flatten(1).norm(dim=1), torch.ones(2))
    assert float((found[0, 0, 1] * 0.6 + found[0, 2, 4] * 0.8).abs()) > 0.98
    assert float(found[1, 1, 0].abs()) > 0.98
    assert not ganspace_of(pictures, z, 1, [0, 1])[0, 2].any()
    with pytest.raises(WeightsError, match="1 to 3"):
        ganspace_of(pictures, z, 4)


def test_ganspace_finds_a_planted_covariance():
    latents, basis = planted()
    found = ganspace(latents, 3)
    for i in range(3):
        assert found[i].norm() == pytest.approx(1, abs=1e-5)
        assert abs(float(found[i, 0] / found[i, 0].norm() @ basis[i].float())) > 0.99
        torch.testing.assert_close(found[i], found[i, :1].expand(4, -1))
    gram = found.flatten(1) @ found.flatten(1).t()
    torch.testing.assert_close(gram, torch.eye(3), atol=1e-5, rtol=0)
    assert (ganspace(latents, 1, [1, 2])[0, [0, 3]] == 0).all()
    with pytest.raises(WeightsError, match="9 are asked for; there can be 1 to 8"):
        ganspace(latents, 9)


def test_sefa_are_the_singular_vectors_of_the_affine_weights(tiny_prior):
    layers = [m for n, m in tiny_prior.named_modules() if n.startswith("synthesis") and n.endswith("affine")]
    stacked = torch.cat([layer.weight * layer.weight_gain for layer in layers]).double().numpy()
    _, values, right = np.linalg.svd(stacked)
    found = sefa(tiny_prior, 4)
    assert found.shape == (4, *tiny_prior.latent_shape)
    for i in range(4):
        assert abs(float(found[i, 3].double().numpy() @ right[i])) > 1 - 1e-6
        assert np.linalg.norm(stacked @ found[i, 0].double().numpy()) == pytest.approx(values[i], rel=1e-5)


def test_sefa_of_some_rows_finds_what_was_planted_in_their_layers(random_style_prior, tiny_prior):
    prior = random_style_prior(tiny_prior.config, StyleGAN2)
    planted = torch.zeros(16)
    planted[5] = 1
    with torch.no_grad():
        prior.synthesis.b8.conv1.affine.weight += 50 * planted  # row 2
    found = sefa(prior, 1, (2, 3))
    assert abs(float(found[0, 2, 5])) > 0.98
    assert (found[0, [0, 1, 4, 5]] == 0).all()
    assert {row: len(weights) for row, weights in affine_weights(prior).items()} == {0: 1, 1: 2, 2: 1, 3: 2, 4: 1, 5: 1}
    assert affine_weights(prior)[2][0].shape == prior.synthesis.b8.conv1.affine.weight.shape


def test_a_prior_inside_a_larger_one_is_seen_through(tiny_prior):
    class Longer(nn.Module):
        """Rows 0 to 5 are another prior's, the last two are its own."""

        name, latent_shape, spaces, noise_sizes = "longer", (8, 16), ("W", "W+"), ()

        def __init__(self):
            super().__init__()
            self.first, self.affine = tiny_prior, nn.Linear(32, 3)
            self.mean_latent = tiny_prior.mean_latent
            self.gaussian_fit = tiny_prior.gaussian_fit

        def synthesize(self, latents, noise=None):
            return self.first.synthesize(latents[:, :6]) + self.affine(latents[:, 6:].flatten(1))[:, :, None, None]

    longer = Longer()
    assert sorted(affine_weights(longer)) == [0, 1, 2, 3, 4, 5]
    torch.testing.assert_close(sefa(longer, 2, (0, 5))[:, :6], sefa(tiny_prior, 2))
    with pytest.raises(WeightsError, match="no affine layer reads them"):
        sefa(longer, 1, (6, 7))
    latents = sample_latents(longer, [4, 5])  # it cannot draw, so its Gaussian fit does
    assert latents.shape == (2, 8, 16)
    assert torch.equal(latents[:, 0], latents[:, 7])


def test_priors_without_what_is_needed_are_refused(tiny_prior):
    class Plain(nn.Module):
        name, latent_shape, spaces = "plain", (2, 4), ("Z",)
        mean_latent = torch.zeros(4)

        def synthesize(self, latents, noise=None):
            return latents

    with pytest.raises(WeightsError, match=r"plain: has no affine layers .* take ganspace"):
        affine_weights(Plain())
    with pytest.raises(WeightsError, match="plain: has no W, only Z"):
        sample_latents(Plain(), [0])
    with pytest.raises(WeightsError, match="rows 4-6: tiny has the rows 0 to 5"):
        row_range(tiny_prior, (4, 6))


def test_latents_are_the_priors_own(tiny_prior, tiny_stylegan):
    for prior in (tiny_prior, tiny_stylegan):
        assert torch.equal(sample_latents(prior, [3, 1]), prior.latents([3, 1]))
        assert sefa(prior, 2).shape == (2, *prior.latent_shape)
