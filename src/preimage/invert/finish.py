"""From pictures that a method found to candidates: saved bytes, and what they say about the photo."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from preimage.candidates import Candidates
from preimage.degrade.learned import NOISE
from preimage.invert.problem import GREY_LEVELS, Problem


def finish(
    images: Tensor,
    problem: Problem,
    seeds: Sequence[int],
    *,
    method: str,
    prior: str | None = None,
    began: float | None = None,
    error_before: Tensor | None = None,
    steps: Tensor | int = 0,
    latents: Mapping[str, Tensor] | None = None,
    noise: Tensor | None = None,
    tolerance: float = 0.0,
    before: Tensor | None = None,
    edit: str = "",
) -> Candidates:
    """Candidates as their files will be, exact where the degradation allows it.

    Args:
        images: (n, 3, R, R) around [0, 1].
        problem: what was asked.
        seeds: n of them.
        method, prior: names, for provenance.
        began: when they were begun, by `time.monotonic`.
        error_before: (n,) RMS error in grey levels of what the method found by itself; None measures it.
        steps: (n,) that were spent, or one number for all.
        latents: to continue from, each (n, …).
        noise: (n, …) of the degradation, with which each picture was found; kept among the latents.
        tolerance: grey levels by which values of the photo may be missed by choice.
        before: (n, 3, R, R), the pictures before a projection that is the method's own; `error_before` and `moved` are then of these.
        edit: what was changed of the latents (`Candidates.edit`).
    """
    n, found_first = len(images), images if before is None else before
    if error_before is None:
        with torch.no_grad():
            misses = problem.degradation(found_first, noise).float() - problem.lr.to(images.device)
        error_before = GREY_LEVELS * misses.square().flatten(1).mean(1).sqrt()
    found = problem.degradation.finish(images, problem.lr, noise, tolerance)
    moved = found.moved
    if before is not None:
        apart = found.images.float() - GREY_LEVELS * before.detach().float().cpu().clamp(0, 1)
        moved = apart.square().flatten(1).mean(1).sqrt()
    kept = {name: value.detach().cpu() for name, value in (latents or {}).items()}
    if noise is not None:
        kept[NOISE] = noise.detach().cpu()
    return Candidates(
        images=found.images.float() / GREY_LEVELS, seeds=tuple(seeds), lr=problem.lr, degradation=problem.degradation,
        error=found.error, exact=found.exact, moved=moved, error_before=error_before.detach().float().cpu(),
        steps=torch.full((n,), steps) if isinstance(steps, int) else steps.cpu(), latents=kept,
        seconds=0.0 if began is None else time.monotonic() - began,
        method=method, prior=prior, tolerance=tolerance, l1=found.l1, worst=found.worst, edit=edit,
    )  # fmt: skip
