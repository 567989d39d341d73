"""The trainer of side outputs: the losses by hand, what a run leaves behind, that it goes on, and the published configuration."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from preimage.degrade.linear import bicubic
from preimage.errors import RecipeError
from preimage.generate.progan import ProGAN, ProGANConfig
from preimage.generate.side_outputs import SideOutputsConfig
from preimage.nets.features import SqueezeNet
from preimage.train.recipes import load_recipe
from preimage.train.side_outputs import (
    Recipe,
    build_run,
    describe,
    imagine,
    load_frozen,
    perceptual_term,
    pixel_term,
    targets,
    train,
)
from preimage.weight_files import bound, read_declaration, read_metadata, save_prior
from preimage.weights import load_prior, load_side_outputs

SHAPE = SideOutputsConfig(16, (4, 8), (16, 16), (6, 5))


@pytest.fixture(scope="module")
def prior_file(tiny_prior, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("prior") / "tiny.safetensors"
    save_prior(path, tiny_prior, {})
    return path


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "squeezenet.safetensors"
    save_file(SqueezeNet().state_dict(), path)
    return path


@pytest.fixture
def recipe(tmp_path, prior_file, squeezenet) -> Recipe:
    return Recipe(
        out=str(tmp_path / "run"), prior=str(prior_file), branches=SHAPE, images=16, batch=4, perceptual=1e-6,
        features="squeezenet", feature_weights=str(squeezenet), lr=1e-2, snapshot=8, log=4, name="tiny-sides",
    )  # fmt: skip


def lines(recipe: Recipe) -> list[dict[str, float]]:
    return [json.loads(line) for line in (Path(recipe.out) / "stats.jsonl").read_text().splitlines()]


def test_the_terms_by_hand():
    torch.manual_seed(0)
    whole = torch.rand(2, 3, 16, 16)
    wanted = targets(whole, (4, 8))
    assert torch.equal(wanted[8], bicubic(16, lr_size=8)(whole))
    made = {side: picture + side / 100 for side, picture in wanted.items()}
    assert float(pixel_term(made, wanted)) == pytest.approx((0.04**2 + 0.08**2) / 2, rel=1e-4)
    network = SqueezeNet().eval().requires_grad_(False)
    found = float(perceptual_term(network, made, wanted))
    terms = []
    for side in (4, 8):
        one, two = (F.interpolate(x[side], (32, 32), mode="bicubic", align_corners=False) for x in (made, wanted))
        pairs = zip(network(one), network(two), strict=True)
        terms.append(np.mean([float((a - b).square().mean()) for a, b in pairs]))
    assert found == pytest.approx(np.mean(terms), rel=1e-4)


def test_what_a_run_leaves_behind(recipe, tiny_prior):
    path = train(recipe)
    out = Path(recipe.out)
    assert path == out / "side-output.safetensors"
    assert [line["images"] for line in lines(recipe)] == [4, 8, 12, 16]
    assert all({"loss", "pixel", "perceptual", "seconds", "rate"} <= set(line) for line in lines(recipe))
    assert all(np.isfinite(v) for line in lines(recipe) for v in line.values())
    assert sorted(p.name for p in (out / "grids").iterdir()) == ["000000008.png", "000000016.png"]
    about, said, prior = read_metadata(path), read_declaration(path), load_prior(recipe.prior)
    assert about["trained"]["images_seen"] == 16
    assert "/" not in json.dumps(about["trained"])  # nobody's folders
    assert (said.kind, said.hr_size, said.looked_through) == ("side-output", 16, ("squeezenet",))
    assert said.bound_to == bound(prior)
    prior.attach(load_side_outputs(path, prior))
    found = prior.side_outputs(prior.latents([0, 1]), largest=8)
    assert {side: tuple(x.shape) for side, x in found.items()} == {4: (2, 3, 4, 4), 8: (2, 3, 8, 8)}
    assert read_declaration(train(replace(recipe, out=f"{recipe.out}-pixels", perceptual=0.0))).looked_through == ()


def test_the_branches_learn_what_the_whole_picture_looks_like_small(recipe):
    train(replace(recipe, images=400, snapshot=400, log=40, perceptual=0.0))
    found = [line["pixel"] for line in lines(recipe)]
    assert sum(found[-2:]) < 0.8 * sum(found[:2])


def test_interrupted_run_ends_like_an_uninterrupted_one(recipe, tmp_path):
    whole = load_file(train(replace(recipe, out=str(tmp_path / "whole"))))
    train(replace(recipe, images=8))
    resumed = load_file(train(recipe))
    assert [line["images"] for line in lines(recipe)] == [4, 8, 12, 16]
    assert all(torch.allclose(whole[k].float(), resumed[k].float(), atol=1e-3) for k in whole)


def test_a_run_keeps_to_its_prior(recipe, tiny_prior, tmp_path):
    train(replace(recipe, images=4, snapshot=4))
    other = load_prior(recipe.prior)
    with torch.no_grad():
        other.synthesis.b4.const.add_(0.1)
    save_prior(tmp_path / "tiny.safetensors", other, {})
    with pytest.raises(RecipeError, match="other settings of prior"):
        train(replace(recipe, prior=str(tmp_path / "tiny.safetensors")))


def test_progan_can_have_branches_too(recipe, tmp_path):
    torch.manual_seed(0)
    save_prior(tmp_path / "pro.safetensors", ProGAN(ProGANConfig(16, 64, 8, 8), "pro"), {})
    shape = SideOutputsConfig(16, (4, 8), (8, 8), (6, 5))
    path = train(replace(recipe, prior=str(tmp_path / "pro.safetensors"), branches=shape, images=4, snapshot=4))
    prior = load_prior(tmp_path / "pro.safetensors")
    assert prior.attach(load_side_outputs(path, prior)).side_sizes == (4, 8, 16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 0}, r"images \(0\) must be at least 1"),
        ({"lr": -1.0}, r"lr \(-1\.0\)"),
        ({"perceptual": float("nan")}, r"perceptual \(nan\)"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"features": "resnet"}, "features: 'resnet' is not one of squeezenet"),
        ({"feature_weights": ""}, "feature_weights: give the safetensors file of squeezenet"),
        ({"prior": ""}, "prior: name the generator"),
        ({"precision": "fp8"}, "precision"),
    ],
)
def test_settings_that_cannot_be(recipe, change, message):
    with pytest.raises(RecipeError, match=message):
        replace(recipe, **change)


def test_a_prior_that_does_not_fit(recipe):
    wide = replace(recipe, branches=SideOutputsConfig(16, (4, 8), (16, 12), (6, 5)))
    with pytest.raises(RecipeError, match=r"channels \[16, 12\] at \[4, 8\] px, but .* has 16 px and \[16, 16\]"):
        load_frozen(wide)


def test_the_published_configuration_has_its_sizes_and_takes_a_step(tmp_path, prior_file):
    """50,000 iterations of Adam at 1e-4, branches at 32 to 512 px; a step at 16 px, through the packaged feature network."""
    _, recipe = load_recipe("side-outputs-ffhq1024")
    assert recipe.images // recipe.batch == 50_000
    assert (recipe.lr, recipe.perceptual, recipe.branches) == (1e-4, 1.0, SideOutputsConfig())
    assert "together: 231,311 parameters" in describe(recipe)
    small = replace(
        recipe, out=str(tmp_path / "run"), prior=str(prior_file), branches=SHAPE, batch=2, images=2, snapshot=2, log=2
    )
    path = train(small)
    (line,) = lines(small)
    assert line["loss"] == pytest.approx(line["pixel"] + line["perceptual"], rel=1e-3)
    assert read_declaration(path).looked_through == ("efficientnet-lite0",)


def test_the_small_recipe_fits_the_embedded_prior():
    _, recipe = load_recipe("side-outputs-faces64")
    prior = load_frozen(recipe)
    g, *_ = build_run(recipe)
    z, noise = torch.randn(1, prior.config.z_dim), [torch.randn(1, 1, s, s) for s in prior.noise_sizes]
    maps, whole = imagine(prior, z, noise, recipe.branches.sides)
    assert torch.equal(whole, prior.synthesize(prior.mapping(z)[:, None].expand(-1, prior.config.rows, -1), noise))
    assert {side: x.shape[-1] for side, x in g(maps).items()} == {16: 16, 32: 32}
