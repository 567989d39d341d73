"""What stands behind a tiny generator: posterior's network, the photos that it takes, and what both have looked through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from preimage.declaration import Declaration
from preimage.errors import RecipeError
from preimage.generate.cascade import between
from preimage.nets.conditional import ConditionalGenerator
from preimage.train.data import Pictures, eight_bit, load_pictures, to_tensor
from preimage.weights import load_upsampler

PART = 256  # pictures that are shrunk together


class Tiny(Protocol):
    """Of a recipe, what is read here."""

    @property
    def data(self) -> Sequence[str]: ...
    @property
    def generator(self) -> Any: ...
    @property
    def second(self) -> str | None: ...


def load_second(recipe: Tiny) -> ConditionalGenerator | None:
    """The network that enlarges what the generator draws.

    Raises:
        RecipeError: another kind of network, or one that makes pictures no larger than the generator's.
    """
    if not recipe.second:
        return None
    found = load_upsampler(recipe.second, family="posterior").eval()
    if not isinstance(found, ConditionalGenerator) or found.resolution <= recipe.generator.resolution:
        raise RecipeError(
            f"second: {recipe.second} is no network of posterior for pictures larger than {recipe.generator.resolution} px; name one, "
            "such as posterior-16to128."
        )
    return found


def load_real(recipe: Tiny, second: ConditionalGenerator | None, progress: bool = True) -> Pictures:
    """What the generator is to draw; before a second network the photos that this one learned to enlarge.

    Those of another downscaling, Lanczos for instance, it enlarges to pictures that are too sharp (docs/weights.md).
    """
    side = recipe.generator.resolution
    if second is None:
        return load_pictures(recipe.data, side, progress=progress)
    large, operator = load_pictures(recipe.data, second.resolution, progress=progress), between(second.resolution, side)
    parts = (eight_bit(operator(to_tensor(np.array(large[i : i + PART])))) for i in range(0, len(large), PART))
    return np.concatenate([(part * 255).round().byte().permute(0, 2, 3, 1).numpy() for part in parts])


def together(seen: tuple[str, ...], other: Declaration | None) -> tuple[str, ...] | None:
    """The feature networks that two networks looked through; None where one of them does not say."""
    if other is None or other.looked_through is None:
        return None
    return tuple(dict.fromkeys((*seen, *other.looked_through)))
