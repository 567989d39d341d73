"""Training the learned degradation, tiny: both losses, what a run leaves behind, and that it goes on as if it had not stopped."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from preimage.declaration import Declaration, declared
from preimage.degrade.degradation_gan import DegradationGAN, DegradationGANConfig
from preimage.degrade.learned import apply_learned
from preimage.errors import RecipeError
from preimage.nets.features import VGG19Distilled
from preimage.nets.residual import PreActivationBlock
from preimage.train.degradation_gan import (
    Discriminator,
    Recipe,
    build_run,
    describe,
    enlarge,
    perceptual,
    recalibrate,
    steps_before,
    train,
)
from preimage.train.recipes import load_recipe
from preimage.weight_files import read_metadata
from preimage.weights import load_degradation


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    """Random pictures: `sharp/` of 64 px, `small/` of 18 to 29 px."""
    folder = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    for name, sides in (("sharp", [64] * 10), ("small", range(18, 30))):
        (folder / name).mkdir()
        for i, side in enumerate(sides):
            pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> Path:
    """A random network for the VGG term."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("features") / "vgg.safetensors"
    save_file(VGG19Distilled().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory, faces, features) -> Recipe:
    """A finished run, not to be touched."""
    recipe = Recipe(
        out=str(tmp_path_factory.mktemp("runs") / "whole"),
        data=[str(faces / "sharp")],
        real=[str(faces / "small")],
        native=(16, 48),
        crops=2,
        generator=DegradationGANConfig(32, 8, 5, down=(4, 4, 8), up=(4,)),
        discriminator=Discriminator((4, 6, 8), spectral=True),
        images=24,
        batch=4,
        critic_steps=2,
        warmup=4,
        loss="hinge",
        diversity=1.0,
        augment=("translation",),
        feature_weights=str(features),
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


# ---------------------------------------------------------------------------------------------------------------- run


def test_what_a_run_leaves_behind(whole):
    out = Path(whole.out)
    found = lines(whole)
    assert [line["images"] for line in found] == [8, 16, 24]
    keys = {"loss_d", "loss_g", "gan", "l1", "vgg", "apart", "score_real", "score_made", "seconds", "rate"}
    assert all(keys <= set(line) and all(np.isfinite(v) for v in line.values()) for line in found)
    assert sorted(p.stem for p in (out / "grids").iterdir()) == [f"{n:09d}" for n in (16, 24)]
    about = read_metadata(out / "degradation.safetensors")
    assert about["trained"]["images_seen"] == 24
    assert about["trained"]["data"] == ["sharp", "small"]
    assert "/" not in json.dumps(about["trained"])  # nobody's folders
    model = load_degradation(out / "degradation.safetensors")
    assert declared(model) == Declaration("degradation", 8, 32, looked_through=(whole.features,))
    assert isinstance(model, DegradationGAN)
    assert (model.name, model.config) == ("tiny", whole.generator)
    assert bool(torch.isfinite(apply_learned(model, torch.rand(2, 3, 64, 64), model.noise([0, 1]))).all())


@pytest.mark.parametrize("loss", ["hinge", "wgan-gp"])
def test_interrupted_after_every_line(recipe, loss):
    there = replace(recipe, loss=loss, out=recipe.out + "-whole")
    train(there)
    recipe = replace(recipe, loss=loss)
    for images in (8, 16):
        train(recipe, stop_after=0.0)
        assert lines(recipe)[-1]["images"] == images
    resumed, expected = (load_file(train(r)) for r in (recipe, there))
    assert expected.keys() == resumed.keys()
    assert all(torch.allclose(expected[k].float(), resumed[k].float(), atol=2e-3, rtol=2e-3) for k in expected)
    assert ("penalty" in lines(recipe)[-1]) == (loss == "wgan-gp")
    for key in ("images", "loss_d", "l1", "vgg", "gan", "apart"):
        assert [line[key] for line in lines(there)] == pytest.approx([line[key] for line in lines(recipe)], rel=1e-3)


def test_a_finished_run_goes_on(whole, recipe):
    shutil.copytree(whole.out, recipe.out)
    train(recipe)  # nothing left to do
    assert lines(recipe) == lines(whole)
    assert read_metadata(train(replace(recipe, images=32)))["trained"]["images_seen"] == 32


def test_rates_of_nothing_move_nothing(recipe):
    first = load_file(train(replace(recipe, images=16)))
    kept = load_file(train(replace(recipe, images=24, lr_steps=((16, 0.0, 0.0),), ema=0.0, out=recipe.out + "-still")))
    average = load_file(train(replace(recipe, images=16, ema=0.0, out=recipe.out + "-four")))
    weights = [k for k in first if "running" not in k and "batches" not in k]
    assert all(torch.equal(kept[k], average[k]) for k in weights)
    with pytest.raises(RecipeError, match="other settings of lr_g"):
        train(replace(recipe, lr_g=1.0))


def test_without_pixel_terms_or_diversity(recipe):
    train(replace(recipe, delta=0.0, feature_weights="", diversity=0.0, critic_steps=1, warmup=0, images=8))
    (line,) = lines(recipe)
    assert line["vgg"] == 0
    assert "apart" not in line
    assert line["loss_g"] == pytest.approx(line["l1"] + 0.05 * line["gan"], abs=1e-4)


def test_faces_held_back_are_scored_and_never_learned_from(recipe, faces):
    stranger = replace(
        recipe, held=[str(faces / "sharp")], native=(16, 64), out=recipe.out + "-stranger", real=recipe.real
    )
    same, plain = replace(recipe, held=recipe.real), replace(recipe, out=recipe.out + "-plain")
    with_held, without = (load_file(train(r)) for r in (same, plain))
    assert all(torch.equal(with_held[k], without[k]) for k in with_held)
    train(stranger)
    assert not any("score_held" in line for line in lines(plain))
    for line in lines(same):
        assert line["score_held"] == line["score_seen"]
    assert all(line["score_held"] != line["score_seen"] for line in lines(stranger))
    about = read_metadata(Path(stranger.out) / "degradation.safetensors")["trained"]
    assert about["recipe"]["held"] == ["sharp"]
    assert about["data"] == ["sharp", "small"]


def test_the_generators_loss_is_equation_1(recipe):
    train(replace(recipe, alpha=2.0, beta=0.3, gamma=0.7, delta=0.2, diversity=0.0, warmup=0, images=8))
    (line,) = lines(recipe)
    assert line["loss_g"] == pytest.approx(2 * (0.7 * line["l1"] + 0.2 * line["vgg"]) + 0.3 * line["gan"], abs=1e-3)


def test_the_content_comes_first(recipe):
    recipe = replace(recipe, warmup=8, images=16)
    train(recipe)
    first, second = lines(recipe)
    assert not {"gan", "loss_d"} & first.keys()
    assert first["loss_g"] == pytest.approx(first["l1"] + 0.1 * first["vgg"], abs=1e-3)
    assert {"gan", "loss_d"} <= second.keys()
    assert [steps_before(recipe, n) for n in (0, 4, 8, 16)] == [(0, 0), (1, 0), (2, 0), (6, 4)]


def test_the_diversity_term_drives_the_noises_apart(recipe):
    free = replace(recipe, delta=0.0, beta=0.0, critic_steps=1, spread=1.0, images=120, snapshot=120, lr_g=3e-3)
    apart = {}
    for weight in (1e-6, 30.0):
        run = replace(free, out=f"{recipe.out}-{weight}", diversity=weight)
        train(run)
        apart[weight] = lines(run)[-1]["apart"]
    assert apart[30.0] > 2 * apart[1e-6]


def test_refusals(recipe):
    train(recipe, stop_after=0.0)
    with pytest.raises(RecipeError, match="other settings of beta"):
        train(replace(recipe, beta=0.2))
    with pytest.raises(RecipeError, match="already holds a run"):
        train(recipe, resume="never")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 0}, r"images \(0\)"),
        ({"images": -5}, r"images \(-5\) must be at least 1"),
        ({"snapshot": 0}, r"snapshot \(0\)"),
        ({"native": (0, 16)}, r"native \(\[0, 16\]\)"),
        ({"lr_d": -1e-3}, r"lr_d \(-0\.001\)"),
        ({"lr_steps": ((8, 1e-3, -1.0),)}, "lr_steps"),
        ({"betas": (0.9, 1.0)}, r"betas \(\[0\.9, 1\.0\]\) must be in \[0, 1\)"),
        ({"gamma": float("nan")}, r"gamma \(nan\)"),
        ({"seed": 2**40}, "seed"),
        ({"discriminator": Discriminator((4, 0))}, r"discriminator\.widths \(\[4, 0\]\)"),
        ({"warmup": -1}, r"warmup \(-1\)"),
        ({"delta": -1.0}, r"delta \(-1\.0\)"),
        ({"zoom": 1.5}, r"zoom \(1\.5\)"),
        ({"loss": "lsgan"}, "loss: 'lsgan' is not one of hinge, wgan-gp"),
        ({"precision": "fp8"}, "precision: 'fp8'"),
        ({"features": "alexnet"}, "features: 'alexnet'"),
        ({"feature_weights": ""}, "feature_weights: give the file"),
        ({"native": (48, 16)}, r"native \(\[48, 16\]\)"),
        ({"ema": 1.0}, r"ema \(1\.0\)"),
        ({"augment": ("rust",)}, "augment: 'rust' is not one of"),
        ({"batch": 5}, r"batch \(5\) must be even"),
        ({"discriminator": Discriminator((4,))}, "two blocks"),
    ],
)
def test_settings_that_cannot_be(recipe, change, message):
    with pytest.raises(RecipeError, match=message):
        replace(recipe, **change)


