"""Explorative face super-resolution: one blurry face in, many sharp candidates out, each of which shrinks back to it.

>>> import preimage
>>> candidates = preimage.upsample("face.png", seeds="0-7")  # doctest: +SKIP
>>> candidates.exact.all()  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from preimage.candidates import Candidates as Candidates
    from preimage.degrade.linear import LinearOperator as LinearOperator
    from preimage.degrade.linear import make_operator as make_operator
    from preimage.errors import PreimageError as PreimageError
    from preimage.explorer import Explorer as Explorer
    from preimage.explorer import explore as explore
    from preimage.invert.registry import list_methods as list_methods
    from preimage.invert.registry import load as load
    from preimage.left_open import open_directions as open_directions
    from preimage.photos import upsample_photo as upsample_photo
    from preimage.picking import pick as pick
    from preimage.upsampling import upsample as upsample
    from preimage.weights import list_weights as list_weights
    from preimage.weights import load_prior as load_prior

_HOME = {
    "Candidates": "candidates",
    "Explorer": "explorer",
    "LinearOperator": "degrade.linear",
    "PreimageError": "errors",
    "explore": "explorer",
    "list_methods": "invert.registry",
    "list_weights": "weights",
    "load": "invert.registry",
    "load_prior": "weights",
    "make_operator": "degrade.linear",
    "open_directions": "left_open",
    "pick": "picking",
    "upsample": "upsampling",
    "upsample_photo": "photos",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'preimage' has no attribute {name!r}")
    return getattr(import_module(f"preimage.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
