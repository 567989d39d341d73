"""Progressive growing, tiny: the plan in pictures, what a run leaves behind, and that it goes on as if it had never stopped."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from preimage.declaration import Declaration, declared
from preimage.errors import RecipeError
from preimage.generate.progan import ProGAN, ProGANConfig
from preimage.train.progan import Plan, Recipe, Stage, build_run, make_plan, shrink, train
from preimage.train.recipes import load_recipe
from preimage.weight_files import read_metadata
from preimage.weights import load_prior


@pytest.fixture(scope="module")
def whole(tmp_path_factory, faces) -> Recipe:
    """A finished run, not to be touched."""
    recipe = Recipe(
        out=str(tmp_path_factory.mktemp("runs") / "whole"),
        data=[str(faces)],
        generator=ProGANConfig(16, 64, 8, 8),
        images=(8, 16, 24),
        batches=(4, 4, 2),
        ema=0.5,
        snapshot=12,
        log=6,
        name="tiny",
    )
    assert train(recipe) == Path(recipe.out) / "prior.safetensors"
    return recipe


@pytest.fixture
def recipe(whole, tmp_path) -> Recipe:
    """The same recipe for a run that has not begun."""
    return replace(whole, out=str(tmp_path / "run"))


def lines(recipe: Recipe) -> list[dict[str, float]]:
    return [json.loads(line) for line in (Path(recipe.out) / "stats.jsonl").read_text().splitlines()]


# --------------------------------------------------------------------------------------------------------------- plan


def test_an_epoch_is_one_showing_of_every_picture():
    """SR-NAM's epochs and batches (section 4.1) over its 182,866 faces."""
    plan = make_plan(Recipe("runs/x", ["faces"]), 182_866)
    lengths = np.diff([0, *plan.ends])
    for length, epochs, batch in zip(lengths, (10, 20, 20, 20, 50), (64, 64, 64, 32, 16), strict=True):
        assert length % batch == 0
        assert 0 <= length - epochs * 182_866 < batch
    assert plan.total == plan.ends[-1]


def test_pictures_replace_epochs(recipe):
    assert make_plan(recipe, 12) == Plan((8, 24, 48), (4, 4, 2), 0.5)
    assert make_plan(replace(recipe, images=(7, 13, 23)), 12) == make_plan(recipe, 12)  # whole batches
    assert make_plan(replace(recipe, images=(), epochs=(0.5, 1, 2)), 12).ends == (8, 20, 44)


def test_fade_in_takes_half_of_each_phase_but_the_first():
    plan = Plan((8, 24, 48), (4, 4, 2), 0.5, extra=4)
    assert plan.total == 52
    assert [plan.stage(i) for i in (0, 4)] == [Stage(1, 1.0, 4)] * 2
    assert [plan.stage(i) for i in (8, 12, 16, 20)] == [Stage(2, a, 4) for a in (0.5, 1.0, 1.0, 1.0)]
    alphas = [plan.stage(i).alpha for i in range(24, 48, 2)]
    assert alphas == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, *[1] * 7])
    assert {plan.stage(i).depth for i in range(24, 52, 2)} == {3}
    assert plan.stage(50) == Stage(3, 1.0, 2)  # beyond the last phase, in its way
    assert replace(plan, fade=0.0).stage(8).alpha == 1
    assert replace(plan, fade=1.0).stage(20).alpha == 1


def test_real_pictures_sharpen_with_the_network():
    pictures = torch.rand(2, 3, 16, 16)
    by_hand = pictures.view(2, 3, 8, 2, 8, 2).mean(dim=(3, 5))
    assert torch.allclose(shrink(pictures, 8, 1.0), by_hand, atol=1e-6)
    assert torch.equal(shrink(pictures, 16, 1.0), pictures)
    small = shrink(pictures, 4, 1.0).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert torch.allclose(shrink(pictures, 8, 0.0), small, atol=1e-6)
    assert torch.allclose(shrink(pictures, 8, 0.25), 0.75 * small + 0.25 * by_hand, atol=1e-6)


# ---------------------------------------------------------------------------------------------------------------- run


