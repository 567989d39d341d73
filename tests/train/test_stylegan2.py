"""The trainer end to end, tiny: what a run leaves behind, and that it goes on as if it had never stopped."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from preimage.declaration import Declaration, declared
from preimage.errors import RecipeError
from preimage.generate.cascade import Cascade
from preimage.generate.stylegan2 import StyleGAN2, StyleGAN2Config
from preimage.nets.conditional import ConditionalConfig, ConditionalGenerator
from preimage.nets.features import SqueezeNet
from preimage.nets.layers import upsample2
from preimage.train.recipes import load_recipe
from preimage.train.stylegan2 import (
    DiscriminatorSettings,
    Imagine,
    Recipe,
    build_discriminator,
    build_run,
    grow,
    train,
)
from preimage.weight_files import read_declaration, read_metadata, save_prior
from preimage.weights import load_prior


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory) -> Path:
    """The file of a SqueezeNet with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "squeezenet.safetensors"
    save_file(SqueezeNet().state_dict(), path)
    return path


@pytest.fixture(params=["stylegan2", "projected", "both"])
def recipe(request, tmp_path, faces, squeezenet) -> Recipe:
    if request.param == "stylegan2":
        judge = DiscriminatorSettings(channel_base=64, channel_max=8, r1_every=2)
    else:
        judge = DiscriminatorSettings(
            kind=request.param, loss="hinge", r1_gamma=0.1 if request.param == "both" else 0.0, r1_every=2,
            feature_weights=str(squeezenet), feature_size=48, width=4, pixel_width=4, channel_base=64, channel_max=8,
        )  # fmt: skip
    return Recipe(
        out=str(tmp_path / "run"),
        data=[str(faces)],
        generator=StyleGAN2Config(16, 128, 8, 8, 8, 2),
        discriminator=judge,
        images=16,
        batch=4,
        snapshot=8,
        log=4,
        name="tiny",
    )


def lines(recipe: Recipe) -> list[dict[str, float]]:
    return [json.loads(line) for line in (Path(recipe.out) / "stats.jsonl").read_text().splitlines()]


def test_what_a_run_leaves_behind(recipe):
    path = train(recipe)
    out = Path(recipe.out)
    assert path == out / "prior.safetensors"
    assert [line["images"] for line in lines(recipe)] == [4, 8, 12, 16]
    keys = {"loss_d", "loss_g", "score_real", "score_fake", "seconds", "rate"}
    assert all(keys <= set(line) and all(np.isfinite(v) for v in line.values()) for line in lines(recipe))
    assert [("r1" in line) for line in lines(recipe)] == [recipe.discriminator.r1_gamma > 0, False] * 2
    assert sorted(p.name for p in (out / "grids").iterdir()) == ["000000008.png", "000000016.png"]
    with Image.open(out / "grids" / "000000016.png") as grid:
        assert grid.width > 8 * 16
    assert json.loads((out / "recipe.json").read_text())["generator"]["resolution"] == 16
    about = read_metadata(path)
    assert about["trained"]["images_seen"] == 16
    assert about["trained"]["recipe"]["batch"] == 4
    assert "/" not in json.dumps(about["trained"])  # nobody's folders
    prior = load_prior(path)
    assert isinstance(prior, StyleGAN2)
    assert prior.name == "tiny"
    seen = ("squeezenet",) if recipe.discriminator.kind != "stylegan2" else ()
    assert declared(prior) == Declaration("prior", hr_size=16, looked_through=seen)
    picture = prior.sample([0, 1])
    assert picture.shape == (2, 3, 16, 16)
    assert bool(torch.isfinite(picture).all())
    assert bool((prior.gaussian_fit[1] > 0).all())


def test_a_run_starts_from_an_exported_prior(recipe, tmp_path):
    path = train(recipe)
    again = replace(recipe, out=str(tmp_path / "again"), init=str(path))
    generator, *_ = build_run(again)
    exported = load_prior(path).state_dict()
    assert all(torch.equal(value, exported[key]) for key, value in generator.state_dict().items())
    assert declared(generator) == read_declaration(path)  # what it saw before counts when it is written again
    assert Path(train(again)).is_file()
    with pytest.raises(RecipeError, match="not a StyleGAN2 of the shape"):
        build_run(replace(again, generator=StyleGAN2Config(16, 64, 8, 8, 8, 2)))


