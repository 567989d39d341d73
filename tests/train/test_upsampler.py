"""Training networks of one pass, tiny: every network and degradation, with and without an adversary, and runs that go on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from preimage.declaration import Declaration, declared
from preimage.degrade.style_vae import StyleVAE, StyleVAEConfig
from preimage.errors import RecipeError
from preimage.nets.attention import AttentionConfig, AttentionNetwork
from preimage.nets.baselines import (
    EDSR,
    RDN,
    SRCNN,
    EDSRConfig,
    RDNConfig,
    SRCNNConfig,
    SRGANDiscriminator,
    SRResNet,
    SRResNetConfig,
)
from preimage.train.recipes import TRAINERS, list_recipes, load_recipe, recipe_summary
from preimage.train.upsampler import build_run, cropped, describe, train
from preimage.train.upsampler_settings import EDSRRecipe, RDNRecipe, Recipe, SRCNNRecipe, SRResNetRecipe
from preimage.weight_files import read_declaration, read_metadata, save_prior
from preimage.weights import load_upsampler

TINY = {"lr_size": 4, "width": 8}
NETWORKS = {
    AttentionNetwork: (Recipe, AttentionConfig(global_blocks=1, local_blocks=1, local_window=3, **TINY)),
    SRCNN: (SRCNNRecipe, SRCNNConfig(inner=4, **TINY)),
    EDSR: (EDSRRecipe, EDSRConfig(blocks=1, **TINY)),
    RDN: (RDNRecipe, RDNConfig(blocks=1, layers=2, growth=4, **TINY)),
    SRResNet: (SRResNetRecipe, SRResNetConfig(blocks=1, **TINY)),
}
ONES = [
    "ssrvae-64-b",
    "ssrvae-64-s",
    "ssrvae-128-b",
    "ssrvae-128-s",
    "ssrvae-x4",
    "srcnn-64",
    "edsr-64",
    "rdn-64",
    "srgan-64",
]


def recipe_of(network: type, out: Path, faces: Path, **changes) -> Recipe:
    settings, shape = NETWORKS[network]
    return settings(
        out=str(out), data=[str(faces)], hold=3, generator=shape, images=24, batch=4, lr_g=1e-3, lr_d=1e-3, ema=0.5,
        snapshot=16, log=8, name="tiny", **changes,
    )  # fmt: skip


@pytest.fixture
def recipe(tmp_path, faces) -> Recipe:
    return recipe_of(AttentionNetwork, tmp_path / "run", faces)


def lines(recipe: Recipe) -> list[dict[str, float]]:
    return [json.loads(line) for line in (Path(recipe.out) / "stats.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("network", NETWORKS)
def test_what_a_run_leaves_behind(network, tmp_path, faces):
    recipe = recipe_of(network, tmp_path / "run", faces)
    path = train(recipe)
    assert path == Path(recipe.out) / "upsampler.safetensors"
    found = lines(recipe)
    assert [line["images"] for line in found] == [8, 16, 24]
    keys = {"l1", "loss_g", "psnr_held", "psnr_bicubic", "seconds", "rate"}
    assert all(keys <= set(line) and all(np.isfinite(v) for v in line.values()) for line in found)
    assert all(line["loss_g"] == line["l1"] and line["psnr_bicubic"] == found[0]["psnr_bicubic"] for line in found)
    assert sorted(p.stem for p in (tmp_path / "run" / "grids").iterdir()) == [f"{n:09d}" for n in (16, 24)]
    about = read_metadata(path)
    assert about["trained"]["images_seen"] == 24
    assert "/" not in json.dumps(about["trained"])  # nobody's folders
    model = load_upsampler(path)
    assert declared(model) == Declaration("upsampler", scale=model.scale, degradations=("bicubic",), looked_through=())
    assert type(model) is network
    assert model.config == recipe.generator


@pytest.mark.parametrize("adversary", [0.0, 0.1])
def test_interrupted_after_every_line(recipe, adversary):
    recipe = replace(recipe, adversary=adversary, adversary_start=8, discriminator=4)
    whole = replace(recipe, out=recipe.out + "-whole")
    train(whole)
    for images in (8, 16):
        train(recipe, stop_after=0.0)
        assert lines(recipe)[-1]["images"] == images
    resumed, expected = (load_file(train(r)) for r in (recipe, whole))
    assert all(torch.allclose(expected[k].float(), resumed[k].float(), atol=2e-3, rtol=2e-3) for k in expected)
    for key in ("images", "l1", "loss_g", "psnr_held"):
        assert [line[key] for line in lines(whole)] == pytest.approx([line[key] for line in lines(recipe)], rel=1e-3)
    assert ["gan" in line for line in lines(recipe)] == [False, bool(adversary), bool(adversary)]


def test_the_loss_with_an_adversary(recipe):
    recipe = replace(recipe, adversary=0.3, discriminator=4, images=8)
    train(recipe)
    (line,) = lines(recipe)
    assert line["loss_g"] == pytest.approx(line["l1"] + 0.3 * line["gan"], abs=1e-4)
    assert line["loss_d"] > 0


def test_it_learns(recipe):
    """From a start as the bicubic enlargement it is soon nearer to faces that it knows, and says so of those that it does not."""
    shape = replace(recipe.generator, enlarged=True, attention="local")
    recipe = replace(recipe, generator=shape, images=800, batch=8, log=400, snapshot=800, lr_g=5e-3, ema=0.9)
    train(recipe)
    first, last = lines(recipe)
    assert last["l1"] < first["l1"]
    assert abs(last["psnr_held"] - last["psnr_bicubic"]) > 0.001


def test_a_run_that_starts_from_another_network(recipe, tmp_path):
    """Its first line is that network's, also for photos of another size; one of another shape is refused."""
    first = train(recipe)
    for lr_size in (4, 8):
        shape = replace(recipe.generator, lr_size=lr_size)
        later = replace(
            recipe, generator=shape, init=str(first), images=4, log=4, lr_g=1e-12, out=f"{recipe.out}-{lr_size}"
        )
        weights = load_file(train(later))
        assert all(torch.allclose(weights[k], v) for k, v in load_file(first).items())
    assert read_metadata(Path(later.out) / "upsampler.safetensors")["trained"]["recipe"]["init"] == first.name
    for other in (
        recipe_of(SRCNN, tmp_path / "x", recipe.data[0]),
        replace(recipe, generator=replace(shape, width=16)),
    ):
        with pytest.raises(RecipeError, match=r"init: tiny has the shape .* make them equal"):
            train(replace(other, init=str(first), out=str(tmp_path / "y")))


