"""Coarse to fine: which picture the first steps look at, what they cost, and that only whole pictures come out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from preimage.degrade.linear import LinearOperator, area, bicubic, from_kernel, gaussian
from preimage.errors import MethodError
from preimage.invert.coarse import Coarse, coarse_of, resized
from preimage.invert.listener import Stop
from preimage.invert.problem import Problem
from preimage.invert.pulse import Pulse
from preimage.invert.queue import Ask, Row
from preimage.invert.search import Search, search
from preimage.invert.search_settings import SearchSettings
from preimage.invert.walk import select

OPERATOR = bicubic(16, lr_size=4)
HALF = SearchSettings(steps=10, coarse=0.5)


class Nested(nn.Module):
    """A prior whose smaller picture is exactly the whole one, made small by area."""

    def __init__(self, prior):
        super().__init__()
        self.prior, self.small = prior, area(16, lr_size=8)

    def __getattr__(self, name):
        return super().__getattr__(name) if name in ("prior", "small") else getattr(self.prior, name)

    side_sizes = (8, 16)

    def side_outputs(self, latents, noise=None, largest=None):
        whole = self.prior.synthesize(latents, noise)
        return {8: self.small(whole)} | ({16: whole} if largest is None or largest >= 16 else {})


@pytest.fixture
def computed(tiny_prior):
    """The number of pictures of each batch that reached the last block of the prior."""
    seen = []
    hook = tiny_prior.synthesis.b16.conv1.register_forward_hook(lambda module, args, out: seen.append(len(out)))
    yield seen
    hook.remove()


@pytest.mark.parametrize(("side", "wanted"), [(3, 4), (4, 4), (5, 8), (8, 8), (9, None), (15, None)])
def test_the_smallest_picture_that_is_no_smaller_than_the_photo(tiny_prior, side, wanted):
    found = coarse_of(tiny_prior, bicubic(16, lr_size=side), HALF)
    assert found == (None if wanted is None else Coarse(wanted, 5, bicubic(wanted, lr_size=side)))


@pytest.mark.parametrize(("steps", "share", "wanted"), [(10, 0.8, 8), (10, 1.0, 9), (100, 0.333, 33), (3, 0.5, 2)])
def test_at_least_the_last_step_looks_at_the_whole_picture(tiny_prior, steps, share, wanted):
    assert coarse_of(tiny_prior, OPERATOR, SearchSettings(steps=steps, coarse=share)).steps == wanted


@pytest.mark.parametrize(("steps", "share"), [(1, 1.0), (10, 0.0), (10, 0.04)])
def test_no_coarse_steps(tiny_prior, steps, share):
    assert coarse_of(tiny_prior, OPERATOR, SearchSettings(steps=steps, coarse=share)) is None


def test_the_same_downscaling_from_another_side():
    made = resized(bicubic(16, lr_size=4, border="reflect"), 8)
    assert made == bicubic(8, lr_size=4, border="reflect")
    assert resized(gaussian(16, lr_size=4, sigma=3.0), 8) == gaussian(8, lr_size=4, sigma=1.5)
    assert torch.equal(resized(bicubic(16, lr_size=4), 4).rows, torch.eye(4, dtype=torch.float64))


def test_what_cannot_begin_small_is_refused(tiny_prior, tiny_stylegan, tiny_lr):
    with pytest.raises(MethodError, match=r"coarse \(0\.5\): tiny draws the whole picture only"):
        Pulse(prior=tiny_stylegan).configure({"coarse": 0.5})
    for operator in (from_kernel(16, lr_size=4, kernel=[1, 2, 1]), LinearOperator(OPERATOR.rows, OPERATOR.cols)):
        with pytest.raises(MethodError, match="is made for pictures of 16 px and cannot shrink smaller ones"):
            search(tiny_prior, operator, tiny_lr, [0], HALF)
    with pytest.raises(MethodError, match=r"coarse \(1\.5\)"):
        SearchSettings(coarse=1.5)


def test_coarse_steps_do_not_compute_the_whole_picture(tiny_prior, tiny_lr, computed):
    search(tiny_prior, OPERATOR, tiny_lr, [0, 1], SearchSettings(steps=10, coarse=0.8))
    assert computed == [2, 2]
    computed.clear()
    search(tiny_prior, OPERATOR, tiny_lr, [0, 1], SearchSettings(steps=10))
    assert computed == [2] * 10


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_what_comes_out_is_the_whole_picture_with_its_own_error(tiny_prior, tiny_lr, share):
    found = search(tiny_prior, OPERATOR, tiny_lr, [0, 1, 2], SearchSettings(steps=20, eps=0, coarse=share))
    assert found.steps.tolist() == [20] * 3
    torch.testing.assert_close(tiny_prior.synthesize(found.latents, found.noise), found.images, rtol=1e-4, atol=1e-4)
    misses = OPERATOR(found.images) - tiny_lr
    torch.testing.assert_close(misses.square().mean((1, 2, 3)), found.mse)
    torch.testing.assert_close(misses.abs().mean((1, 2, 3)), found.l1)
    late = found.trace[:, round(20 * share) :]
    torch.testing.assert_close(late.amin(1), found.mse)  # of whole pictures alone


def test_smaller_pictures_that_are_right_lead_where_whole_ones_do(tiny_prior, tiny_lr):
    """Area 16 -> 4 is area 16 -> 8 and then 8 -> 4, so every step has the same error and gradient."""
    prior, operator = Nested(tiny_prior), area(16, lr_size=4)
    whole, begun = (
        search(prior, operator, tiny_lr, [0, 1], SearchSettings(steps=12, eps=0, geocross=0, coarse=share))
        for share in (0.0, 0.75)
    )
    torch.testing.assert_close(begun.trace, whole.trace, rtol=1e-3, atol=1e-5)


def test_a_candidate_does_not_depend_on_others_in_another_part_of_the_search(tiny_prior, tiny_lr):
    settings = SearchSettings(steps=12, eps=0, coarse=0.5, patience=9)
    rows = [Row(Ask(Problem(lr, OPERATOR, 16), [4, 9]), place) for lr in (tiny_lr, 1 - tiny_lr) for place in (0, 1)]
    running, found = Search(tiny_prior, OPERATOR, settings), {}
    for step in range(30):
        running.join({0: rows[:1], 3: rows[1:3], 7: rows[3:]}.get(step, []))
        if not running.rows:
            break
        done, part = running.step()
        found |= {row: select(part, torch.tensor([i])) for i, row in enumerate(done)}
    for row in rows:
        alone = search(tiny_prior, OPERATOR, row.ask.problem.lr, [row.seed], settings)
        assert found[row].steps.tolist() == alone.steps.tolist()
        torch.testing.assert_close(found[row].trace, alone.trace, rtol=1e-2, atol=2e-3, equal_nan=True)
        torch.testing.assert_close(found[row].latents, alone.latents, rtol=1e-2, atol=2e-2)


def test_an_error_that_is_small_enough_ends_the_coarse_part_only(tiny_prior, tiny_lr, computed):
    found = search(tiny_prior, OPERATOR, tiny_lr, [0, 1], SearchSettings(steps=20, coarse=0.8, stop=10.0))
    assert found.steps.tolist() == [2, 2]
    assert computed == [2]
    torch.testing.assert_close((OPERATOR(found.images) - tiny_lr).square().mean((1, 2, 3)), found.mse)


def test_patience_ends_the_coarse_part_and_begins_anew(tiny_prior, tiny_lr):
    still = SearchSettings(steps=40, lr=1e-12, schedule="fixed", eps=0, coarse=0.9, patience=3)
    assert search(tiny_prior, OPERATOR, tiny_lr, [0], still).steps.tolist() == [8]


@pytest.mark.parametrize("last", [1, 4, 5, 6])
def test_who_is_stopped_early_gets_the_whole_picture_too(tiny_prior, tiny_lr, last):
    told = []

    def listener(step):
        told.append(step.preview().shape)
        if len(told) == last:
            raise Stop

    found = search(tiny_prior, OPERATOR, tiny_lr, [0, 1], HALF.with_({"eps": 0.0}), listener)
    assert found.steps.tolist() == [last] * 2
    assert set(told) == {(2, 3, 16, 16)}
    torch.testing.assert_close(tiny_prior.synthesize(found.latents, found.noise), found.images, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close((OPERATOR(found.images) - tiny_lr).square().mean((1, 2, 3)), found.mse)


def test_pulse_stays_exact(tiny_prior, tiny_lr):
    (made,) = Pulse(prior=tiny_prior).upsample(tiny_lr, [0, 1], steps=10, coarse=0.8)
    assert bool(made.exact.all())
    assert torch.isfinite(made.error_before).all()


# ------------------------------------------------------------------------------- priors whose whole picture shrinks to a smaller one


class Known(Nested):
    """`Nested` that says so: searched on its smaller picture without being asked."""

    @property
    def shrinks_to(self):
        return self.small


@pytest.mark.parametrize("stop", [0.0, 0.05])
def test_a_prior_that_shrinks_to_its_smaller_picture_is_searched_there(tiny_prior, computed, stop):
    """The same candidates as by whole pictures, each of which is drawn once; other downscalings look at the whole."""
    known, photo = Known(tiny_prior), torch.full((3, 8, 8), 0.4)
    settings = SearchSettings(steps=12, stop=stop, trainable_noise=2)
    assert coarse_of(known, bicubic(16, lr_size=8), settings) is None
    found = coarse_of(known, known.small, settings)
    assert (found.side, found.steps, found.exact) == (8, 12, True)
    here = search(known, known.small, photo, [0, 1, 2], settings)
    there = search(Nested(tiny_prior), known.small, photo, [0, 1, 2], settings)
    assert torch.equal(here.steps, there.steps)
    assert torch.allclose(here.latents, there.latents, atol=1e-4)
    assert torch.allclose(here.images, there.images, atol=1e-4)
    assert torch.allclose(here.mse, there.mse, atol=1e-6)
    assert torch.allclose(here.images, tiny_prior.synthesize(here.latents, here.noise), atol=1e-6)
