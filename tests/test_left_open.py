"""Directions of candidates: against numpy's own decomposition, inside the null space, and byte-exact wherever they lead."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import preimage
from preimage.candidates import Candidates
from preimage.degrade.linear import bicubic
from preimage.degrade.proof import verify
from preimage.errors import InputError
from preimage.files import save_png
from preimage.invert.finish import finish
from preimage.invert.problem import Problem
from preimage.left_open import open_directions


@pytest.fixture(scope="module")
def candidates() -> Candidates:
    """Twelve exact ones of an 8x8 photo, which differ by smooth noise of falling strength in six ways."""
    numbers = torch.Generator().manual_seed(0)
    lr = (torch.rand(3, 8, 8, generator=numbers) * 90 + 80).round() / 255
    operator = bicubic(32, lr_size=8)
    ways = torch.randn(6, 3, 32, 32, generator=numbers) * torch.tensor([0.1, 0.08, 0.05, 0.03, 0.02, 0.01]).view(
        -1, 1, 1, 1
    )
    pictures = 0.5 + torch.einsum("nk,kchw->nchw", torch.randn(12, 6, generator=numbers), ways)
    return finish(operator.project(pictures, lr), Problem(lr, operator, 32), range(20, 32), method="toy")


def test_they_are_the_principal_components(candidates):
    found = open_directions(candidates, 5)
    flat = candidates.images.flatten(1).double().numpy()
    _, lengths, ways = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    variances = lengths**2 / 11
    assert found.shares.tolist() == pytest.approx((variances[:5] / variances.sum()).tolist(), abs=0.01)
    rows = found.directions.flatten(1).double()
    assert rows.norm(dim=1).tolist() == pytest.approx(np.sqrt(variances[:5]).tolist(), rel=0.02)
    cosines = (rows.numpy() * ways[:5]).sum(1) / rows.norm(dim=1).numpy()
    assert np.abs(cosines[:4]).min() > 0.99
    between = rows @ rows.mT
    assert float((between - between.diag().diag()).abs().max()) < 1e-4 * float(between.max())
    largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    assert bool((largest > 0).all())


def test_the_downscaling_does_not_see_them(candidates):
    found, operator = open_directions(candidates, 5), candidates.degradation
    assert float(operator(found.directions).abs().max()) < 1e-5
    assert float((operator(found.mean) - candidates.lr).abs().max()) < 1e-5


def test_wherever_they_lead_it_is_exact(candidates, tmp_path):
    found = open_directions(candidates, 4)
    save_png(tmp_path / "lr.png", candidates.lr)
    for start in (None, 3):
        for index, amount in ((0, 2.0), (0, -2.0), (3, 1.0), ([0, 2], [1.5, -1.0])):
            moved = found.move(index, amount, start)
            assert bool(moved.exact.all())
            save_png(tmp_path / "moved.png", moved.images[0])
            assert verify(tmp_path / "moved.png", tmp_path / "lr.png") == (True, 0.0)
    still = found.move(1, 0.0, start=3)
    assert torch.equal(still.images, candidates[3].images)
    assert still.seeds == (23,)
    assert still.provenance(0)["edit"] == "seed 23: direction 1 by 0"
    moved = found.move([0, 2], (1, -1))
    assert moved.edit == "mean of seeds 20-31: direction 0 by 1, direction 2 by -1"
    step = found.move(0, 1.0).images[0] - found.move(0, 0.0).images[0]
    assert float((step - found.directions[0]).abs().max()) < 3 / 255


def test_what_has_no_directions_says_so(candidates):
    found = open_directions(candidates, 2)
    assert len(found) == 2
    for index, amount in ((2, 1.0), (-1, 1.0), ([0, 1], [1.0]), ([], []), (0, float("nan")), (0, float("inf"))):
        with pytest.raises(InputError, match="move"):
            found.move(index, amount)
    with pytest.raises(InputError, match="there are 12 candidates"):
        found.move(0, 1.0, start=12)
    for few, k in ((candidates[:2], 1), (candidates, 12), (candidates, 0)):
        with pytest.raises(InputError, match="draw more"):
            open_directions(few, k)
    with pytest.raises(InputError, match="differ in fewer than 1"):
        open_directions(candidates.select([0, 0, 0]), 1)


def test_directions_of_a_learned_degradation_are_refused(tiny_prior):
    method = preimage.load("sr-nam", prior="faces64", device="cpu")
    lr = torch.full((3, 16, 16), 100 / 255)
    made = preimage.upsample(lr, range(3), method=method, steps=1, degradation="degradation-gan")
    with pytest.raises(InputError, match="no linear downscaling"):
        open_directions(made, 1)
