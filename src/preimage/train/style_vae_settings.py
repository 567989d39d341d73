"""Settings of a run of the styleVAE."""

from __future__ import annotations

from dataclasses import dataclass, field

from preimage.degrade.style_vae import StyleVAEConfig
from preimage.errors import RecipeError
from preimage.train.augment import AUGMENTATIONS
from preimage.train.checks import check, check_choice, check_native


@dataclass(frozen=True)
class Critics:
    """Shapes of what judges, and goes when training ends.

    Attributes:
        widths: channels of each residual block of the discriminator, spectrally normalised.
        statistic: channels of the first convolution of the network T of the mutual information.
        bound, decay: of `preimage.train.mine.MINE`.
        noise: standard deviation, on [0, 1], of noise on the results that T looks at, so that only what a viewer could see tells of
            a style. Not in the paper, whose value is 0.
    """

    widths: tuple[int, ...] = (32, 32, 48, 48, 96, 96)
    statistic: int = 32
    bound: float = 10.0
    decay: float = 0.99
    noise: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """Settings of one run; the defaults are the paper's (sections 3.1 and 4.1), where it gives them.

    Every duration counts pictures.

    Attributes:
        out: run folder.
        data: folders or zip archives of sharp faces.
        real: folders or zip archives of natively small faces; a folder inside may follow the archive, `faces.zip/train`.
        native: smallest and largest native side, in pixels, of a small face to learn from; it is reduced by area.
        held: natively small faces (as `real`) that are never learned from; where given, stats.jsonl has the discriminator's mean
            score of them beside that of the others, `score_held` and `score_seen`.
        crops, zoom: as of a degradation-gan: versions of each small face, squares of at least `zoom` of its side.
        generator: shape of the styleVAE; `generator.adain` false leaves AdaIN out (table 5).
        critics: shapes of the discriminator and of the network T.
        images: how many sharp faces to show in all; a run that continues may have more of them. The paper's 10 epochs of 180,000.
        batch: pictures per step, over all processes.
        kl, reconstruction, information: weights λ1 to λ3 of equation 6, which the paper leaves open; information 0 leaves the mutual
            information out (table 5). Divergence and squared error are sums over z and over a picture, means over the batch.
        photometric: whether the reconstruction leaves brightness and contrast of each channel free (`train.style_vae.unexplained`).
            Not in the paper: a tint or a dark room costs more squared error than a face that melts, and would never be learned.
        adversary: weight of a hinge loss that holds the results against natively small faces. Not in the paper, whose value is 0:
            its terms ask that the results tell of their styles, not that they look like them.
        prior_share: share of each batch whose style is drawn from the Gaussian instead of a photo; the adversary and the
            reconstruction see it, the mutual information does not. Not in the paper, whose value is 0.
        augment: what the discriminator sees is changed by these, of `train.augment`.
        clip: longest gradient, of the critics and of the styleVAE each; 0: any.
        lr_g, lr_d, betas: of Adam, for the styleVAE and for its critics.
        lr_steps: from so many pictures on, other rates: [[images, lr_g, lr_d], ...].
        ema: what the styleVAE's moving average keeps of itself at each step.
        precision: fp32 or bf16 feature maps.
        snapshot, log: pictures between two grids and saved states; between two lines of stats.jsonl.
        seed: of everything random.
        init: an exported styleVAE of this shape to start from, by name or path; its pictures may have had other sizes.
        name: of the exported network.
    """

    out: str
    data: list[str]
    real: list[str]
    held: list[str] = field(default_factory=list)
    native: tuple[int, int] = (16, 48)
    crops: int = 8
    zoom: float = 0.92
    generator: StyleVAEConfig = field(default_factory=StyleVAEConfig)
    critics: Critics = field(default_factory=Critics)
    images: int = 1_800_000
    batch: int = 16
    kl: float = 0.01
    reconstruction: float = 1.0
    information: float = 1.0
    photometric: bool = False
    adversary: float = 0.0
    prior_share: float = 0.0
    augment: tuple[str, ...] = ()
    clip: float = 0.0
    lr_g: float = 1e-4
    lr_d: float = 1e-4
    lr_steps: tuple[tuple[int, float, float], ...] = ()
    betas: tuple[float, float] = (0.9, 0.999)
    ema: float = 0.999
    precision: str = "fp32"
    snapshot: int = 160_000
    log: int = 3_200
    seed: int = 0
    init: str = ""
    name: str = "style-vae"

    def __post_init__(self) -> None:
        bounds = {
            "count": ("images", "batch", "crops", "snapshot", "log", "native"),
            "weight": ("kl", "reconstruction", "information", "adversary", "clip", "lr_g", "lr_d", "lr_steps"),
            "part": ("zoom",),
            "decay": ("betas", "ema", "prior_share"),
            "seed": ("seed",),
        }
        check(self, bounds)
        check(self.critics, {"width": ("widths", "statistic"), "positive": ("bound",), "share": ("noise",)}, "critics.")
        check_choice("precision", self.precision, ("fp32", "bf16"))
        check_choice("augment", self.augment, AUGMENTATIONS)
        if not 0 < self.critics.decay < 1:
            raise RecipeError(f"critics.decay ({self.critics.decay}) must be in (0, 1).")
        check_native(self.native)
        if len(self.critics.widths) < 2 or self.generator.lr_size % 4:
            raise RecipeError("critics: need two blocks or more, and small pictures whose side is a multiple of 4.")
        if self.information and self.batch - round(self.prior_share * self.batch) < 2:
            raise RecipeError(
                f"batch ({self.batch}) must have 2 or more styles of photos: the mutual information exchanges pairs."
            )
