"""PULSE: search the latent space of a face generator for pictures that downscale to the photo (Menon et al., CVPR 2020)."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from preimage.candidates import Candidates
from preimage.degrade.consistency import make_exact
from preimage.degrade.linear import LinearOperator
from preimage.device import autocast, resolve_device, resolve_precision
from preimage.errors import MethodError
from preimage.generate.prior import Prior
from preimage.image import check_lr
from preimage.invert.method import Capabilities, OnStep
from preimage.invert.problem import GREY_LEVELS, operator_for
from preimage.invert.search import Found, SearchSettings, search
from preimage.seeds import normal
from preimage.weights import load_prior

PRESETS = {
    # section 4: 100 steps of spherical gradient descent, rate 0.4, eps 1e-3; 200 generator-forward equivalents
    "paper": SearchSettings(),
    # starts in W, where faces hold together, may leave it more freely, and ends as soon as the paper's eps is reached
    "default": SearchSettings(steps=500, lr=0.6, stop=1e-3, geocross=0.001, tie_rows=True, trainable_noise=7),
}


class Pulse:
    """PULSE over any prior, followed by the exact projection that makes every saved file downscale to the photo.

    Args:
        prior: a loaded prior, an embedded name, a path or hub id, or None for the default.
        preset: "default" (this package's best) or "paper" (as published).
        device, precision: as in `preimage.device`.
        batch: how many candidates run together.

    Raises:
        MethodError: unknown preset, an empty batch, or a `prior` that does not meet the Prior contract.
    """

    name = "pulse"
    capabilities = Capabilities(
        summary="latent search on spheres; many seeds as one batch, each with its own stop",
        paper="Menon, Damian, Hu, Ravi, Rudin: PULSE, CVPR 2020",
        needs_prior=True,
        presets=tuple(PRESETS),
        steers=("seeds", "resampled fine noise"),
    )

    def __init__(
        self,
        prior: Prior | str | Path | None = None,
        preset: str = "default",
        device: str = "auto",
        precision: str = "auto",
        batch: int = 8,
    ) -> None:
        if preset not in PRESETS:
            raise MethodError(f"preset {preset!r} is unknown; there are {', '.join(PRESETS)}.")
        if batch < 1:
            raise MethodError(f"batch ({batch}) must be at least 1.")
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        loaded: Any = load_prior(prior) if prior is None or isinstance(prior, str | Path) else prior
        if not isinstance(loaded, Prior):
            raise MethodError(
                f"{type(loaded).__name__} is not a prior: it lacks members of preimage.generate.prior.Prior."
            )
        if isinstance(loaded, torch.nn.Module):
            loaded.to(self.device).requires_grad_(False)
        self.prior: Prior = loaded
        self.settings = PRESETS[preset]
        self.batch = batch

    @property
    def resolution(self) -> int:
        return self.prior.resolution

    def sample(
        self,
        lr: Tensor,
        /,
        seeds: Sequence[int],
        operator: LinearOperator | str | None = None,
        on_step: OnStep | None = None,
        **controls: Any,
    ) -> Iterator[Candidates]:
        """Candidates of these seeds, batch by batch.

        Args:
            lr: (3, h, w) RGB in [0, 1] on the 8-bit grid (`preimage.image.check_lr`).
            seeds: one candidate each.
            operator: the downscaling; a name, or None for bicubic.
            on_step: called after each step of a batch with the step and the candidates still searching.
            **controls: any field of `SearchSettings`.

        Raises:
            OperatorError, InputError, MethodError: a photo, operator or control that does not fit.
        """
        lr = check_lr(lr)
        settings = self.settings.with_(controls)
        operator = operator_for(lr, self.prior.resolution, operator)
        return self._sample(lr, tuple(seeds), operator, settings, on_step)

    def _sample(
        self,
        lr: Tensor,
        seeds: tuple[int, ...],
        operator: LinearOperator,
        settings: SearchSettings,
        on_step: OnStep | None,
    ) -> Iterator[Candidates]:
        for first in range(0, len(seeds), self.batch):
            began = time.monotonic()
            chosen = seeds[first : first + self.batch]
            with autocast(self.device, self.dtype), torch.enable_grad():
                found = search(self.prior, operator, lr, chosen, settings, on_step)
            yield self._finish(found, lr, chosen, operator, began)

    @torch.no_grad()
    def resample_noise(self, candidates: Candidates, index: int, seeds: Sequence[int], keep: int = 5) -> Candidates:
        """Vary only the fine detail of one candidate: new noise, same latent (paper, section 4.4).

        Args:
            candidates: made by this method.
            index: which of them.
            seeds: of the new noise, one variant each.
            keep: how many noise maps, coarse first, stay as they were found.

        Returns:
            One exact candidate per seed; cheap, a single forward pass.

        Raises:
            MethodError: candidates of another method, or a prior without noise inputs.
        """
        if not self.prior.noise_sizes:
            raise MethodError(f"{self.prior.name}: this prior has no noise inputs to vary; ask for more seeds instead.")
        if "latents" not in candidates.latents:
            raise MethodError("these candidates carry no latents to continue from; only PULSE's own can be varied.")
        began = time.monotonic()
        latents = candidates.latents["latents"][index : index + 1].to(self.device).expand(len(seeds), -1, -1)
        noise = []
        for i, side in enumerate(self.prior.noise_sizes):
            found = candidates.latents[f"noise{i}"][index : index + 1].to(self.device)
            fresh = normal(seeds, (1, side, side), f"resampled{i}").to(self.device)
            noise.append(found.expand(len(seeds), -1, -1, -1) if i < keep else fresh)
        images = self.prior.synthesize(latents, noise)
        mse = (candidates.operator(images) - candidates.lr.to(self.device)).square().mean(dim=(1, 2, 3))
        steps = torch.zeros(len(seeds), dtype=torch.long)
        found_again = Found(images, latents, noise, mse, steps)
        return self._finish(found_again, candidates.lr, tuple(seeds), candidates.operator, began)

    def _finish(
        self, found: Found, lr: Tensor, seeds: tuple[int, ...], operator: LinearOperator, began: float
    ) -> Candidates:
        exact = make_exact(found.images.cpu(), lr, operator)
        kept = {"latents": found.latents.cpu(), **{f"noise{i}": x.cpu() for i, x in enumerate(found.noise)}}
        return Candidates(
            images=exact.images.float() / GREY_LEVELS,
            seeds=seeds,
            lr=lr,
            operator=operator,
            error=exact.error,
            exact=exact.exact,
            moved=exact.moved,
            error_before=GREY_LEVELS * found.mse.sqrt().cpu(),
            steps=found.steps,
            latents=kept,
            seconds=time.monotonic() - began,
            method=self.name,
            prior=self.prior.name,
        )

    def describe(self) -> dict[str, Any]:
        """Resolved settings, for run.yaml."""
        return {
            "name": self.name,
            "prior": self.prior.name,
            "prior_sha256": fingerprint(self.prior),
            **asdict(self.settings),
        }


def fingerprint(prior: object) -> str | None:
    """Hash of a prior's tensors, so that results of a retrained prior are not mixed; None for what is no module."""
    if not isinstance(prior, torch.nn.Module):
        return None
    digest = hashlib.sha256()
    for name, value in sorted(prior.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()[:16]