def test_what_a_run_leaves_behind(whole):
    out = Path(whole.out)
    found = lines(whole)
    assert [line["images"] for line in found] == [8, 12, 20, 24, 30, 36, 42, 48]
    assert [line["side"] for line in found] == [4, 8, 8, 8, 16, 16, 16, 16]  # a line never mixes phases
    assert [line["alpha"] for line in found] == pytest.approx([1, 0.5, 1, 1, 2 / 6, 5 / 6, 1, 1], abs=1e-4)
    keys = {"loss_d", "loss_g", "distance", "penalty", "score_real", "seconds", "rate"}
    assert all(keys <= set(line) and all(np.isfinite(v) for v in line.values()) for line in found)
    assert sorted(p.stem for p in (out / "grids").iterdir()) == [f"{n:09d}" for n in (8, 12, 24, 36, 48)]
    about = read_metadata(out / "prior.safetensors")
    assert about["trained"]["images_seen"] == 48
    assert about["trained"]["recipe"]["batches"] == [4, 4, 2]
    assert "/" not in json.dumps(about["trained"])  # nobody's folders
    prior = load_prior(out / "prior.safetensors")
    assert declared(prior) == Declaration("prior", hr_size=prior.resolution, looked_through=())
    assert isinstance(prior, ProGAN)
    assert (prior.name, prior.config) == ("tiny", whole.generator)
    assert bool(torch.isfinite(prior.sample([0, 1])).all())


def test_interrupted_in_the_middle_of_a_fade_in(whole, recipe):
    for images, side, alpha in ((8, 4, 1.0), (12, 8, 4 / 8), (20, 8, 1.0), (24, 8, 1.0), (30, 16, 6 / 12)):
        prior = load_prior(train(recipe, stop_after=0.0))
        assert isinstance(prior, ProGAN)
        assert lines(recipe)[-1]["images"] == images
        assert prior.resolution == side  # as far as it has grown
        assert prior.config.alpha == pytest.approx(alpha)
        assert prior.sample([0]).shape == (1, 3, side, side)
    resumed, expected = (load_file(Path(out) / "prior.safetensors") for out in (train(recipe).parent, whole.out))
    assert expected.keys() == resumed.keys()
    assert all(torch.allclose(expected[k].float(), resumed[k].float(), atol=2e-3, rtol=2e-3) for k in expected)
    for key in ("images", "side", "alpha", "loss_d", "distance"):
        assert [line[key] for line in lines(whole)] == pytest.approx([line[key] for line in lines(recipe)], rel=1e-3)


def test_only_the_layers_that_take_part_are_trained_and_the_average_lags(recipe):
    torch.manual_seed(recipe.seed)
    start = build_run(recipe)[0].state_dict()
    moved = []
    for ema in (0.0, 0.999):
        out = Path(train(replace(recipe, out=f"{recipe.out}{ema}", ema=ema, lr_g=0.1), stop_after=0.0)).parent
        state = load_file(out / "state" / "model.safetensors")  # the generator itself, all its sizes
        changed = {key for key in start if not torch.equal(state[key], start[key])}
        assert changed == {key for key in start if key.startswith(("blocks.0.", "torgb.0."))}
        average = load_file(out / "prior.safetensors")["blocks.0.conv1.weight"].float()
        moved.append(float((average - start["blocks.0.conv1.weight"]).abs().mean()))
    assert moved[1] < moved[0] / 100  # two steps of a thousandth


@pytest.mark.parametrize(("forget", "steps"), [(True, 4), (False, 2 + 4 + 4)])
def test_the_optimisers_start_anew_with_each_size(recipe, forget, steps):
    """8, 16 and 8 pictures by 4, 4 and 2: the layers of 4x4 take part in all of the steps."""
    out = Path(train(replace(recipe, images=(8, 16, 8), forget=forget))).parent
    for name in ("optimizer.bin", "optimizer_1.bin"):
        state = torch.load(out / "state" / name, weights_only=True)["state"]
        assert max(int(entry["step"]) for entry in state.values()) == steps


def test_the_generator_waits_for_the_discriminator_after_each_growth(recipe):
    plan = Plan((8, 24, 48), (4, 4, 2), 0.5, extra=4)
    assert [plan.since_growth(i) for i in (0, 4, 8, 20, 24, 30, 48, 50)] == [0, 4, 0, 12, 0, 6, 24, 26]
    out = Path(train(replace(recipe, warmup=10), stop_after=0.0)).parent
    seen = []
    for _ in range(4):
        train(replace(recipe, warmup=10), stop_after=0.0)
        state = torch.load(out / "state" / "optimizer.bin", weights_only=True)
        seen.append((lines(replace(recipe, warmup=10))[-1]["images"], state["param_groups"][0]["lr"] / recipe.lr_g))
    # of the last step before each line, which began 4, later 2 pictures before it
    assert seen == [(12, 0.0), (20, 0.8), (24, 1.0), (30, pytest.approx(0.4))]


def test_a_finished_run_goes_on_with_extra_pictures(whole, recipe):
    shutil.copytree(whole.out, recipe.out)
    assert train(recipe).is_file()  # nothing left to do
    assert lines(recipe) == lines(whole)
    path = train(replace(recipe, extra=6))
    assert lines(recipe)[-1]["images"] == read_metadata(path)["trained"]["images_seen"] == 54
    assert (lines(recipe)[-1]["side"], lines(recipe)[-1]["alpha"]) == (16, 1)


