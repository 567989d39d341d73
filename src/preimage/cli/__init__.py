"""The command line: one function per command, wiring only. The same names as in Python."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence

from jsonargparse import ArgumentParser, Namespace

from preimage import __version__
from preimage.cli import figures, networks, pages, pictures
from preimage.errors import PreimageError

EXTRAS = {
    "torchmetrics": "measure",
    "jinja2": "measure",
    "matplotlib": "measure",
    "accelerate": "train",
    "onnxruntime": "faces",
    "gradio": "app",
}
"""Packages that only some commands need, and the extra that installs them."""
INTERRUPTED = "stopped. What was written stays; the same command goes on from here."

Options = Callable[[ArgumentParser, Sequence[str]], None]
COMMANDS: dict[str, tuple[str, Options, Callable[[Namespace], int]]] = {
    "upsample": ("Imagine many sharp faces behind each small picture.", pictures.upsample_options, pictures.upsample),
    "explore": (
        "Open a page: drop a photo, look at many candidates, steer them.",
        pages.explore_options,
        pages.explore,
    ),
    "degrade": (
        "Make small, and if wanted damaged, pictures of sharp ones.",
        pictures.degrade_options,
        pictures.degrade,
    ),
    "verify": ("Prove a folder of results from its files alone.", pictures.verify_options, pictures.verify),
    "evaluate": ("Say how good a folder of candidates is.", figures.evaluate_options, figures.evaluate),
    "bench": ("Run methods side by side and measure them.", figures.bench_options, figures.bench),
    "train": ("Train a network by its recipe, or continue the run.", networks.train_options, networks.train),
    "recipes": ("List or show the shipped recipes.", networks.recipes_options, networks.recipes),
    "directions": (
        "Find directions in the latents of a prior, along which faces can be edited.",
        networks.directions_options,
        networks.directions,
    ),
    "sample": ("Draw what a prior imagines without any photo.", pictures.sample_options, pictures.sample),
    "models": (
        "List or show the embedded weights, convert published networks.",
        networks.models_options,
        networks.models,
    ),
}


SHORT = ("interpolate", "tolerance", "towards", "edit", "edit-mask", "directions", "style-noise", "reference-regions")
"""Controls of a method that `upsample` takes without the prefix: `--tolerance 4` for `--method.tolerance 4`."""


def _written_out(argument: str, command: str) -> str:
    """`upsample --method pulse` names the method and `--method.steps` sets a control: to the parser, keys of one group."""
    if command == "upsample":
        found = re.match(rf"--({'|'.join(SHORT)})(?==|$)", argument)
        if found:
            argument = f"--method.{found[1].replace('-', '_')}{argument[found.end() :]}"
    return argument if command == "explore" else re.sub(r"^--method(?==|$)", "--method.name", argument)


def _joined(argv: Sequence[str], option: str) -> list[str]:
    """A command line on which an option may come several times, its values as one."""
    rest, values, words = list[str](), list[str](), iter(argv)
    for word in words:
        if word == option:
            values.append(next(words, ""))
        elif word.startswith(f"{option}="):
            values.append(word.partition("=")[2])
        else:
            rest.append(word)
    return [*rest, f"{option}={','.join(values)}"] if values else rest


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0 when all went well, 1 if anything failed, 130 if interrupted, 141 if nobody reads what it prints any more (`| head`).
        A wrong command line exits with 2.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    command = next((a for a in argv if not a.startswith("-")), "")
    if command == "upsample":
        argv = _joined(argv, "--edit")
    parser = ArgumentParser(prog="preimage", description="One blurry face in, many exact candidates out.")
    parser.add_argument("--version", action="version", version=f"preimage {__version__}")
    commands = parser.add_subcommands(required=True, dest="command")
    try:
        for name, (summary, options, _) in COMMANDS.items():
            sub = ArgumentParser(description=summary)
            if name == command:  # the others' options may need imports that this one does not
                options(sub, argv[argv.index(command) + 1 :])
            commands.add_subcommand(name, sub, help=summary)
        config = parser.parse_args([_written_out(a, command) for a in argv])
        status = COMMANDS[config.command][2](config[config.command])
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more as it ends
        return 141
    except PreimageError as error:
        print(f"preimage: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        print(
            f'preimage: `{command}` needs {package}, which is not installed; run pip install "preimage[{EXTRAS[package]}]".',
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(f"\npreimage: {INTERRUPTED}", file=sys.stderr)
        return 130
