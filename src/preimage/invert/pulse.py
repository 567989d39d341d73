"""PULSE: search the latent space of a face generator for pictures that downscale to the photo (Menon et al., CVPR 2020)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from preimage.candidates import Candidates
from preimage.degrade.learned import NOISE
from preimage.invert.finish import finish
from preimage.invert.latent import BEGIN_AT, LatentSearch
from preimage.invert.method import Capabilities, Handle
from preimage.invert.problem import Problem
from preimage.invert.search_settings import SearchSettings
from preimage.seeds import normal

FINE_NOISE = "noise"
"""Handle of the fine noise maps."""
KEPT = 5
"""So many noise maps, coarse first, stay as they were found where the fine noise is drawn anew; of few, all but two."""


class Pulse(LatentSearch):
    """PULSE over any prior, followed by the exact projection that makes every saved file downscale to the photo.

    Presets are "default" (this package's best) and "paper" (as published). Through a learned degradation it searches
    too, with its own loss; such candidates are never exact (see `preimage.invert.nam`).
    """

    name = "pulse"
    capabilities = Capabilities(
        summary="latent search on spheres; many seeds as one batch, each with its own stop",
        paper="Menon, Damian, Hu, Ravi, Rudin: PULSE, CVPR 2020",
        prior=True,
        degradations=("linear", "learned"),
        inputs=(BEGIN_AT,),
        handles=(Handle(FINE_NOISE, "reseed", help="fine noise maps drawn anew, latent kept (section 4.4)"),),
        continues=True,
    )
    presets: ClassVar[Mapping[str, SearchSettings]] = {
        # section 4: 100 steps of spherical gradient descent, rate 0.4, eps 1e-3; 200 generator-forward equivalents
        "paper": SearchSettings(),
        # docs/pulse.md: nearer to the mean latent, where this package's small priors draw whole faces, and half as long
        "default": SearchSettings(
            steps=50, lr=0.3, schedule="fixed", stop=1e-3, geocross=0.02, trainable_noise=7, spread=0.6
        ),
    }

    def handle_names(self) -> tuple[str, ...]:
        """Fine noise, where the prior has noise inputs."""
        return (FINE_NOISE,) if self.prior.noise_sizes else ()

    @torch.no_grad()
    def _steer(self, candidate: Candidates, changes: Mapping[str, Any], seeds: Sequence[int]) -> Candidates:
        """New fine noise around one latent; a single forward pass."""
        began, n, share = time.monotonic(), len(seeds), float(changes.get(FINE_NOISE, 0.0))
        kept = {name: x.to(self.device).expand(n, *x.shape[1:]) for name, x in candidate.latents.items()}
        kept["latents"] = self._turned(kept["latents"], candidate, changes, seeds)
        noise = []
        for i, side in enumerate(self.prior.noise_sizes):
            found = kept[f"noise{i}"]
            if i >= min(KEPT, len(self.prior.noise_sizes) - 2) and share:
                fresh = normal(seeds, (1, side, side), f"resampled{i}").to(self.device)
                found = fresh if share == 1 else (1 - share**2) ** 0.5 * found + share * fresh
            noise.append(found)
        images = self.prior.synthesize(kept["latents"], noise)
        return finish(
            images, Problem(candidate.lr, candidate.degradation, self.resolution), seeds, method=self.name, prior=self.prior.name,
            noise=kept.get(NOISE), began=began,
            latents={"latents": kept["latents"], **{f"noise{i}": x for i, x in enumerate(noise)}},
        )  # fmt: skip

    def _turned(
        self, latents: Tensor, candidate: Candidates, changes: Mapping[str, Any], seeds: Sequence[int]
    ) -> Tensor:
        """The latents of a candidate, one row for each seed, as the handles have them; here as they are."""
        return latents
