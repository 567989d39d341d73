"""Numbers that a file claims, held against bounds before anything is built from them."""

from __future__ import annotations

from collections.abc import Mapping

from preimage.errors import WeightsError

WIDEST = 8192
"""Most channels or latent dimensions of any network; published ones stay at 1024 and below."""
DEEPEST = 64
"""Most layers of a mapping network, or blocks of an encoder; published ones have 8 or 12."""


def check_resolution(what: str, side: object, least: int) -> None:
    """Refuse a side of pictures that is no power of two from `least` to 1024.

    Raises:
        WeightsError: it calls the network `what`.
    """
    if type(side) is not int or not least <= side <= 1024 or side & (side - 1):
        raise WeightsError(f"{what} resolution {side!r:.40}: must be a power of two from {least} to 1024.")


def check_whole(what: str, values: Mapping[str, object], low: int, high: int) -> None:
    """Refuse values that are not whole numbers within bounds; 64.0 and true are none.

    Args:
        what: whose values they are, for the message.
        values: by name.
        low, high: inclusive.

    Raises:
        WeightsError: the first that is not one.
    """
    for name, value in values.items():
        if type(value) is not int or not low <= value <= high:
            raise WeightsError(f"{what}: {name} ({value!r:.40}) must be a whole number from {low} to {high}.")
