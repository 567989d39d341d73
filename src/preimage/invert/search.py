"""The latent search that PULSE and SR-NAM share: walk until the degraded picture is the photo.

Many candidates run as one batch, yet each is alone: its own photo, its own loss, its own best iterate, its own stop. A candidate that
is done leaves the batch and stops costing; another may take its place.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.degrade.degradation import Degradation
from preimage.generate.prior import Prior, sphere_to_w
from preimage.invert.coarse import coarse_of
from preimage.invert.listener import Listener, Step, stops
from preimage.invert.optimisers import OPTIMISERS
from preimage.invert.problem import Problem
from preimage.invert.queue import Ask, Row, latents_of, photos_of
from preimage.invert.search_settings import SCHEDULES, SearchSettings
from preimage.invert.walk import Found, Walkers, join, onto_spheres, select, start

FORWARDS_PER_STEP = 2
"""A step is one forward and one backward pass; the prior is frozen, so the backward pass costs one forward more, not two."""
PROGRESS = 0.01
"""Relative fall of the error that patience waits for."""


class Search:
    """A batch of candidates on their way to their photos (PULSE, sections 3.1 and 3.2; SR-NAM, section 3.4).

    `join` puts candidates into the batch, `step` moves all of them once and takes out those that are done. What a candidate becomes
    does not depend on the others, nor on when they join.

    Args:
        prior: a generator of pictures (n, 3, R, R).
        degradation: what made the photos.
        settings: how.
        listener: called after each step.

    Raises:
        MethodError: coarse steps with a prior or a degradation that cannot take them.

    Attributes:
        rows: the candidates at work.
        stopped: whether the listener ended the search.
    """

    def __init__(
        self, prior: Prior, degradation: Degradation, settings: SearchSettings, listener: Listener | None = None
    ) -> None:
        self.prior, self.degradation, self.settings = prior, degradation, settings
        self.rows: list[Row] = []
        self.stopped = False
        self._listener = listener
        self._walkers: Walkers | None = None
        self._coarse = coarse_of(prior, degradation, settings)
        self._mean, self._std = (t.to(prior.mean_latent.device) for t in prior.gaussian_fit)

    def join(self, rows: Sequence[Row], at: Mapping[str, Tensor] | None = None, seconds: float = 0.0) -> None:
        """Candidates that begin with the next step: at these latents, at those of their asks, or at random ones.

        Args:
            rows: which.
            at: latents and noise maps by the names of `Candidates.latents`, one row each.
            seconds: that it took to find these.
        """
        if not rows:
            return
        self.rows += rows
        seeds = [row.seed for row in rows]
        fresh = start(
            self.prior, seeds, self.settings, self.degradation, latents_of(rows) if at is None else at, photos_of(rows)
        )
        fresh.coarse[:] = self._coarse is not None
        fresh.best.seconds += seconds / len(rows)
        self._walkers = fresh if self._walkers is None else join(self._walkers, fresh)

    def step(self) -> tuple[list[Row], Found]:
        """Move every candidate once; those that are done, with the best iterate of each, in the order in which they joined.

        The best is the lowest downscaling error until it is within eps, from then on the lowest spread of the rows. Of those that
        begin on smaller pictures only the iterates after that count.
        """
        began, settings, walkers = time.monotonic(), self.settings, self._walkers
        assert walkers is not None
        for p in walkers.moving():
            p.requires_grad_(True)
        latents = latents_at(self.prior, walkers.u, self._mean, self._std)
        if settings.tied:
            latents = latents.expand(-1, self.prior.latent_shape[0], -1)
        noise = [*walkers.searched, *walkers.frozen]
        nuisance = walkers.degradation_noise(self.degradation, [row.seed for row in self.rows], settings)
        images, misses = self._look(latents, noise, nuisance)
        mse, l1 = misses.square().mean(dim=(1, 2, 3)), misses.abs().mean(dim=(1, 2, 3))
        error = l1 if settings.loss == "l1" else mse
        spread = geocross(latents)
        # within eps the error counts as eps: from there on only the spread of the rows is improved
        loss = settings.l2 * error.clamp_min(settings.eps) + settings.geocross * spread

        with torch.no_grad():
            # any iterate within eps beats any outside
            score = torch.where(error <= settings.eps, spread - 1e6, error)
            better, best = score < walkers.score, walkers.best
            walkers.score[better], best.mse[better], best.l1[better] = score[better], mse[better], l1[better]
            best.images[better], best.latents[better] = images[better].float(), latents[better]
            for kept, current in zip(best.noise, noise, strict=True):
                kept[better] = current[better]
            if best.degradation is not None and nuisance is not None:
                best.degradation[better] = nuisance[better]
            best.trace[torch.arange(len(error)), best.steps] = error
            going = (error > settings.stop).cpu() & _patient(walkers, error, settings.patience)
            ending, going = walkers.coarse & ~going, going | walkers.coarse
        if self._listener is not None and stops(self._listener, self._report(going)):
            self.stopped = True
        if self._coarse is not None:
            ending |= walkers.coarse & ((best.steps + 1 >= self._coarse.steps) | self.stopped)
            if self._coarse.exact or self.stopped:
                self._draw(ending)
                going &= ~ending
            else:
                self._begin_again(ending)
        going &= (best.steps + 1 < settings.steps) & (not self.stopped)
        if going.any():
            torch.autograd.backward(loss.sum())
            self._descend()
        best.steps += 1
        best.seconds += (time.monotonic() - began) / len(self.rows)
        return self._leave(going)

    def _look(self, latents: Tensor, noise: Sequence[Tensor], nuisance: Tensor | None) -> tuple[Tensor, Tensor]:
        """The pictures (m, 3, R, R) of all candidates, enlarged where they are small still, and by what they miss the photos."""
        walkers, coarse = self._walkers, self._coarse
        assert walkers is not None
        if coarse is None or not walkers.coarse.any():
            images = self.prior.synthesize(latents, noise)
            return images, self.degradation(images, nuisance).float() - walkers.photos
        found = []
        for chosen in (walkers.coarse, ~walkers.coarse):
            where = chosen.nonzero()[:, 0].to(latents.device)
            if not len(where):
                continue
            own, maps, photos = latents[where], [x[where] for x in noise], walkers.photos[where]
            if chosen is walkers.coarse:
                prior: Any = self.prior
                small = prior.side_outputs(own, maps, largest=coarse.side)[coarse.side]
                images = F.interpolate(small.detach().float(), (self.prior.resolution,) * 2, mode="nearest")
                found.append((where, images, coarse.degradation(small).float() - photos))
            else:
                images = self.prior.synthesize(own, maps).float()
                found.append((where, images, self.degradation(images).float() - photos))
        places, pictures, misses = (torch.cat(parts) for parts in zip(*found, strict=True))
        order = places.argsort()
        return pictures[order], misses[order]

    @torch.no_grad()
    def _begin_again(self, ending: Tensor) -> None:
        """From now on these candidates, (m,) bool, look at the whole picture, and what came before does not count."""
        walkers = self._walkers
        assert walkers is not None
        where = ending.to(walkers.score.device)
        for values in (walkers.score, walkers.reached, walkers.best.mse, walkers.best.l1):
            values[where] = float("inf")
        walkers.coarse &= ~ending

    @torch.no_grad()
    def _draw(self, ending: Tensor) -> None:
        """The whole pictures of the best iterates of these candidates, (m,) bool, that have only seen smaller ones."""
        walkers = self._walkers
        assert walkers is not None
        if not ending.any():
            return
        best, where = walkers.best, ending.to(walkers.score.device)
        best.images[where] = self.prior.synthesize(best.latents[where], [x[where] for x in best.noise]).float()
        misses = self.degradation(best.images[where]).float() - walkers.photos[where]
        best.mse[where], best.l1[where] = misses.square().mean(dim=(1, 2, 3)), misses.abs().mean(dim=(1, 2, 3))

    @torch.no_grad()
    def _descend(self) -> None:
        """Every candidate one step down its gradients, at the rate of its own step, and back onto its spheres."""
        walkers, settings = self._walkers, self.settings
        assert walkers is not None
        steps, moving = walkers.best.steps.tolist(), walkers.moving()
        rates = [settings.lr * SCHEDULES[settings.schedule](step / settings.steps) for step in steps]
        counts = [step + 1 for step in steps]
        for p, memory in zip(moving, walkers.memory, strict=True):
            if p.grad is not None:
                OPTIMISERS[settings.optimiser].update(p, p.grad, memory, counts, rates)
            p.grad = None
        if settings.sphere:
            for p, radius in zip(moving, walkers.radii, strict=True):
                p.mul_(onto_spheres(p, radius))

    def _leave(self, going: Tensor) -> tuple[list[Row], Found]:
        """Take those that are done out of the batch."""
        walkers, rows = self._walkers, self.rows
        assert walkers is not None
        found = select(walkers.best, ~going)
        if not going.all():
            self._walkers = select(walkers, going) if going.any() else None
            self.rows = [row for row, goes in zip(rows, going.tolist(), strict=True) if goes]
        return [row for row, goes in zip(rows, going.tolist(), strict=True) if not goes], found

    def _report(self, going: Tensor) -> Step:
        """What a listener is told: of the candidates that go on, the best so far."""
        assert self._walkers is not None
        best, where = self._walkers.best, going.to(self._walkers.score.device)
        return Step(
            int(best.steps.max()),
            self.settings.steps,
            tuple(row.seed for row, goes in zip(self.rows, going.tolist(), strict=True) if goes),
            255 * best.mse[where].sqrt(),
            lambda: best.images[where].clamp(0, 1),
        )


def search(
    prior: Prior,
    degradation: Degradation,
    lr: Tensor,
    seeds: Sequence[int],
    settings: SearchSettings,
    listener: Listener | None = None,
    at: Mapping[str, Tensor] | None = None,
) -> Found:
    """Latents whose pictures degrade to one photo, all of its seeds as one batch.

    Args:
        prior, degradation, settings, listener: see `Search`.
        lr: the photo, (3, h, w) in [0, 1].
        seeds: one candidate each; the result of a seed does not depend on the others.
        at: latents and noise maps to begin with (`Found`), by the names of `Candidates.latents`; None draws them.

    Returns:
        The best iterate of every candidate, in the order of the seeds.
    """
    ask, running = (
        Ask(Problem(lr, degradation, prior.resolution), seeds, at),
        Search(prior, degradation, settings, listener),
    )
    running.join([Row(ask, i) for i in range(len(seeds))])
    rows, found = running.step()
    while running.rows:
        more, part = running.step()
        rows, found = [*rows, *more], join(found, part)
    return select(found, torch.tensor([row.place for row in rows]).argsort())


def _patient(walkers: Walkers, error: Tensor, patience: int) -> Tensor:
    """Whether each candidate still makes progress, or has not waited for it too long, (m,) bool on the CPU; patience 0 waits for ever."""
    steps = walkers.best.steps
    if not patience:
        return torch.ones_like(steps, dtype=torch.bool)
    progress = error < (1 - PROGRESS) * walkers.reached
    walkers.reached[progress], walkers.since[progress.cpu()] = error[progress], steps[progress.cpu()]
    return steps - walkers.since < patience


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