def test_refusals(recipe, faces, tmp_path):
    first = replace(recipe, images=(), epochs=(1, 1, 1))
    train(first, stop_after=0.0)
    with pytest.raises(RecipeError, match="other settings of lr_g"):
        train(replace(first, lr_g=1e-4))
    with pytest.raises(RecipeError, match="already holds a run"):
        train(first, resume="never")
    fewer = tmp_path / "fewer"
    shutil.copytree(faces, fewer)
    for i in range(4):
        (fewer / f"{i}.png").unlink()
    with pytest.raises(RecipeError, match="other settings of phases"):  # its epochs would be shorter
        train(replace(first, data=[str(fewer)]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batches": (4, 4)}, r"batches: \[4, 4\] must be 3 positive numbers, one for each of 4, 8, 16 px"),
        ({"images": (8, 0, 8)}, r"images: \[8, 0, 8\]"),
        ({"images": ()}, r"epochs: \[10, 20, 20, 20, 50\] must be 3"),
        ({"fade": 1.5}, r"fade \(1\.5\)"),
        ({"ema": 1.0}, r"ema \(1\.0\)"),
        ({"extra": -1}, r"extra \(-1\)"),
        ({"warmup": -1}, r"warmup \(-1\) must be 0 or a positive number"),
        ({"snapshot": 0, "log": -5}, r"snapshot \(0\) must be at least 1; log \(-5\)"),
        ({"epochs": (1, float("inf"), 1)}, r"epochs \(\[1, inf, 1\]\)"),
        ({"lr_g": -1e-3}, r"lr_g \(-0\.001\)"),
        ({"betas": (-0.1, 0.9)}, r"betas \(\[-0\.1, 0\.9\]\) must be in \[0, 1\)"),
        ({"penalty": float("nan")}, r"penalty \(nan\)"),
        ({"seed": -1}, r"seed \(-1\)"),
        ({"precision": "fp8"}, "precision: 'fp8'"),
        ({"generator": ProGANConfig(16, 64, 8, 8, alpha=0.5)}, r"generator\.alpha"),
    ],
)
def test_settings_that_cannot_be(recipe, change, message):
    with pytest.raises(RecipeError, match=message):
        replace(recipe, **change)


# --------------------------------------------------------------------------------------------------- shipped recipes


def test_srnams_recipe_is_as_published():
    _, recipe = load_recipe("progan-faces64-srnam")
    assert (recipe.generator.z_dim, recipe.generator.depth, recipe.generator.resolution) == (512, 5, 64)
    assert tuple(recipe.epochs) == (10, 20, 20, 20, 50)
    assert tuple(recipe.batches) == (64, 64, 64, 32, 16)
    assert recipe.images == ()
    assert not recipe.forget
    assert (recipe.penalty, recipe.drift, tuple(recipe.betas), recipe.ema) == (10, 1e-3, (0, 0.99), 0.999)
    with torch.device("meta"):
        g, d, *_ = build_run(recipe)
    # layer by layer: (inputs, outputs, kernel)
    body = [(512, 512, 4), (512, 512, 3)] + [(512, 512, 3)] * 6 + [(512, 256, 3), (256, 256, 3)]
    judged = [(513, 512, 3), (512, 512, 4), (512, 1, 1)] + [(512, 512, 3)] * 6 + [(256, 256, 3), (256, 512, 3)]
    to_rgb = [(512, 3, 1)] * 4 + [(256, 3, 1)]
    from_rgb = [(b, a, k) for a, b, k in to_rgb]
    for network, table in ((g, body + to_rgb), (d, judged + from_rgb)):
        assert sum(p.numel() for p in network.parameters()) == sum(a * b * k * k + b for a, b, k in table)


def test_srnams_recipe_takes_a_step(tmp_path, faces):
    _, recipe = load_recipe("progan-faces64-srnam")
    small = replace(recipe, out=str(tmp_path / "run"), data=[str(faces)], images=(4, 4, 4, 4, 4), batches=(4,) * 5)
    prior = load_prior(train(small, stop_after=0.0))  # the published layers of 4x4; a step at 64x64 takes half a minute
    assert prior.resolution == 4
    (line,) = lines(small)
    assert all(np.isfinite(value) for value in line.values())
    shutil.rmtree(tmp_path / "run")


def test_the_small_recipe_takes_a_step_at_every_size(tmp_path, faces):
    _, recipe = load_recipe("prior-progan64")
    small = replace(recipe, out=str(tmp_path / "run"), data=[str(faces)], images=(2,) * 5, batches=(2,) * 5)
    prior = load_prior(train(small))
    assert prior.resolution == 64
    assert [line["side"] for line in lines(small)] == [4, 8, 16, 32, 64]
    assert all(np.isfinite(value) for line in lines(small) for value in line.values())
