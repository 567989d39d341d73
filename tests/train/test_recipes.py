"""Recipes: every one that is shipped parses, and a mistake is named together with its file, in one line."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from preimage.cli import main
from preimage.errors import RecipeError
from preimage.train.recipes import (
    FOLDER,
    LARGEST,
    TRAINERS,
    build_recipe,
    list_recipes,
    load_recipe,
    recipe_path,
    recipe_text,
)
from preimage.weights import weight_table

GOOD = {"network": "stylegan2", "out": "runs/x", "data": ["faces"], "batch": 4, "snapshot": 8, "log": 8}
DEGRADATION = {
    "network": "degradation-gan", "out": "runs/x", "data": ["faces"], "real": ["small"], "delta": 0.0, "batch": 4,
}  # fmt: skip
PROGAN = {"network": "progan", "out": "runs/x", "data": ["faces"]}


@pytest.fixture
def write(tmp_path):
    def write(content: object) -> Path:
        path = tmp_path / "mine.yaml"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return path

    return write


def refused(path: Path, message: str, name: str = "mine.yaml: ") -> None:
    """In Python and on the command line: one line that names the file."""
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def refused_by_the_command(words: list[str], message: str, capsys) -> None:
    assert main(["train", *words]) == 1
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert told.startswith("preimage: ")


# ----------------------------------------------------------------------------------------------------------- shipped


@pytest.mark.parametrize("name", list_recipes())
def test_shipped_recipes_parse(name, capsys):
    trainer, recipe = load_recipe(name)
    assert isinstance(recipe, trainer.settings)
    text = recipe_text(name)
    assert yaml.safe_load(text)["network"] in TRAINERS
    assert "parameters" in trainer.describe(recipe)
    assert text.startswith("# ")  # says what it trains
    first = text.partition("\n")[0]
    assert first.endswith((".", "cores."))
    assert f"preimage train {name}\n" in text
    assert load_recipe(FOLDER / f"{name}.yaml")[1] == load_recipe(f"{name}.yaml")[1] == recipe
    assert main(["recipes", "show", name]) == 0
    assert capsys.readouterr().out == text


def test_the_list_says_what_each_recipe_trains(capsys):
    assert len(list_recipes()) >= 8
    assert main(["recipes", "list"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == list_recipes()
    assert all(row.split()[1] in TRAINERS and len(row.split()) > 5 for row in rows)


def test_embedded_weights_name_the_recipe_that_trained_them():
    named = {entry.name: entry.recipe for entry in weight_table().values() if entry.kind in ("prior", "degradation")}
    assert named
    assert set(named.values()) <= set(list_recipes())


def test_a_path_that_exists_wins(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    assert recipe_path("prior-faces64").parent == recipe_path("prior-faces64.yaml").parent == FOLDER
    mine = write(GOOD)
    mine.rename(tmp_path / "prior-faces64.yaml")
    assert load_recipe("prior-faces64.yaml")[1].out == "runs/x"
    (tmp_path / "prior-faces64").mkdir()  # a folder is no recipe
    assert recipe_path("prior-faces64").parent == FOLDER


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("prior-face64", "did you mean prior-faces64"),
        ("prior-faces64.yml", r"did you mean prior-faces64\?"),
        ("recipes/prior-faces64.yaml", r"did you mean prior-faces64\?"),
        ("gone.yaml", r"^gone\.yaml: neither a file nor a shipped recipe.*preimage recipes list"),
        ("../recipes/prior-faces64", "neither a file nor a shipped recipe"),
        ("", "Which recipe"),
        ("a\nb", r"^a\\nb: neither"),
        ("a\0b", r"^a\\x00b: neither"),
        ("x" * 5000, "too long"),
    ],
)
def test_unknown_names_get_the_nearest(tmp_path, monkeypatch, capsys, name, message):
    monkeypatch.chdir(tmp_path)
    refused(name, message, name="preimage recipes list")
    for words in (["recipes", "show", name], ["train", name, "--dry-run"]):
        assert main(words) == 1
        assert capsys.readouterr().err.count("\n") == 1


def test_training_by_name_shows_what_it_would_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words in (["prior-faces64"], ["--images", "64", "--betas=[0.1, 0.9]", "--dry-run", "prior-faces64.yaml"]):
        assert main(["train", *words, *([] if "--dry-run" in words else ["--dry-run"])]) == 0
        text, _, sizes = capsys.readouterr().out.partition("mapping:")
        values = yaml.safe_load(text)
        assert "parameters" in sizes
        assert values["images"] == (1_000_000 if len(words) == 1 else 64)
        assert build_recipe("x", TRAINERS["stylegan2"](), values).name == "faces64"
    assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------------------------------------------------- mistakes


def test_values_reach_the_settings(write):
    _, recipe = load_recipe(
        write({**GOOD, "generator": {"resolution": 16}, "discriminator": {"kind": "projected"}, "betas": [0.5, 0.9]})
    )
    assert (recipe.batch, recipe.data, recipe.generator.resolution) == (4, ["faces"], 16)
    assert recipe.generator.w_dim == 512  # what is not named keeps its default
    assert recipe.discriminator.kind == "projected"
    assert recipe.betas == (0.5, 0.9)


def test_what_yaml_reads_otherwise_than_it_looks(write):
    text = yaml.safe_dump(GOOD) + "lr_g: 1e-3\nlr_d: 1\nname: 2020-01-01\nlr_steps: [[8, 1e-4, 0]]\n"
    _, recipe = load_recipe(write(text))
    assert (recipe.lr_g, recipe.lr_d, recipe.name, recipe.lr_steps) == (1e-3, 1.0, "2020-01-01", ((8, 1e-4, 0.0),))
    assert type(recipe.lr_d) is float


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"speed": 1}, r"speed: no such setting; did you mean seed\?"),
        ({"xyzzy": 1}, r"xyzzy: no such setting; there are out, data, generator, "),
        ({"\x1b[31mred": 1}, r"\\x1b\[31mred: no such setting"),
        ({"bach": 4}, r"bach: no such setting; did you mean batch\?"),
        ({"generator": {"channel_bas": 64}}, r"generator\.channel_bas: .*did you mean generator\.channel_base\?"),
        ({"channel_base": 64}, r"channel_base: .*did you mean (generator|discriminator)\.channel_base\?"),
        ({"discriminator": {"knid": "projected"}}, r"discriminator\.knid: .*did you mean discriminator\.kind\?"),
        ({"batch": "many"}, "batch: 'many' is not an integer"),
        ({"batch": 2.5}, r"batch: 2\.5 is not an integer"),
        ({"batch": True}, "batch: True is not an integer"),
        ({"batch": 2**70}, "batch: 1180591620717411303424 is not an integer"),
        ({"lr_g": True}, "lr_g: True is not a finite number"),
        ({"lr_g": "fast"}, "lr_g: 'fast' is not a finite number"),
        ({"lr_g": float("nan")}, "lr_g: nan is not a finite number"),
        ({"betas": [0.0, float("inf")]}, r"betas\[1\]: inf is not a finite number"),
        ({"betas": [0.0]}, r"betas: \[0\.0\] must have 2 entries"),
        ({"lr_steps": [8, 1e-4, 1e-4]}, r"lr_steps\[0\]: 8 is not a list"),
        ({"compile": "maybe"}, "compile: 'maybe' is not true or false"),
        ({"data": "faces"}, "data: 'faces' is not a list"),
        ({"data": [1]}, r"data\[0\]: 1 is not a text"),
        ({"name": 64}, "name: 64 is not a text; put it in quotes"),
        ({"out": None}, "out: None is not a text"),
        ({"generator": [64]}, r"generator: \[64\] is not a mapping of settings"),
        ({"generator": None}, "generator: None is not a mapping"),
        ({"augment": {"colour": 1}}, "augment: .* is not a list"),
        ({"generator": {"resolution": 65}}, "generator: .*power of two"),
        ({"discriminator": {"kind": "oracle"}}, r"discriminator\.kind: 'oracle' is not one of stylegan2, projected"),
        ({"discriminator": {"loss": "l2"}}, r"discriminator\.loss"),
        ({"precision": "fp8"}, r"precision: 'fp8'"),
        ({"augment": ["warp\nspeed"]}, r"augment: 'warp\\nspeed' is not one of colour, translation, cutout"),
        ({"batch": 3}, "multiples of batch"),
        ({"images": -5}, r"images \(-5\) must be at least 1"),
        ({"generator": {"channel_max": -1}}, r"generator: .*channel_max \(-1\) must be"),
    ],
)
def test_mistakes_name_the_file(write, capsys, change, message):
    refused(write({**GOOD, **change}), message)
    assert main(["train", str(write({**GOOD, **change})), "--dry-run"]) == 1
    told = capsys.readouterr().err
    assert "mine.yaml: " in told
    assert told.count("\n") == 1


def test_a_mistake_on_the_command_line_names_the_recipe(write, capsys):
    path = str(write(GOOD))
    refused_by_the_command([path, "--images", "-5", "--dry-run"], "mine.yaml: images (-5)", capsys)
    refused_by_the_command(["--batch=0", path, "--dry-run"], "mine.yaml: batch (0)", capsys)
    assert main(["train", path, "--batch", "8", "--dry-run"]) == 0
    # what the file lacks or contradicts, the command line can mend
    path = str(write({**{k: v for k, v in GOOD.items() if k != "out"}, "batch": 3}))
    assert main(["train", path, "--out", "runs/y", "--batch", "4", "--dry-run"]) == 0
    assert "out: runs/y" in capsys.readouterr().out


@pytest.mark.parametrize("key", ["out", "data"])
def test_what_must_be_given(write, key):
    refused(write({k: v for k, v in GOOD.items() if k != key}), rf"mine\.yaml: {key}: must be given")


@pytest.mark.parametrize(
    ("recipe", "change", "message"),
    [
        (DEGRADATION, {"iterations": 8000}, "iterations: durations count pictures: write `images`"),
        (DEGRADATION, {"critic_step": 1}, r"critic_step: .*did you mean critic_steps\?"),
        (DEGRADATION, {"images": -5}, r"images \(-5\)"),
        (DEGRADATION, {"warmup": -1}, r"warmup \(-1\)"),
        (DEGRADATION, {"generator": {"down": [3, 0]}}, "generator: "),
        (DEGRADATION, {"discriminator": {"widths": [8]}}, "two blocks"),
        (PROGAN, {"images": [-5, 1, 1, 1, 1]}, r"images: \[-5, 1, 1, 1, 1\]"),
        (PROGAN, {"extra": -1}, r"extra \(-1\)"),
        (PROGAN, {"generator": {"resolution": 2**40}}, "generator: .*power of two"),
    ],
)
def test_mistakes_in_the_other_networks_recipes(write, recipe, change, message):
    refused(write({**recipe, **change}), message)


def test_every_number_of_every_recipe_has_bounds(write):
    """A number far below zero is refused wherever it stands, but for the places that the seed of a run may start at."""
    for base in (GOOD, DEGRADATION, PROGAN):
        _, recipe = load_recipe(write(base))
        for key, value in asdict(recipe).items():
            parts = {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
            for place, old in parts.items():
                numbers = isinstance(old, tuple) and old and all(isinstance(v, int | float) for v in old)
                if isinstance(old, bool) or not (numbers or isinstance(old, int | float)):
                    continue
                wrong = [-7] * len(old) if numbers else -7
                outer, _, inner = place.partition(".")
                refused(write({**base, outer: {inner: wrong} if inner else wrong}), "mine")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({**GOOD, "network": "stylegan9"}, "network: 'stylegan9'; a recipe must name one of stylegan2"),
        ({k: v for k, v in GOOD.items() if k != "network"}, "network: None"),
        ({("netwrok" if k == "network" else k): v for k, v in GOOD.items()}, "rename 'netwrok' to 'network'"),
        ({**GOOD, "network": ["stylegan2"]}, "a recipe must name one of"),
        ("just text", "holds 'just text'; a recipe must be a mapping"),
        ("- network: stylegan2", "a recipe must be a mapping"),
        ("", "is empty; a recipe must be a mapping"),
        ("a: [1", "not a readable recipe"),
        ("!!python/object/apply:os.getcwd []", "not a readable recipe"),
        ("network: !!int foo", "not a readable recipe"),
        (yaml.safe_dump(GOOD) + "images: !!timestamp foo", "not a readable recipe"),
        (yaml.safe_dump(GOOD) + "images: 2020-99-99", "images: '2020-99-99' is not an integer"),
        (yaml.safe_dump(GOOD) + "1: 2", "a key that is no text"),
        (yaml.safe_dump(GOOD) + "? [a, b]\n: 2", "not a readable recipe"),
        (yaml.safe_dump(GOOD) + "batch: 8", "'batch' stands twice"),
        (yaml.safe_dump(GOOD) + "generator: {z_dim: 8, z_dim: 9}", "'z_dim' stands twice"),
        (yaml.safe_dump(GOOD) + "init: " + "[" * 3000 + "]" * 3000, "not a readable recipe"),
        (yaml.safe_dump(GOOD) + f"images: 0x{'f' * 5000}", "images: a number of thousands of digits is not an integer"),
        (yaml.safe_dump(GOOD) + f"images: {'9' * 5000}", "not a readable recipe"),
        (yaml.safe_dump(GOOD) + "lr_g: .nan", "lr_g: nan is not a finite number"),
        (yaml.safe_dump(GOOD) + "lr_g: -.inf", "lr_g: -inf is not a finite number"),
        (yaml.safe_dump(GOOD) + f"lr_g: 1{'0' * 400}", "lr_g: 1000.* is not a finite number"),
        (yaml.safe_dump(GOOD).encode() + b"name: \xff\xfe", "not a readable recipe .*utf-8"),
        (b"\0\1\2", "not a readable recipe"),
        (b"#" * (LARGEST + 1), "more than 1,048,576 bytes"),
    ],
)
def test_files_that_are_no_recipes(write, content, message):
    refused(write(content), message)


def test_folders_and_files_that_cannot_be_read(tmp_path, write):
    refused(tmp_path, "is a folder; name the YAML file", name=str(tmp_path))
    refused(tmp_path / "gone.yaml", "neither a file nor a shipped recipe", name="gone.yaml: ")
    if os.geteuid():  # the superuser reads everything
        path = write(GOOD)
        path.chmod(0)
        refused(path, "not a readable recipe")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    ),
    st.sampled_from(["network", "out", "batch", "betas", "lr_steps", "generator", "discriminator", "compile", "data"]),
)
def test_any_value_anywhere_is_taken_or_refused_in_one_line(tmp_path_factory, value, key):
    path = tmp_path_factory.getbasetemp() / "mine.yaml"
    path.write_text(yaml.safe_dump({**GOOD, key: value}), encoding="utf-8")
    told = ""
    try:
        load_recipe(path)
    except RecipeError as error:
        told = str(error)
    assert not told or ("mine.yaml: " in told and "\n" not in told)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--imges", "5"], "--imges: no such setting; did you mean --images?"),
        (["--generator.resolutoin=32"], "did you mean --generator.resolution?"),
        (["--resumee", "never"], "did you mean --resume?"),
    ],
)
def test_a_typing_error_on_the_command_line_is_one_line(capsys, words, told):
    from preimage.cli import main

    assert main(["train", "prior-faces64", *words, "--dry-run"]) == 1
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1


def test_a_pipe_is_no_recipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RecipeError, match="is not a regular file"):
        load_recipe(tmp_path / "pipe")
