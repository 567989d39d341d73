"""What a foreign checkpoint layout is: how it is recognised by its keys, and how it becomes a prior of ours."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from preimage.errors import WeightsError

State = Mapping[str, Tensor]
"""All tensors of a checkpoint by dotted name: nested dictionaries are joined, `{"g_ema": {"conv1.weight": t}}` becomes
`g_ema.conv1.weight`."""


@dataclass(frozen=True)
class Settings:
    """What leaves no trace in the tensors.

    Attributes:
        about: what the file says beside them: numbers and short texts by dotted name, as of a `Checkpoint`.
        lr_mlp: learning rate of the mapping network relative to the rest, as the user says it; None: not said.
    """

    about: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    lr_mlp: float | None = None

    def __post_init__(self) -> None:
        rate: object = self.lr_mlp
        if rate is None:
            return
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= sys.float_info.max:
            raise WeightsError(f"--lr-mlp {rate!r:.40}: must be a finite number above 0, such as 0.01 or 0.1.")


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
        bring: brings it over; sizes are read from the shapes. Raises WeightsError where it says what does not fit.
        silent_rate: whether its files never say the learning rate of the mapping network, so that a user may (`lr_mlp`).
    """

    name: str
    matches: Callable[[State], bool]
    bring: Callable[[State, Settings], Ported]
    silent_rate: bool = False

    def port(self, state: State, settings: Settings | None = None) -> Ported:
        """Bring a checkpoint over.

        Raises:
            WeightsError: it does not fit, or `lr_mlp` is said of a layout that has no use for it.
        """
        settings = settings or Settings()
        if settings.lr_mlp is not None and not self.silent_rate:
            raise WeightsError(
                f"holds a generator in the layout {self.name}, which --lr-mlp is not for: it concerns rosinality's StyleGAN2 and "
                "the decoders of pSp, e4e and ReStyle; NVIDIA's files say their rate themselves. Leave it out."
            )
        return self.bring(state, settings)


def misfit(own: State, given: State) -> str:
    """The first tensor that keeps `given` from filling a module with the state_dict `own`; empty where everything fits."""
    for key, value in own.items():
        if key not in given:
            return f"{key} is missing"
        if given[key].shape != value.shape:
            return f"{key} is {shape_of(given[key])}, where {shape_of(value)} belongs"
    return next((f"{key} has no place" for key in given if key not in own), "")


def shape_of(value: Tensor) -> str:
    """Its shape for people, such as 3x4."""
    return "x".join(map(str, value.shape)) or "a single number"
