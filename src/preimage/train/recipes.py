"""Recipes: one commented YAML per trained network, read strictly, overridable key by key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from preimage.errors import RecipeError


@dataclass(frozen=True)
class Trainer:
    """A kind of network that can be trained: the class of its settings, and the function that trains."""

    settings: type
    train: Callable[..., Path]
    describe: Callable[[Any], str]


def _stylegan2() -> Trainer:
    from preimage.train import stylegan2

    return Trainer(stylegan2.Recipe, stylegan2.train, stylegan2.describe)


def _progan() -> Trainer:
    from preimage.train import progan

    return Trainer(progan.Recipe, progan.train, progan.describe)


def _degradation_gan() -> Trainer:
    from preimage.train import degradation_gan

    return Trainer(degradation_gan.Recipe, degradation_gan.train, degradation_gan.describe)


TRAINERS: dict[str, Callable[[], Trainer]] = {
    "stylegan2": _stylegan2,
    "progan": _progan,
    "degradation-gan": _degradation_gan,
}


def read_recipe(path: str | Path) -> tuple[Trainer, dict[str, Any]]:
    """The trainer that a recipe names (`network:`), and its other keys.

    Raises:
        RecipeError: not a file, not YAML, no or an unknown `network`.
    """
    try:
        values = yaml.safe_load(Path(path).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(
            f"{path}: not a readable recipe ({error}). Give a YAML file such as recipes/prior-faces64.yaml."
        ) from None
    named = values.get("network") if isinstance(values, dict) else None
    if not isinstance(named, str) or named not in TRAINERS:
        raise RecipeError(f"{path}: network: {named!r}; a recipe must name one of {', '.join(TRAINERS)}.")
    trainer = TRAINERS[named]()
    return trainer, {k: v for k, v in values.items() if k != "network"}


def recipe_parser(trainer: Trainer, parser: ArgumentParser | None = None) -> ArgumentParser:
    """A parser with one option per key of the trainer's settings."""
    parser = parser or ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(trainer.settings, as_group=False)
    return parser


def build_recipe(path: str | Path, trainer: Trainer, values: dict[str, Any]) -> Any:
    """The trainer's settings from nested values.

    Raises:
        RecipeError: unknown keys, wrong types, contradictions; the message names the recipe.
    """
    parser = recipe_parser(trainer)
    try:
        built = parser.instantiate(parser.parse_object(values))
        return trainer.settings(**vars(built))
    except (ArgumentError, TypeError, KeyError, ValueError) as error:
        raise RecipeError(f"{path}: {error}") from None


def load_recipe(path: str | Path) -> tuple[Trainer, Any]:
    """Read a recipe and build its settings.

    Raises:
        RecipeError: as `read_recipe` and `build_recipe`.
    """
    trainer, values = read_recipe(path)
    return trainer, build_recipe(path, trainer, values)
