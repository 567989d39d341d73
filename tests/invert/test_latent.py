"""Latent searches over several photos: each candidate as if it were alone, batches that stay full, few photos open at a time."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from preimage.candidates import Candidates
from preimage.degrade.linear import bicubic
from preimage.errors import MethodError
from preimage.generate.own import MEMBERS
from preimage.generate.side_outputs import SideOutputs, SideOutputsConfig
from preimage.invert.listener import Stop
from preimage.invert.pulse import Pulse
from preimage.invert.queue import Ask
from preimage.invert.search import Search

CONTROLS = {"steps": 40, "stop": 4e-3, "eps": 1e-4}


@pytest.fixture(scope="module")
def photos(tiny_prior) -> list[torch.Tensor]:
    small = bicubic(16, lr_size=4)(tiny_prior.sample(range(100, 106)))
    return list((small.clamp(0, 1) * 255).round() / 255)


@pytest.fixture
def watched(tiny_prior, monkeypatch):
    """The widths of all batches that the prior makes pictures of."""
    widths, original = [], type(tiny_prior).synthesize

    def synthesize(self, latents, *rest):
        widths.append(len(latents))
        return original(self, latents, *rest)

    monkeypatch.setattr(type(tiny_prior), "synthesize", synthesize)
    return widths


def each(method, photos, seeds, at=None, **controls):
    """Candidates of each photo by seed, searched together."""
    asks = [Ask(method.pose(lr, "bicubic"), seeds, at) for lr in photos]
    found: list[dict[int, Candidates]] = [{} for _ in asks]
    for ask, part in method.sample_each(iter(asks), method.configure({**CONTROLS, **controls})):
        assert torch.equal(part.lr, ask.problem.lr)
        found[asks.index(ask)] |= {c.seeds[0]: c for c in part}
    return found


def test_each_candidate_is_what_it_is_alone(tiny_prior, photos):
    together, alone = (Pulse(prior=tiny_prior, device="cpu", batch=batch) for batch in (4, 1))
    found = each(together, photos, [0, 7])
    for lr, own in zip(photos, found, strict=True):
        for one in Candidates.cat(list(alone.upsample(lr, [0, 7], **CONTROLS))):
            same = own[one.seeds[0]]
            assert int(same.steps) == int(one.steps)
            assert bool(same.exact.all())
            assert float((same.images - one.images).abs().max()) <= 2.01 / 255
            torch.testing.assert_close(same.latents["latents"], one.latents["latents"], rtol=1e-3, atol=1e-3)


def test_a_place_that_becomes_free_is_taken(tiny_prior, photos, watched):
    method = Pulse(prior=tiny_prior, device="cpu", batch=3)
    found = each(method, photos, [0, 1])
    steps = [int(c.steps) for own in found for c in own.values()]
    assert len(set(steps)) > 2
    assert sum(watched) == sum(steps)  # nobody costs anything before or after its own steps
    assert max(watched) == 3
    last = max(steps)
    assert all(width == 3 for width in watched[:-last])  # full until nobody waits
    assert len(watched) < sum(max(steps[i : i + 3]) for i in range(0, len(steps), 3))  # without filling up


def test_one_photo_with_many_seeds_fills_up_too_and_keeps_their_order(tiny_prior, photos, watched):
    method = Pulse(prior=tiny_prior, device="cpu", batch=3)
    parts = list(method.upsample(photos[0], [9, 4, 6, 2, 8, 0, 1], **CONTROLS))
    assert [part.seeds for part in parts] == [(9, 4, 6), (2, 8, 0), (1,)]
    steps = [int(s) for part in parts for s in part.steps]
    assert sum(watched) == sum(steps)
    assert len(watched) < sum(max(steps[i : i + 3]) for i in range(0, len(steps), 3))
    assert sum(part.seconds for part in parts) > 0


def test_photos_are_opened_when_there_is_room(tiny_prior, photos):
    method, opened, done = Pulse(prior=tiny_prior, device="cpu", batch=2), [], []

    def asks():
        for i in range(30):
            opened.append(i)
            yield Ask(method.pose(photos[i % 6]), [i])

    for _, part in method.sample_each(asks(), method.configure(CONTROLS)):
        done += part.seeds
        assert len(opened) <= len(done) + 2
    assert sorted(done) == list(range(30))


def test_photos_of_other_sizes_are_another_batch(tiny_prior, photos, watched):
    other = [torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(i)).mul(99).round() / 255 for i in range(2)]
    mixed = [photos[0], photos[1], *other, photos[2]]
    method = Pulse(prior=tiny_prior, device="cpu", batch=4)
    found = each(method, mixed, [3], stop=0.0, steps=5)
    assert watched == [2] * 5 + [2] * 5 + [1] * 5
    for lr, own in zip(mixed, found, strict=True):
        (alone,) = method.upsample(lr, [3], **{**CONTROLS, "stop": 0.0, "steps": 5})
        assert float((own[3].images - alone.images).abs().max()) <= 2.01 / 255


def test_going_on_from_latents_of_each(tiny_prior, photos):
    method = Pulse(prior=tiny_prior, device="cpu", batch=4)
    short = each(method, photos[:3], [0, 1], stop=0.0, steps=10)
    asks = [
        Ask(method.pose(lr), [0, 1], Candidates.cat(list(own.values())).latents)
        for lr, own in zip(photos, short, strict=False)
    ]
    for ask, part in method.sample_each(asks, method.configure({"steps": 1})):
        before = short[asks.index(ask)]
        for c in part:
            torch.testing.assert_close(c.error_before, before[c.seeds[0]].error_before, rtol=1e-3, atol=1e-2)


def test_a_stop_brings_out_the_best_of_all_that_run(tiny_prior, photos):
    method, seen = Pulse(prior=tiny_prior, device="cpu", batch=4), []

    def listener(step):
        seen.append(step)
        assert step.preview().shape == (len(step.seeds), 3, 16, 16)
        if len(seen) == 3:
            raise Stop

    asks = [Ask(method.pose(lr), [i]) for i, lr in enumerate(photos)]
    found = list(method.sample_each(asks, method.configure({"steps": 30, "stop": 0.0}), listener))
    assert [ask for ask, _ in found] == asks[:4]
    assert [part.steps.tolist() for _, part in found] == [[3]] * 4
    assert [(step.index, step.seeds) for step in seen] == [(i, (0, 1, 2, 3)) for i in range(3)]


def test_memory_that_runs_out_in_the_middle_loses_nothing(tiny_prior, photos, monkeypatch):
    wanted = each(Pulse(prior=tiny_prior, device="cpu", batch=4), photos, [0])
    original, sizes = Search.step, []

    def short(search):
        sizes.append(len(search.rows))
        if len(sizes) == 9:
            raise MemoryError
        return original(search)

    monkeypatch.setattr(Search, "step", short)
    method = Pulse(prior=tiny_prior, device="cpu", batch=4)
    found = each(method, photos, [0])
    assert method.batch == sizes[8] // 2
    assert max(sizes[9:]) == method.batch
    for own, other in zip(found, wanted, strict=True):
        assert float((own[0].images - other[0].images).abs().max()) <= 2.01 / 255
        assert int(own[0].steps) == int(other[0].steps)


def test_smaller_pictures_of_candidates(tiny_prior, photos):
    method = Pulse(prior=tiny_prior, device="cpu")
    assert method.side_sizes == (4, 8)
    (made,) = method.upsample(photos[0], [3, 5], steps=4)
    found = method.side_outputs(made)
    noise = [made.latents[f"noise{i}"] for i in range(5)]
    wanted = tiny_prior.side_outputs(made.latents["latents"], noise)
    assert list(found) == [4, 8]
    for side, pictures in found.items():
        torch.testing.assert_close(pictures, wanted[side].clamp(0, 1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(method.side_outputs(made[1])[side], pictures[1:], rtol=1e-4, atol=1e-5)
    with pytest.raises(MethodError, match="carry no latents of pulse"):
        method.side_outputs(replace(made, latents={}))


def test_branches_are_part_of_what_a_method_answers_with(tiny_prior):
    prior = copy.deepcopy(tiny_prior)
    branches = SideOutputs(SideOutputsConfig(16, (8,), (16,), (6, 5)), "branches")
    method = Pulse(prior=prior, device="cpu")
    assert "side_outputs" not in method.describe()
    method.attach(branches)
    assert method.describe()["side_outputs"] == "branches"
    with pytest.raises(MethodError, match="its blocks can have no branches"):
        Pulse(prior=Plain(tiny_prior), device="cpu").attach(branches)


class Plain:
    """A prior of somebody else."""

    def __init__(self, prior):
        for name in (*MEMBERS, "name"):
            setattr(self, name, getattr(prior, name))
