"""PULSE: search the latent space of a face generator for pictures that downscale to the photo (Menon et al., CVPR 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from preimage.generate.prior import told_maps
from preimage.invert.latent import BEGIN_AT, LatentSearch
from preimage.invert.method import Capabilities, Handle
from preimage.invert.search_settings import SearchSettings
from preimage.seeds import normal

FINE_NOISE = "noise"
"""Handle of the fine noise maps."""
KEPT = 5
"""So many noise maps, coarse first, stay as they were found where the fine noise is drawn anew; of few, all but two."""


class Pulse(LatentSearch):
    """PULSE over any prior, followed by the exact projection that makes every saved file downscale to the photo.

    Presets are "default" (this package's best, for its default prior), "inverse" (for priors that begin with a flow: one step, at the
    photo's own latents), "stylegan" (for small StyleGAN2s such as faces64) and "paper" (as published). Through a learned degradation it searches
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
        # docs/pulse.md: a step looks at a tiny picture; rows of a flow are parts of one noise, not copies of one code
        "default": SearchSettings(steps=120, lr=0.4, schedule="fixed", eps=3e-4, stop=3e-4, geocross=0.0),
        # no search at all, before a prior that says what its latents of a photo are
        "inverse": SearchSettings(steps=1, encoder="inverse", encoder_share=0.0),
        # nearer to the mean latent, where faces64 draws whole faces, and half as long
        "stylegan": SearchSettings(
            steps=50, lr=0.3, schedule="fixed", stop=1e-3, geocross=0.02, trainable_noise=7, spread=0.6
        ),
    }

    def handle_names(self) -> tuple[str, ...]:
        """Fine noise, where the prior has noise inputs."""
        return (FINE_NOISE,) if self.prior.noise_sizes else ()

    def _steered_noise(
        self, kept: Mapping[str, Tensor], changes: Mapping[str, Any], seeds: Sequence[int]
    ) -> list[Tensor]:
        """New fine noise around one latent."""
        share, noise = float(changes.get(FINE_NOISE, 0.0)), super()._steered_noise(kept, changes, seeds)
        if not share:
            return noise
        for i in range(max(0, min(KEPT, len(noise) - 2)), len(noise)):
            if i in told_maps(self.prior):
                continue
            side = self.prior.noise_sizes[i]
            fresh = normal(seeds, (1, side, side), f"resampled{i}").to(self.device)
            noise[i] = fresh if share == 1 else (1 - share**2) ** 0.5 * noise[i] + share * fresh
        return noise
