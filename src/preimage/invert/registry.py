"""Which methods there are; each is imported only when it is asked for, and read without its networks."""

from __future__ import annotations

from typing import Any

from preimage.errors import MethodError, WeightsError
from preimage.generate.own import import_own, names_own_prior
from preimage.invert.method import Method

METHODS = {
    "pulse": "preimage.invert.pulse:Pulse",
    "bicubic": "preimage.invert.bicubic:Bicubic",
    "sr-nam": "preimage.invert.nam:SRNAM",
    "posterior": "preimage.invert.posterior:Posterior",
    "ssrvae": "preimage.invert.ssrvae:SSRVAE",
    "pro-pulse": "preimage.invert.pro_pulse:ProPulse",
    "deepsee": "preimage.invert.deepsee:DeepSEE",
}
"""Class of each method, `package.module:Class`; one of a user's own is named the same way."""

DEFAULT = "posterior"
"""The method that is taken where none is named: one pass for each answer."""


def list_methods() -> list[str]:
    """Names of the methods."""
    return list(METHODS)


def method_class(name: str) -> type[Method]:
    """The class of a method: its capabilities, settings and presets, without any network.

    Args:
        name: one of `list_methods()`, or `package.module:Class` of a subclass of `preimage.invert.method.Method`, which is
            imported.

    Raises:
        MethodError: no such method.
    """
    if not isinstance(name, str) or not (name in METHODS or names_own_prior(name)):
        raise MethodError(f"method {name!r:.60} is unknown; there are {', '.join(METHODS)}, or package.module:Class.")
    try:
        found = import_own(METHODS.get(name, name))
    except WeightsError as error:
        raise MethodError(f"method {error}") from None
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise MethodError(f"method {name}: is no subclass of preimage.invert.method.Method.")
    return found


def load(method: str = DEFAULT, **kwargs: Any) -> Method:
    """Load a method with its networks.

    Args:
        method: see `method_class`.
        **kwargs: what it is built from: `prior`, `weights`, `preset`, `device`, `precision`, `batch`.

    Raises:
        MethodError: unknown method, or something that it has no use for.
        WeightsError: a network that cannot be loaded.
    """
    return method_class(method)(**kwargs)
