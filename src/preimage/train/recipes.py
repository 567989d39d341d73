"""Recipes: one commented YAML per trained network, read strictly, overridable key by key; some are shipped, by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from preimage.errors import PreimageError, RecipeError
from preimage.texts import one_line, parse_yaml
from preimage.train.values import built, missing, names, shown, typed

FOLDER = Path(__file__).parents[1] / "recipes"
LARGEST = 2**20
"""Bytes of a recipe; ours have less than 4,000."""
LIST = "`preimage recipes list` names those that are shipped"


@dataclass(frozen=True)
class Trainer:
    """A kind of network that can be trained.

    Attributes:
        settings: class of its settings, a frozen dataclass.
        train: trains by them; needs `accelerate`, the rest does not.
        describe: sizes of its networks.
        replaced: keys that recipes had once, and what to write instead.
    """

    settings: type
    train: Callable[..., Path]
    describe: Callable[[Any], str]
    replaced: Mapping[str, str] = field(default_factory=dict)


def _stylegan2() -> Trainer:
    from preimage.train import stylegan2

    return Trainer(stylegan2.Recipe, stylegan2.train, stylegan2.describe)


def _flow() -> Trainer:
    from preimage.train import flow

    return Trainer(flow.Recipe, flow.train, flow.describe)


def _progan() -> Trainer:
    from preimage.train import progan

    return Trainer(progan.Recipe, progan.train, progan.describe)


def _degradation_gan() -> Trainer:
    from preimage.train import degradation_gan
    from preimage.train.degradation_gan_settings import REPLACED

    return Trainer(degradation_gan.Recipe, degradation_gan.train, degradation_gan.describe, REPLACED)


def _style_vae() -> Trainer:
    from preimage.train import style_vae

    return Trainer(style_vae.Recipe, style_vae.train, style_vae.describe)


def _side_outputs() -> Trainer:
    from preimage.train import side_outputs

    return Trainer(side_outputs.Recipe, side_outputs.train, side_outputs.describe)


def _posterior() -> Trainer:
    from preimage.train import posterior

    return Trainer(posterior.Recipe, posterior.train, posterior.describe)


def _posterior_local() -> Trainer:
    from preimage.train import posterior

    return Trainer(posterior.LocalRecipe, posterior.train, posterior.describe)


def _deepsee() -> Trainer:
    from preimage.train import deepsee

    return Trainer(deepsee.Recipe, deepsee.train, deepsee.describe)


def _upsampler(settings: str) -> Callable[[], Trainer]:
    def trainer() -> Trainer:
        from preimage.train import upsampler, upsampler_settings

        return Trainer(getattr(upsampler_settings, settings), upsampler.train, upsampler.describe)

    return trainer


def _segmenter() -> Trainer:
    from preimage.train import segmenter

    return Trainer(segmenter.Recipe, segmenter.train, segmenter.describe)


def _pro_pulse() -> Trainer:
    from preimage.train import pro_pulse

    return Trainer(pro_pulse.Recipe, pro_pulse.train, pro_pulse.describe)


TRAINERS: dict[str, Callable[[], Trainer]] = {
    "stylegan2": _stylegan2,
    "flow": _flow,
    "progan": _progan,
    "degradation-gan": _degradation_gan,
    "style-vae": _style_vae,
    "side-outputs": _side_outputs,
    "posterior": _posterior,
    "posterior-local": _posterior_local,
    "deepsee": _deepsee,
    "pro-pulse": _pro_pulse,
    "ssrvae": _upsampler("Recipe"),
    "srcnn": _upsampler("SRCNNRecipe"),
    "edsr": _upsampler("EDSRRecipe"),
    "rdn": _upsampler("RDNRecipe"),
    "srresnet": _upsampler("SRResNetRecipe"),
    "segmenter": _segmenter,
}

# ------------------------------------------------------------------------------------------------------------- files


def list_recipes() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def recipe_path(name: str | Path) -> Path:
    """The file of a recipe: a path that exists, else a shipped one by its name, with or without `.yaml`.

    Raises:
        RecipeError: neither; the message has the nearest names.
    """
    if not str(name):
        raise RecipeError(f"Which recipe? {LIST}.")
    path = Path(name)
    shipped = FOLDER / f"{str(name).removesuffix('.yaml')}.yaml"
    try:
        if path.is_file():
            return path
        if shipped.parent == FOLDER and shipped.is_file():
            return shipped
        folder, special = path.is_dir(), path.exists()
    except (OSError, ValueError) as error:  # names that no file can have
        raise _error(name, f"{one_line(error)}; {LIST}.") from None
    if folder:
        raise _error(name, "is a folder; name the YAML file of a recipe in it.")
    if special:
        raise _error(name, "is not a regular file; name the YAML file of a recipe.")
    names = list_recipes()
    near = [path.stem] if path.stem in names else difflib.get_close_matches(path.stem, names, n=2, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    raise _error(name, f"neither a file nor a shipped recipe{hint} {LIST}.")


def recipe_text(name: str | Path) -> str:
    """The text of a recipe, comments included.

    Args:
        name: as for `recipe_path`.

    Raises:
        RecipeError: as `recipe_path`; or not readable, not UTF-8, or too large.
    """
    path = recipe_path(name)
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise ValueError(f"more than {LARGEST:,} bytes")
        return data.decode()
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from None


def recipe_summary(name: str | Path) -> tuple[str, str]:
    """The network that a recipe trains, and what the first line of its comment says.

    Raises:
        RecipeError: as `recipe_text`, or no recipe.
    """
    text = recipe_text(name)
    return _parsed(name, text)["network"], text.partition("\n")[0].removeprefix("#").strip().rstrip(".")


def _parsed(name: str | Path, text: str) -> dict[str, Any]:
    """All values of a recipe, whose network is known.

    Raises:
        RecipeError: not YAML, no or an unknown `network`.
    """
    try:
        values = parse_yaml(text)
    except ValueError as error:
        raise _unreadable(name, error) from None
    if not isinstance(values, dict):
        what = "is empty" if values is None else f"holds {shown(values)}"
        raise _error(name, f"{what}; a recipe must be a mapping of settings such as `network: stylegan2`.")
    network = values.get("network")
    if not isinstance(network, str) or network not in TRAINERS:
        near = [] if "network" in values else difflib.get_close_matches("network", values, n=1)
        hint = f"; rename {near[0]!r:.60} to 'network'" if near else ""
        raise _error(name, f"network: {shown(network)}; a recipe must name one of {', '.join(TRAINERS)}{hint}.")
    return values


def _unreadable(name: str | Path, error: Exception) -> RecipeError:
    return _error(
        name, f"not a readable recipe ({one_line(error)}); `preimage recipes show NAME` prints one to start from."
    )


def _error(name: str | Path, message: str) -> RecipeError:
    """An error of one line that begins with the name of the recipe; what terminals would not print is escaped."""
    shown = str(name) if len(str(name)) < 300 else f"{str(name)[:300]}…"
    text = f"{shown}: {one_line(ValueError(message), 800)}"
    return RecipeError("".join(c if c.isprintable() else ascii(c)[1:-1] for c in text))


# ---------------------------------------------------------------------------------------------------------- settings


def read_recipe(name: str | Path) -> tuple[Trainer, dict[str, Any]]:
    """The trainer that a recipe names (`network:`), and its other keys: all known, their values of the right types.

    Args:
        name: of a file or of a shipped recipe.

    Raises:
        RecipeError: as `recipe_text`; not YAML, no or an unknown `network`, unknown keys, wrong types.
    """
    values = _parsed(name, recipe_text(name))
    trainer = TRAINERS[values.pop("network")]()
    return trainer, _typed(name, trainer, values)


def build_recipe(name: str | Path, trainer: Trainer, values: Mapping[str, Any]) -> Any:
    """The trainer's settings from nested values.

    Raises:
        RecipeError: unknown or missing keys, wrong types, contradictions; one line that names the recipe.
    """
    known = _typed(name, trainer, values)
    if lacking := missing(trainer.settings, known):
        raise _error(name, f"{', '.join(lacking)}: must be given.")
    try:
        return built(trainer.settings, known)
    except (PreimageError, ValueError, TypeError, ArithmeticError) as error:
        raise _error(name, one_line(error, 800)) from None


def load_recipe(name: str | Path) -> tuple[Trainer, Any]:
    """Read a recipe, by its path or shipped name, and build its settings.

    Raises:
        RecipeError: as `read_recipe` and `build_recipe`.
    """
    trainer, values = read_recipe(name)
    return trainer, build_recipe(name, trainer, values)


def check_overrides(name: str | Path, trainer: Trainer, argv: Sequence[str], others: Sequence[str] = ()) -> None:
    """Refuse options of a command line that are no settings of the recipe.

    Args:
        name: of the recipe, for the message.
        trainer: of the recipe.
        argv: words; those that begin with `--` name a setting, with dots where it is nested.
        others: options that are the command's own.

    Raises:
        RecipeError: the first that is unknown, with the nearest setting.
    """
    known = names(trainer.settings)
    for word in argv:
        key = word[2:].partition("=")[0]
        if not word.startswith("--") or not key or key in (*known, *others):
            continue
        if key in trainer.replaced:
            raise _error(name, f"--{key}: {trainer.replaced[key]}")
        near = difflib.get_close_matches(key, [*known, *others], n=1)
        raise _error(
            name, f"--{key:.60}: no such setting; " + (f"did you mean --{near[0]}?" if near else "see --dry-run.")
        )


def _typed(name: str | Path, trainer: Trainer, values: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return typed(trainer.settings, values, trainer.replaced)
    except ValueError as error:
        raise _error(name, str(error)) from None
