"""How to search: optimisers, schedules of the learning rate, and everything a user can turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from preimage.errors import MethodError

_KINDS = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a word", tuple: "a list"}
OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamax": torch.optim.Adamax,
    "sgd": torch.optim.SGD,
    "sgdm": lambda params, lr: torch.optim.SGD(params, lr=lr, momentum=0.9),
}


def fixed(x: float) -> float:
    """Constant rate."""
    return 1.0


def linear1cycle(x: float) -> float:
    """From 0.1 up to 1 at half time and back to 0.1."""
    return (9 * (1 - 2 * abs(x - 0.5)) + 1) / 10


def linear1cycledrop(x: float) -> float:
    """The same triangle in the first nine tenths, then down to 0.001."""
    if x < 0.9:
        return linear1cycle(x / 0.9)
    t = (x - 0.9) / 0.1
    return 0.1 * (1 - t) + 0.001 * t


SCHEDULES: dict[str, Callable[[float], float]] = {
    "fixed": fixed,
    "linear1cycle": linear1cycle,
    "linear1cycledrop": linear1cycledrop,
}
LOSSES = ("l2", "l1")
DEGRADATION_NOISE = ("fixed", "resampled", "optimised")


@dataclass(frozen=True)
class SearchSettings:
    """How to search. Defaults are PULSE's, as published.

    Attributes:
        steps: most steps per candidate.
        lr: learning rate, multiplied by the schedule.
        optimiser: adam, adamax, sgd or sgdm.
        schedule: fixed, linear1cycle or linear1cycledrop.
        eps: tolerance of the downscaling error on [0, 1], in the measure of `loss`; inside it the error counts as eps. A
            mean square of eps is an RMS of 255 sqrt(eps) grey levels: 1e-3 is 8.1, 1e-4 is 2.5. An L1 of eps is 255 eps.
        l2: weight of the downscaling error, whichever `loss` measures it.
        geocross: weight of the geodesic spread between the rows of W+.
        stop: downscaling error, in the measure of `loss`, at which a candidate is done; 0 runs all steps.
        tie_rows: start all rows of W+ from one point, as in W; they may part from there.
        tied: keep all rows equal for good (search in W).
        trainable_noise: how many noise maps, coarse first, are searched too.
        silent_noise: indices of noise maps set to zero (PULSE silences the last of StyleGAN's 18).
        loss: l2, the mean squared downscaling error (PULSE), or l1, the mean absolute one (SR-NAM).
        sphere: end every step on the spheres that the search began on; without them the optimiser goes where it likes.
        degradation_noise: of a learned degradation: fixed (one draw per seed), resampled (one per seed and step), or
            optimised together with the latents. A linear downscaling has none.
        patience: a candidate whose error did not fall by 1 % in so many steps is done; 0 never gives up.
    """

    steps: int = 100
    lr: float = 0.4
    optimiser: str = "adam"
    schedule: str = "linear1cycledrop"
    eps: float = 1e-3
    l2: float = 100.0
    geocross: float = 0.05
    stop: float = 0.0
    tie_rows: bool = False
    tied: bool = False
    trainable_noise: int = 5
    silent_noise: tuple[int, ...] = ()
    loss: str = "l2"
    sphere: bool = True
    degradation_noise: str = "fixed"
    patience: int = 0

    def __post_init__(self) -> None:
        choices: dict[str, Collection[str]] = {
            "optimiser": OPTIMISERS,
            "schedule": SCHEDULES,
            "loss": LOSSES,
            "degradation_noise": DEGRADATION_NOISE,
        }
        for key, known in choices.items():
            if getattr(self, key) not in known:
                raise MethodError(f"{key} {getattr(self, key)!r} is unknown; there are {', '.join(known)}.")
        check_kinds(self)
        if self.trainable_noise < 0:
            raise MethodError(f"trainable_noise ({self.trainable_noise}) must not be below 0.")
        if self.steps < 1 or not self.lr > 0 or not self.eps >= 0 or not self.stop >= 0 or self.patience < 0:
            raise MethodError(
                f"steps ({self.steps}) must be at least 1, lr ({self.lr}) above 0, eps ({self.eps}), stop ({self.stop}) and "
                f"patience ({self.patience}) not below 0."
            )

    def with_(self, controls: dict[str, Any]) -> SearchSettings:
        """These settings with some replaced by name.

        Raises:
            MethodError: a control that does not exist.
        """
        known = [f.name for f in fields(self)]
        unknown = [k for k in controls if k not in known]
        if unknown:
            raise MethodError(f"unknown control {', '.join(unknown)}; there are {', '.join(known)}.")
        return replace(self, **controls)


def check_kinds(settings: Any) -> None:
    """Refuse settings, of a dataclass with a default for each, that are of another kind than the default.

    Raises:
        MethodError: the first that is.
    """
    for f in fields(settings):
        value = getattr(settings, f.name)
        if not _fits(value, type(f.default)):
            raise MethodError(f"{f.name} ({value!r:.40}) must be {_KINDS[type(f.default)]}.")


def _fits(value: object, kind: type) -> bool:
    """Whether a value is of the kind of a setting; true is no number, and infinity none either."""
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    if kind is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, list | tuple if kind is tuple else kind)
