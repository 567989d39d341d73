"""Plain values, as YAML and command lines have them -> settings: every key known, every value of the type its setting wants."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from preimage.errors import PreimageError


def names(settings: type, prefix: str = "") -> list[str]:
    """All keys, nested ones with dots."""
    hints, found = get_type_hints(settings), []
    for f in fields(settings):
        nested = names(hints[f.name], f"{prefix}{f.name}.") if is_dataclass(hints[f.name]) else []
        found += [prefix + f.name, *nested]
    return found


def missing(settings: type, values: Mapping[str, Any]) -> list[str]:
    """The keys that must be given and are not."""
    return [f.name for f in fields(settings) if _required(f) and f.name not in values]


def _required(f: Any) -> bool:
    return f.default is MISSING and f.default_factory is MISSING


def typed(settings: type, values: Mapping[str, Any], replaced: Mapping[str, str]) -> dict[str, Any]:
    """Nested values, each as the type of its setting.

    Args:
        settings: a dataclass, whose fields may be dataclasses.
        values: by their keys.
        replaced: keys that there were once, and what to write instead.

    Raises:
        ValueError: an unknown key, with the nearest one, or a value of another type; it begins with the key.
    """

    def mapping(value: Any, settings: type, place: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise ValueError(f"{place}: {shown(value)} is not a mapping of settings")
        hints, known, out = get_type_hints(settings), [f.name for f in fields(settings)], {}
        for key, inner in value.items():
            where = f"{place}.{key}" if place else key
            if key not in known:
                raise ValueError(unknown(where, known))
            out[key] = (
                mapping(inner, hints[key], where) if is_dataclass(hints[key]) else _value(inner, hints[key], where)
            )
        return out

    def unknown(where: str, known: list[str]) -> str:
        if where in replaced:
            return f"{where}: {replaced[where]}"
        near = difflib.get_close_matches(where, names(settings), n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        return f"{where:.60}: no such setting; {hint}"

    return mapping(values, settings, "")


def built(settings: type, values: Mapping[str, Any]) -> Any:
    """The settings with these values; an error begins with the key of what refused its values."""
    hints = get_type_hints(settings)
    parts = {}
    for key, value in values.items():
        try:
            parts[key] = built(hints[key], value) if is_dataclass(hints[key]) else value
        except (PreimageError, ValueError) as error:
            raise ValueError(f"{key}: {error}") from None
    return settings(**parts)


def _value(value: Any, hint: Any, place: str) -> Any:
    """A value as the type of its setting wants it: lists become tuples, `1e-3`, which YAML takes for a text, a number."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):  # of something and None
        return None if value is None else _value(value, next(p for p in parts if p is not type(None)), place)
    if kind in (list, tuple):
        if not isinstance(value, list | tuple):
            raise ValueError(f"{place}: {shown(value)} is not a list; put it in brackets")
        hints = [parts[0]] * len(value) if kind is list or parts[-1] is Ellipsis else parts
        if len(hints) != len(value):
            raise ValueError(f"{place}: {shown(value)} must have {len(hints)} entries")
        return kind(_value(v, h, f"{place}[{i}]") for i, (v, h) in enumerate(zip(value, hints, strict=True)))
    converted = _scalar(value, hint)
    if converted is None:
        raise ValueError(f"{place}: {shown(value)} is not {SCALARS[hint]}")
    return converted


SCALARS = {
    int: "an integer (below 2^53)",
    float: "a finite number",
    bool: "true or false",
    str: "a text; put it in quotes",
}


def _scalar(value: Any, hint: type) -> Any:
    """The value of this type, or None if it is not of it; true and false are no numbers here."""
    if hint is bool or isinstance(value, bool):
        return value if hint is bool and isinstance(value, bool) else None
    if hint is float and isinstance(value, int | float | str):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            return None
        return number if math.isfinite(number) else None
    if hint is int:
        return value if isinstance(value, int) and abs(value) < 2**53 else None
    return value if isinstance(value, hint) else None


def shown(value: Any) -> str:
    """A value for a message, of 60 characters at most."""
    try:
        text = repr(list(value) if isinstance(value, tuple) else value)
    except ValueError:  # an integer of more digits than Python prints
        text = "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:59]}…"