def test_interrupted_run_ends_like_an_uninterrupted_one(recipe, tmp_path):
    whole = train(replace(recipe, out=str(tmp_path / "whole")))
    train(replace(recipe, images=8))
    assert [line["images"] for line in lines(recipe)] == [4, 8]
    resumed = train(recipe)
    assert [line["images"] for line in lines(recipe)] == [4, 8, 12, 16]
    a, b = load_file(whole), load_file(resumed)
    assert all(torch.allclose(a[k].float(), b[k].float(), atol=2e-3, rtol=2e-3) for k in a)
    early = [line["loss_d"] for line in lines(replace(recipe, out=str(tmp_path / "whole")))]
    assert early == pytest.approx([line["loss_d"] for line in lines(recipe)], rel=1e-3)


def test_stopping_early_and_going_on(recipe):
    train(recipe, stop_after=0.0)
    assert [line["images"] for line in lines(recipe)] == [4]
    assert (Path(recipe.out) / "grids" / "000000004.png").is_file()
    train(recipe)
    assert [line["images"] for line in lines(recipe)] == [4, 8, 12, 16]
    before = (Path(recipe.out) / "stats.jsonl").read_text()
    assert train(recipe).is_file()  # nothing left to do
    assert (Path(recipe.out) / "stats.jsonl").read_text() == before


def test_adaptive_augmentation_and_path_lengths_go_on_where_they_stopped(recipe, tmp_path):
    """p rises by 4 pictures of 16 where the discriminator is sure of real pictures, and falls by as many where it is not."""
    policy = ("ada-blit", "ada-geometry", "ada-colour")
    more = replace(
        recipe, augment=policy, augment_probability=0.5, ada_target=0.6, ada_images=16, ada_every=1,
        path_length=2.0, path_length_every=2,
    )  # fmt: skip
    train(replace(more, out=str(tmp_path / "whole")))
    found = lines(replace(more, out=str(tmp_path / "whole")))
    p = 0.5
    for line in found:
        p = min(1.0, max(0.0, p + (0.25 if line["sign"] > 0.6 else -0.25)))
        assert line["augment"] == p
    assert [("path_length" in line) for line in found] == [True, False, True, False]
    assert all(line.get("path_penalty", 1) > 0 for line in found)
    train(replace(more, images=8))
    train(more)
    for key in ("augment", "sign", "path_length", "path_penalty"):
        a, b = ([line.get(key, -1.0) for line in lines(r)] for r in (replace(more, out=str(tmp_path / "whole")), more))
        assert a == pytest.approx(b, rel=1e-3), key


def test_a_new_discriminator_learns_alone_at_first(recipe, tmp_path):
    first = load_file(train(recipe))
    alone = replace(
        recipe, out=str(tmp_path / "alone"), init=str(Path(recipe.out) / "prior.safetensors"),
        lr_steps=((0, 0.0, 2e-3), (8, 1e-3, 2e-3)),
    )  # fmt: skip
    kept = [key for key in first if key.startswith("synthesis.")]
    still = load_file(train(replace(alone, images=8)))
    assert all(torch.equal(first[key], still[key]) for key in kept)
    moved = load_file(train(alone))
    assert any(not torch.equal(first[key], moved[key]) for key in kept)
    assert ["loss_g" in line for line in lines(alone)] == [False, False, True, True]


def test_refusals(recipe):
    first = replace(recipe, images=4, snapshot=4)
    train(first)
    with pytest.raises(RecipeError, match="other settings of lr_g"):
        train(replace(first, lr_g=1e-4))
    with pytest.raises(RecipeError, match="other settings of generator"):
        train(replace(first, generator=StyleGAN2Config(16, 128, 8, 8, 10, 2)))
    with pytest.raises(RecipeError, match="already holds a run"):
        train(first, resume="never")
    assert json.loads((Path(recipe.out) / "recipe.json").read_text())["lr_g"] == recipe.lr_g


