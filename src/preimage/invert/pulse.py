"""PULSE: search the latent space of a face generator for pictures that downscale to the photo (Menon et al., CVPR 2020)."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from preimage.candidates import Candidates
from preimage.degrade.learned import NOISE, LearnedDegradation, apply_learned
from preimage.errors import MethodError
from preimage.invert.latent import LatentSearch
from preimage.invert.method import Capabilities
from preimage.invert.search import Found
from preimage.invert.settings import SearchSettings
from preimage.seeds import normal

PRESETS = {
    # section 4: 100 steps of spherical gradient descent, rate 0.4, eps 1e-3; 200 generator-forward equivalents
    "paper": SearchSettings(),
    # starts in W, where faces hold together, may leave it more freely, and ends as soon as the paper's eps is reached
    "default": SearchSettings(steps=500, lr=0.6, stop=1e-3, geocross=0.001, tie_rows=True, trainable_noise=7),
}


class Pulse(LatentSearch):
    """PULSE over any prior, followed by the exact projection that makes every saved file downscale to the photo.

    Presets are "default" (this package's best) and "paper" (as published). Through a learned degradation it searches
    too, with its own loss; such candidates are never exact (see `preimage.invert.nam`).
    """

    name = "pulse"
    capabilities = Capabilities(
        summary="latent search on spheres; many seeds as one batch, each with its own stop",
        paper="Menon, Damian, Hu, Ravi, Rudin: PULSE, CVPR 2020",
        needs_prior=True,
        operators=("any linear", "learned"),
        presets=tuple(PRESETS),
        steers=("seeds", "resampled fine noise"),
    )
    presets = PRESETS

    @torch.no_grad()
    def resample_noise(self, candidates: Candidates, index: int, seeds: Sequence[int], keep: int = 5) -> Candidates:
        """Vary only the fine detail of one candidate: new noise, same latent (paper, section 4.4).

        Args:
            candidates: made by this method.
            index: which of them.
            seeds: of the new noise, one variant each.
            keep: how many noise maps, coarse first, stay as they were found.

        Returns:
            One candidate per seed, exact where the downscaling is linear; cheap, a single forward pass.

        Raises:
            MethodError: candidates of another method, or a prior without noise inputs.
        """
        if not self.prior.noise_sizes:
            raise MethodError(f"{self.prior.name}: this prior has no noise inputs to vary; ask for more seeds instead.")
        if "latents" not in candidates.latents:
            raise MethodError("these candidates carry no latents to continue from; only PULSE's own can be varied.")
        began = time.monotonic()
        n = len(seeds)
        latents = candidates.latents["latents"][index : index + 1].to(self.device).expand(n, -1, -1)
        noise = []
        for i, side in enumerate(self.prior.noise_sizes):
            found = candidates.latents[f"noise{i}"][index : index + 1].to(self.device)
            fresh = normal(seeds, (1, side, side), f"resampled{i}").to(self.device)
            noise.append(found.expand(n, -1, -1, -1) if i < keep else fresh)
        images = self.prior.synthesize(latents, noise)
        operator, degradation = candidates.operator, None
        if isinstance(operator, LearnedDegradation):
            degradation = candidates.latents[NOISE][index : index + 1].to(self.device).expand(n, -1)
            small = apply_learned(operator, images, degradation)
        else:
            small = operator(images)
        misses = small - candidates.lr.to(self.device)
        found_again = Found(
            images,
            latents,
            noise,
            mse=misses.square().mean(dim=(1, 2, 3)),
            steps=torch.zeros(n, dtype=torch.long),
            l1=misses.abs().mean(dim=(1, 2, 3)),
            trace=misses.new_zeros(n, 0),
            degradation=degradation,
        )
        return self._finish(found_again, candidates.lr, tuple(seeds), operator, began)
