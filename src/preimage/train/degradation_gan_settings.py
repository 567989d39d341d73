"""Settings of a run of the learned degradation."""

from __future__ import annotations

from dataclasses import dataclass, field

from preimage.degrade.degradation_gan import DegradationGANConfig
from preimage.errors import RecipeError
from preimage.nets.features import FEATURE_NETWORKS
from preimage.train.augment import AUGMENTATIONS
from preimage.train.checks import check, check_choice, check_native

REPLACED = {
    "iterations": "durations count pictures: write `images`, iterations times batch, and multiply warmup, snapshot and log "
    "by batch too"
}
"""Keys that recipes had once, and what to write instead."""


@dataclass(frozen=True)
class Discriminator:
    """Shape of the discriminator.

    Attributes:
        widths: channels of each residual block; published are 6 blocks, their widths are left open.
        spectral: spectral normalisation, which a hinge loss needs to be stable (Bulat et al., 2018, have it).
    """

    widths: tuple[int, ...] = (128, 128, 256, 256, 512, 512)
    spectral: bool = False


@dataclass(frozen=True)
class Recipe:
    """Settings of one run; the defaults are SR-NAM's (section 4.1), where the paper gives them.

    Every duration counts pictures of the generator's batches, not those that the discriminator's extra steps see.

    Attributes:
        out: run folder.
        data: folders or zip archives of sharp faces.
        real: folders or zip archives of natively small faces; a folder inside may follow the archive, `faces.zip/train`.
        native: smallest and largest native side, in pixels, of a small face to learn from; it is reduced by area.
        held: natively small faces (as `real`) that are never learned from. At every snapshot stats.jsonl gets the
            discriminator's mean score of them beside that of the faces it learns from, `score_held` and `score_seen`:
            where they part, it knows its faces by heart.
        crops: versions of each small face; the first is whole, the others are squares of at least `zoom` of its side.
        zoom: see `crops`.
        generator, discriminator: shapes.
        images: how many pictures to show the generator in all; a run that continues may have more of them.
        batch: pictures per step, over all processes.
        critic_steps: steps of the discriminator before each of the generator, each with new pictures.
        warmup: pictures at the start with the pixel terms alone: the content first. Not in the paper, whose value is 0.
        loss: "hinge" (equation 2) or "wgan-gp" (the text below it).
        penalty: weight of the gradient penalty (lambda of WGAN-GP).
        alpha, beta: weights of the pixel and of the adversarial term (equation 1).
        gamma, delta: weights of the L1 and of the VGG term within the pixel term (equation 3).
        features: network of the VGG term: vgg19-distilled, vgg19-normalised, squeezenet.
        feature_weights: path of its safetensors file; needed unless delta is 0.
        diversity: weight of a term that the paper lacks; where it is not 0 every sharp face is shown with two noises, whose
            results must differ by `spread` (mean absolute difference in [0, 1]) or cost the rest. The VGG term then looks at
            one of the two.
        spread: see `diversity`.
        augment: what the discriminator sees is changed by these, of `train.augment`.
        lr_g, lr_d, betas: of Adam.
        lr_steps: from so many pictures on, other rates: [[images, lr_g, lr_d], ...].
        ema: what the generator's moving average keeps of itself at each step.
        precision: fp32 or bf16 feature maps.
        snapshot, log: pictures between two grids and saved states; between two lines of stats.jsonl.
        seed: of everything random.
        name: of the exported network.
    """

    out: str
    data: list[str]
    real: list[str]
    held: list[str] = field(default_factory=list)
    native: tuple[int, int] = (16, 48)
    crops: int = 8
    zoom: float = 0.92
    generator: DegradationGANConfig = field(default_factory=DegradationGANConfig)
    discriminator: Discriminator = field(default_factory=Discriminator)
    images: int = 32_000_000
    batch: int = 64
    critic_steps: int = 5
    warmup: int = 0
    loss: str = "wgan-gp"
    penalty: float = 10.0
    alpha: float = 1.0
    beta: float = 0.05
    gamma: float = 1.0
    delta: float = 0.1
    features: str = "vgg19-distilled"
    feature_weights: str = ""
    diversity: float = 0.0
    spread: float = 0.05
    augment: tuple[str, ...] = ()
    lr_g: float = 1e-3
    lr_d: float = 1e-3
    lr_steps: tuple[tuple[int, float, float], ...] = ()
    betas: tuple[float, float] = (0.9, 0.999)
    ema: float = 0.999
    precision: str = "fp32"
    snapshot: int = 320_000
    log: int = 6_400
    seed: int = 0
    name: str = "degradation-gan"

    def __post_init__(self) -> None:
        bounds = {
            "count": ("images", "batch", "critic_steps", "crops", "snapshot", "log", "native"),
            "weight": (
                "warmup", "penalty", "alpha", "beta", "gamma", "delta", "diversity", "lr_g", "lr_d", "lr_steps",
            ),
            "part": ("zoom", "spread"),
            "decay": ("betas", "ema"),
            "seed": ("seed",),
        }  # fmt: skip
        check(self, bounds)
        check(self.discriminator, {"width": ("widths",)}, "discriminator.")
        check_choice("loss", self.loss, ("hinge", "wgan-gp"))
        check_choice("precision", self.precision, ("fp32", "bf16"))
        check_choice("features", self.features, tuple(FEATURE_NETWORKS))
        check_choice("augment", self.augment, AUGMENTATIONS)
        if self.delta and not self.feature_weights:
            raise RecipeError("feature_weights: give the file of the feature network, or set delta to 0.")
        check_native(self.native)
        if self.diversity and self.batch % 2:
            raise RecipeError(f"batch ({self.batch}) must be even: diversity shows every face with two noises.")
        if len(self.discriminator.widths) < 2 or self.generator.lr_size % 4:
            raise RecipeError("discriminator: needs two blocks or more, and pictures whose side is a multiple of 4.")