def test_settings_that_cannot_be(recipe, squeezenet):
    with pytest.raises(RecipeError, match=r"discriminator\.kind"):
        replace(recipe, discriminator=DiscriminatorSettings(kind="oracle"))
    projected = DiscriminatorSettings(kind="projected")
    with pytest.raises(RecipeError, match="feature_weights: give the safetensors file"):
        build_discriminator(replace(recipe, discriminator=projected))
    with pytest.raises(RecipeError, match=r"discriminator\.features: 'resnet'"):
        build_discriminator(replace(recipe, discriminator=replace(projected, features="resnet")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": -5}, r"images \(-5\) must be at least 1"),
        ({"batch": 0}, r"batch \(0\)"),
        ({"snapshot": 0}, r"snapshot \(0\)"),
        ({"log": -4}, r"log \(-4\)"),
        ({"path_length_every": 0}, r"path_length_every \(0\)"),
        ({"path_length_shrink": 0}, r"path_length_shrink \(0\)"),
        ({"ada_images": 0, "ada_every": 0}, r"ada_images \(0\) must be at least 1; ada_every \(0\)"),
        ({"ema_half_life": 0.0}, r"ema_half_life \(0\.0\) must be a positive number"),
        ({"lr_d": -2e-3}, r"lr_d \(-0\.002\) must be 0 or a positive number"),
        ({"lr_g": float("nan")}, r"lr_g \(nan\)"),
        ({"lr_steps": ((-8, 1e-3, 1e-3),)}, "lr_steps"),
        ({"betas": (0.0, 1.0)}, r"betas \(\[0\.0, 1\.0\]\) must be in \[0, 1\)"),
        ({"style_mixing": 1.5}, r"style_mixing \(1\.5\)"),
        ({"augment_probability": -0.1}, r"augment_probability \(-0\.1\)"),
        ({"seed": -1}, r"seed \(-1\)"),
        ({"discriminator": DiscriminatorSettings(r1_every=0)}, r"discriminator\.r1_every \(0\)"),
        ({"discriminator": DiscriminatorSettings(feature_size=-1)}, r"discriminator\.feature_size \(-1\)"),
        ({"discriminator": DiscriminatorSettings(width=0)}, r"discriminator\.width \(0\)"),
        (
            {"discriminator": DiscriminatorSettings(channel_base=8)},
            r"discriminator\.channel_base \(8\) must be at least",
        ),
    ],
)
def test_settings_out_of_bounds(tmp_path, change, message):
    good = Recipe(
        out=str(tmp_path), data=["faces"], generator=StyleGAN2Config(16, 128, 8, 8, 8, 2), batch=4, snapshot=8, log=4
    )
    with pytest.raises(RecipeError, match=message) as caught:
        replace(good, **change)
    assert "\n" not in str(caught.value)


def test_lazy_regularisation_corrects_the_rate(recipe):
    _, _, opt_g, opt_d = build_run(replace(recipe, lr_g=1.0, lr_d=3.0, betas=(0.5, 0.9)))
    assert opt_g.defaults["betas"] == (0.5, 0.9)
    share = 2 / 3 if recipe.discriminator.r1_gamma else 1.0
    assert opt_d.defaults["lr"] == pytest.approx(3.0 * share)
    assert opt_d.defaults["betas"] == pytest.approx((0.5**share, 0.9**share))


@pytest.mark.parametrize("mixing", [0.0, 1.0])
def test_style_mixing(mixing):
    torch.manual_seed(0)
    config = StyleGAN2Config(16, 128, 8, 8, 8, 2)
    generator = StyleGAN2(config)
    seen = []
    generator.synthesis.register_forward_hook(lambda module, args, out: seen.append(args[0].detach()))
    imagine = Imagine(generator, mixing, torch.float32, compile=False)
    z = torch.randn(2, 64, 8)
    pictures, returned = imagine(z)
    assert pictures.shape == (64, 3, 16, 16)
    assert torch.equal(returned, seen[0])
    ws, first, second = seen[0], generator.mapping(z[0]), generator.mapping(z[1])
    from_second = (ws == second[:, None]).all(dim=2)
    assert bool((from_second | (ws == first[:, None]).all(dim=2)).all())
    counts = from_second.sum(dim=1)
    assert torch.equal(from_second.long().cumsum(1).bool(), from_second)  # one crossing, from there on the second
    assert set(counts.tolist()) == ({0} if mixing == 0 else set(range(1, config.rows)))
    assert bool(generator.mapping.w_avg.any())  # followed while training
    imagine.eval()
    before = generator.mapping.w_avg.clone()
    imagine(z)
    assert torch.equal(generator.mapping.w_avg, before)


