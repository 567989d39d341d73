"""Training posterior: the score is a proper one, problems are drawn by address, a run leaves what it should and goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from preimage.declaration import Declaration, declared
from preimage.errors import MethodError, RecipeError, WeightsError
from preimage.invert.sampler import answer, draw, load_sampler
from preimage.nets.conditional import ConditionalConfig, ConditionalGenerator
from preimage.nets.local import Chain, LocalConfig, LocalGenerator
from preimage.train.posterior import (
    TEXTURE_SPREAD,
    LocalRecipe,
    Problem,
    Problems,
    Recipe,
    describe,
    energy_score,
    ratios,
    split,
    texture,
    train,
)
from preimage.train.posterior_networks import build, build_run, grow
from preimage.train.posterior_photos import small, take
from preimage.train.posterior_settings import adversary, draw_problem, problem
from preimage.train.recipes import load_recipe
from preimage.weight_files import read_declaration, read_metadata, save_prior
from preimage.weights import load_degradation, load_upsampler

TINY = ConditionalConfig(32, width=8, channels=(4,), w_dim=8, z_outline=2, z_detail=1)


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    for i in range(16):
        coarse = Image.fromarray(rng.integers(40, 216, (5, 5, 3), dtype=np.uint8))
        coarse.resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{i:02d}.png")
    return folder


@pytest.fixture
def recipe(tmp_path, faces) -> Recipe:
    return Recipe(
        out=str(tmp_path / "run"), data=[str(faces)], hold=4, generator=TINY,
        problems=Problems(4, 12, ("bicubic", "area"), focus=8, focus_share=0.5), images=16, batch=4, snapshot=8, log=4,
        feature_size=32, width=4, pixel_width=4, adversary_start=(4, 8), name="tiny",
    )  # fmt: skip


def lines(recipe: Recipe) -> list[dict[str, float]]:
    return [json.loads(line) for line in (Path(recipe.out) / "stats.jsonl").read_text().splitlines()]


def test_the_score_is_smallest_for_the_true_distribution():
    torch.manual_seed(0)
    n, scores = 20_000, {}
    truth = torch.randn(n, 4, 1, 1)
    for spread in (0.0, 0.5, 0.8, 1.0, 1.25, 2.0):
        far, near = energy_score(*(spread * torch.randn(n, 4, 1, 1) for _ in range(2)), truth)
        scores[spread] = float(far - near / 2)
    assert min(scores, key=scores.get) == 1.0
    far, near = energy_score(torch.randn(n, 4, 1, 1), torch.randn(n, 4, 1, 1), truth)
    assert float(near / far) == pytest.approx(1.0, abs=0.02)  # what stats.jsonl calls a perfect ratio


def test_a_blemish_on_a_plain_wall_is_far_off_and_on_hair_is_not():
    torch.manual_seed(0)
    wall = torch.full((1, 3, 32, 32), 0.5)
    hair = wall + 0.1 * torch.randn(1, 3, 32, 32)
    bead = torch.zeros(1, 3, 32, 32)
    bead[..., 10:14, 10:14] = 0.05
    on_wall, on_hair = ((texture(x + bead) - texture(x)).abs() for x in (wall, hair))
    assert texture(wall).shape == (1, 3, 4, 4)
    assert float(on_wall.sum()) > 10 * float(on_hair.sum())
    assert float(on_wall[..., 2:, 2:].max()) < 0.1  # elsewhere nothing changes, but for what the enlargement spreads
    # Rare blemishes: the proper score falls with them where distance outweighs, and a half weight forbids them
    rare = torch.zeros(400, 1, 1, 1)
    rare[:20] = 1
    far, near = energy_score(rare, rare.flip(0), torch.zeros(400, 1, 1, 1))
    assert float(far - 1.15 / 2 * near) < 0 < 0.3 * float(far) < float(far - TEXTURE_SPREAD / 2 * near)


def test_ratios_of_a_perfect_and_of_a_collapsed_sampler(recipe):
    torch.manual_seed(0)
    truth, other, third = (torch.rand(64, 3, 32, 32) for _ in range(3))
    operator = Problem(problem("bicubic", 32, 8))
    one = torch.ones(())
    found = {"far": one, "near": one, "pixel_far": one, "pixel_near": one}
    perfect = ratios(found, torch.cat([other, third]), truth, operator, recipe)
    assert float(perfect["ratio_errors"]) == pytest.approx(4 / 3, abs=0.02)
    assert float(perfect["ratio_features"]) == float(perfect["ratio_pixels"]) == 1
    alike = found | {"near": one * 0, "pixel_near": one * 0}
    collapsed = ratios(alike, torch.cat([other, other]), truth, operator, recipe)
    assert float(collapsed["ratio_errors"]) == pytest.approx(1.0)
    assert float(collapsed["focus_ratio_features"]) == 0
    for drawn in (Problem(problem("area", 32, 8)), replace(operator, tolerance=2.0)):
        assert "focus_ratio_errors" not in ratios(found, torch.cat([other, third]), truth, drawn, recipe)


def test_problems_are_drawn_by_address(recipe):
    drawn = [draw_problem(recipe, 4 * i).operator for i in range(400)]
    assert [d.spec() for d in drawn] == [draw_problem(recipe, 4 * i).operator.spec() for i in range(400)]
    assert {d.name for d in drawn} == {"bicubic", "area"}
    sizes = [d.lr_size[0] for d in drawn]
    assert (min(sizes), max(sizes)) == (4, 12)
    focused = sum(d is problem("bicubic", 32, 8) for d in drawn)
    assert 180 < focused < 260  # half, and a few by chance
    other = [draw_problem(replace(recipe, seed=1), 4 * i).operator for i in range(400)]
    assert [d.spec() for d in drawn] != [d.spec() for d in other]


def test_answers_are_held_to_the_sharpness_that_they_were_told(recipe):
    told = replace(TINY, sharpness=(-0.5, 0.15))
    missed = {}
    for weight in (0.0, 30.0):
        run = replace(
            recipe, out=f"{recipe.out}{weight:g}", generator=told, texture_score=1.0, keep_sharpness=weight, images=160, log=16,
            snapshot=160, adversary_start=(200, 200), lr_g=5e-3,
        )  # fmt: skip
        exported = load_upsampler(train(run))
        found = lines(run)
        assert all(line["ratio_texture"] >= 0 for line in found)
        missed[weight] = sum(line["sharpness_missed"] for line in found[-3:])
    assert exported.config.sharpness == (-0.5, 0.15)
    assert missed[30.0] < 0.8 * missed[0.0]
    with pytest.raises(RecipeError, match=r"needs generator\.sharpness"):
        replace(recipe, keep_sharpness=1.0)


def test_some_photos_are_noisy_and_some_degraded(recipe):
    tolerant = replace(TINY, tolerant=True, sharpness=(-0.5, 0.15))
    p = replace(recipe.problems, focus_share=0.4, noisy_share=0.5, noise=(2.0, 8.0), degraded_share=0.2)
    noisy = replace(recipe, generator=tolerant, problems=p, degradation="degradation-gan")
    drawn = [draw_problem(noisy, 4 * i) for i in range(1000)]
    exact = [d for d in drawn if not d.tolerance and not d.degraded]
    assert 240 < sum(d.tolerance > 0 for d in drawn) < 360
    assert 80 < sum(d.degraded for d in drawn) < 160
    assert len(exact) > 500
    assert all(2 <= d.tolerance <= 8 for d in drawn if d.tolerance)
    assert all(d.operator is problem("bicubic", 32, 8) for d in drawn if d.degraded)


def test_photos_as_they_are_taken():
    torch.manual_seed(0)
    truth, operator = torch.rand(16, 3, 64, 64) * 0.4 + 0.3, problem("bicubic", 64, 16)
    photo, tolerance = take(truth, Problem(operator))
    assert torch.equal(photo, small(truth, operator))
    assert tolerance == 0
    photo, tolerance = take(truth, Problem(operator, 6.0))
    miss = 255 * (photo - operator(truth))
    assert tolerance == 6.0
    assert float(miss.std()) == pytest.approx(3.0, abs=0.1)
    photo, tolerance = take(truth, Problem(operator, degraded=True), load_degradation())
    assert photo.shape == (16, 3, 16, 16)
    inside = 255 * (photo - operator(truth)).abs() <= tolerance + 1e-3
    assert float(inside.float().mean()) == pytest.approx(0.95, abs=0.01)


def test_a_run_with_noisy_and_degraded_photos_goes_on_as_if_it_had_not_stopped(recipe, tmp_path):
    p = Problems(8, 16, ("bicubic",), focus=16, focus_share=0.2, noisy_share=0.5, degraded_share=0.5)
    wide = replace(TINY, resolution=64, channels=(4, 4), tolerant=True)
    noisy = replace(recipe, generator=wide, problems=p, degradation="degradation-gan", seed=2)
    drawn = [draw_problem(noisy, i) for i in range(0, 16, 4)]
    assert any(d.tolerance for d in drawn)
    assert any(d.degraded for d in drawn)
    path = train(noisy)
    whole = load_file(path)
    assert read_declaration(path).degradations == ("bicubic", load_degradation().name)
    stopped = replace(noisy, out=str(tmp_path / "again"))
    train(replace(stopped, images=8))
    again = load_file(train(stopped))
    assert all(torch.equal(again[key], whole[key]) for key in whole)
    with pytest.raises(RecipeError, match=r"makes 16; the recipe has pictures of 64 and problems\.focus 12"):
        train(replace(noisy, out=str(tmp_path / "x"), problems=replace(p, focus=12)))


def test_the_word_of_the_adversary_rises(recipe):
    assert [adversary(recipe, images) for images in (0, 4, 6, 8, 100)] == [0, 0, 0.5, 1, 1]
    assert adversary(replace(recipe, adversary_start=(0, 0)), 0) == 1


def test_what_is_held_is_never_learned_from():
    pictures = np.arange(100 * 3, dtype=np.uint8).reshape(100, 1, 1, 3)
    learned, held = split(pictures, 7)
    assert (len(learned), len(held)) == (93, 7)
    assert not {x.tobytes() for x in learned} & {x.tobytes() for x in held}
    assert split(pictures, 0)[0] is pictures
    with pytest.raises(RecipeError, match="more than half"):
        split(pictures, 51)


def test_photos_are_what_a_file_would_hold():
    truth = torch.rand(2, 3, 32, 32)
    photo = small(truth, problem("bicubic", 32, 8))
    assert photo.shape == (2, 3, 8, 8)
    assert torch.equal((photo * 255).round() / 255, photo)


def test_what_a_run_leaves_behind(recipe):
    path = train(recipe)
    assert path == Path(recipe.out) / "posterior.safetensors"
    found = lines(recipe)
    assert [line["images"] for line in found] == [4, 8, 12, 16]
    assert "loss_d" not in found[0]
    assert "loss_g" not in found[1]  # it learns from the fourth photo on, and is listened to after that
    assert all(0 < line["ratio_features"] <= 2 and line["ratio_errors"] > 0 for line in found)
    with Image.open(Path(recipe.out) / "grids" / "000000016.png") as grid:
        assert grid.width > 8 * 128
    about = read_metadata(path)
    assert about["architecture"] == "conditional"
    assert about["trained"]["images_seen"] == 16
    assert about["trained"]["recipe"]["out"] == ""
    assert about["trained"]["data"] == [Path(recipe.data[0]).name]
    network = load_sampler(path)
    kernels, seen = recipe.problems.kernels, (recipe.features,)
    assert declared(network) == Declaration("upsampler", hr_size=32, degradations=kernels, looked_through=seen)
    assert network.config == TINY
    assert not torch.equal(network.stem.weight, ConditionalGenerator(TINY).stem.weight)


def test_a_stopped_run_goes_on_as_if_it_had_not(recipe, tmp_path):
    whole = load_file(train(recipe))
    stopped = replace(recipe, out=str(tmp_path / "again"))
    train(replace(stopped, images=8))
    assert load_file(train(stopped)).keys() == whole.keys()
    again = load_file(tmp_path / "again" / "posterior.safetensors")
    assert all(torch.equal(again[key], whole[key]) for key in whole)
    with pytest.raises(RecipeError, match="other settings of patch"):
        train(replace(stopped, patch=8))


def test_growth_in_depth_changes_no_answer(tmp_path):
    torch.manual_seed(0)
    start = ConditionalGenerator(TINY, "start")
    deep = ConditionalGenerator(replace(TINY, pairs=(1, 2), tolerant=True))
    grow(deep, start)
    z, operator = draw(TINY, range(2)), problem("bicubic", 32, 8)
    photo = small(torch.rand(2, 3, 32, 32), operator)
    torch.testing.assert_close(answer(deep, operator, photo, z), answer(start, operator, photo, z))
    again = ConditionalGenerator(replace(TINY, pairs=(1, 3), tolerant=True))
    grow(again, deep)
    with pytest.raises(RecipeError, match="can grow, not shrink"):
        grow(ConditionalGenerator(replace(TINY, pairs=(1, 1), tolerant=True)), deep)
    with pytest.raises(RecipeError, match="can grow, not shrink"):
        grow(ConditionalGenerator(replace(TINY, pairs=(1, 2))), deep)
    told = ConditionalGenerator(replace(TINY, pairs=(1, 2), tolerant=True, sharpness=(-0.5, 0.15)))
    grow(told, deep)
    for wanted in (-1.0, 2.0):
        asked = z | {"sharpness": torch.full((2, 1), wanted)}
        torch.testing.assert_close(answer(told, operator, photo, asked), answer(deep, operator, photo, z))
    with pytest.raises(RecipeError, match="can grow, not shrink"):
        grow(ConditionalGenerator(replace(TINY, pairs=(1, 2), tolerant=True)), told)


def test_growth_keeps_what_was_learned(recipe, tmp_path):
    torch.manual_seed(0)
    start = ConditionalGenerator(TINY, "start")
    large = ConditionalGenerator(replace(TINY, resolution=64, channels=(4, 4)), "large")
    grow(large, start)
    photo = torch.rand(2, 3, 32, 32)
    z = draw(TINY, range(2))
    size = torch.full((2,), 3.0)
    with torch.no_grad():
        wide = large(torch.nn.functional.interpolate(photo, scale_factor=2.0), size, z)
        assert wide.shape == (2, 3, 64, 64)
        assert float(wide.std()) > 0.01
        assert all(torch.equal(large.state_dict()[k], v) for k, v in start.state_dict().items())
    with pytest.raises(RecipeError, match="init: start would become"):
        grow(ConditionalGenerator(replace(TINY, w_dim=9)), start)
    first = train(recipe)
    heads = Path(recipe.out) / "state" / "model_1.safetensors"
    (_, d, *_) = build_run(replace(recipe, init_discriminator=str(heads)))
    saved = load_file(heads)
    assert all(torch.equal(value, saved[key]) for key, value in d.state_dict().items())
    (_, d, *_) = build_run(replace(recipe, init_discriminator=str(heads), pixel_width=8))
    assert torch.equal(d.state_dict()["heads.0.0.bias"], saved["heads.0.0.bias"])
    for path in (first, tmp_path / "gone"):
        with pytest.raises(RecipeError, match="init_discriminator: "):
            build_run(replace(recipe, init_discriminator=str(path)))
    grown = replace(
        recipe, out=str(tmp_path / "grown"), init=str(first), generator=large.config, images=8,
        lr_steps=((0, 0.0, 2e-3), (4, 1e-3, 2e-3)), adversary_start=(0, 0),
    )  # fmt: skip
    train(grown)
    found = lines(grown)
    assert "ratio_features" not in found[0]  # the discriminator learns alone
    assert "loss_g" in found[1]


@pytest.mark.parametrize(
    ("name", "count", "side"),
    [
        ("posterior-64", "3,801,608", 64),
        ("posterior-16to128", "3,846,824", 128),
        ("posterior-256", "22,954,504", 256),
        ("posterior-512", "48,244,200", 512),
        ("posterior-128to512", "358,222", 128),
    ],
)
def test_shipped_recipes(name, count, side):
    _, recipe = load_recipe(name)
    assert describe(recipe).startswith(f"generator: {count} parameters")
    with torch.device("meta"):
        network = build(recipe)
    sizes = {draw_problem(recipe, recipe.batch * i).operator.lr_size[0] for i in range(300)}
    assert max(sizes) <= recipe.problems.largest
    assert network.resolution == side


@pytest.fixture
def local(tmp_path, faces) -> LocalRecipe:
    return LocalRecipe(
        out=str(tmp_path / "local"), data=[str(faces), str(faces)], sides=(64, 48), crops=3, hold=2,
        generator=LocalConfig(32, width=4, channels=(4, 4), blocks=1, z_texture=2),
        problems=Problems(8, 8, ("bicubic",), focus=8, focus_share=1.0), images=16, batch=4, snapshot=8, log=4,
        feature_size=32, width=4, pixel_width=4, adversary_start=(4, 8), name="tiny-local",
    )  # fmt: skip


def test_a_second_stage_learns_on_crops(local, recipe, tmp_path):
    torch.manual_seed(0)
    facts = {"degradations": ("area", "x"), "looked_through": ("squeezenet",)}
    save_prior(tmp_path / "first.safetensors", ConditionalGenerator(TINY, "first"), {}, **facts)
    path = train(replace(local, first=str(tmp_path / "first.safetensors")))
    found = lines(local)
    assert [line["images"] for line in found] == [4, 8, 12, 16]
    assert "loss_g" in found[-1]
    assert all(line["focus_ratio_errors"] > 0 for line in found)
    second = load_upsampler(path)
    assert isinstance(second, LocalGenerator)
    assert second.config == local.generator
    both = load_sampler(path.with_name("chain.safetensors"))
    assert isinstance(both, Chain)
    assert both.resolution == 128
    assert declared(both).degradations == facts["degradations"]
    assert declared(both).looked_through == ("squeezenet", local.features)
    assert both.name == "first-tiny-local"
    assert torch.equal(both.second.stem.weight, second.stem.weight)
    with Image.open(Path(local.out) / "grids" / "000000016.png") as grid:
        assert grid.width > 8 * 128
    again = build(local)
    grow(again, second)
    assert torch.equal(again.stem.weight, second.stem.weight)
    with pytest.raises(RecipeError, match="init: holds the shape ConditionalConfig"):
        grow(again, ConditionalGenerator(TINY))
    about = read_metadata(path.with_name("chain.safetensors"))["trained"]
    assert (about["first_stage"], about["recipe"]["first"]) == ("first", "first.safetensors")
    with pytest.raises(RecipeError, match="is no first stage"):
        train(replace(local, out=str(tmp_path / "other"), first=str(path.with_name("chain.safetensors"))))
    with pytest.raises(WeightsError, match="gone"):
        train(replace(local, out=str(tmp_path / "other"), first=str(tmp_path / "gone.safetensors")))
    assert not (tmp_path / "other").exists()  # nothing was trained for nothing
    with pytest.raises(MethodError, match="holds a LocalGenerator"):
        load_sampler(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sides": (64,)}, "one size for each of 2"),
        ({"problems": Problems(4, 12, focus=8)}, "must all be 8"),
        ({"crops": 0}, "crops"),
    ],
)
def test_second_stages_that_cannot_be(local, changes, words):
    with pytest.raises(RecipeError, match=words):
        replace(local, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": -5}, "images"),
        ({"problems": Problems(8, 40)}, "below 32"),
        ({"problems": Problems(12, 8, focus=8)}, "must rise"),
        ({"problems": Problems(4, 12, ("blur",), focus=8)}, "'blur' is not one of"),
        ({"patch": 5}, "must divide"),
        ({"adversary_start": (8, 4)}, "run backwards"),
        ({"snapshot": 6}, "multiples of batch"),
        ({"features": "magic"}, "'magic' is not one of"),
        ({"problems": Problems(4, 12, focus=8, noisy_share=0.1)}, "need generator.tolerant"),
        ({"problems": Problems(4, 12, focus=8, noise=(3.0, 1.0))}, "must rise"),
        ({"degradation": "degradation-gan"}, "go together"),
    ],
)
def test_recipes_that_cannot_be(recipe, changes, words):
    with pytest.raises(RecipeError, match=words):
        replace(recipe, **changes)
