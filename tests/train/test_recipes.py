"""Recipes: every one that is shipped parses, and a mistake is named together with its file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from preimage.errors import RecipeError
from preimage.train.recipes import TRAINERS, load_recipe, read_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
GOOD = {"network": "stylegan2", "out": "runs/x", "data": ["faces"], "batch": 4, "snapshot": 8, "log": 8}


@pytest.fixture
def write(tmp_path):
    def write(content: object) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return path

    return write


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_recipes_parse(path):
    trainer, recipe = load_recipe(path)
    assert isinstance(recipe, trainer.settings)
    assert yaml.safe_load(path.read_text())["network"] in TRAINERS
    assert "parameters" in trainer.describe(recipe)
    assert path.read_text().startswith("#")  # says what it trains


def test_values_reach_the_settings(write):
    _, recipe = load_recipe(
        write({**GOOD, "generator": {"resolution": 16}, "discriminator": {"kind": "projected"}, "betas": [0.5, 0.9]})
    )
    assert (recipe.batch, recipe.data, recipe.generator.resolution) == (4, ["faces"], 16)
    assert recipe.generator.w_dim == 512  # what is not named keeps its default
    assert recipe.discriminator.kind == "projected"
    assert tuple(recipe.betas) == (0.5, 0.9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"speed": 1}, "speed"),
        ({"generator": {"depth": 1}}, "depth"),
        ({"discriminator": {"knid": "projected"}}, "knid"),
        ({"batch": "many"}, r"(?s)batch.*int"),
        ({"batch": 2.5}, r"(?s)batch.*int"),
        ({"data": "faces"}, r"(?s)data.*list"),
        ({"generator": {"resolution": 65}}, "power of two"),
        ({"discriminator": {"kind": "oracle"}}, r"discriminator\.kind: 'oracle' is not one of stylegan2, projected"),
        ({"discriminator": {"loss": "l2"}}, r"discriminator\.loss"),
        ({"precision": "fp8"}, r"precision: 'fp8'"),
        ({"augment": ["warp"]}, "augment: warp unknown; there are colour, translation, cutout"),
        ({"batch": 3}, "multiples of batch"),
    ],
)
def test_mistakes_name_the_file(write, change, message):
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(write({**GOOD, **change}))
    assert "mine.yaml: " in str(caught.value)


@pytest.mark.parametrize("key", ["out", "data"])
def test_what_must_be_given(write, key):
    with pytest.raises(RecipeError, match=rf"mine\.yaml: .*{key}"):
        load_recipe(write({k: v for k, v in GOOD.items() if k != key}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({**GOOD, "network": "stylegan9"}, "network: 'stylegan9'; a recipe must name one of stylegan2"),
        ({k: v for k, v in GOOD.items() if k != "network"}, "network: None"),
        ({**GOOD, "network": ["stylegan2"]}, "a recipe must name one of"),
        ("just text", "a recipe must name one of"),
        ("a: [1", "not a readable recipe"),
        ("", "a recipe must name one of"),
        ("!!python/object/apply:os.getcwd []", "not a readable recipe"),
    ],
)
def test_files_that_are_no_recipes(write, content, message):
    with pytest.raises(RecipeError, match=message) as caught:
        read_recipe(write(content))
    assert "mine.yaml: " in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(RecipeError, match=r"gone\.yaml: not a readable recipe"):
        read_recipe(tmp_path / "gone.yaml")
