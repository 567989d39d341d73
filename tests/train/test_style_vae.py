"""Training the styleVAE, tiny: the loss as printed, its switches, what a run leaves behind, and that it goes on as if it had not stopped."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from preimage.declaration import Declaration, declared
from preimage.degrade.style_vae import StyleVAE, StyleVAEConfig
from preimage.errors import RecipeError
from preimage.train.recipes import load_recipe
from preimage.train.style_vae import Critics, Recipe, build_run, describe, divergence, train, unexplained
from preimage.weight_files import read_metadata
from preimage.weights import load_degradation


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    """Random pictures: `sharp/` of 64 px, `small/` of 18 to 40 px."""
    folder = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    for name, sides in (("sharp", [64] * 10), ("small", [*range(18, 30), 33, 40])):
        (folder / name).mkdir()
        for i, side in enumerate(sides):
            pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory, faces) -> Recipe:
    """A finished run, not to be touched."""
    recipe = Recipe(
        out=str(tmp_path_factory.mktemp("runs") / "whole"),
        data=[str(faces / "sharp")],
        real=[str(faces / "small")],
        held=[str(faces / "small")],
        crops=2,
        generator=StyleVAEConfig(32, 8, 5, 4, 1, 1),
        critics=Critics((4, 6, 8), 4, noise=0.01),
        images=24,
        batch=4,
        adversary=0.5,
        prior_share=0.25,
        augment=("translation",),
        clip=1.0,
        lr_g=1e-3,
        lr_d=1e-3,
        ema=0.5,
        snapshot=16,
        log=8,
        name="tiny",
    )
    assert train(recipe) == Path(recipe.out) / "degradation.safetensors"
    return recipe


@pytest.fixture
def recipe(whole, tmp_path) -> Recipe:
    """The same recipe for a run that has not begun."""
    return replace(whole, out=str(tmp_path / "run"))


def lines(recipe: Recipe) -> list[dict[str, float]]:
    return [json.loads(line) for line in (Path(recipe.out) / "stats.jsonl").read_text().splitlines()]


def test_what_a_run_leaves_behind(whole):
    out, found = Path(whole.out), lines(whole)
    assert [line["images"] for line in found] == [8, 16, 24]
    keys = {"loss_d", "loss_g", "kl", "reconstruction", "information", "gan", "apart", "score_real", "score_made"}
    assert all(keys <= set(line) and all(np.isfinite(v) for v in line.values()) for line in found)
    assert all(line["score_held"] == line["score_seen"] for line in found)
    assert sorted(p.stem for p in (out / "grids").iterdir()) == [f"{n:09d}" for n in (16, 24)]
    about = read_metadata(out / "degradation.safetensors")
    assert about["trained"]["images_seen"] == 24
    assert about["trained"]["data"] == ["sharp", "small"]
    assert "/" not in json.dumps(about["trained"])  # nobody's folders
    model = load_degradation(out / "degradation.safetensors")
    assert declared(model) == Declaration("degradation", model.lr_size, model.hr_size, looked_through=())
    assert isinstance(model, StyleVAE)
    assert (model.name, model.config) == ("tiny", whole.generator)


def test_interrupted_after_every_line(whole, recipe):
    for images in (8, 16):
        train(recipe, stop_after=0.0)
        assert lines(recipe)[-1]["images"] == images
    resumed, expected = (load_file(train(r)) for r in (recipe, whole))
    assert all(torch.allclose(expected[k].float(), resumed[k].float(), atol=2e-3, rtol=2e-3) for k in expected)
    for key in ("images", "loss_d", "loss_g", "kl", "information", "gan", "apart"):
        assert [line[key] for line in lines(whole)] == pytest.approx([line[key] for line in lines(recipe)], rel=1e-3)


def test_a_run_that_starts_from_another_styleVAE(whole, recipe):
    """Its first export is that one's weights, also for pictures of another size; one of another shape is refused."""
    first = Path(whole.out) / "degradation.safetensors"
    larger = replace(whole.generator, hr_size=64, lr_size=16)
    path = train(replace(recipe, generator=larger, init=str(first), images=4, log=4, lr_g=1e-12))
    expected, found = load_file(first), load_file(path)
    described = {k for k in expected if "running" in k or "tracked" in k}  # taken from its own photos
    assert all(torch.allclose(found[k], expected[k]) for k in expected.keys() - described)
    assert read_metadata(path)["trained"]["recipe"]["init"] == first.name
    for change in ({"width": 8}, {"hr_size": 16}):
        shape = replace(whole.generator, **change)
        with pytest.raises(RecipeError, match="init: tiny"):
            train(replace(recipe, generator=shape, init=str(first), out=recipe.out + "-other"))


def test_the_divergence_is_that_of_two_gaussians():
    mean, log_spread = torch.randn(3, 4), 0.3 * torch.randn(3, 4)
    theirs = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, log_spread.exp()), torch.distributions.Normal(0.0, 1.0)
    )
    assert float(divergence(mean, log_spread)) == pytest.approx(float(theirs.sum(1).mean()), rel=1e-5)


