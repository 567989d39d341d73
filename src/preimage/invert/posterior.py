"""posterior: one pass, many answers, each of them consistent by construction (this package's own method; docs/posterior.md).

A network answers a photo y and random numbers z with a picture, and the projection onto all pictures that shrink to y is part of
the network: x = E y + G(A⁺y, z), then x + A⁺(y − A x). So it was trained, and so it answers; `make_exact` only rounds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from preimage.candidates import Candidates
from preimage.degrade.consistency import ExactResult, downscale_saved, lr_error, make_exact
from preimage.degrade.learned import Operator
from preimage.degrade.linear import LinearOperator
from preimage.device import autocast, resolve_device, resolve_precision
from preimage.errors import MethodError, OperatorError
from preimage.image import as_picture, check_lr, open_image, picture_size
from preimage.invert.method import Capabilities, OnStep
from preimage.invert.problem import GREY_LEVELS, operator_for
from preimage.invert.sampler import LEVELS, Sampler, answer, blend, draw, encode, load_sampler
from preimage.invert.settings import check_kinds
from preimage.memory import AUTO, halved, is_out_of_memory, parse_batch
from preimage.nets.conditional import LEVELS as STAGE
from preimage.nets.conditional import SHARPNESS, ConditionalGenerator
from preimage.nets.fingerprint import fingerprint
from preimage.nets.layers import channels_last
from preimage.nets.local import Chain
from preimage.weight_files import sha256

MOST = 64.0
"""Largest tolerance in grey levels; beyond it a photo says too little."""
BATCH = 16
"""Answers of up to 128 pixels that are made together where `batch` is "auto", fewer of larger ones; a pass keeps no graph."""


def settle(images: Tensor, lr: Tensor, operator: LinearOperator, tolerance: float = 0.0) -> ExactResult:
    """8-bit pictures whose files shrink to the photo byte for byte, or to within the tolerance, which is never called exact.

    Args:
        images: (n, 3, R, R) around [0, 1].
        lr: (3, s, s) in [0, 1] on the 8-bit grid.
        operator: the downscaling.
        tolerance: grey levels; each picture then has a photo of its own to shrink to, the nearest to what it does shrink to.
            Where no 8-bit picture does, a nearer one is taken, at last the photo itself.
    """
    if not tolerance:
        return make_exact(images, lr, operator)
    photo, most = (lr * GREY_LEVELS).round(), math.floor(tolerance)
    rows: list[ExactResult] = []
    for image in images:
        wanted = (operator(image.clamp(0, 1)) * GREY_LEVELS).round()
        tried: list[tuple[float, ExactResult]] = []
        for room in dict.fromkeys((most, max(0, most - 1), max(0, most - 2), most // 2, 0)):
            target = wanted.clamp(photo - room, photo + room).clamp(0, GREY_LEVELS) / GREY_LEVELS
            row = make_exact(image[None], target, operator)
            tried.append((float((downscale_saved(row.images, operator)[0].double() - photo).abs().max()), row))
            if tried[-1][0] <= tolerance:
                break
        rows.append(min(tried, key=lambda pair: pair[0])[1])
    pictures = torch.cat([row.images for row in rows])
    misses = downscale_saved(pictures, operator).double() - photo
    return ExactResult(
        images=pictures,
        exact=torch.zeros(len(pictures), dtype=torch.bool),
        error=misses.square().flatten(1).mean(1).sqrt().float(),
        worst=misses.abs().flatten(1).amax(1).long(),
        moved=torch.cat([row.moved for row in rows]),
        rounds=torch.cat([row.rounds for row in rows]),
    )


@dataclass(frozen=True)
class PosteriorSettings:
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
        reference: a sharp, aligned face whose look is taken over: random numbers are found that answer its own small version
            with it (`encode`), and the seeds' numbers are moved towards them. Empty: none.
        towards: another seed to move towards, or -1 for none; not together with a reference.
        blend: how far, from 0 (the seed's own numbers) to 1.
        interpolate: so many steps of a walk from `base` to the reference or to `towards`: seed k stands k of them along.
            0: none.
    """

    temperature: float = 0.9
    sharpness: float = 0.0
    fresh: tuple[str, ...] = LEVELS
    base: int = 0
    tolerance: float = 0.0
    reference: str = ""
    towards: int = -1
    blend: float = 0.7
    interpolate: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.fresh, str | list):
            object.__setattr__(self, "fresh", (self.fresh,) if isinstance(self.fresh, str) else tuple(self.fresh))
        check_kinds(self)
        if self.base < 0:
            raise MethodError(f"base ({self.base}) must be a seed, 0 or more.")
        if not 0 <= self.temperature <= 2:
            raise MethodError(f"temperature ({self.temperature}) must lie in [0, 2]; 1 is as trained.")
        if not -3 <= self.sharpness <= 4:
            raise MethodError(f"sharpness ({self.sharpness}) must lie in [-3, 4]; 0 is an average photograph.")
        if self.tolerance and not 1 <= self.tolerance <= MOST:
            raise MethodError(f"tolerance ({self.tolerance}) must be 0 or from 1 to {MOST:g} grey levels.")
        if unknown := [level for level in self.fresh if level not in LEVELS]:
            raise MethodError(f"fresh: {', '.join(map(str, unknown))} unknown; there are {', '.join(LEVELS)}.")
        if not self.fresh:
            raise MethodError(f"fresh: name one level or more of {', '.join(LEVELS)}.")
        if not 0 <= self.blend <= 1:
            raise MethodError(f"blend ({self.blend}) must lie in [0, 1]: 0 keeps the seed's own numbers.")
        if self.reference and self.towards >= 0:
            raise MethodError("reference and towards both say where to; give one of them.")
        if self.interpolate and (self.interpolate < 0 or not (self.reference or self.towards >= 0)):
            raise MethodError(
                f"interpolate ({self.interpolate}) must be a number of steps from 1 on, and needs a reference or towards to "
                "walk to."
            )

    def with_(self, controls: Mapping[str, Any]) -> PosteriorSettings:
        """A copy with some controls changed.

        Raises:
            MethodError: unknown controls.
        """
        known = [f.name for f in fields(self)]
        if unknown := [name for name in controls if name not in known]:
            raise MethodError(f"posterior has no control {', '.join(unknown)}; there are {', '.join(known)}.")
        return replace(self, **controls)