# --------------------------------------------------------------------------------------------------- shipped recipes


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("prior-faces64", 2.53),
        ("prior-faces128-gan", 0.714),
        ("prior-stylegan2-64", 2.53),
        ("prior-stylegan2-128", 2.56),
    ],
)
def test_shipped_recipe_takes_a_step(name, millions, tmp_path, faces, squeezenet):
    _, recipe = load_recipe(name)
    files = {"squeezenet": squeezenet, "efficientnet-lite0": ""}
    count = sum(p.numel() for p in StyleGAN2(recipe.generator).parameters())
    assert count == pytest.approx(millions * 1e6, rel=0.01)
    small = replace(
        recipe,
        out=str(tmp_path / "run"),
        data=[str(faces)],
        discriminator=replace(recipe.discriminator, feature_weights=str(files[recipe.discriminator.features])),
        batch=4,
        images=4,
        snapshot=4,
        log=4,
        compile=False,  # a minute of compiling for one step
        init="",
        lr_steps=(),
    )
    prior = load_prior(train(small))
    assert prior.resolution == (128 if recipe.second else recipe.generator.resolution)
    (line,) = lines(small)
    assert all(np.isfinite(value) for value in line.values())
    shutil.rmtree(tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "generator", "discriminator"),
    [("stylegan2-ffhq256", 24_767_458, 24_001_089), ("stylegan2-ffhq1024", 30_370_060, 29_012_513)],
)
def test_recipes_for_a_lab_have_the_published_sizes_and_take_a_step(name, generator, discriminator, tmp_path, faces):
    """At 32 px, with all that happens in a step: at the published size one takes minutes on a CPU."""
    _, recipe = load_recipe(name)
    with torch.device("meta"):
        g, d, *_ = build_run(recipe)
    assert sum(p.numel() for p in g.parameters()) == generator
    assert sum(p.numel() for p in d.parameters()) == discriminator
    small = replace(
        recipe,
        out=str(tmp_path / "run"),
        data=[str(faces)],
        generator=replace(recipe.generator, resolution=32, channel_base=1024),
        discriminator=replace(recipe.discriminator, channel_base=1024),
        batch=4,
        images=16,
        snapshot=16,
        log=16,
        compile=False,
    )
    assert load_prior(train(small)).resolution == 32
    (line,) = lines(small)
    assert {"r1", "path_length", "path_penalty"} <= set(line)
    assert ("augment" in line) == bool(recipe.ada_target)
    assert all(np.isfinite(value) for value in line.values())


# --------------------------------------------------------------------------------------------- growing, and two steps


def test_grows_from_a_smaller_one_without_a_change_of_picture(tmp_path, faces):
    """The first picture of a grown generator is the old one, enlarged by the filter of skip-RGB."""
    old = StyleGAN2(StyleGAN2Config(16, 128, 8, 8, 8, 2), "old").requires_grad_(False)
    torch.nn.init.constant_(old.synthesis.block(16).torgb.bias, 0.2)
    save_prior(tmp_path / "old.safetensors", old, {})
    recipe = Recipe(
        out=str(tmp_path / "run"), data=[str(faces)], generator=replace(old.config, resolution=32),
        discriminator=DiscriminatorSettings(channel_base=64, channel_max=8), batch=4, init=str(tmp_path / "old.safetensors"),
    )  # fmt: skip
    grown, *_ = build_run(recipe)
    start = load_prior(tmp_path / "old.safetensors")
    w = torch.randn(2, 1, 8).expand(-1, 8, -1)
    small, large = start.synthesize(w[:, :6]), grown.synthesize(w)
    assert torch.allclose(2 * large - 1, upsample2(2 * small - 1, grown.synthesis.fir4), atol=1e-5)


@pytest.mark.parametrize(
    ("generator", "says"),
    [
        (StyleGAN2Config(32, 128, 8, 8, 8, 3), "not a StyleGAN2 of the shape"),
        (StyleGAN2Config(8, 128, 8, 8, 8, 2), "cannot shrink to 8"),
    ],
)
def test_another_shape_is_no_start(generator, says, tmp_path):
    save_prior(tmp_path / "old.safetensors", StyleGAN2(StyleGAN2Config(16, 128, 8, 8, 8, 2), "old"), {})
    with pytest.raises(RecipeError, match=says):
        grow(StyleGAN2(generator), load_prior(tmp_path / "old.safetensors"), "old")


def test_a_second_network_makes_the_export_a_cascade(tmp_path, faces):
    config = ConditionalConfig(resolution=32, width=8, channels=(4,), w_dim=6, z_outline=2, z_detail=2)
    save_prior(
        tmp_path / "posterior.safetensors", ConditionalGenerator(config), {}, looked_through=["efficientnet-lite0"]
    )
    recipe = Recipe(
        out=str(tmp_path / "run"), data=[str(faces)], generator=StyleGAN2Config(16, 128, 8, 8, 8, 2),
        discriminator=DiscriminatorSettings(channel_base=64, channel_max=8), images=8, batch=4, snapshot=8, log=4,
        second=str(tmp_path / "posterior.safetensors"), name="both",
    )  # fmt: skip
    path = train(recipe)
    prior = load_prior(path)
    assert isinstance(prior, Cascade)
    assert (prior.name, prior.resolution) == ("both", 32)
    assert read_declaration(path).looked_through == ("efficientnet-lite0",)
    with Image.open(tmp_path / "run" / "grids" / "000000008.png") as grid:
        assert grid.width > 8 * 32
