"""Bounds of settings, checked where they are built: a wrong recipe is refused before anything is loaded or computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from preimage.errors import RecipeError

BOUNDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "count": (lambda v: 1 <= v < math.inf, "at least 1"),
    "width": (lambda v: 1 <= v <= 8_192, "from 1 to 8,192"),
    "weight": (lambda v: 0 <= v < math.inf, "0 or a positive number"),
    "positive": (lambda v: 0 < v < math.inf, "a positive number"),
    "share": (lambda v: 0 <= v <= 1, "in [0, 1]"),
    "part": (lambda v: 0 < v <= 1, "in (0, 1]"),
    "decay": (lambda v: 0 <= v < 1, "in [0, 1)"),
    "seed": (lambda v: 0 <= v < 2**31, "from 0 to 2,147,483,647"),
}
"""Kinds of bounds: what a number must meet, and how that reads. NaN meets none."""


def check(settings: object, bounds: Mapping[str, Sequence[str]], prefix: str = "") -> None:
    """Refuse settings that are out of bounds.

    Args:
        settings: a dataclass; a setting that is a tuple is checked entry by entry.
        bounds: names of settings by kind, of `BOUNDS`.
        prefix: of the names in the message, such as "generator.".

    Raises:
        RecipeError: one line that names every setting out of bounds, its value and its bounds.
    """
    wrong = []
    for kind, names in bounds.items():
        meets, words = BOUNDS[kind]
        for name in names:
            value = getattr(settings, name)
            if not all(meets(v) for v in _numbers(value)):
                shown = str(list(value) if isinstance(value, tuple) else value)
                wrong.append(f"{prefix}{name} ({shown:.60}) must be {words}")
    if wrong:
        raise RecipeError(f"{'; '.join(wrong)}.")


def _numbers(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for each in value:
            yield from _numbers(each)
    else:
        yield value


def check_native(native: Sequence[int]) -> None:
    """Refuse smallest and largest native sides of small faces that are the wrong way round.

    Raises:
        RecipeError: in one line.
    """
    if native[0] > native[1]:
        raise RecipeError(f"native ({list(native)}) must be a smallest and a largest side.")


def check_choice(key: str, value: str | Sequence[str], known: Sequence[str]) -> None:
    """Refuse a word, or any of several, that is not known.

    Raises:
        RecipeError: one line that names the setting, the word and the known ones.
    """
    for word in (value,) if isinstance(value, str) else value:
        if word not in known:
            raise RecipeError(f"{key}: {word!r} is not one of {', '.join(known)}.")
