"""The latent search that PULSE and SR-NAM share: walk on spheres until the picture downscales to the photo.

Many candidates run as one batch, yet each is alone: its own loss, its own best iterate, its own stop. A candidate that is
done leaves the batch and stops costing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from preimage.errors import MethodError
from preimage.generate.prior import Prior, sphere_to_w
from preimage.seeds import normal

FORWARDS_PER_STEP = 2
"""A step is one forward and one backward pass; the prior is frozen, so the backward pass costs one forward more, not two."""

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


@dataclass(frozen=True)
class SearchSettings:
    """How to search. Defaults are PULSE's, as published.

    Attributes:
        steps: most steps per candidate.
        lr: learning rate, multiplied by the schedule.
        optimiser: adam, adamax, sgd or sgdm; every step ends on the sphere.
        schedule: fixed, linear1cycle or linear1cycledrop.
        eps: tolerance of the mean squared downscaling error on [0, 1]; inside it the error counts as eps. A mean square
            of eps is an RMS of 255 sqrt(eps) grey levels: 1e-3 is 8.1, 1e-4 is 2.5.
        l2: weight of the downscaling error.
        geocross: weight of the geodesic spread between the rows of W+.
        stop: mean squared downscaling error at which a candidate is done; 0 runs all steps.
        tie_rows: start all rows of W+ from one point, as in W; they may part from there.
        tied: keep all rows equal for good (search in W).
        trainable_noise: how many noise maps, coarse first, are searched too.
        silent_noise: indices of noise maps set to zero (PULSE silences the last of StyleGAN's 18).
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

    def __post_init__(self) -> None:
        for value, choices, key in ((self.optimiser, OPTIMISERS, "optimiser"), (self.schedule, SCHEDULES, "schedule")):
            if value not in choices:
                raise MethodError(f"{key} {value!r} is unknown; there are {', '.join(choices)}.")
        if self.steps < 1 or not self.lr > 0 or not self.eps >= 0 or not self.stop >= 0:
            raise MethodError(
                f"steps ({self.steps}) must be at least 1, lr ({self.lr}) above 0, eps ({self.eps}) and stop ({self.stop}) "
                "not below 0."
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


@dataclass
class Found:
    """What a search found, the best iterate of each candidate.

    Attributes:
        images: (n, 3, R, R), not clamped.
        latents: W+ (n, rows, dimensions).
        noise: one map (n, 1, side, side) per noise input of the prior.
        mse: (n,) mean squared downscaling error on [0, 1] of that iterate.
        steps: (n,) steps spent, also after the best iterate.
    """

    images: Tensor
    latents: Tensor
    noise: list[Tensor]
    mse: Tensor
    steps: Tensor


def norms(x: Tensor) -> Tensor:
    """Norm over all dimensions from the third on, kept for broadcasting: one sphere per candidate and row (or map)."""
    return (x.square().sum(dim=tuple(range(2, x.ndim)), keepdim=True) + 1e-9).sqrt()


def geocross(latents: Tensor) -> Tensor:
    """PULSE's pull of W+ towards W: mean over all ordered pairs of rows of d (2 atan2(|a-b|, |a+b|))² / 8.

    d is the latent dimension (512 in the paper). The angle is exact for rows of equal norm.

    Args:
        latents: (n, rows, d).

    Returns:
        (n,), zero for equal rows.
    """
    if latents.shape[1] == 1:
        return latents.new_zeros(len(latents))
    a, b = latents[:, :, None], latents[:, None]
    apart = ((a - b).square().sum(-1) + 1e-9).sqrt()
    together = ((a + b).square().sum(-1) + 1e-9).sqrt()
    angle = 2 * torch.atan2(apart, together)
    return (latents.shape[-1] * angle.square()).mean(dim=(1, 2)) / 8


@dataclass
class _Walkers:
    """The candidates still on their way: what is optimised, and its bookkeeping; row i belongs to index[i]."""

    index: Tensor
    u: Tensor  # (n, rows, d) on spheres
    searched: list[Tensor]  # noise maps on spheres
    frozen: list[Tensor]  # the other noise maps
    radii: list[Tensor] = field(default_factory=list)

    def parameters(self) -> list[Tensor]:
        return [self.u, *self.searched]


def start(prior: Prior, seeds: Sequence[int], settings: SearchSettings) -> _Walkers:
    """Random points on the spheres, one stream of numbers per seed."""
    device = prior.mean_latent.device
    rows, d = prior.latent_shape
    count = 1 if settings.tied or settings.tie_rows else rows
    u = normal(seeds, (count, d), "latent").to(device)
    if settings.tie_rows and not settings.tied:
        u = u.repeat(1, rows, 1)
    noise = [normal(seeds, (1, s, s), f"noise{i}").to(device) for i, s in enumerate(prior.noise_sizes)]
    for i in settings.silent_noise:
        if not -len(noise) <= i < len(noise):
            raise MethodError(f"silent_noise {i}: this prior has noise maps 0 to {len(noise) - 1}.")
        noise[i] = torch.zeros_like(noise[i])
    k = settings.trainable_noise
    walkers = _Walkers(torch.arange(len(seeds)), u, noise[:k], noise[k:])
    walkers.radii = [norms(p) for p in walkers.parameters()]
    for p in walkers.parameters():
        p.requires_grad_(True)
    return walkers


def latents_at(prior: Prior, u: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """The latents that points u of the spheres stand for: w, or, where the prior has no W (ProGAN), z on its own sphere."""
    return sphere_to_w(u, mean, std) if "W" in prior.spaces else u * std + mean


def search(
    prior: Prior,
    degrade: Callable[[Tensor], Tensor],
    lr: Tensor,
    seeds: Sequence[int],
    settings: SearchSettings,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Found:
    """Find latents whose pictures downscale to the photo (PULSE, sections 3.1 and 3.2).

    Args:
        prior: a generator of pictures (n, 3, R, R).
        degrade: the downscaling, differentiable, (n, 3, R, R) -> (n, 3, h, w).
        lr: the photo, (3, h, w) in [0, 1].
        seeds: one candidate each; the result of a seed does not depend on the others.
        settings: how.
        on_step: called after each step with the step and the indices of the candidates still searching.

    Returns:
        The best iterate of every candidate: lowest downscaling error until it is within eps, from then on lowest spread
        of the rows.
    """
    lr = lr.to(prior.mean_latent.device)
    mean, std = (t.to(lr.device) for t in prior.gaussian_fit)
    walkers = start(prior, seeds, settings)
    optimiser = OPTIMISERS[settings.optimiser](walkers.parameters(), lr=settings.lr)
    rows = prior.latent_shape[0]
    n = len(seeds)
    best = Found(
        images=lr.new_zeros(n, 3, prior.resolution, prior.resolution),
        latents=lr.new_zeros(n, *prior.latent_shape),
        noise=[lr.new_zeros(n, 1, s, s) for s in prior.noise_sizes],
        mse=lr.new_full((n,), float("inf")),
        steps=torch.zeros(n, dtype=torch.long),
    )
    best_score = torch.full((n,), float("inf"), device=lr.device)

    for step in range(settings.steps):
        latents = latents_at(prior, walkers.u, mean, std)
        if settings.tied:
            latents = latents.expand(-1, rows, -1)
        noise = [*walkers.searched, *walkers.frozen]
        images = prior.synthesize(latents, noise)
        mse = (degrade(images).float() - lr).square().mean(dim=(1, 2, 3))
        spread = geocross(latents)
        # within eps the error counts as eps: from there on only the spread of the rows is improved
        loss = settings.l2 * mse.clamp_min(settings.eps) + settings.geocross * spread

        with torch.no_grad():
            # any iterate within eps beats any outside
            score = torch.where(mse <= settings.eps, spread - 1e6, mse)
            better = score < best_score[walkers.index]
            where = walkers.index[better]
            best_score[where], best.mse[where] = score[better], mse[better]
            best.images[where], best.latents[where] = images[better].float(), latents[better]
            for kept, current in zip(best.noise, noise, strict=True):
                kept[where] = current[better]
            best.steps[walkers.index] += 1
            going = mse > settings.stop
        if on_step is not None:
            on_step(step, walkers.index[going])
        if not going.any():
            break

        for group in optimiser.param_groups:
            group["lr"] = settings.lr * SCHEDULES[settings.schedule](step / settings.steps)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss.sum())
        optimiser.step()
        with torch.no_grad():
            for p, radius in zip(walkers.parameters(), walkers.radii, strict=True):
                p.mul_(radius / norms(p))
        if not going.all():
            _leave(walkers, optimiser, going)
    return best


def _leave(walkers: _Walkers, optimiser: torch.optim.Optimizer, staying: Tensor) -> None:
    """Take finished candidates out of the batch, and out of the optimiser's memory."""
    walkers.index = walkers.index[staying.cpu()]
    walkers.frozen = [x[staying] for x in walkers.frozen]
    walkers.radii = [r[staying] for r in walkers.radii]
    fewer = []
    for p in walkers.parameters():
        kept = p.detach()[staying].requires_grad_(True)
        state = optimiser.state.pop(p, {})
        per_candidate = {k: v for k, v in state.items() if torch.is_tensor(v) and v.shape == p.shape}
        optimiser.state[kept] = {**state, **{k: v[staying] for k, v in per_candidate.items()}}
        fewer.append(kept)
    walkers.u, *walkers.searched = fewer
    optimiser.param_groups[0]["params"] = fewer
