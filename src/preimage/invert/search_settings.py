"""How to search: schedules of the learning rate, and everything a user can turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from preimage.invert.optimisers import OPTIMISERS
from preimage.invert.settings import Settings, setting


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
class SearchSettings(Settings):
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
        start_steps: steps towards the picture to begin at, where one is given (`preimage.invert.nearest`), before the others.
        spread: how far from the mean latent a search begins, and on its spheres stays: radii of so many times those of
            random points; below 1 it trades variety for faces, as truncation does. A prior without W has only its own sphere.
        coarse: share of the steps, the first ones, that look at the prior's smallest picture no smaller than the photo; at least the
            last step looks at the whole one. There `stop` and `patience` end this part of the search only.
        edit: what is changed of the latents that were found, such as smile=1.5,age=-1: so many standard deviations of the
            prior's latents along directions by name (`preimage.generate.directions`).
        directions: file of directions; empty takes those that are embedded for the prior.
        encoder: what writes the latents to begin at (Pro-PULSE): an encoder of this prior by name or path, pro-pulse for the
            embedded one; inverse: the prior itself, where it begins with a flow; empty: none.
        encoder_share: how far from these each seed begins, towards a random w of its own; at 0 they differ in noise maps alone.
    """

    steps: int = setting(100, low=1)
    lr: float = setting(0.4, low=0, above=True)
    optimiser: str = setting("adam", choices=tuple(OPTIMISERS))
    schedule: str = setting("linear1cycledrop", choices=tuple(SCHEDULES))
    eps: float = setting(1e-3, low=0)
    l2: float = 100.0
    geocross: float = 0.05
    stop: float = setting(0.0, low=0)
    tie_rows: bool = False
    tied: bool = False
    trainable_noise: int = setting(5, low=0)
    silent_noise: tuple[int, ...] = ()
    loss: str = setting("l2", choices=LOSSES)
    sphere: bool = True
    degradation_noise: str = setting("fixed", choices=DEGRADATION_NOISE)
    patience: int = setting(0, low=0)
    start_steps: int = setting(100, low=1)
    spread: float = setting(1.0, low=0, above=True)
    coarse: float = setting(0.0, low=0, high=1)
    edit: str = ""
    directions: str = setting("", file=True)
    encoder: str = setting("", file=True)
    encoder_share: float = setting(0.3, low=0, high=1)
