"""The cosine transform of pictures against SciPy's, its order from coarse to fine, how loud pictures are."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import scipy.fft
import torch

from preimage.generate.frequencies import contrasts, from_waves, loudness, order, to_waves


def test_waves_are_the_orthonormal_cosine_transform():
    x = torch.randn(2, 3, 8, 8)
    found = to_waves(x)
    assert np.allclose(found, scipy.fft.dctn(x.numpy(), axes=(1, 2, 3), norm="ortho"), atol=1e-5)
    assert torch.allclose(from_waves(found), x, atol=1e-5)


def test_frequencies_are_in_order_from_coarse_to_fine():
    k = torch.arange(8)
    radius = (k[:, None] ** 2 + k[None] ** 2).expand(3, 8, 8).flatten().float()
    places, signs = order(8, 4)
    assert sorted(places.tolist()) == list(range(192))
    assert set(signs.tolist()) == {-1.0, 1.0}
    parts = radius[places].chunk(4)
    assert all(a.max() <= b.min() for a, b in pairwise(parts))


def test_contrast_of_a_picture_goes_by_its_distance_from_the_mean():
    pictures = torch.randn(2000, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.1 + 0.5
    centre, spread = loudness(pictures)
    usual = contrasts(pictures, centre, spread)
    assert float(usual.square().mean()) == pytest.approx(1, abs=0.01)
    mean = from_waves(centre[None])
    assert torch.allclose(contrasts(mean + 2 * (pictures - mean), centre, spread), 2 * usual, rtol=1e-3)
