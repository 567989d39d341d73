"""posterior: one pass, many answers, each of them consistent by construction (this package's own method; docs/posterior.md).

A network answers a photo y and random numbers z with a picture, and the projection onto all pictures that shrink to y is part of
the network: x = E y + G(A⁺y, z), then x + A⁺(y − A x). So it was trained, and so it answers; `make_exact` only rounds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.candidates import Candidates
from preimage.degrade.consistency import ExactResult, downscale_saved, lr_error, make_exact
from preimage.degrade.learned import Operator
from preimage.degrade.linear import LinearOperator, make_operator
from preimage.device import autocast, resolve_device, resolve_precision
from preimage.errors import MethodError, OperatorError
from preimage.image import as_picture, check_lr, open_image, picture_size
from preimage.invert.method import Capabilities, OnStep
from preimage.invert.problem import GREY_LEVELS, operator_for
from preimage.invert.settings import check_kinds
from preimage.memory import AUTO, halved, is_out_of_memory, parse_batch
from preimage.nets.conditional import LEVELS as STAGE
from preimage.nets.conditional import ConditionalGenerator
from preimage.nets.fingerprint import fingerprint
from preimage.nets.layers import channels_last
from preimage.nets.local import TEXTURE, Chain, LocalGenerator
from preimage.seeds import normal
from preimage.weight_files import sha256
from preimage.weights import load_upsampler

MOST = 64.0
"""Largest tolerance in grey levels; beyond it a photo says too little."""
BATCH = 16
"""Answers of up to 128 pixels that are made together where `batch` is "auto", fewer of larger ones; a pass keeps no graph."""


LEVELS = (*STAGE, TEXTURE)
"""Levels of random numbers, coarse to fine; the last one is of networks of two stages alone."""


class Drawn(Protocol):
    """Whatever says which random numbers it takes."""

    @property
    def z_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape for one picture, by level."""
        ...


Sampler = ConditionalGenerator | Chain


def draw(
    config: Drawn, seeds: Sequence[int], device: torch.device | str = "cpu", level: str | None = None
) -> dict[str, Tensor]:
    """Standard normal numbers of these seeds, by level, each (n, …); of one level alone where it is named."""
    shapes = config.z_shapes if level is None else {level: config.z_shapes[level]}
    return {name: normal(seeds, shape, f"posterior-{name}").to(device) for name, shape in shapes.items()}


def answer(
    network: Callable[..., Tensor],
    operator: LinearOperator,
    photo: Tensor,
    z: Mapping[str, Tensor],
    tolerance: float = 0.0,
) -> Tensor:
    """Pictures that shrink to the photos, differentiable.

    Args:
        network: pseudo-inverse enlargement, log2 of the photo's side, z and perhaps the tolerance to what a smooth enlargement
            lacks (`ConditionalGenerator`).
        operator: the downscaling A, from square pictures to square photos.
        photo: y, (n, 3, s, s) in [0, 1].
        z: random numbers by level.
        tolerance: so many grey levels every value of the photo may be missed by; the network is told.

    Returns:
        (n, 3, R, R) float32 around [0, 1], not clamped.
    """
    photo = photo.float()
    if isinstance(network, Chain):
        return _chained(network, operator, photo, z, tolerance)
    side = operator.hr_size[0]
    enlarged = operator.pinv(photo)
    size = photo.new_full((len(photo),), math.log2(operator.lr_size[0]))
    smooth = F.interpolate(photo, (side, side), mode="bicubic", align_corners=False)
    if not tolerance:
        return operator.project((smooth + network(enlarged, size, z)).float(), photo)
    picture = (smooth + network(enlarged, size, z, torch.full_like(size, tolerance))).float()
    return _towards(picture, operator, photo, tolerance)


def _towards(picture: Tensor, operator: LinearOperator, photo: Tensor, tolerance: float) -> Tensor:
    """The nearest picture, or nearly so, whose small version misses the photo by no more than the tolerance."""
    miss, free = operator.residual(picture, photo), tolerance / GREY_LEVELS
    return picture + operator.pinv(miss - miss.clamp(-free, free))


def _chained(
    network: Chain, operator: LinearOperator, photo: Tensor, z: Mapping[str, Tensor], tolerance: float
) -> Tensor:
    """The answer of the first stage, enlarged by the second one without changing it, and then held to the photo itself."""
    first, between = stages(operator, network.first.resolution)
    picture = answer(network.first, first, photo, z, tolerance).clamp(0, 1)
    return _towards(answer(network.second, between, picture, z), operator, photo, tolerance)