def test_squares_of_faces_and_photos_lie_at_the_same_places(recipe):
    torch.manual_seed(0)
    photos = torch.rand(40, 3, 5, 5)
    faces = photos.repeat_interleave(4, 2).repeat_interleave(4, 3)
    big, small = cropped(faces, photos, 3)
    assert torch.equal(big, small.repeat_interleave(4, 2).repeat_interleave(4, 3))
    corners = [
        (x.unfold(1, 3, 1).unfold(2, 3, 1) == y[:, None, None]).all((-1, -2)).all(0)
        for x, y in zip(photos, small, strict=True)
    ]
    assert all(int(found.sum()) == 1 for found in corners)
    assert bool(torch.stack(corners).any(0).all())  # every place is drawn
    whole = [t.contiguous() for t in cropped(faces, photos, 5)]
    assert all(torch.equal(x, y) for x, y in zip(whole, (faces, photos), strict=True))
    for adversary in (0.0, 0.1):  # whose discriminator sees the squares
        shape = replace(recipe.generator, lr_size=6)
        run = replace(
            recipe, generator=shape, crop=4, adversary=adversary, discriminator=4, out=f"{recipe.out}-{adversary}"
        )
        assert load_upsampler(train(run)).config.lr_size == 6


def test_what_its_start_looked_through_may_not_judge_it_either(recipe, tmp_path):
    network = AttentionNetwork(recipe.generator, "tiny")
    save_prior(tmp_path / "start.safetensors", network, {}, looked_through=["squeezenet11-keras"])
    path = train(replace(recipe, init=str(tmp_path / "start.safetensors"), images=4, log=4))
    found = declared(load_upsampler(path))
    assert found is not None
    assert found.looked_through == ("squeezenet11-keras",)