# -------------------------------------------------------------------------------------------------------------- parts


def test_losses_that_are_zero_for_equal_pictures():
    network = VGG19Distilled().eval().requires_grad_(False)
    x = torch.rand(2, 3, 32, 32)
    assert float(perceptual(network, x, x)) == 0
    other = x.roll(5, 0).flip(3).requires_grad_(True)
    perceptual(network, other, x).backward()
    assert other.grad is not None
    assert float(other.grad.abs().sum()) > 0


def test_enlarging_keeps_a_plain_picture():
    plain = torch.full((1, 3, 16, 16), 0.3)
    assert torch.allclose(enlarge(plain, 64), torch.full((1, 3, 64, 64), 0.3), atol=1e-6)


def test_recalibration_gives_the_statistics_of_the_pictures():
    torch.manual_seed(0)
    model = DegradationGAN(DegradationGANConfig(16, 8, 5, down=(4, 4), up=(4,))).eval()
    pictures = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
    first = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    seen: list[torch.Tensor] = []
    hook = first.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    recalibrate(model, pictures, 0)
    hook.remove()
    (x,) = seen  # one batch holds them all
    assert len(x) == 24
    assert torch.allclose(first.running_mean, x.mean(dim=(0, 2, 3)), atol=1e-5)
    assert torch.allclose(first.running_var, x.var(dim=(0, 2, 3)), rtol=1e-3)
    assert (first.momentum, model.training) == (0.1, False)
    again = {k: v.clone() for k, v in model.state_dict().items()}
    recalibrate(model, pictures, 0)
    assert all(torch.equal(v, again[k]) for k, v in model.state_dict().items())


