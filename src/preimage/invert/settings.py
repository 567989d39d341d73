"""What every method's settings share: kinds and ranges, stated once beside each default."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, Self

from preimage.errors import MethodError

_KINDS = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a word", tuple: "a list"}


def setting(
    default: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    above: bool = False,
    file: bool = False,
) -> Any:
    """A setting with its range, which `Settings` enforces and user interfaces read.

    Args:
        default: of the kind that the setting has.
        low, high: its range; None where it is open.
        choices: words that it may be, or a list may hold.
        above: whether `low` itself is left out.
        file: whether it may name a file, which interfaces for others than the owner of the machine leave out.
    """
    return field(default=default, metadata={"low": low, "high": high, "choices": choices, "above": above, "file": file})


@dataclass(frozen=True)
class Settings:
    """Base of a method's settings: a frozen dataclass with a default for each field."""

    def __post_init__(self) -> None:
        for f in fields(self):
            _check(f, getattr(self, f.name))

    def with_(self, controls: Mapping[str, Any]) -> Self:
        """These settings with some replaced by name.

        Raises:
            MethodError: a control that does not exist, or a value out of its range.
        """
        known = [f.name for f in fields(self)]
        if unknown := [name for name in controls if name not in known]:
            there = f"there are {', '.join(known)}" if known else "there are none"
            raise MethodError(f"unknown control {', '.join(unknown)}; {there}.")
        return replace(self, **controls)


def _check(f: Field[Any], value: Any) -> None:
    if not _fits(value, type(f.default)):
        raise MethodError(f"{f.name} ({value!r:.40}) must be {_KINDS[type(f.default)]}.")
    low, high, choices = (f.metadata.get(key) for key in ("low", "high", "choices"))
    if choices and (unknown := [x for x in (value if type(f.default) is tuple else (value,)) if x not in choices]):
        raise MethodError(f"{f.name} {unknown[0]!r:.40} is unknown; there are {', '.join(choices)}.")
    too_low = low is not None and (value <= low if f.metadata.get("above") else value < low)
    if too_low or (high is not None and value > high):
        beginning = f"above {low:g}" if f.metadata.get("above") else f"{low:g} or more"
        bounds = beginning if high is None else f"{beginning} and at most {high:g}"
        raise MethodError(f"{f.name} ({value!r:.40}) must be {bounds}.")


def _fits(value: object, kind: type) -> bool:
    """Whether a value is of the kind of a setting; true is no number, and infinity none either."""
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    if kind is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, list | tuple if kind is tuple else kind)
