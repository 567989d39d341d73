"""Which methods there are; each is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from preimage.errors import MethodError
from preimage.invert.method import Method


def _bicubic(**kwargs: Any) -> Method:
    from preimage.invert.bicubic import Bicubic

    return Bicubic(**kwargs)


def _pulse(**kwargs: Any) -> Method:
    from preimage.invert.pulse import Pulse

    return Pulse(**kwargs)


def _sr_nam(**kwargs: Any) -> Method:
    from preimage.invert.nam import SRNAM

    return SRNAM(**kwargs)


def _posterior(**kwargs: Any) -> Method:
    from preimage.invert.posterior import Posterior

    return Posterior(**kwargs)


METHODS: dict[str, Callable[..., Method]] = {
    "pulse": _pulse,
    "bicubic": _bicubic,
    "sr-nam": _sr_nam,
    "posterior": _posterior,
}


DEFAULT = "posterior"
"""The method that is taken where none is named: one pass for each answer."""


def list_methods() -> list[str]:
    """Names of the methods."""
    return list(METHODS)


def load(method: str = DEFAULT, **kwargs: Any) -> Method:
    """Load a method with its networks.

    Args:
        method: one of `list_methods()`.
        **kwargs: what it is built from: `prior`, `preset`, `device`, `precision`, `batch`.

    Raises:
        MethodError: unknown method.
        WeightsError: a prior that cannot be loaded.
    """
    if not isinstance(method, str) or method not in METHODS:
        raise MethodError(f"method {method!r:.60} is unknown; there are {', '.join(METHODS)}.")
    return METHODS[method](**kwargs)
