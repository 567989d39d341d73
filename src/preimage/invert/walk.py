"""The walkers of a latent search: what is optimised for each candidate, where it begins, how it joins the batch and leaves it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from preimage.degrade.degradation import Degradation
from preimage.degrade.learned import NOISE
from preimage.errors import MethodError
from preimage.generate.prior import Prior, told_maps, w_to_sphere
from preimage.invert.optimisers import OPTIMISERS
from preimage.invert.search_settings import SearchSettings
from preimage.seeds import normal

T = TypeVar("T")


def norms(x: Tensor) -> Tensor:
    """Norm over all dimensions from the third on, kept for broadcasting: one sphere per candidate and row (or map)."""
    return (x.square().sum(dim=tuple(range(2, x.ndim)), keepdim=True) + 1e-9).sqrt()


def onto_spheres(x: Tensor, radii: Tensor) -> Tensor:
    """What to multiply x by to have it on its spheres; where a radius is infinite, not outside the usual sphere."""
    length = norms(x)
    return torch.where(radii.isinf(), (math.prod(x.shape[2:]) ** 0.5 / length).clamp(max=1), radii / length)


@dataclass
class Found:
    """What a search found, the best iterate of each candidate.

    Attributes:
        images: (n, 3, R, R), not clamped.
        latents: W+ (n, rows, dimensions).
        noise: one map (n, 1, side, side) per noise input of the prior.
        mse: (n,) mean squared downscaling error on [0, 1] of that iterate.
        steps: (n,) steps spent, also after the best iterate.
        l1: (n,) mean absolute downscaling error on [0, 1] of that iterate.
        trace: (n, steps) error of every step in the measure of the loss, NaN from where a candidate was done; of coarse steps it
            is that of the smaller picture.
        seconds: (n,) time spent; that of a step is shared evenly by the candidates of the batch.
        degradation: (n, …) noise of the degradation in that iterate, or None where it has none.
    """

    images: Tensor
    latents: Tensor
    noise: list[Tensor]
    mse: Tensor
    steps: Tensor
    l1: Tensor
    trace: Tensor
    seconds: Tensor
    degradation: Tensor | None = None


@dataclass
class Walkers:
    """Candidates on their way: one row of every tensor is one candidate, and rows know nothing of one another.

    Attributes:
        photos: (m, 3, h, w).
        u: (m, rows, d), the latents' points.
        searched, frozen: the prior's noise maps, (m, 1, side, side) each.
        radii: of the spheres of what moves; infinite for noise maps that begin silent: they are free up to the usual loudness.
        memory: of the optimiser, for each of what moves.
        best: the best iterate, and the steps taken.
        score: (m,) of that iterate; the lowest is the best.
        reached: (m,) the lowest error that counted as progress.
        since: (m,) step of that progress.
        coarse: (m,) bool on the CPU, whether they look at smaller pictures still (`preimage.invert.coarse`).
        degradation: (m, 1, …), the noise of the degradation; None where it has none.
        degradation_moves: whether that noise is optimised.
    """

    photos: Tensor
    u: Tensor
    searched: list[Tensor]
    frozen: list[Tensor]
    radii: list[Tensor]
    memory: list[list[Tensor]]
    best: Found
    score: Tensor
    reached: Tensor
    since: Tensor
    coarse: Tensor
    degradation: Tensor | None = None
    degradation_moves: bool = False

    def moving(self) -> list[Tensor]:
        """What the optimiser moves."""
        noise = [self.degradation] if self.degradation is not None and self.degradation_moves else []
        return [self.u, *self.searched, *noise]

    def degradation_noise(
        self, degradation: Degradation, seeds: Sequence[int], settings: SearchSettings
    ) -> Tensor | None:
        """The noise (m, …) of this step; None where the degradation has none."""
        if self.degradation is None:
            return None
        noise = self.degradation[:, 0]
        if settings.degradation_noise != "resampled":
            return noise
        drawn = [
            degradation.draw([seed], f"degradation{step}") if step else noise[i : i + 1]
            for i, (seed, step) in enumerate(zip(seeds, self.best.steps.tolist(), strict=True))
        ]
        return torch.cat([x.to(noise.device) for x in drawn if x is not None])


def start(
    prior: Prior,
    seeds: Sequence[int],
    settings: SearchSettings,
    degradation: Degradation | None = None,
    at: Mapping[str, Tensor] | None = None,
    photos: Tensor | None = None,
) -> Walkers:
    """Points to begin from: random ones on the spheres, one stream of numbers per seed and purpose, or those of candidates.

    Args:
        prior: whose latents they are.
        seeds: one walker each.
        settings: how many rows, and which noise maps move.
        degradation: whose noise they carry.
        at: latents and noise maps of candidates, one row for each seed; what is missing is drawn.
        photos: where they go, (n, 3, h, w); None where they will not walk.

    Raises:
        MethodError: a noise map to silence that the prior does not have, latents of another prior.
    """
    device, at, n = prior.mean_latent.device, at or {}, len(seeds)
    rows, d = prior.latent_shape
    count = 1 if settings.tied or settings.tie_rows else rows
    u = normal(seeds, (count, d), "latent").to(device)
    if "W" in prior.spaces:  # z has a sphere of its own
        u = settings.spread * u
    if settings.tie_rows and not settings.tied:
        u = u.repeat(1, rows, 1)
    if "latents" in at:
        u = sphere_at(prior, _rows(at, "latents", (n, rows, d)).to(device))[:, : 1 if settings.tied else rows]
    noise = [normal(seeds, (1, s, s), f"noise{i}").to(device) for i, s in enumerate(prior.noise_sizes)]
    for i, s in enumerate(prior.noise_sizes):
        if f"noise{i}" in at:
            noise[i] = _rows(at, f"noise{i}", (n, 1, s, s)).to(device, copy=True)
    for i in told_maps(prior):
        if f"noise{i}" not in at:
            noise[i] = torch.zeros_like(noise[i])
    for i in settings.silent_noise:
        if not -len(noise) <= i < len(noise):
            raise MethodError(f"silent_noise {i}: this prior has noise maps 0 to {len(noise) - 1}.")
        noise[i] = torch.zeros_like(noise[i])
    drawn = None if degradation is None else degradation.draw(seeds)
    if drawn is not None:
        drawn = (_rows(at, NOISE, tuple(drawn.shape)) if NOISE in at else drawn).to(device)
    k, far = settings.trainable_noise, torch.full((n,), float("inf"), device=device)
    walkers = Walkers(
        photos=torch.zeros(n, 3, 1, 1) if photos is None else photos.to(device),
        u=u.clone(),
        searched=noise[:k],
        frozen=noise[k:],
        radii=[],
        memory=[],
        best=_nothing_yet(prior, n, settings, drawn),
        score=far,
        reached=far.clone(),
        since=torch.zeros(n, dtype=torch.long),
        coarse=torch.zeros(n, dtype=torch.bool),
        degradation=None if drawn is None else drawn[:, None].clone(),
        degradation_moves=settings.degradation_noise == "optimised",
    )
    walkers.radii = [norms(p) for p in walkers.moving()]
    silenced = {i % len(noise) for i in settings.silent_noise}
    for i, (searched, radius) in enumerate(zip(walkers.searched, walkers.radii[1:], strict=False)):
        if f"noise{i}" in at and i not in silenced:
            radius[~searched.flatten(1).any(1)] = torch.inf
    walkers.memory = [OPTIMISERS[settings.optimiser].begin(p) for p in walkers.moving()]
    return walkers


def _nothing_yet(prior: Prior, n: int, settings: SearchSettings, noise: Tensor | None) -> Found:
    zero = torch.zeros(n, device=prior.mean_latent.device)
    return Found(
        images=zero.new_zeros(n, 3, prior.resolution, prior.resolution),
        latents=zero.new_zeros(n, *prior.latent_shape),
        noise=[zero.new_zeros(n, 1, s, s) for s in prior.noise_sizes],
        mse=zero + float("inf"),
        steps=torch.zeros(n, dtype=torch.long),
        l1=zero + float("inf"),
        trace=zero.new_full((n, settings.steps), float("nan")),
        seconds=torch.zeros(n, dtype=torch.float64),
        degradation=None if noise is None else torch.zeros_like(noise),
    )


def sphere_at(prior: Prior, latents: Tensor) -> Tensor:
    """The points that latents (n, rows, d) stand for; inverse of `preimage.invert.search.latents_at`."""
    mean, std = (t.to(latents.device) for t in prior.gaussian_fit)
    return w_to_sphere(latents, mean, std) if "W" in prior.spaces else (latents - mean) / std


def _rows(at: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    if tuple(at[name].shape) != shape:
        raise MethodError(
            f"{name} to go on from: {tuple(at[name].shape)}, but this prior and these seeds need {shape}."
        )
    return at[name].float()


def join(walkers: T, others: T) -> T:
    """Both in one batch, the others last; of `Walkers` or `Found`."""
    joined: T = _each(torch.cat, walkers, others)
    return joined


def select(walkers: T, chosen: Tensor) -> T:
    """Some rows of `Walkers` or `Found`, each with all that it remembers; chosen: (m,) bool, or places."""
    selected: T = _each(lambda rows: rows[0][chosen.to(rows[0].device)], walkers)
    return selected


@torch.no_grad()
def _each(how: Callable[[list[Tensor]], Tensor], *trees: Any) -> Any:
    """One tree of fields and lists out of several of the same form, tensor by tensor."""
    first = trees[0]
    if isinstance(first, Tensor):
        return how(list(trees))
    if isinstance(first, list):
        return [_each(how, *parts) for parts in zip(*trees, strict=True)]
    if is_dataclass(first) and not isinstance(first, type):
        return replace(first, **{f.name: _each(how, *(getattr(tree, f.name) for tree in trees)) for f in fields(first)})
    return first
