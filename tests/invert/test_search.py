"""The latent search: spheres, spread of rows, schedules, and that every candidate is alone in its batch."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from preimage.degrade.linear import bicubic
from preimage.errors import MethodError
from preimage.generate.prior import w_to_sphere
from preimage.invert import search as module
from preimage.invert.problem import Problem
from preimage.invert.queue import Ask, Row
from preimage.invert.search import FORWARDS_PER_STEP, Search, geocross, search, start
from preimage.invert.search_settings import SearchSettings, fixed, linear1cycle, linear1cycledrop
from preimage.invert.walk import norms, select
from preimage.seeds import normal

OPERATOR = bicubic(16, lr_size=4)


def test_defaults_are_the_published_ones():
    paper = SearchSettings()
    assert (paper.steps, paper.lr, paper.eps, paper.l2, paper.geocross) == (100, 0.4, 1e-3, 100.0, 0.05)
    assert (paper.optimiser, paper.schedule, paper.trainable_noise) == ("adam", "linear1cycledrop", 5)


def test_schedules_have_their_documented_values():
    assert linear1cycle(0) == pytest.approx(0.1)
    assert linear1cycle(0.5) == pytest.approx(1.0)
    assert linear1cycle(1) == pytest.approx(0.1)
    assert linear1cycledrop(0) == pytest.approx(0.1)
    assert linear1cycledrop(0.45) == pytest.approx(1.0)
    assert linear1cycledrop(0.9) == pytest.approx(0.1)
    assert linear1cycledrop(1) == pytest.approx(0.001)
    assert fixed(0.3) == 1.0


def test_geocross_is_zero_for_equal_rows_and_the_squared_angle_for_unit_rows():
    row = torch.randn(1, 1, 32, dtype=torch.float64)
    assert geocross(row.expand(2, 6, -1)).abs().max() < 1e-4
    angle = 0.7
    pair = torch.zeros(1, 2, 8, dtype=torch.float64)
    pair[0, 0, 0] = 1
    pair[0, 1, :2] = torch.tensor([math.cos(angle), math.sin(angle)])
    # two of the four ordered pairs are apart by the angle
    assert geocross(pair).item() == pytest.approx(8 * angle**2 / 2 / 8, rel=1e-5)
    assert geocross(torch.randn(3, 1, 8)).tolist() == [0, 0, 0]


def test_geocross_does_not_change_under_rotation():
    rows = torch.randn(4, 5, 16, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64))
    torch.testing.assert_close(geocross(rows @ rotation), geocross(rows))


@pytest.mark.parametrize("optimiser", ["adam", "adamax", "sgd", "sgdm"])
def test_every_row_and_map_stays_on_its_own_sphere(tiny_prior, tiny_lr, optimiser, monkeypatch):
    seen = []
    original = module.sphere_to_w
    monkeypatch.setattr(module, "sphere_to_w", lambda u, *fit: (seen.append(norms(u).detach()), original(u, *fit))[1])
    settings = SearchSettings(steps=12, optimiser=optimiser)
    search(tiny_prior, OPERATOR, tiny_lr, [0, 1, 2], settings)
    assert len(seen) == 12
    torch.testing.assert_close(seen[-1], seen[0], rtol=1e-5, atol=0)
    assert seen[0].std() > 0.1  # each row keeps its own radius


def test_rate_zero_moves_nothing(tiny_prior, tiny_lr):
    still = search(tiny_prior, OPERATOR, tiny_lr, [5], SearchSettings(steps=5, lr=1e-12))
    walkers = start(tiny_prior, [5], SearchSettings())
    mean, std = tiny_prior.gaussian_fit
    torch.testing.assert_close(w_to_sphere(still.latents, mean, std), walkers.u.detach(), rtol=1e-4, atol=1e-4)


def test_the_search_gets_closer_and_reports_the_error_of_the_picture_it_returns(tiny_prior, tiny_lr):
    short = search(tiny_prior, OPERATOR, tiny_lr, range(4), SearchSettings(steps=1))
    long = search(tiny_prior, OPERATOR, tiny_lr, range(4), SearchSettings(steps=60, eps=0))
    assert (long.mse < short.mse).all()
    assert long.mse.mean() < 0.2 * short.mse.mean()
    measured = (OPERATOR(long.images) - tiny_lr).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(measured, long.mse)
    torch.testing.assert_close(tiny_prior.synthesize(long.latents, long.noise), long.images, rtol=1e-4, atol=1e-4)


def test_the_best_iterate_is_kept_not_the_last(tiny_prior, tiny_lr):
    wild = SearchSettings(steps=30, lr=8.0, schedule="fixed", eps=0)
    found = search(tiny_prior, OPERATOR, tiny_lr, range(4), wild)
    shorter = search(tiny_prior, OPERATOR, tiny_lr, range(4), wild.with_({"steps": 15}))
    assert (found.mse <= shorter.mse + 1e-7).all()


def test_a_candidate_does_not_depend_on_the_others(tiny_prior, tiny_lr):
    settings = SearchSettings(steps=25, eps=1e-4, stop=1e-3)
    together = search(tiny_prior, OPERATOR, tiny_lr, [0, 1, 2, 3], settings)
    for i, seed in enumerate([0, 1, 2, 3]):
        alone = search(tiny_prior, OPERATOR, tiny_lr, [seed], settings)
        assert alone.steps[0] == together.steps[i]
        torch.testing.assert_close(alone.images[0], together.images[i], rtol=1e-3, atol=1e-3)
    swapped = search(tiny_prior, OPERATOR, tiny_lr, [3, 1], settings)
    torch.testing.assert_close(swapped.images, together.images[[3, 1]], rtol=1e-3, atol=1e-3)


def test_a_finished_candidate_leaves_the_batch(tiny_prior, tiny_lr):
    sizes = []
    stop = search(tiny_prior, OPERATOR, tiny_lr, range(6), SearchSettings(steps=60, eps=0)).mse.median().item()
    settings = SearchSettings(steps=60, eps=0, stop=stop)
    found = search(
        tiny_prior, OPERATOR, tiny_lr, range(6), settings, listener=lambda step: sizes.append(len(step.seeds))
    )
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 6
    done = found.mse <= stop
    assert done.any()
    assert (found.steps[done] < 60).any()
    assert (found.steps[~done] == 60).all()


@pytest.mark.parametrize("noise", ["fixed", "resampled", "optimised"])
@pytest.mark.parametrize("optimiser", ["adam", "adamax", "sgd", "sgdm"])
def test_it_does_not_matter_beside_whom_and_when_a_candidate_begins(tiny_prior, tiny_lr, optimiser, noise):
    rate = 0.4 if optimiser.startswith("ada") else 0.01
    settings = SearchSettings(steps=12, eps=0, optimiser=optimiser, lr=rate, patience=9, degradation_noise=noise)
    photos, shaken = [tiny_lr, tiny_lr.flip(-1), 1 - tiny_lr], Shaken()
    rows = [Row(Ask(Problem(lr, shaken, 16), [4, 9]), place) for lr in photos for place in (0, 1)]
    running, found = Search(tiny_prior, shaken, settings), {}
    for step in range(40):
        running.join({0: rows[:2], 3: rows[2:5], 7: rows[5:]}.get(step, []))
        if not running.rows:
            break
        done, part = running.step()
        found |= {row: select(part, torch.tensor([i])) for i, row in enumerate(done)}
    assert step >= 14  # the last one is on its way when the first are done
    for row in rows:
        alone = search(tiny_prior, shaken, row.ask.problem.lr, [row.seed], settings)
        assert found[row].steps.tolist() == alone.steps.tolist()
        # the kinks of a network make more of what rounding did; a wrong rate or moment is off by tenths
        torch.testing.assert_close(found[row].trace, alone.trace, rtol=1e-2, atol=2e-3, equal_nan=True)
        torch.testing.assert_close(found[row].latents, alone.latents, rtol=1e-2, atol=2e-2)
        torch.testing.assert_close(found[row].degradation, alone.degradation, rtol=1e-2, atol=2e-2)


def test_within_eps_only_the_spread_of_the_rows_improves(tiny_prior, tiny_lr):
    eps = 0.05  # generous: reached at once
    found = search(tiny_prior, OPERATOR, tiny_lr, range(3), SearchSettings(steps=40, eps=eps, geocross=1.0))
    first = search(tiny_prior, OPERATOR, tiny_lr, range(3), SearchSettings(steps=1, eps=eps))
    assert (found.mse <= eps).all()
    assert (geocross(found.latents) < geocross(first.latents)).all()


def test_tied_rows_stay_in_w_and_tied_starts_may_part(tiny_prior, tiny_lr):
    tied = search(tiny_prior, OPERATOR, tiny_lr, [0], SearchSettings(steps=10, tied=True)).latents
    assert torch.equal(tied[:, :1].expand_as(tied), tied)
    parted = search(tiny_prior, OPERATOR, tiny_lr, [0], SearchSettings(steps=10, tie_rows=True, geocross=0)).latents
    assert (parted[:, 0] - parted[:, 1]).abs().max() > 1e-3
    begun = start(tiny_prior, [0], SearchSettings(tie_rows=True)).u
    assert torch.equal(begun[:, :1].expand_as(begun), begun)


def test_spread_scales_the_spheres_that_a_search_stays_on(tiny_prior, tiny_lr, monkeypatch):
    whole, near = (norms(start(tiny_prior, [0, 1], SearchSettings(spread=s)).u.detach()) for s in (1.0, 0.5))
    torch.testing.assert_close(near, whole / 2)
    on_the_way = []
    original = module.sphere_to_w
    monkeypatch.setattr(
        module, "sphere_to_w", lambda u, *fit: (on_the_way.append(norms(u).detach()), original(u, *fit))[1]
    )
    search(tiny_prior, OPERATOR, tiny_lr, [0, 1], SearchSettings(steps=10, spread=0.5))
    torch.testing.assert_close(on_the_way[-1], near)
    noise = start(tiny_prior, [0], SearchSettings(spread=0.5)).searched[0]
    assert torch.equal(noise, start(tiny_prior, [0], SearchSettings()).searched[0])


def test_noise_is_searched_frozen_or_silent(tiny_prior, tiny_lr):
    settings = SearchSettings(steps=10, trainable_noise=2, silent_noise=(4,))
    before = start(tiny_prior, [0], settings)
    found = search(tiny_prior, OPERATOR, tiny_lr, [0], settings)
    assert not torch.allclose(found.noise[0], before.searched[0])
    assert torch.equal(found.noise[2], before.frozen[0])
    assert found.noise[4].abs().max() == 0
    with pytest.raises(MethodError, match="noise maps 0 to 4"):
        start(tiny_prior, [0], SearchSettings(silent_noise=(17,)))


def test_settings_that_cannot_be_are_refused():
    for wrong in ({"optimiser": "magic"}, {"schedule": "cosine"}, {"steps": 0}, {"lr": 0.0}, {"eps": -1.0}):
        with pytest.raises(MethodError):
            SearchSettings(**wrong)
    with pytest.raises(MethodError, match="unknown control stepz; there are steps"):
        SearchSettings().with_({"stepz": 3})


class Pooled:
    """The part of `Degradation` that a search asks for."""

    def draw(self, seeds, stream="degradation"):
        return None

    def __call__(self, pictures, noise=None):
        return F.avg_pool2d(pictures, 4)


class Shaken(Pooled):
    """One that has noise: the brightness of each colour."""

    def draw(self, seeds, stream="degradation"):
        return normal(seeds, (3,), stream)

    def __call__(self, pictures, noise=None):
        return super().__call__(pictures) + 0.02 * noise[:, :, None, None]


def test_any_differentiable_degradation_will_do(tiny_prior, tiny_lr):
    found = search(tiny_prior, Pooled(), tiny_lr, [0, 1], SearchSettings(steps=40, eps=0))
    assert found.mse.max() < 0.02


def test_a_step_costs_as_many_forwards_as_stated(tiny_prior, tiny_lr):
    from torch.utils.flop_counter import FlopCounterMode

    from preimage.invert.pulse import Pulse

    def operations(steps: int) -> int:
        pulse = Pulse(prior=tiny_prior, preset="paper")
        with FlopCounterMode(display=False) as counter:
            list(pulse.upsample(tiny_lr, [0], steps=steps))
        return int(counter.get_total_flops())

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        tiny_prior.synthesize(tiny_prior.mean_latent.expand(1, *tiny_prior.latent_shape))
    per_step = (operations(30) - operations(10)) / 20
    assert per_step / counter.get_total_flops() == pytest.approx(FORWARDS_PER_STEP, abs=0.35)
