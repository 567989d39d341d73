"""Directions from scores: planted attributes are found, and each step changes its own and no other."""

from __future__ import annotations

import pytest
import torch

from preimage.errors import WeightsError
from preimage.generate.regression import conditional, fit, from_scores, ridge


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_without_a_penalty_it_is_least_squares():
    x, y = gaussian(200, 6) + 2, gaussian(200, 2, seed=1)
    wanted = torch.linalg.lstsq(x - x.mean(0), y - y.mean(0)).solution
    torch.testing.assert_close(ridge(x, y, 0.0), wanted)
    assert (ridge(x, y, 1.0).norm(dim=0) < wanted.norm(dim=0)).all()


def test_a_planted_score_is_found_with_what_it_explains():
    x, planted = gaussian(2000, 10), gaussian(10, 1, seed=1)
    clean = x @ planted
    weights, explained = fit(x, clean + clean.std() * gaussian(2000, 1, seed=2))
    assert float(torch.nn.functional.cosine_similarity(weights, planted, dim=0)) > 0.99
    assert float(explained) == pytest.approx(0.5, abs=0.06)  # as much noise as signal
    assert float(fit(x, gaussian(2000, 1, seed=3))[1]) < 0.02


def test_too_little_to_learn_from_is_refused():
    with pytest.raises(WeightsError, match="4 scored pictures are too few"):
        fit(gaussian(4, 2), gaussian(4, 1))
    with pytest.raises(WeightsError, match="same for all"):
        fit(gaussian(40, 2), torch.ones(40, 1))


def test_conditional_steps_of_two_are_the_papers():
    normals = gaussian(8, 2)
    steps = conditional(normals)
    unit = normals / normals.norm(dim=0)
    for i, j in ((0, 1), (1, 0)):
        paper = unit[:, i] - (unit[:, i] @ unit[:, j]) * unit[:, j]
        assert float(torch.nn.functional.cosine_similarity(steps[i], paper, dim=0)) == pytest.approx(1)


@pytest.mark.parametrize("metric", [False, True])
def test_each_step_changes_its_own_score_by_one_and_no_other(metric):
    normals, root = gaussian(8, 3), gaussian(8, 8, seed=1)
    covariance = root @ root.t() if metric else None
    steps = conditional(normals, covariance)
    torch.testing.assert_close(steps @ normals, torch.eye(3, dtype=torch.float64), atol=1e-8, rtol=0)
    # of all such steps the shortest: any other differs by something that changes no score
    inverse = torch.eye(8, dtype=torch.float64) if covariance is None else torch.linalg.inv(covariance)
    free = torch.linalg.svd(normals.t()).Vh[3:]
    torch.testing.assert_close(steps @ inverse @ free.t(), torch.zeros(3, 5, dtype=torch.float64), atol=1e-7, rtol=0)


def test_an_attribute_that_follows_from_others_is_refused():
    normals = gaussian(8, 2)
    with pytest.raises(WeightsError, match="one attribute follows from the others"):
        conditional(torch.cat([normals, normals.sum(1, keepdim=True)], dim=1))


@pytest.mark.parametrize("likely", [False, True])
def test_directions_of_correlated_attributes_of_latents_part(likely):
    w, planted = gaussian(3000, 12).float(), gaussian(12, 2, seed=1)
    planted[:, 1] += 0.7 * planted[:, 0]
    latents = torch.stack([w, w, gaussian(3000, 12, seed=2).float()], dim=1)  # the last row is another's
    vectors, explained = from_scores(latents, w.double() @ planted, likely=likely)
    assert (explained > 0.99).all()
    torch.testing.assert_close(vectors[:, 0], vectors[:, 1])
    change = (vectors[:, 0].double() @ planted).abs()
    assert (change.diagonal() > 50 * (change.sum(1) - change.diagonal())).all()
    # a sample covariance of independent rows: 1 / sqrt(3000) an entry, 12 of them
    assert float(vectors[:, 2].norm()) < 0.1 * float(vectors[:, 0].norm())
    assert (from_scores(latents, w.double() @ planted, [0, 1], likely)[0][:, 2] == 0).all()
