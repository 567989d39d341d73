"""Settings of runs of the networks that enlarge a photo in one pass: SSRVAE's and the baselines of its tables."""

from __future__ import annotations

from dataclasses import dataclass, field

from preimage.degrade.corrupt import parse_corruption
from preimage.errors import RecipeError
from preimage.nets.attention import AttentionConfig
from preimage.nets.baselines import EDSRConfig, RDNConfig, SRCNNConfig, SRResNetConfig
from preimage.train.checks import check, check_choice, check_native


@dataclass(frozen=True)
class Recipe:
    """Settings of one run; the defaults are SSRVAE's (Ma et al., 2019, sections 3.2 and 4.1), where the paper gives them.

    Every duration counts pictures.

    Attributes:
        out: run folder.
        data: folders or zip archives of sharp faces.
        hold: so many of them, evenly spaced, are never learned from; grids show them, and `psnr_held` is of them.
        generator: shape of the network; faces have scale times lr_size pixels, photos lr_size.
        degradation: what makes the photos: a linear downscaling, corrupt, degradation-gan, style-vae, or the path of a learned one.
        corruptions: of corrupt, such as [gaussian_noise:8, jpeg:60].
        styles: of style-vae: natively small faces whose styles are taken over; none: styles from the Gaussian.
        native: smallest and largest native side of these.
        crop: side of the random squares of photos that are learned from, in pixels of the photo: what a step takes grows with their
            places, and so large faces learn as fast as small ones. Not in the paper. 0: whole photos.
        images: how many faces to show in all; a run that continues may have more of them. The paper's 10 epochs of 180,000.
        batch: pictures per step, over all processes. The paper leaves it open.
        adversary: weight of an adversarial loss beside L1: SRGAN (Ledig et al., 2017: 1e-3, beside its VGG loss). 0: none.
        adversary_start: pictures before it; the network learns alone until then.
        discriminator: channels of the first convolution of SRGAN's discriminator (64).
        lr_g, lr_d, betas: of Adam.
        lr_steps: from so many pictures on, other rates: [[images, lr_g, lr_d], ...].
        ema: what the network's moving average keeps of itself at each step.
        precision: fp32 or bf16 feature maps.
        snapshot, log: pictures between two grids and saved states; between two lines of stats.jsonl.
        seed: of everything random.
        init: an exported network of this shape to start from, by name or path; its photos may have had another size.
        name: of the exported network.
    """

    out: str
    data: list[str]
    hold: int = 64
    generator: AttentionConfig = field(default_factory=AttentionConfig)
    degradation: str = "bicubic"
    corruptions: list[str] = field(default_factory=list)
    styles: list[str] = field(default_factory=list)
    native: tuple[int, int] = (16, 48)
    crop: int = 0
    images: int = 1_800_000
    batch: int = 16
    adversary: float = 0.0
    adversary_start: int = 0
    discriminator: int = 64
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
    name: str = "ssrvae"

    def __post_init__(self) -> None:
        bounds = {
            "count": ("images", "batch", "snapshot", "log", "native", "hold"),
            "weight": ("crop", "adversary", "adversary_start", "lr_g", "lr_d", "lr_steps"),
            "width": ("discriminator",),
            "decay": ("betas", "ema"),
            "seed": ("seed",),
        }
        check(self, bounds)
        check_choice("precision", self.precision, ("fp32", "bf16"))
        for text in self.corruptions:
            parse_corruption(text)
        check_native(self.native)
        if self.crop > self.generator.lr_size:
            raise RecipeError(
                f"crop: photos have {self.generator.lr_size} pixels a side, not {self.crop}; 0 takes them whole."
            )
        if self.adversary and self.seen % 16:
            raise RecipeError(
                f"adversary: its discriminator needs pictures of a multiple of 16 pixels, not {self.seen}."
            )

    @property
    def seen(self) -> int:
        """Side of the pictures that a step sees."""
        return self.generator.scale * (self.crop or self.generator.lr_size)


@dataclass(frozen=True)
class SRCNNRecipe(Recipe):
    """The same for SRCNN; see `Recipe`."""

    generator: SRCNNConfig = field(default_factory=SRCNNConfig)  # type: ignore[assignment]
    name: str = "srcnn"


@dataclass(frozen=True)
class EDSRRecipe(Recipe):
    """The same for EDSR; see `Recipe`."""

    generator: EDSRConfig = field(default_factory=EDSRConfig)  # type: ignore[assignment]
    name: str = "edsr"


@dataclass(frozen=True)
class RDNRecipe(Recipe):
    """The same for RDN; see `Recipe`."""

    generator: RDNConfig = field(default_factory=RDNConfig)  # type: ignore[assignment]
    name: str = "rdn"


@dataclass(frozen=True)
class SRResNetRecipe(Recipe):
    """The same for SRResNet and, with an adversary, SRGAN; see `Recipe`."""

    generator: SRResNetConfig = field(default_factory=SRResNetConfig)  # type: ignore[assignment]
    name: str = "srresnet"
