"""An extension of griffe, which reads docstrings for the site: entries of several names become one for each.

`low, high: range of the value.` is one line for a reader of the source; griffe looks for a parameter called "low, high".
"""

from __future__ import annotations

import re
from typing import Any

import griffe

SEVERAL = re.compile(r"^(?P<indent> +)(?P<names>\w+(?:, \w+)+):(?P<text> .*(?:\n(?P=indent) +.*)*)$", re.M)
"""Names, and what is said of them on this line and on those that stand further in."""


def one_each(docstring: str) -> str:
    """The docstring with an entry for each name."""

    def entries(found: re.Match[str]) -> str:
        return "\n".join(f"{found['indent']}{name}:{found['text']}" for name in found["names"].split(", "))

    return SEVERAL.sub(entries, docstring)


class OneNameEach(griffe.Extension):
    """See the module."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = one_each(obj.docstring.value)