# --------------------------------------------------------------------------------------------------- shipped recipes


def test_srnams_recipe_is_as_published():
    _, recipe = load_recipe("degradation-gan-srnam")
    assert (recipe.images, recipe.batch, recipe.critic_steps, recipe.loss) == (500_000 * 64, 64, 5, "wgan-gp")
    assert (recipe.penalty, recipe.lr_g, recipe.lr_d, tuple(recipe.betas)) == (10, 1e-3, 1e-3, (0.9, 0.999))
    assert (recipe.diversity, tuple(recipe.augment), recipe.discriminator.spectral) == (0, (), False)
    assert recipe.generator == DegradationGANConfig()
    with torch.device("meta"):
        g, d, *_ = build_run(recipe)
    for network, norm, count in ((g, True, 12), (d, False, 6)):
        blocks = [m for m in network.modules() if isinstance(m, PreActivationBlock)]
        assert len(blocks) == count
        assert any(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == norm
    assert f"generator: {sum(p.numel() for p in g.parameters()):,} parameters" in describe(recipe)


@pytest.mark.parametrize("name", ["degradation-gan-srnam", "degradation-gan-64to16"])
@pytest.mark.parametrize("loss", ["hinge", "wgan-gp"])
def test_shipped_recipes_take_a_step(name, loss, tmp_path, faces, features):
    _, recipe = load_recipe(name)
    small_ones = [str(faces / "small")]
    held = small_ones if recipe.held else []
    paths = {"data": [str(faces / "sharp")], "real": small_ones, "held": held, "feature_weights": str(features)}
    small = replace(recipe, out=str(tmp_path / "run"), loss=loss, batch=2, critic_steps=1, images=2, **paths)
    model = load_degradation(train(small))
    assert (model.hr_size, model.lr_size, model.noise_dim) == (64, 16, 100)
    (line,) = lines(small)
    assert all(np.isfinite(value) for value in line.values())
