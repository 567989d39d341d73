"""Texts that anybody may have written, read without trust: JSON and YAML of bounded depth and size; errors as one line."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable
from typing import Any, NoReturn

MOST_DEPTH = 32
"""Deepest nesting of a description; ours have four levels."""
MOST_ITEMS = 100_000
"""Most values in one description, each counted as often as an alias repeats it."""


class TextError(ValueError):
    """A text that holds no usable values; the message is one line and names no file."""


def one_line(error: BaseException, most: int = 200) -> str:
    """What an error says, as one line of at most `most` characters that is never a bare value."""
    text = " ".join(str(error).split())
    if isinstance(error, LookupError) or not any(c.isalpha() for c in text):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text if len(text) <= most else f"{text[: most - 1]}…"


def parse_json(text: str) -> Any:
    """The values of a JSON text.

    Raises:
        TextError: not JSON, NaN or infinity, nested deeper than `MOST_DEPTH`, or more than `MOST_ITEMS` values.
    """
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_number)
    except RecursionError:
        raise TextError(f"nested deeper than {MOST_DEPTH} levels") from None
    except ValueError as error:
        raise TextError(one_line(error)) from None
    _check(value)
    return value


def _refuse(name: str) -> NoReturn:
    raise TextError(f"{name} is no number that can be used")


def _number(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _refuse(digits[:20])


def parse_yaml(text: str) -> Any:
    """The values of a YAML text: mappings with text keys, lists, texts, numbers, booleans, null; dates stay texts.

    Raises:
        TextError: not YAML, other values, a key that is no text or stands twice, or too deep or too many, see `parse_json`.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers = {  # noqa: RUF012
            first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
            keys: set[str] = set()
            for key, _ in node.value:
                place = f"line {key.start_mark.line + 1}"
                if key.tag == "tag:yaml.org,2002:merge":
                    continue
                if key.tag != "tag:yaml.org,2002:str":
                    raise TextError(f"{place}: a key that is no text; put it in quotes")
                if key.value in keys:
                    raise TextError(f"{place}: the key {key.value!r:.60} stands twice; remove one of the two")
                keys.add(key.value)
            return super().construct_mapping(node, deep)

    try:
        value = yaml.load(text, Loader)  # a SafeLoader
    except TextError:
        raise
    except RecursionError:
        raise TextError(f"nested deeper than {MOST_DEPTH} levels") from None
    except Exception as error:  # explicit tags raise whatever their conversions raise
        raise TextError(one_line(error)) from None
    _check(value)
    return value


def _check(value: Any) -> None:
    """Refuse what is no plain data, too deep or too much; walks without recursion."""
    left, stack = MOST_ITEMS, [(value, 0)]
    while stack:
        item, depth = stack.pop()
        left -= 1
        if depth > MOST_DEPTH or left < 0:
            what = (
                f"nested deeper than {MOST_DEPTH} levels"
                if depth > MOST_DEPTH
                else f"holds more than {MOST_ITEMS} values"
            )
            raise TextError(what)
        if isinstance(item, dict):
            stack += [(inner, depth + 1) for inner in item.values()]
        elif isinstance(item, list):
            stack += [(inner, depth + 1) for inner in item]
        elif item is not None and not isinstance(item, str | int | float):
            raise TextError(f"holds a {type(item).__name__}, which is no plain value")


def finite(value: float, digits: int | None = None) -> float | None:
    """A number for JSON, rounded where `digits` says so; None for NaN and infinity, which JSON does not have."""
    if not math.isfinite(value):
        return None
    return value if digits is None else round(value, digits)
