"""Training a segmenter, tiny: what a run leaves, runs that go on, that it learns, shipped recipes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

from preimage.declaration import Declaration, declared
from preimage.errors import RecipeError
from preimage.nets.segmenter import Segmenter, SegmenterConfig, brought_to
from preimage.train.recipes import list_recipes, load_recipe, recipe_summary
from preimage.train.segmenter import describe, photographed, photographers, soft_dice, train, weights_of
from preimage.train.segmenter_settings import Recipe
from preimage.weight_files import read_metadata
from preimage.weights import load_network

SHAPE = SegmenterConfig(
    16, stem=(6, 6, 8), widths=(8,) * 4, blocks=(1,) * 4, pyramid=8, rates=(1, 1, 2), low=4, decoder=12
)
NAMES = ["segmenter-16", "segmenter-32", "segmenter-deepsee", "segmenter-faces128", "segmenter-hr"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Twelve pairs of 16 px: a bright square is hair, the rest background."""
    folder, rng = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir()
    for i in range(12):
        labels = np.zeros((16, 16), np.uint8)
        top, left = rng.integers(1, 7, 2)
        labels[top : top + 8, left : left + 8] = 13
        face = np.where(labels[..., None] == 13, 200, 50) + rng.integers(-20, 20, (16, 16, 3))
        Image.fromarray(face.astype(np.uint8)).save(folder / "images" / f"{i}.png")
        Image.fromarray(labels).save(folder / "masks" / f"{i}.png")
    return folder


@pytest.fixture
def recipe(tmp_path, folder) -> Recipe:
    return Recipe(
        out=str(tmp_path / "run"), data=[str(folder)], hold=3, generator=SHAPE, sizes=(4, 8, 16), images=24, batch=4,
        ema=0.5, snapshot=16, log=8, name="tiny",
    )  # fmt: skip


def lines(recipe: Recipe) -> list[dict[str, float]]:
    return [json.loads(line) for line in (Path(recipe.out) / "stats.jsonl").read_text().splitlines()]


def test_what_a_run_leaves_behind(recipe):
    path = train(recipe)
    assert path == Path(recipe.out) / "segmenter.safetensors"
    found = lines(recipe)
    assert [line["images"] for line in found] == [8, 16, 24]
    keys = {"entropy", "dice", "loss", *(f"{key}_{side}" for key in ("miou", "accuracy") for side in (4, 8, 16))}
    assert all(keys <= set(line) and all(np.isfinite(v) for v in line.values()) for line in found)
    assert sorted(p.stem for p in (Path(recipe.out) / "grids").iterdir()) == [f"{n:09d}" for n in (16, 24)]
    about = read_metadata(path)
    assert about["trained"]["images_seen"] == 24
    assert "/" not in json.dumps(about["trained"])  # nobody's folders
    model = load_network(path, "segmenter")
    assert declared(model) == Declaration("segmenter", hr_size=16, degradations=("bicubic",), looked_through=())
    assert model.config == SHAPE


def test_interrupted_after_every_line(recipe):
    whole = replace(recipe, out=recipe.out + "-whole")
    train(whole)
    for images in (8, 16):
        train(recipe, stop_after=0.0)
        assert lines(recipe)[-1]["images"] == images
    resumed, expected = (load_file(train(r)) for r in (recipe, whole))
    assert all(torch.allclose(expected[k].float(), resumed[k].float(), atol=2e-3, rtol=2e-3) for k in expected)
    assert [line["loss"] for line in lines(whole)] == pytest.approx([line["loss"] for line in lines(recipe)], rel=1e-3)


def test_it_learns(recipe):
    train(replace(recipe, images=800, batch=8, log=400, snapshot=800, lr=1e-2, ema=0.9, sizes=(8, 16)))
    first, last = lines(recipe)
    assert last["loss"] < first["loss"]
    assert last["miou_16"] > 0.8
    assert last["miou_8"] > 0.6


