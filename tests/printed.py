"""What a page prints is what runs: its `preimage` commands and its Python, in the order they stand there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from preimage.cli import main

ROOT = Path(__file__).parents[1]


def blocks(page: Path) -> list[tuple[str, str]]:
    """Kind ("bash" or "python") and text of each block of a page."""
    return re.findall(r"```(bash|python)\n(.*?)```", page.read_text(), re.S)


def commands(block: str) -> list[str]:
    """Its lines without what is said about them."""
    lines = [line.split("  #")[0].strip() for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def run_command(command: str, page: str) -> None:
    """A command of the package, in this process."""
    words = shlex.split(command)
    assert words[0] == "preimage", f"{page} prints a command that no test runs: {command}"
    assert main(words[1:]) == 0, f"{page}: {command}"


def run_snippet(block: str, page: str, names: dict[str, object]) -> None:
    """Python, in the names that the page's snippets share."""
    exec(compile(block, page, "exec"), names)
