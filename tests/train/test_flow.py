"""The trainer of flows: the losses by hand, what a run leaves behind, that it goes on, that it learns, and the shipped recipe."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from preimage.errors import RecipeError
from preimage.generate.cascade import Cascade
from preimage.generate.flow import Flow, FlowConfig
from preimage.nets.conditional import ConditionalConfig, ConditionalGenerator
from preimage.train.flow import Recipe, between, build_run, describe, matching, paired, rate, train
from preimage.train.recipes import load_recipe
from preimage.weight_files import read_declaration, read_metadata, save_prior
from preimage.weights import load_prior

SHAPE = FlowConfig(
    resolution=8, w_dim=48, patch=2, widths=(8, 16), blocks=(1, 1), embedding=8, heads=2, times=(1.0, 0.5, 0.0)
)


@pytest.fixture
def recipe(tmp_path, faces) -> Recipe:
    return Recipe(
        out=str(tmp_path / "run"), data=[str(faces)], generator=SHAPE, images=16, batch=4, hold=2, warm_up=4, snapshot=8, log=4,
        name="tiny-flow",
    )  # fmt: skip


def random_flow(config: FlowConfig = SHAPE) -> Flow:
    torch.manual_seed(0)
    flow = Flow(config).requires_grad_(False)
    for p in flow.parameters():
        p.add_(0.1 * torch.randn_like(p))
    return flow


def test_loss_is_that_of_the_velocity_along_straight_lines():
    x, e, t = torch.randn(3, 3, 8, 8), torch.randn(3, 3, 8, 8), torch.tensor([0.0, 0.3, 1.0])
    way = between(x, e, t)
    assert torch.equal(way[0], x[0])
    assert torch.allclose(way[2], e[2], atol=1e-6)
    g = random_flow().synthesis
    expected = (g.velocity(0.7 * x[1:2] + 0.3 * e[1:2], t[1:2]) - (e[1:2] - x[1:2])).square().mean()
    assert float(matching(g, x, e, t)[1]) == pytest.approx(float(expected), rel=1e-4)


def test_noise_is_paired_with_the_pictures_that_are_near():
    x = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    mixed = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    assert torch.equal(paired(x, (x + 0.01)[mixed]), x + 0.01)
    e = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    found = paired(x, e)
    assert (found - x).square().sum() <= (e - x).square().sum()
    assert sorted(found[:, 0, 0, 0].tolist()) == sorted(e[:, 0, 0, 0].tolist())


def test_the_rate_rises_stays_and_falls(recipe):
    plan = replace(recipe, images=100, warm_up=10, decay_from=0.6, lr=2.0)
    assert [rate(plan, i) for i in (0, 5, 10, 60)] == [0.0, 1.0, 2.0, 2.0]
    assert rate(plan, 80) == pytest.approx(1.0)
    assert rate(plan, 100) == pytest.approx(0.0, abs=1e-12)


def test_a_run_leaves_a_prior_and_what_it_was(recipe, tmp_path):
    path = train(recipe)
    prior = load_prior(path)
    assert isinstance(prior, Flow)
    assert (prior.name, prior.config) == ("tiny-flow", SHAPE)
    assert read_declaration(path).looked_through == ()
    about = read_metadata(path)["trained"]
    assert (about["images_seen"], about["recipe"]["out"]) == (16, "")
    lines = [json.loads(line) for line in (tmp_path / "run" / "stats.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [4, 8, 12, 16]
    assert all(line["loss_held"] > 0 for line in lines)
    assert sorted(x.name for x in (tmp_path / "run" / "grids").iterdir()) == ["000000008.png", "000000016.png"]


def test_goes_on_as_if_it_had_never_stopped(recipe, tmp_path):
    whole = load_file(train(recipe))
    again = replace(recipe, out=str(tmp_path / "again"))
    train(replace(again, images=8, decay_from=1.0))
    shutil.rmtree(tmp_path / "again" / "grids")
    part = load_file(train(replace(again, decay_from=0.6)))
    assert part.keys() == whole.keys()
    other = load_file(train(replace(recipe, out=str(tmp_path / "other"), seed=1)))
    assert any(not torch.equal(other[key], whole[key]) for key in whole)


def test_learns(recipe, tmp_path):
    """The loss falls; that of pictures that are held back does not here, for they are noise and few."""
    train(replace(recipe, images=1600, batch=8, lr=3e-3, snapshot=1600, log=80, ema_half_life=80.0, hold=4))
    lines = [json.loads(line) for line in (tmp_path / "run" / "stats.jsonl").read_text().splitlines()]
    first, last = (sum(line["loss"] for line in part) for part in (lines[:4], lines[-4:]))
    assert last < 0.92 * first


def test_a_second_network_makes_the_export_a_cascade_to_start_from(recipe, tmp_path):
    config = ConditionalConfig(resolution=32, width=8, channels=(4,), w_dim=6, z_outline=2, z_detail=2)
    file = tmp_path / "posterior.safetensors"
    save_prior(file, ConditionalGenerator(config), {}, looked_through=["efficientnet-lite0"])
    tiny = replace(recipe, generator=replace(SHAPE, resolution=16, w_dim=192), second=str(file))
    path = train(tiny)
    prior = load_prior(path)
    assert isinstance(prior, Cascade)
    assert prior.latent_shape == (4 + 3, 192)
    assert read_declaration(path).looked_through == ("efficientnet-lite0",)
    fast = replace(tiny.generator, times=(1.0, 0.0))
    further = replace(tiny, out=str(tmp_path / "further"), generator=fast, init=str(path), images=4)
    g, *_ = build_run(further)
    assert torch.equal(g.synthesis.velocity.enter.weight, prior.synthesis.first.velocity.enter.weight)
    assert load_prior(train(further)).config.first.times == (1.0, 0.0)
    for wrong in (replace(further, generator=replace(fast, embedding=16)), replace(further, init="faces64")):
        with pytest.raises(RecipeError, match=r"init: .* is no flow of the shape"):
            build_run(wrong)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"snapshot": 6}, "multiples of batch"),
        ({"precision": "fp8"}, "precision"),
        ({"decay_from": 2.0}, "decay_from"),
        ({"time_spread": 0.0}, "time_spread"),
        ({"hold": 1000}, "hold"),
    ],
)
def test_unfit_settings_are_refused(recipe, change, says):
    with pytest.raises(RecipeError, match=says):
        train(replace(recipe, **change))


def test_the_shipped_recipe():
    """Its size, and a step of it."""
    trainer, found = load_recipe("prior-faces128")
    assert trainer.describe(found) == describe(found) == "velocity: 3,985,580 parameters"
    g, _, optimiser, _ = build_run(found)
    x, e = torch.randn(2, 2, 3, 16, 16)
    matching(g.synthesis, x, e, torch.tensor([0.2, 0.8])).mean().backward()
    optimiser.step()
    assert g.latent_shape == (4, 192)
    assert g.synthesis.velocity.leave.weight.any()