def test_a_run_that_starts_from_another_network(recipe):
    first = train(recipe)
    later = replace(recipe, init=str(first), images=4, log=4, lr=1e-12, out=f"{recipe.out}-2")
    weights = load_file(train(later))
    assert all(
        torch.allclose(weights[k], v)
        for k, v in load_file(first).items()
        if not k.split(".")[-1].startswith(("run", "num"))
    )
    assert read_metadata(Path(later.out) / "segmenter.safetensors")["trained"]["recipe"]["init"] == first.name
    with pytest.raises(RecipeError, match="has another shape"):
        train(replace(later, generator=replace(SHAPE, decoder=5), out=f"{recipe.out}-3"))


def test_each_photo_has_one_of_the_sizes(recipe):
    take = photographers(recipe)
    faces = torch.rand(64, 3, 16, 16)
    made = photographed(faces, take)
    candidates = torch.stack([brought_to(take[side](faces), 16) for side in recipe.sizes])
    which = (candidates - made).abs().amax((2, 3, 4)) < 1e-6
    assert bool(which.any(0).all())
    assert bool(which.any(1).all())


def test_rare_labels_weigh_more():
    masks = np.zeros((1, 4, 4), np.uint8)
    masks[0, 0, 0] = 2
    weights = weights_of(masks, 0.5)
    assert weights[2] / weights[0] == pytest.approx(15**0.5)
    assert (weights[0] * 15 + weights[2]) / 16 == pytest.approx(1.0)
    assert weights_of(masks, 0.0).tolist() == pytest.approx([1.0] * 19)


def test_dice_in_closed_form():
    labels = torch.tensor([[[0, 0], [1, 1]]])
    sure = F.one_hot(labels, 19).permute(0, 3, 1, 2).float() * 50
    assert soft_dice(sure, labels).item() == pytest.approx(0.0, abs=1e-6)
    half = sure.clone()
    half[..., 1, 1] = 0
    half[:, 0, 1, 1] = 50  # one pixel of label 1 is taken for 0: Dice 4/5 and 2/3
    assert soft_dice(half, labels).item() == pytest.approx(1 - (4 / 5 + 2 / 3) / 2, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 0}, r"images \(0\)"),
        ({"sizes": (8, 32)}, r"sizes \(\[8, 32\]\) must be sides of photos up to generator\.hr_size \(16\)"),
        ({"sizes": ()}, "sizes"),
        ({"balance": 2.0}, r"balance \(2\.0\)"),
        ({"precision": "fp8"}, "precision: 'fp8'"),
        ({"generator": replace(SHAPE, labels=4)}, r"generator\.labels \(4\) must be 19"),
    ],
)
def test_settings_that_cannot_work(recipe, change, message):
    with pytest.raises(RecipeError, match=message):
        replace(recipe, **change)


# --------------------------------------------------------------------------------------------------- shipped recipes


def test_the_recipes_are_all_tried():
    assert [name for name in list_recipes() if recipe_summary(name)[0] == "segmenter"] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_shipped_recipes_take_a_step(name, tmp_path, folder):
    _, recipe = load_recipe(name)
    assert "parameters" in describe(recipe)
    shape, sizes = recipe.generator, recipe.sizes
    if name == "segmenter-deepsee":  # its shape, narrow
        shape = replace(
            shape,
            hr_size=64,
            stem=(4, 4, 4),
            widths=(4,) * 4,
            blocks=(1,) * 4,
            smooth=(4, 4),
            pyramid=4,
            low=4,
            decoder=4,
        )
        sizes = (16, 64)
    small = replace(
        recipe, data=[str(folder)], hold=2, out=str(tmp_path), batch=2, images=2, generator=shape, sizes=sizes, init=""
    )
    model = load_network(train(small), "segmenter")
    assert isinstance(model, Segmenter)
    assert model(torch.rand(1, 3, 16, 16)).shape[-1] == shape.hr_size
    assert all(np.isfinite(value) for value in lines(small)[0].values())