PRESETS: Mapping[str, PosteriorSettings] = {"default": PosteriorSettings()}


class Posterior:
    """One pass of a network for each answer.

    Args:
        prior: the network: a loaded one, an embedded name, a path or hub id, or None for the default.
        preset: "default".
        device, precision: as in `preimage.device`.
        batch: how many answers are made together.

    Raises:
        MethodError: an unknown preset, a batch that is none, or a network of another method.
        WeightsError: a network that cannot be loaded.
    """

    name = "posterior"
    capabilities = Capabilities(
        summary="one pass of a network whose last layer is the projection: many answers, exact by construction",
        steers=("temperature", *STAGE),
    )
    presets: ClassVar[Mapping[str, PosteriorSettings]] = PRESETS

    def __init__(
        self,
        prior: Sampler | str | Path | None = None,
        preset: str = "default",
        device: str = "auto",
        precision: str = "auto",
        batch: int | str = AUTO,
    ) -> None:
        if preset not in self.presets:
            raise MethodError(f"preset {preset!r} is unknown; there are {', '.join(self.presets)}.")
        chosen = parse_batch(batch)
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        given = prior is None or isinstance(prior, str | Path)
        self.network: Sampler = load_sampler(prior) if given else prior  # type: ignore[arg-type,assignment]
        if not isinstance(self.network, ConditionalGenerator | Chain):
            raise MethodError(
                f"a {type(prior).__name__} is no network of posterior. A prior is searched by another method "
                '(--method pulse; method="pulse"); posterior takes what its own recipes export.'
            )
        self.network.to(self.device).eval().requires_grad_(False)
        channels_last(self.network)
        self.batch = chosen or max(1, min(BATCH, BATCH * 128**2 // self.resolution**2))
        self.settings = self.presets[preset]
        self._known: dict[tuple[str, LinearOperator], dict[str, Tensor]] = {}  # by the hash of the file

    @property
    def resolution(self) -> int:
        return self.network.resolution

    def describe(self) -> dict[str, Any]:
        """Resolved settings, for run.yaml."""
        about = asdict(self.settings)
        return {
            "name": self.name, "prior": self.network.name, "prior_sha256": fingerprint(self.network),
            **about, "fresh": list(about["fresh"]),
        }  # fmt: skip

    def sample(
        self,
        lr: Tensor,
        /,
        seeds: Sequence[int],
        operator: Operator | str | None = None,
        on_step: OnStep | None = None,
        **controls: Any,
    ) -> Iterator[Candidates]:
        """Candidates of these seeds, batch by batch.

        Args:
            lr: (3, h, w) RGB in [0, 1] on the 8-bit grid (`preimage.image.check_lr`).
            seeds: one candidate each.
            operator: the linear downscaling; an object, a name, or None for bicubic.
            on_step: called once for each batch.
            **controls: of `PosteriorSettings`.

        Raises:
            OperatorError, InputError, MethodError: a photo, operator or control that does not fit.
        """
        lr = check_lr(lr)
        settings = self.check(controls, seeds)
        largest = self.network.first.resolution if isinstance(self.network, Chain) else self.resolution
        if isinstance(self.network, Chain) and max(lr.shape[-2:]) >= largest:
            raise OperatorError(
                f"the picture is {lr.shape[-1]}x{lr.shape[-2]}; {self.network.name} goes by way of {largest} pixels and takes "
                f"less than that."
            )
        return self._sample(lr, tuple(seeds), operator_for(lr, self.resolution, operator), settings, on_step)

    def check(self, controls: Mapping[str, Any], seeds: Sequence[int] = ()) -> PosteriorSettings:
        """The settings with these controls, before any photo is looked at.

        Args:
            controls: of `PosteriorSettings`.
            seeds: that will be asked for.

        Raises:
            InputError, MethodError: controls that cannot work with this network, a reference that is none.
        """
        settings = self.settings.with_(controls)
        if settings.tolerance and not self.network.config.tolerant:
            raise MethodError(
                f"tolerance: {self.network.name} was not trained with noisy photos and can only be exact; leave it at 0."
            )
        if not set(settings.fresh) & self.network.config.z_shapes.keys():
            raise MethodError(f"fresh: {self.network.name} has no level {', '.join(settings.fresh)}.")
        if settings.interpolate and seeds and max(seeds) > settings.interpolate:
            raise MethodError(
                f"interpolate ({settings.interpolate}): seeds are the steps of the walk, 0 to {settings.interpolate}; "
                f"{max(seeds)} is beyond."
            )
        if settings.reference:
            (width, height), side = picture_size(settings.reference), self.resolution
            if min(width, height) < side:
                raise MethodError(
                    f"{settings.reference}: {width}x{height} pixels, but a reference must have {side} or more on a side."
                )
        return settings

    def _sample(
        self,
        lr: Tensor,
        seeds: tuple[int, ...],
        operator: LinearOperator,
        settings: PosteriorSettings,
        on_step: OnStep | None,
    ) -> Iterator[Candidates]:
        while seeds:
            began, chosen = time.monotonic(), seeds[: self.batch]
            z = self.random(chosen, settings, operator)
            images = self._answers(lr, operator, z, settings.tolerance)
            if images is None:
                self.batch = halved(chosen, self.network.name)
                continue
            seeds = seeds[len(chosen) :]
            if on_step is not None:
                on_step(0, torch.arange(len(chosen)))
            before = lr_error(images, lr, operator)
            exact = settle(images, lr, operator, settings.tolerance)
            yield Candidates(
                images=exact.images.float() / GREY_LEVELS, seeds=chosen, lr=lr, operator=operator, error=exact.error,
                exact=exact.exact, moved=exact.moved, error_before=before, steps=torch.ones(len(chosen), dtype=torch.long),
                latents={f"z-{level}": value.cpu() for level, value in z.items()}, seconds=time.monotonic() - began,
                method=self.name, prior=self.network.name, tolerance=settings.tolerance,
                worst=exact.worst if settings.tolerance else None,
            )  # fmt: skip

    def random(
        self, seeds: Sequence[int], settings: PosteriorSettings, operator: LinearOperator | None = None
    ) -> dict[str, Tensor]:
        """The random numbers of these seeds, by level, as the settings ask for.

        Args:
            seeds: one row each.
            settings: how.
            operator: the downscaling, which a reference needs.

        Raises:
            InputError: a reference that is no picture.
        """

        def drawn(rows: Sequence[int]) -> dict[str, Tensor]:
            z = draw(self.network.config, rows, self.device, settings.sharpness)
            return {k: x if k == SHARPNESS else settings.temperature * x for k, x in z.items()}

        steps, own, base = settings.interpolate, drawn(seeds), drawn([settings.base])
        z = {k: x if k in settings.fresh and not steps else base[k].expand_as(x) for k, x in own.items()}
        shares = [seed / steps for seed in seeds] if steps else [settings.blend] * len(seeds)
        if settings.reference and operator is not None:  # as it was found: it is to be met, at any temperature
            return blend(z, self._encoded(settings.reference, operator), shares)
        return blend(z, drawn([settings.towards]), shares) if settings.towards >= 0 else z

    def _encoded(self, reference: str, operator: LinearOperator) -> dict[str, Tensor]:
        """The numbers of a reference, found once for each downscaling."""
        from PIL import Image, ImageOps

        key = (sha256(Path(reference)), operator)
        if key not in self._known:
            side = self.resolution
            with open_image(Path(reference)) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
            square = ImageOps.fit(upright, (side, side), Image.Resampling.LANCZOS)
            self._known[key] = encode(self.network, operator, as_picture(square).pixels)
        return self._known[key]

    def _answers(
        self, lr: Tensor, operator: LinearOperator, z: Mapping[str, Tensor], tolerance: float
    ) -> Tensor | None:
        """Pictures (n, 3, R, R) on the CPU; None where memory ran out."""
        photo = lr.to(self.device).expand(len(z[STAGE[0]]), -1, -1, -1)
        try:
            with torch.no_grad(), autocast(self.device, self.dtype):
                return answer(self.network, operator, photo, z, tolerance).cpu()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None
