"""Commands that concern networks and their weights: train, recipes, models, directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from preimage.errors import WeightsError

_OWN = ("resume", "stop-after", "dry-run")  # options of the command itself


def train_options(p: ArgumentParser, argv: Sequence[str]) -> None:
    p.add_argument(
        "recipe",
        help="a shipped recipe (`preimage recipes list`) or a YAML file; any of its keys can be overridden",
    )
    p.add_argument("--resume", default="auto", help="auto: continue the run in `out`; never: insist on a new one")
    p.add_argument("--stop-after", type=float | None, default=None, help="seconds after which to save and stop")
    p.add_argument("--dry-run", action="store_true", help="print the recipe and the sizes of its networks, then stop")
    recipe = _recipe_of(argv)
    if recipe is not None:
        from preimage.train.recipes import check_overrides, read_recipe

        trainer, values = read_recipe(recipe)
        p.add_class_arguments(trainer.settings, as_group=False)
        p.set_defaults(_flat(values))
        check_overrides(recipe, trainer, argv, (*_OWN, "help"))


def _recipe_of(argv: Sequence[str]) -> str | None:
    """The recipe of a command line whose options only the recipe knows: every option but the flags has a value."""
    rest = iter(argv)
    for word in rest:
        if not word.startswith("-"):
            return word
        if "=" not in word and word not in ("-h", "--help", "--dry-run"):
            next(rest, None)
    return None


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def train(options: Namespace) -> int:
    """Train a network by its recipe, or go on where the run stopped."""
    from preimage.train.recipes import build_recipe, read_recipe

    given = options.as_dict()
    name, resume, stop_after, dry = (given.pop(k) for k in ("recipe", "resume", "stop_after", "dry_run"))
    trainer, _ = read_recipe(name)
    recipe = build_recipe(name, trainer, given)
    if dry:
        from preimage.files import to_yaml

        print(to_yaml(asdict(recipe)) + trainer.describe(recipe))
        return 0
    print(f"exported {trainer.train(recipe, resume=resume, stop_after=stop_after)}")
    return 0


def recipes_options(p: ArgumentParser, argv: Sequence[str]) -> None:
    p.add_argument("action", choices=["list", "show"], help="list the shipped recipes, or print one")
    p.add_argument("name", nargs="?", default="", help="show: which one, by its name or the path of a YAML file")


def recipes(options: Namespace) -> int:
    """What can be trained."""
    from preimage.train.recipes import list_recipes, recipe_summary, recipe_text

    if options.action == "show":
        print(recipe_text(options.name), end="")
        return 0
    for name in list_recipes():
        network, summary = recipe_summary(name)
        print(f"{name:22} {network:15} {summary}")
    return 0


def models_options(p: ArgumentParser, argv: Sequence[str]) -> None:
    p.add_argument(
        "action",
        choices=["list", "show", "convert"],
        help="list the embedded weights, show one file or entry, or convert a published network",
    )
    p.add_argument(
        "file", nargs="?", default="", help="show: a name or safetensors file; convert: a .pkl, .pt or .pth file"
    )
    p.add_argument(
        "-o",
        "--output",
        type=str | None,
        default=None,
        help="convert: the safetensors file; default: for a network that measures, where it is looked for; for a prior, "
        "beside the file",
    )
    p.add_argument("--licence", type=str | None, default=None, help="convert: of a prior's weights, as you confirm it")
    p.add_argument("--name", type=str | None, default=None, help="convert: of a prior, for provenance")
    p.add_argument(
        "--mapping", type=str | None, default=None, help="convert: the second file of a StyleGAN published as two"
    )
    p.add_argument(
        "--precision", choices=["fp16", "fp32"], default="fp16", help="convert: how a prior's numbers are stored"
    )
    p.add_argument(
        "--lr-mlp",
        type=float | None,
        default=None,
        help="convert: learning rate that the mapping network of rosinality's StyleGAN2, or of a decoder of pSp, e4e or "
        "ReStyle, was trained with, relative to the rest; such files do not say it, and 0.01 is assumed",
    )


def models(options: Namespace) -> int:
    """What weights there are, and what they are."""
    from preimage.weights import describe_weights, weight_table

    if options.action in ("show", "convert") and not options.file:
        raise WeightsError(
            f"models {options.action}: no file is named; give one, such as models {options.action} FILE."
        )
    if options.action == "show":
        print(describe_weights(options.file))
        return 0
    if options.action == "convert":
        print(_convert(options))
        return 0
    for entry in weight_table().values():
        print(f"{entry.name:22} {entry.kind:11} {entry.licence:13} {entry.description}")
    return 0


def _convert(options: Namespace) -> str:
    from preimage.measure.convert import convert, measures
    from preimage.port.convert import UNCONFIRMED, convert_prior
    from preimage.port.pickles import read_checkpoint
    from preimage.weights import describe_weights

    checkpoint = read_checkpoint(options.file)
    if options.mapping is None and options.lr_mlp is None and measures(checkpoint):
        return str(convert(checkpoint.path, options.output, checkpoint))
    out = options.output or checkpoint.path.with_suffix(".safetensors")
    written = convert_prior(
        checkpoint.path,
        out,
        options.name,
        options.licence or UNCONFIRMED,
        checkpoint,
        half=options.precision == "fp16",
        mapping=options.mapping,
        lr_mlp=options.lr_mlp,
    )
    return describe_weights(str(written))


def directions_options(p: ArgumentParser, argv: Sequence[str]) -> None:
    p.add_argument("prior", help="name, path or hf-hub:owner/repo of the prior that they are of")
    p.add_argument("-o", "--output", required=True, help="the safetensors file")
    p.add_argument(
        "--method",
        default="sefa,ganspace",
        help="one or several of sefa, ganspace (both without labels), labels (needs --data), smile (needs --landmarks)",
    )
    p.add_argument("--count", type=int, default=5, help="how many each of sefa and ganspace find")
    p.add_argument(
        "--rows", type=str | None, default=None, help="rows of the latents that are moved, such as 0-5; default: all"
    )
    p.add_argument("--samples", type=int, default=4000, help="pictures or latents of the prior that are looked at")
    p.add_argument("--seed", type=int, default=0, help="the first of their seeds")
    p.add_argument(
        "--data",
        type=list[str],
        default=[],
        help="labels: folders or archives with an index.csv, such as [a.zip,b.zip]",
    )
    p.add_argument(
        "--attributes",
        type=list[str],
        default=["age", "gender=male:female"],
        help="labels: words of its column `group`: age (of age27, a number), male (or not), name=word:other word",
    )
    p.add_argument(
        "--hold",
        type=list[str],
        default=[],
        help="labels: further attributes that no edit is to change, which the data mix up with others, such as [origin=asian:caucasian]",
    )
    p.add_argument("--faces", type=int, default=4000, help="labels: how many pictures of the data are looked at")
    p.add_argument(
        "--features",
        default="efficientnet-lite0",
        help="labels: what looks at them: a network by name (extra train), or mobilefacenet or a file as in evaluate",
    )
    p.add_argument("--landmarks", type=str | None, default=None, help="smile: landmarks68-slim160.onnx (extra faces)")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")


def directions(options: Namespace) -> int:
    """Find directions and write their file."""
    from preimage.train.directions import find_directions

    given = options.as_dict()
    given["methods"] = given.pop("method").split(",")
    found = find_directions(given.pop("prior"), given.pop("output"), **given)
    for line in found.lines:
        print(line)
    print(f"{len(found.directions.names)} directions written to {options.output}.")
    return 0
