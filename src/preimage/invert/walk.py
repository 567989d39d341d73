"""The walkers of a latent search: what is optimised for each candidate, where it begins, and how it leaves the batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from preimage.degrade.degradation import Degradation
from preimage.degrade.learned import NOISE
from preimage.errors import MethodError
from preimage.generate.prior import Prior, w_to_sphere
from preimage.invert.search_settings import SearchSettings
from preimage.seeds import normal


def norms(x: Tensor) -> Tensor:
    """Norm over all dimensions from the third on, kept for broadcasting: one sphere per candidate and row (or map)."""
    return (x.square().sum(dim=tuple(range(2, x.ndim)), keepdim=True) + 1e-9).sqrt()


@dataclass
class Walkers:
    """The candidates still on their way: what is optimised, and its bookkeeping; row i belongs to index[i].

    Attributes:
        index: (m,) places in the list of seeds, on the CPU.
        u: (m, rows, d), the latents' points.
        searched, frozen: the prior's noise maps, (m, 1, side, side) each.
        radii: of the parameters' spheres.
        degradation: (m, 1, …), the noise of the degradation; None where it has none.
        degradation_moves: whether that noise is optimised.
    """

    index: Tensor
    u: Tensor
    searched: list[Tensor]
    frozen: list[Tensor]
    radii: list[Tensor] = field(default_factory=list)
    degradation: Tensor | None = None
    degradation_moves: bool = False

    def parameters(self) -> list[Tensor]:
        moving = [self.degradation] if self.degradation is not None and self.degradation_moves else []
        return [self.u, *self.searched, *moving]

    def degradation_noise(
        self, degradation: Degradation, seeds: Sequence[int], step: int, settings: SearchSettings
    ) -> Tensor | None:
        """The noise (m, …) of this step; None where the degradation has none."""
        if self.degradation is None:
            return None
        if settings.degradation_noise == "resampled" and step:
            drawn = degradation.draw([seeds[i] for i in self.index.tolist()], f"degradation{step}")
            assert drawn is not None
            return drawn.to(self.u.device)
        return self.degradation[:, 0]


def start(
    prior: Prior,
    seeds: Sequence[int],
    settings: SearchSettings,
    degradation: Degradation | None = None,
    at: Mapping[str, Tensor] | None = None,
) -> Walkers:
    """Points to begin from: random ones on the spheres, one stream of numbers per seed and purpose, or those of candidates.

    Args:
        prior: whose latents they are.
        seeds: one walker each.
        settings: how many rows, and which noise maps move.
        degradation: whose noise they carry.
        at: latents and noise maps of candidates, one row for each seed; what is missing is drawn.

    Raises:
        MethodError: a noise map to silence that the prior does not have, latents of another prior.
    """
    device, at = prior.mean_latent.device, at or {}
    rows, d = prior.latent_shape
    count = 1 if settings.tied or settings.tie_rows else rows
    u = normal(seeds, (count, d), "latent").to(device)
    if "W" in prior.spaces:  # z has a sphere of its own
        u = settings.spread * u
    if settings.tie_rows and not settings.tied:
        u = u.repeat(1, rows, 1)
    if "latents" in at:
        u = sphere_at(prior, _rows(at, "latents", (len(seeds), rows, d)).to(device))[:, : 1 if settings.tied else rows]
    noise = [normal(seeds, (1, s, s), f"noise{i}").to(device) for i, s in enumerate(prior.noise_sizes)]
    for i, s in enumerate(prior.noise_sizes):
        if f"noise{i}" in at:
            noise[i] = _rows(at, f"noise{i}", (len(seeds), 1, s, s)).to(device, copy=True)
    for i in settings.silent_noise:
        if not -len(noise) <= i < len(noise):
            raise MethodError(f"silent_noise {i}: this prior has noise maps 0 to {len(noise) - 1}.")
        noise[i] = torch.zeros_like(noise[i])
    k = settings.trainable_noise
    walkers = Walkers(torch.arange(len(seeds)), u.clone(), noise[:k], noise[k:])
    drawn = None if degradation is None else degradation.draw(seeds)
    if drawn is not None:
        drawn = _rows(at, NOISE, tuple(drawn.shape)) if NOISE in at else drawn
        walkers.degradation = drawn[:, None].to(device)
        walkers.degradation_moves = settings.degradation_noise == "optimised"
    walkers.radii = [norms(p) for p in walkers.parameters()]
    for p in walkers.parameters():
        p.requires_grad_(True)
    return walkers


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


def leave(walkers: Walkers, optimiser: Any, staying: Tensor) -> None:
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
    if walkers.degradation is not None:
        walkers.degradation = fewer[-1] if walkers.degradation_moves else walkers.degradation[staying]
    walkers.u, *walkers.searched = fewer[: 1 + len(walkers.searched)]
    optimiser.param_groups[0]["params"] = fewer
