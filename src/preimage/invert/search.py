"""The latent search that PULSE and SR-NAM share: walk until the degraded picture is the photo.

Many candidates run as one batch, yet each is alone: its own loss, its own best iterate, its own stop. A candidate that is
done leaves the batch and stops costing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from preimage.degrade.degradation import Degradation
from preimage.generate.prior import Prior, sphere_to_w
from preimage.invert.listener import Listener, Step, stops
from preimage.invert.search_settings import OPTIMISERS, SCHEDULES, SearchSettings
from preimage.invert.walk import leave, norms, start

FORWARDS_PER_STEP = 2
"""A step is one forward and one backward pass; the prior is frozen, so the backward pass costs one forward more, not two."""
PROGRESS = 0.01
"""Relative fall of the error that patience waits for."""


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
        trace: (n, steps) error of every step in the measure of the loss, NaN from where a candidate was done.
        degradation: (n, …) noise of the degradation in that iterate, or None where it has none.
        stopped: whether a listener ended the search.
    """

    images: Tensor
    latents: Tensor
    noise: list[Tensor]
    mse: Tensor
    steps: Tensor
    l1: Tensor
    trace: Tensor
    degradation: Tensor | None = None
    stopped: bool = False


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


def latents_at(prior: Prior, u: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """The latents that points u of the spheres stand for: w, or, where the prior has no W (ProGAN), z on its own sphere."""
    return sphere_to_w(u, mean, std) if "W" in prior.spaces else u * std + mean


def search(
    prior: Prior,
    degradation: Degradation,
    lr: Tensor,
    seeds: Sequence[int],
    settings: SearchSettings,
    listener: Listener | None = None,
    at: Mapping[str, Tensor] | None = None,
) -> Found:
    """Find latents whose pictures degrade to the photo (PULSE, sections 3.1 and 3.2; SR-NAM, section 3.4).

    Args:
        prior: a generator of pictures (n, 3, R, R).
        degradation: what made the photo.
        lr: the photo, (3, h, w) in [0, 1].
        seeds: one candidate each; the result of a seed does not depend on the others.
        settings: how.
        listener: called after each step.
        at: latents and noise maps to begin with (`Found`), by the names of `Candidates.latents`; None draws them.

    Returns:
        The best iterate of every candidate: lowest downscaling error until it is within eps, from then on lowest spread
        of the rows.
    """
    lr = lr.to(prior.mean_latent.device)
    mean, std = (t.to(lr.device) for t in prior.gaussian_fit)
    walkers = start(prior, seeds, settings, degradation, at)
    optimiser = OPTIMISERS[settings.optimiser](walkers.parameters(), lr=settings.lr)
    rows = prior.latent_shape[0]
    n = len(seeds)
    unknown = lr.new_full((n,), float("inf"))
    best = Found(
        images=lr.new_zeros(n, 3, prior.resolution, prior.resolution),
        latents=lr.new_zeros(n, *prior.latent_shape),
        noise=[lr.new_zeros(n, 1, s, s) for s in prior.noise_sizes],
        mse=unknown,
        steps=torch.zeros(n, dtype=torch.long),
        l1=unknown.clone(),
        trace=lr.new_full((n, settings.steps), float("nan")),
        degradation=None if walkers.degradation is None else lr.new_zeros(walkers.degradation[:, 0].shape),
    )
    best_score = unknown.clone()
    waits = _Patience(unknown.clone(), settings.patience)

    for step in range(settings.steps):
        latents = latents_at(prior, walkers.u, mean, std)
        if settings.tied:
            latents = latents.expand(-1, rows, -1)
        noise = [*walkers.searched, *walkers.frozen]
        images = prior.synthesize(latents, noise)
        nuisance = walkers.degradation_noise(degradation, seeds, step, settings)
        small = degradation(images, nuisance).float()
        mse, l1 = (small - lr).square().mean(dim=(1, 2, 3)), (small - lr).abs().mean(dim=(1, 2, 3))
        error = l1 if settings.loss == "l1" else mse
        spread = geocross(latents)
        # within eps the error counts as eps: from there on only the spread of the rows is improved
        loss = settings.l2 * error.clamp_min(settings.eps) + settings.geocross * spread

        with torch.no_grad():
            # any iterate within eps beats any outside
            score = torch.where(error <= settings.eps, spread - 1e6, error)
            better = score < best_score[walkers.index]
            where = walkers.index[better.cpu()]
            best_score[where], best.mse[where], best.l1[where] = score[better], mse[better], l1[better]
            best.images[where], best.latents[where] = images[better].float(), latents[better]
            for kept, current in zip(best.noise, noise, strict=True):
                kept[where] = current[better]
            if best.degradation is not None and nuisance is not None:
                best.degradation[where] = nuisance[better]
            best.trace[walkers.index, step] = error
            best.steps[walkers.index] += 1
            going = (error > settings.stop) & waits.on(walkers.index, error, step)
        if listener is not None and stops(listener, _step(step, settings, seeds, walkers.index[going.cpu()], best)):
            best.stopped = True
            break
        if not going.any():
            break

        for group in optimiser.param_groups:
            group["lr"] = settings.lr * SCHEDULES[settings.schedule](step / settings.steps)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss.sum())
        optimiser.step()
        if settings.sphere:
            with torch.no_grad():
                for p, radius in zip(walkers.parameters(), walkers.radii, strict=True):
                    p.mul_(radius / norms(p))
        if not going.all():
            leave(walkers, optimiser, going)
    return best


def _step(index: int, settings: SearchSettings, seeds: Sequence[int], going: Tensor, best: Found) -> Step:
    """What a listener is told: of the candidates that go on, the best so far."""
    where = going.to(best.mse.device)
    return Step(
        index,
        settings.steps,
        tuple(seeds[i] for i in going.tolist()),
        255 * best.mse[where].sqrt(),
        lambda: best.images[where].clamp(0, 1),
    )


class _Patience:
    """Which candidates still make progress.

    Args:
        reached: (n,) lowest errors that counted, infinite to begin with.
        patience: steps without progress; 0 waits for ever.
    """

    def __init__(self, reached: Tensor, patience: int) -> None:
        self.reached, self.patience = reached, patience
        self.since = torch.zeros(len(reached), dtype=torch.long, device=reached.device)

    def on(self, index: Tensor, error: Tensor, step: int) -> Tensor:
        """Whether the candidates at `index` go on after this step, (m,) bool."""
        if not self.patience:
            return torch.ones_like(error, dtype=torch.bool)
        progress = error < (1 - PROGRESS) * self.reached[index]
        where = index[progress.cpu()]
        self.reached[where], self.since[where] = error[progress], step
        return step - self.since[index] < self.patience
