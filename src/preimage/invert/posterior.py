"""posterior: one pass, many answers, each of them consistent by construction (this package's own method; docs/posterior.md).

A network answers a photo y and random numbers z with a picture, and the projection onto all pictures that shrink to y is part of
the network: x = E y + G(A⁺y, z), then x + A⁺(y − A x). So it was trained, and so it answers; `make_exact` only rounds.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from preimage.candidates import Candidates
from preimage.degrade.linear import LinearOperator
from preimage.device import autocast
from preimage.errors import MethodError, OperatorError
from preimage.invert.finish import finish
from preimage.invert.method import Capabilities, Handle, Input, network_or_load
from preimage.invert.one_pass import OnePass
from preimage.invert.problem import Problem
from preimage.invert.queue import Row, latents_of, photos_of
from preimage.invert.sampler import LEVELS, Sampler, answer, blend, draw, encode, load_sampler
from preimage.invert.settings import Settings, setting
from preimage.memory import unless_out_of_memory
from preimage.nets.conditional import SHARPNESS, ConditionalGenerator
from preimage.nets.layers import freeze
from preimage.nets.local import Chain

MOST = 64.0
"""Largest tolerance in grey levels; beyond it a photo says too little."""
KEY = "z-"
"""Latents of candidates are the random numbers of each level, under its name behind this."""


@dataclass(frozen=True)
class PosteriorSettings(Settings):
    """Controls of `Posterior`.

    Attributes:
        temperature: spread of the random numbers; 1 as trained, below it answers come nearer to each other and to the average, 0
            gives one answer. The default cuts off what the embedded network makes of the largest numbers.
        sharpness: how sharp a photograph is asked for, in spreads above the mean of the faces learned from: 0 is an average
            one, -2 soft, 2 crisp. Networks that were not told it ignore it.
        fresh: levels of random numbers that a seed decides, of "outline", "detail" and, with a network of two stages,
            "texture" (coarse to fine); the others are those of `base` for all seeds: ("detail",) varies small things and
            keeps the outline.
        base: seed of the levels that are not fresh.
        tolerance: of a noisy photo, so many grey levels every value may be missed by: its noise is then not copied, and no
            candidate is called exact. 0: byte for byte.
        towards: another seed to move towards, or -1 for none; not together with a reference picture.
        blend: how far towards it or the reference, from 0 (the seed's own numbers) to 1.
        interpolate: so many steps of a walk from `base` to the reference or to `towards`: seed k stands k of them along.
            0: none.
    """

    temperature: float = setting(0.9, low=0, high=2)
    sharpness: float = setting(0.0, low=-3, high=4)
    fresh: tuple[str, ...] = setting(LEVELS, choices=LEVELS)
    base: int = setting(0, low=0)
    tolerance: float = setting(0.0, low=0, high=MOST)
    towards: int = -1
    blend: float = setting(0.7, low=0, high=1)
    interpolate: int = setting(0, low=0)

    def __post_init__(self) -> None:
        if isinstance(self.fresh, str | list):
            object.__setattr__(self, "fresh", (self.fresh,) if isinstance(self.fresh, str) else tuple(self.fresh))
        super().__post_init__()
        if 0 < self.tolerance < 1:
            raise MethodError(f"tolerance ({self.tolerance}) must be 0 or from 1 to {MOST:g} grey levels.")
        if not self.fresh:
            raise MethodError(f"fresh: name one level or more of {', '.join(LEVELS)}.")


HELP = {
    "outline": "random numbers at 4x4 places: how far to move to fresh ones",
    "detail": "random numbers at 8x8 places",
    "texture": "random numbers of the second stage",
}


class Posterior(OnePass):
    """One pass of a network for each answer; `weights` is that network. See `Method`."""

    name = "posterior"
    capabilities = Capabilities(
        summary="one pass of a network whose last layer is the projection: many answers, exact by construction",
        weights=True,
        inputs=(Input("reference", "picture", help="a sharp, aligned face whose look is taken over"),),
        handles=(
            *(Handle(level, "reseed", help=HELP[level]) for level in LEVELS),
            Handle(SHARPNESS, "slider", -3, 4, help="how sharp a photograph, in spreads above an average one"),
        ),
        continues=True,
    )
    presets: ClassVar[Mapping[str, PosteriorSettings]] = {"default": PosteriorSettings()}

    def load(self, prior: Any, weights: Any) -> None:
        network = network_or_load(weights, load_sampler)
        if not isinstance(network, ConditionalGenerator | Chain):
            raise MethodError(
                f"a {type(network).__name__} is no network of posterior. A prior is searched by another method "
                '(--method pulse; method="pulse"); posterior takes what its own recipes export.'
            )
        freeze(network, self.device)
        self.network: Sampler = network
        self._known: tuple[Tensor, LinearOperator, dict[str, Tensor]] | None = None  # the last reference

    @property
    def resolution(self) -> int:
        return self.network.resolution

    @property
    def largest_side(self) -> int:
        """See `Method.largest_side`; of two stages the first decides."""
        return (self.network.first if isinstance(self.network, Chain) else self.network).resolution - 1

    @property
    def networks(self) -> Mapping[str, Any]:
        return {"weights": self.network}

    def handle_names(self) -> tuple[str, ...]:
        """The levels of its network."""
        return tuple(self.network.config.z_shapes)

    def check(self, settings: Settings, seeds: Sequence[int] = (), guides: Collection[str] = ()) -> None:
        chosen = cast(PosteriorSettings, settings)
        if guides and chosen.towards >= 0:
            raise MethodError("reference and towards both say where to; give one of them.")
        if chosen.interpolate and not guides and chosen.towards < 0:
            raise MethodError(f"interpolate ({chosen.interpolate}) needs a reference or towards to walk to.")
        if chosen.tolerance and not self.network.config.tolerant:
            raise MethodError(
                f"tolerance: {self.network.name} was not trained with noisy photos and can only be exact; leave it at 0."
            )
        if not set(chosen.fresh) & self.network.config.z_shapes.keys():
            raise MethodError(f"fresh: {self.network.name} has no level {', '.join(chosen.fresh)}.")
        if chosen.interpolate and seeds and max(seeds) > chosen.interpolate:
            raise MethodError(
                f"interpolate ({chosen.interpolate}): seeds are the steps of the walk, 0 to {chosen.interpolate}; "
                f"{max(seeds)} is beyond."
            )

    def pose(self, lr: Tensor, *args: Any, **guides: Any) -> Problem:
        """See `Method.pose`."""
        if isinstance(self.network, Chain) and max(lr.shape[-2:]) >= (largest := self.network.first.resolution):
            raise OperatorError(
                f"the picture is {lr.shape[-1]}x{lr.shape[-2]}; {self.network.name} goes by way of {largest} pixels and takes "
                f"less than that."
            )
        return super().pose(lr, *args, **guides)

    def answers(self, rows: Sequence[Row], settings: Settings) -> tuple[Tensor, dict[str, Tensor]]:
        """See `OnePass.answers`; the settings are `PosteriorSettings`."""
        chosen, problem = cast(PosteriorSettings, settings), rows[0].ask.problem
        z = self.random([row.seed for row in rows], chosen, problem, latents_of(rows))
        operator = cast(LinearOperator, problem.degradation)
        return self._answers(photos_of(rows), operator, z, chosen.tolerance), {KEY + name: x for name, x in z.items()}

    def tolerance(self, settings: Settings) -> float:
        return cast(PosteriorSettings, settings).tolerance

    def random(
        self,
        seeds: Sequence[int],
        settings: PosteriorSettings,
        problem: Problem | None = None,
        at: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """The random numbers of these seeds, by level, as the settings ask for.

        Args:
            seeds: one row each.
            settings: how.
            problem: with the reference, where there is one.
            at: latents of candidates in the place of what the seeds draw.

        Raises:
            MethodError: latents of another network.
        """

        def drawn(rows: Sequence[int]) -> dict[str, Tensor]:
            z = draw(self.network.config, rows, self.device, settings.sharpness)
            return {k: x if k == SHARPNESS else settings.temperature * x for k, x in z.items()}

        steps, own, base = settings.interpolate, drawn(seeds), drawn([settings.base])
        z = {k: x if k in settings.fresh and not steps else base[k].expand_as(x) for k, x in own.items()}
        if at is not None:
            z = self._numbers(at, z)
        shares = [seed / steps for seed in seeds] if steps else [settings.blend] * len(seeds)
        if problem is not None and problem.guides.get("reference") is not None:
            return blend(z, self._encoded(problem), shares)  # as it was found: it is to be met, at any temperature
        return blend(z, drawn([settings.towards]), shares) if settings.towards >= 0 else z

    def _numbers(self, latents: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The random numbers in the latents of candidates."""
        found = {name: latents.get(KEY + name) for name in like}
        for name, x in like.items():
            if (given := found[name]) is None or given.shape != x.shape:
                shape = None if given is None else tuple(given.shape)
                raise MethodError(
                    f"{KEY}{name} to go on from: {shape}, but {self.network.name} and these seeds need {tuple(x.shape)}."
                )
        return {name: cast(Tensor, x).to(self.device).float() for name, x in found.items()}

    def _encoded(self, problem: Problem) -> dict[str, Tensor]:
        """The numbers of a reference, found once for each degradation."""
        reference, operator = problem.guides["reference"], cast(LinearOperator, problem.degradation)
        if self._known is None or self._known[1] != operator or not torch.equal(self._known[0], reference):
            self._known = (reference, operator, encode(self.network, operator, reference))
        return self._known[2]

    def _answers(self, photos: Tensor, operator: LinearOperator, z: Mapping[str, Tensor], tolerance: float) -> Tensor:
        """Pictures (n, 3, R, R) of photos (n, 3, h, w), on the CPU."""
        with torch.no_grad(), autocast(self.device, self.dtype):
            return answer(self.network, operator, photos.to(self.device), z, tolerance).cpu()

    def _steer(self, candidate: Candidates, changes: Mapping[str, Any], seeds: Sequence[int]) -> Candidates:
        """Levels of random numbers moved to fresh ones, and the sharpness set."""
        began, n = time.monotonic(), len(seeds)
        fresh = draw(self.network.config, seeds, self.device)
        rows = {name: x.expand(n, *x.shape[1:]) for name, x in candidate.latents.items()}
        z = self._numbers(rows, fresh)
        for name, value in changes.items():
            if name == SHARPNESS:
                z[name] = torch.full_like(z[name], float(value))
            else:  # as far from the average as they were
                usual = z[name].square().mean().sqrt()
                z |= blend({name: z[name]}, {name: usual * fresh[name]}, [float(value)] * n)
        problem, operator = Problem(candidate.lr, candidate.degradation, self.resolution), candidate.degradation
        photos, tolerance = candidate.lr.expand(n, -1, -1, -1), candidate.tolerance
        images = unless_out_of_memory(partial(self._answers, photos, cast(LinearOperator, operator), z, tolerance))
        if images is None:
            raise MethodError(f"{n} answers do not fit into memory at once; ask for fewer seeds.")
        return finish(
            images, problem, seeds, method=self.name, prior=self.network.name, steps=1, tolerance=tolerance, began=began,
            latents={KEY + name: x for name, x in z.items()},
        )  # fmt: skip