def test_the_loss_is_equation_6_and_each_term_can_be_left_out(recipe):
    plain = replace(recipe, kl=0.2, reconstruction=0.3, information=0.0, adversary=0.0, images=8)
    train(plain)
    (line,) = lines(plain)
    assert not {"information", "gan", "score_real", "score_held"} & line.keys()
    assert line["loss_d"] == 0
    assert line["loss_g"] == pytest.approx(0.2 * line["kl"] + 0.3 * line["reconstruction"], rel=1e-3)
    informed = replace(plain, information=1.0, out=recipe.out + "-mi", prior_share=0.0)
    train(informed)
    (line,) = lines(informed)
    assert "gan" not in line
    assert line["information"] <= math.log(4) + 1e-3  # a batch of four tells no more
    blind = replace(recipe, generator=replace(recipe.generator, adain=False), images=8, out=recipe.out + "-blind")
    model = load_degradation(train(blind))
    assert isinstance(model, StyleVAE)
    assert len(model.adain) == 0


def test_information_can_be_found_from_the_first_step_on(recipe):
    """With the styleVAE at rest the critics find that results tell of their styles: nothing would ever ask for more otherwise."""
    still = replace(
        recipe, generator=StyleVAEConfig(16, 8, 16, 8, 1, 1), adversary=0.0, prior_share=0.0, lr_g=0.0, lr_d=5e-3, batch=8,
        images=2400, snapshot=2400, log=800, clip=0.0,
    )  # fmt: skip
    train(still)
    found = [line["information"] for line in lines(still)]
    assert found[-1] > 0.3
    assert found[-1] > found[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 0}, r"images \(0\)"),
        ({"native": (48, 16)}, r"native \(\[48, 16\]\) must be"),
        ({"kl": -1.0}, r"kl \(-1\.0\)"),
        ({"prior_share": 1.0}, r"prior_share \(1\.0\) must be in \[0, 1\)"),
        ({"prior_share": 0.7}, "2 or more styles of photos"),
        ({"critics": Critics((4,))}, "two blocks or more"),
        ({"critics": Critics(bound=0.0)}, r"critics\.bound \(0\.0\)"),
        ({"critics": Critics(noise=-0.1)}, r"critics\.noise \(-0\.1\)"),
        ({"critics": Critics(decay=1.0)}, r"critics\.decay \(1\.0\)"),
        ({"precision": "fp8"}, "precision: 'fp8'"),
        ({"augment": ("rain",)}, "augment: 'rain'"),
    ],
)
def test_settings_that_cannot_work(recipe, change, message):
    with pytest.raises(RecipeError, match=message):
        replace(recipe, **change)


def test_runs_of_others_are_left_alone(recipe):
    train(replace(recipe, images=8))
    with pytest.raises(RecipeError, match="other settings of kl"):
        train(replace(recipe, kl=0.5))


def test_what_a_reconstruction_leaves_free():
    """Brightness and contrast cost nothing, less contrast wins nothing; noise, inversion and another picture cost what they hide."""
    torch.manual_seed(0)
    goal = torch.rand(4, 3, 16, 16)
    gain, offset = torch.rand(2, 4, 3, 1, 1).add(0.3)
    whole = (goal - goal.mean((2, 3), keepdim=True)).square().sum((1, 2, 3)).mean()
    assert unexplained(goal * gain + offset, goal) < 0.01 * whole
    noisy = goal + 0.1 * torch.randn_like(goal)
    assert unexplained(goal, goal) < unexplained(noisy, goal) < unexplained(torch.rand_like(goal), goal)
    assert unexplained(noisy, goal) == pytest.approx(float(unexplained(0.5 * noisy + 0.2, goal)), rel=0.01)
    assert unexplained(1 - goal, goal) == pytest.approx(float(whole), rel=1e-5)
    assert unexplained(torch.full_like(goal, 0.5), goal) == pytest.approx(float(whole), rel=1e-5)


# --------------------------------------------------------------------------------------------------- shipped recipes


def test_the_papers_recipe():
    """Section 4.1: latent 256, 8 and 2 residual blocks, 10 epochs of 180,000 faces, Adam 1e-4 with its default betas; no adversary."""
    _, recipe = load_recipe("style-vae-ssrvae")
    assert recipe.generator == StyleVAEConfig()
    assert (recipe.images, recipe.lr_g, recipe.lr_d, recipe.betas) == (10 * 180_000, 1e-4, 1e-4, (0.9, 0.999))
    assert (recipe.adversary, recipe.prior_share, recipe.augment) == (0, 0, ())
    with torch.device("meta"):
        g, *_ = build_run(recipe)
    assert f"styleVAE: {sum(p.numel() for p in g.parameters()):,} parameters" in describe(recipe)


@pytest.mark.parametrize("name", ["style-vae-ssrvae", "style-vae-64to16", "style-vae-128to32"])
def test_shipped_recipes_take_a_step(name, tmp_path, faces):
    _, recipe = load_recipe(name)
    small_ones = [str(faces / "small")]
    held = small_ones if recipe.held else []
    paths = {"data": [str(faces / "sharp")], "real": small_ones, "held": held, "out": str(tmp_path / "run")}
    side = recipe.generator.lr_size
    small = replace(recipe, batch=4, images=4, native=(16, 96) if side == 16 else (32, 96), init="", **paths)
    model = load_degradation(train(small))
    assert (model.hr_size, model.lr_size, model.noise_dim) == (4 * side, side, 256)
    (line,) = lines(small)
    assert all(np.isfinite(value) for value in line.values())
