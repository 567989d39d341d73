"""SR-NAM: search a generator through a degradation that was learned from real small photos (Lioutas, 2019).

The generator G and the degradation D are frozen; only the latent z moves, so that D(G(z)) becomes the photo y: the mean of
|D(G(z)) - y| over all pixels and channels falls by Adam, for 250 to 500 iterations (sections 3.4 and 4.1). Another start
gives another candidate (section 3.4, "Multiple Solutions"): here another seed.

What is searched is the prior's own Gaussian: z of a ProGAN; of a style-based prior W behind the inverse leaky ReLU, one w for
all rows, where PULSE's fit makes it as Gaussian as z and 18 rows cannot part.

The paper does not say what becomes of the noise that D takes beside the picture. It is a setting here, `degradation_noise`;
the noise of the best iterate is kept with the candidate, so that the error can be measured again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from preimage.invert.latent import BEGIN_AT, LatentSearch
from preimage.invert.method import Capabilities
from preimage.invert.search_settings import SearchSettings

DEGRADATION = "degradation-gan"
"""The embedded degradation that stands in where the user names none."""

_PAPER = SearchSettings(
    steps=500, lr=1e-3, schedule="fixed", loss="l1", eps=0.0, l2=1.0, geocross=0.0, tied=True, trainable_noise=0,
    sphere=False,
)  # fmt: skip


class SRNAM(LatentSearch):
    """SR-NAM over any prior and any downscaling, learned or linear.

    Through a linear downscaling the candidates are made exact as PULSE's are. Through a learned one nothing can be exact:
    they carry the L1 that the saved file reaches under the noise it was found with (`Candidates.l1`), and no more.
    Presets are "default" (this package's best) and "paper" (as published).
    """

    name = "sr-nam"
    capabilities = Capabilities(
        summary="latent search through a learned degradation, for photos that nobody knows the downscaling of",
        paper="Lioutas: Mapping Low-Resolution Images To Multiple High-Resolution Images Using NAM, 2019",
        prior=True,
        degradations=("linear", "learned"),
        default_degradation=DEGRADATION,
        inputs=(BEGIN_AT,),
        continues=True,
    )
    presets: ClassVar[Mapping[str, SearchSettings]] = {
        # section 4.1: Adam with its default rate, which moves a coordinate of z by at most half a deviation in 500 steps
        "paper": _PAPER,
        # docs/sr-nam.md: L1 is level from 0.1 to 0.4; off the sphere a StyleGAN2's candidates fit better and are further from faces
        "default": _PAPER.with_({"lr": 0.1, "sphere": True}),
    }
