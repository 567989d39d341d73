"""A method's settings as data that an interface draws: kind, range and help of each, from the dataclass and its docstring."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from inspect import getdoc
from typing import Any, Literal

from preimage.invert.settings import Settings

Kind = Literal["number", "whole", "switch", "choice", "several", "numbers", "text", "file"]


@dataclass(frozen=True)
class Control:
    """One setting.

    Attributes:
        name: what `Method.configure` calls it.
        kind: "number", "whole" (a whole number), "switch", "choice" (one of `choices`), "several" (of `choices`), "numbers" (whole
            ones), "text" or "file" (a name or path).
        default: of the preset.
        low, high: its range; None where it is open.
        choices: words that it may be.
        help: what it does.
    """

    name: str
    kind: Kind
    default: Any
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    help: str = ""


def controls_of(settings: Settings) -> tuple[Control, ...]:
    """Every setting of a preset, in the order of its class."""
    told, found = _help(type(settings)), list[Control]()
    for f in fields(settings):
        value, about = getattr(settings, f.name), f.metadata
        kind: Kind
        if isinstance(value, bool):
            kind = "switch"
        elif isinstance(value, int | float):
            kind = "whole" if isinstance(f.default, int) else "number"
        elif isinstance(value, str):
            kind = "choice" if about.get("choices") else "file" if about.get("file") else "text"
        else:
            kind = "several" if about.get("choices") else "numbers"
        found.append(
            Control(
                f.name, kind, value, about.get("low"), about.get("high"), tuple(about.get("choices") or ()), told.get(f.name, "")
            )
        )  # fmt: skip
    return tuple(found)


def _help(kind: type[Settings]) -> dict[str, str]:
    """The `Attributes:` of a docstring in Google's style, by name; several names may share one text."""
    _, _, listed = (getdoc(kind) or "").partition("Attributes:\n")
    out = dict[str, str]()
    for entry in re.split(r"\n    (?=\S)", "\n" + listed.split("\n\n")[0]):
        names, colon, text = entry.partition(":")
        if colon:
            out |= dict.fromkeys((name.strip() for name in names.split(",")), " ".join(text.split()))
    return out