def test_every_degradation(recipe, tmp_path):
    torch.manual_seed(0)
    save_prior(tmp_path / "style.safetensors", StyleVAE(StyleVAEConfig(16, 4, 5, 6, 1, 1), "style").eval(), {})
    found = {}
    for name, more in (
        ("bicubic", {}),
        ("area", {}),
        ("corrupt", {"corruptions": ["gaussian_noise:30"]}),
        (str(tmp_path / "style.safetensors"), {}),
        (str(tmp_path / "style.safetensors"), {"styles": recipe.data, "native": (4, 64)}),
    ):
        run = replace(recipe, images=8, degradation=name, out=f"{recipe.out}-{len(found)}", **more)
        path = train(run)
        about = read_metadata(path)["trained"]
        assert "/" not in json.dumps(about)
        assert read_declaration(path).degradations == ({"style.safetensors": "style"}.get(Path(name).name, name),)
        found[len(found)] = lines(run)[0]["psnr_bicubic"]
    assert len(set(found.values())) == 5
    assert found[2] < found[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 0}, r"images \(0\)"),
        ({"hold": 0}, r"hold \(0\)"),
        ({"native": (48, 16)}, r"native \(\[48, 16\]\) must be"),
        ({"precision": "fp8"}, "precision: 'fp8'"),
        ({"crop": 5}, "crop: photos have 4 pixels a side, not 5; 0 takes them whole"),
        ({"crop": -1}, r"crop \(-1\) must be 0 or"),
        ({"adversary": -1.0}, r"adversary \(-1\.0\)"),
        ({"adversary": 1.0, "generator": AttentionConfig(lr_size=6)}, "multiple of 16 pixels, not 24"),
    ],
)
def test_settings_that_cannot_work(recipe, change, message):
    with pytest.raises(RecipeError, match=message):
        replace(recipe, **change)


def test_more_to_hold_than_half(recipe):
    with pytest.raises(RecipeError, match=r"hold \(7\)"):
        train(replace(recipe, hold=7))


# --------------------------------------------------------------------------------------------------- shipped recipes


def test_the_papers_recipe():
    """Sections 3.2 and 4.1: 8 + 8 blocks, x4, L1, Adam 1e-4 throughout, photos of the styleVAE."""
    _, recipe = load_recipe("ssrvae-x4")
    assert recipe.generator == AttentionConfig()
    assert (recipe.images, recipe.lr_g, recipe.lr_steps, recipe.betas) == (10 * 180_000, 1e-4, (), (0.9, 0.999))
    assert (recipe.degradation, recipe.adversary) == ("style-vae", 0)


def test_the_recipes_are_all_tried():
    mine = [
        name for name in list_recipes() if recipe_summary(name)[0] in ("ssrvae", "srcnn", "edsr", "rdn", "srresnet")
    ]
    assert sorted(mine) == sorted(ONES)


@pytest.mark.parametrize("name", ONES)
def test_shipped_recipes_take_a_step(name, tmp_path, faces):
    _, recipe = load_recipe(name)
    torch.manual_seed(0)
    side = recipe.generator.lr_size
    save_prior(tmp_path / "style.safetensors", StyleVAE(StyleVAEConfig(4 * side, side, 5, 4, 1, 1), "style").eval(), {})
    learned = recipe.degradation.startswith("style-vae")
    changes = {"degradation": str(tmp_path / "style.safetensors")} if learned else {}
    changes |= {"styles": [str(faces)], "native": (16, 96)} if recipe.styles else {}
    small = replace(
        recipe,
        data=[str(faces)],
        hold=2,
        out=str(tmp_path / "run"),
        batch=2,
        images=2,
        adversary_start=0,
        init="",
        **changes,
    )
    model = load_upsampler(train(small))
    assert (model.scale, model.resolution) == (4, 4 * side)
    (line,) = lines(small)
    assert all(np.isfinite(value) for value in line.values())


@pytest.mark.parametrize("network", NETWORKS)
def test_published_sizes_can_be_trained(network, tmp_path):
    settings = NETWORKS[network][0]
    recipe = settings(out=str(tmp_path), data=[], adversary=1e-3)
    assert f"{network.architecture}: " in describe(recipe)
    with torch.device("meta"):
        g, d, *_ = build_run(recipe)
    assert type(g) is network
    assert isinstance(d, SRGANDiscriminator)
    assert build_run.__module__ == TRAINERS[network.architecture]().train.__module__
