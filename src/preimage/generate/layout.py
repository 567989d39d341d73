"""What a foreign checkpoint layout is: how it is recognised by its keys, and how it becomes a prior of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

State = Mapping[str, Tensor]
"""All tensors of a checkpoint by dotted name: nested dictionaries are joined, `{"g_ema": {"conv1.weight": t}}` becomes
`g_ema.conv1.weight`."""


@dataclass(frozen=True)
class Ported:
    """A checkpoint brought to one of our architectures.

    Attributes:
        architecture: key of `preimage.weight_files.ARCHITECTURES`.
        config: what that architecture is built from, JSON-serialisable.
        state: the tensors of the module built so, by its own keys.
        notes: what a user should know, such as an estimated mean latent.
    """

    architecture: str
    config: dict[str, Any]
    state: dict[str, Tensor]
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Layout:
    """One way in which others lay out a checkpoint.

    Attributes:
        name: for people, such as "rosinality StyleGAN2".
        matches: whether a checkpoint is laid out so, by keys and shapes alone.
        port: brings it over; sizes are read from the shapes. Raises WeightsError where it says what does not fit.
    """

    name: str
    matches: Callable[[State], bool]
    port: Callable[[State], Ported]