@lru_cache(maxsize=64)
def stages(operator: LinearOperator, side: int) -> tuple[LinearOperator, LinearOperator]:
    """A downscaling in two steps by way of a picture of `side` pixels: its second step, and its first, which is bicubic.

    With B the first step, the second one is A B⁺: what A makes of the smoothest picture behind the middle one.
    """
    between = make_operator("bicubic", hr_size=operator.hr_size[0], lr_size=side)
    rows, cols = (
        matrix @ torch.linalg.pinv(middle)
        for matrix, middle in ((operator.rows.cpu(), between.rows), (operator.cols.cpu(), between.cols))
    )
    return LinearOperator(rows, cols, name=f"{operator.name} from {side}"), between


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


def encode(
    network: Sampler, operator: LinearOperator, picture: Tensor, steps: int = 60, rate: float = 0.1
) -> dict[str, Tensor]:
    """Random numbers with which a picture's own small version is answered by that picture, as nearly as the network can.

    Adam from zero, on the mean absolute difference at full size and at half, with the density of the numbers as a prior.

    Args:
        network: frozen.
        operator: the downscaling between the sizes at hand.
        picture: (3, R, R) in [0, 1].
        steps: of the search.
        rate: of Adam.

    Returns:
        One row of numbers by level, none longer than such numbers are on average.
    """
    truth = picture[None].to(next(network.parameters()).device).float()
    photo = operator(truth).clamp(0, 1)
    z = {level: torch.zeros(1, *shape, device=truth.device) for level, shape in network.config.z_shapes.items()}
    optimiser = torch.optim.Adam([x.requires_grad_() for x in z.values()], lr=rate)
    for _ in range(steps):
        with torch.enable_grad():
            miss = answer(network, operator, photo, z) - truth
            loss = miss.abs().mean() + F.avg_pool2d(miss, 2).abs().mean()
            loss = loss + 1e-6 * torch.stack([x.square().sum() for x in z.values()]).sum()
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
        optimiser.step()
    return {level: x.detach() / x.detach().square().mean().sqrt().clamp_min(1) for level, x in z.items()}


def blend(z: Mapping[str, Tensor], other: Mapping[str, Tensor], shares: Sequence[float]) -> dict[str, Tensor]:
    """Random numbers moved from z towards other; their spread goes from that of the one to that of the other.

    Args:
        z: numbers by level, each (n, …).
        other: the same, or one row.
        shares: how far each row moves, from 0 to 1.
    """
    angles, out = torch.tensor(shares) * (math.pi / 2), dict[str, Tensor]()
    for level, x in z.items():
        c, s = (part.to(x.device).view(-1, *[1] * (x.ndim - 1)) for part in (angles.cos(), angles.sin()))
        y, axes = other[level], tuple(range(1, x.ndim))
        mixed = c * x + s * y
        own, target, found = (v.square().mean(axes, keepdim=True).sqrt() for v in (x, y, mixed))
        out[level] = mixed * (c.square() * own + s.square() * target) / found.clamp_min(1e-6)
    return out


def load_sampler(name: str | Path | None = None, device: str | torch.device = "cpu") -> Sampler:
    """A network of this method, frozen and in eval mode.

    Raises:
        WeightsError: see `preimage.weights.load_upsampler`.
        MethodError: a network of another method.
    """
    module = load_upsampler(name, device)
    if not isinstance(module, ConditionalGenerator | Chain):
        more = "; give the chain.safetensors beside it" if isinstance(module, LocalGenerator) else ""
        raise MethodError(f"{name}: holds a {type(module).__name__}, which posterior cannot use{more}.")
    return module


@dataclass(frozen=True)
class PosteriorSettings:
    """Controls of `Posterior`.

    Attributes:
        temperature: spread of the random numbers; 1 as trained, below it answers come nearer to each other and to the average, 0
            gives one answer. The default cuts off what the embedded network makes of the largest numbers: chains of texture.
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

    temperature: float = 0.8
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
            InputError, MethodError: a reference that is no picture, or too small.
        """
        config, z = self.network.config, dict[str, Tensor]()
        steps, shares = settings.interpolate, [settings.blend] * len(seeds)
        if steps:
            shares = [min(seed / steps, 1.0) for seed in seeds]

        def drawn(rows: Sequence[int], level: str) -> dict[str, Tensor]:
            return {k: settings.temperature * x for k, x in draw(config, rows, self.device, level).items()}

        for level in config.z_shapes:
            own = level in settings.fresh and not steps
            z |= drawn(seeds if own else [settings.base] * len(seeds), level)
        if settings.reference and operator is not None:  # as it was found: it is to be met, at any temperature
            return blend(z, self._encoded(settings.reference, operator), shares)
        if settings.towards >= 0:
            return blend(z, {k: x for level in z for k, x in drawn([settings.towards], level).items()}, shares)
        return z

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
