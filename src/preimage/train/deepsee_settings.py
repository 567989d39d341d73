"""Settings of a run of DeepSEE: its variants (section 3.3, table 2), losses, and what each step conditions on."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Literal

from preimage.errors import RecipeError
from preimage.nets.deepsee import REGIONS, DeepSEEConfig
from preimage.nets.features import FEATURE_NETWORKS
from preimage.train.checks import check, check_choice
from preimage.train.loop import stepped


@dataclass(frozen=True)
class Variant:
    """What a network is conditioned on (table 2).

    Attributes:
        semantics: whether regions are told.
        own: whether styles come from the face itself, small or sharp.
        small, sharp: of a reference, which of the two they come from.
    """

    semantics: bool
    own: bool = False
    small: bool = False
    sharp: bool = False

    @property
    def styled(self) -> bool:
        return self.own or self.small or self.sharp


VARIANTS = {
    "prior-only": Variant(False),
    "lr-style-only": Variant(False, small=True),
    "hr-style-only": Variant(False, sharp=True),
    "semantics-only": Variant(True),
    "independent": Variant(True, own=True),
    "guided": Variant(True, sharp=True),
}
Source = Literal["none", "own-small", "own-sharp", "reference-small", "reference-sharp"]
DISCRIMINATORS = ("patch", "projected", "both")


@dataclass(frozen=True)
class References:
    """Where the reference of a step comes from; shares of the steps, what is left of 1 takes the face itself.

    Attributes:
        person: another picture of the same person, by the `person` column of an archive; the face itself where there is none.
        anyone: a picture of anybody.
    """

    person: float = 1.0
    anyone: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """Settings of one run; every duration counts photos.

    Attributes:
        out: run folder.
        data: folders or zip archives of sharp faces.
        masks: for each of them its maps of regions: an array (n, S, S) uint8 in a .npy file, or a folder or archive of PNG files with
            the names of the pictures. Empty: `segmenter` finds them.
        segmenter: name or file of the network that finds the regions of sharp faces; empty takes the embedded one.
        hold: so many faces, evenly spaced, are never learned from; the grids show eight of them.
        generator: shape of the network; the variant decides what of regions and styles it has.
        variant: one of `VARIANTS`.
        references: where they come from.
        small_share: share of the steps whose styles come from the photo itself: of the independent variant, and of the guided one
            where it is to answer without a reference too.
        found_share: share of the steps whose regions are those that the segmenter finds in the small photo, as they will be where nobody
            knows better; of the others they are those of the sharp face, as in the paper.
        drawn_share: share of the steps with the photo's styles that answer twice, with styles drawn as seeds draw them, and are held to
            the truth by the energy score of both answers, which rewards seeds that differ as faces do; not in the paper.
        spread: how much the distance between the two counts there; 1 is the proper score.
        noise: largest noise on styles, δ.
        noise_share: share of the steps that have it.
        images: how many photos to show in all.
        batch: photos per step, over all processes.
        lr_g, lr_d: Adam's learning rates.
        lr_steps: from so many photos on, other rates: [[images, lr_g, lr_d], ...].
        small_rate: rate of the encoder's branch for small pictures, relative to lr_g.
        betas: Adam's betas.
        discriminator: "patch" as in the paper, "projected" on fixed features, or "both".
        patch_width: channels of the patch discriminator's first layers.
        width, pixel_width: channels of the projected one's heads on features, and of the one on pixels.
        adversary, projected_adversary: weights of the words of the two.
        adversary_start: they learn from the first number of photos on, and their words rise from 0 to full between the two.
        matching: weight of the feature matching, λ_feat.
        perceptual: weight of the perceptual loss, λ_vgg.
        perceptual_weights: of each tap; empty: features are divided by their spread and count alike.
        pixels: weight of the mean absolute difference; not in the paper.
        consistency: weight of the mean square, in grey levels of 255, by which pictures miss the photo before they are projected; not in
            the paper. It keeps the word of what the projection had to undo.
        outside: weight of the mean square outside [0, 1].
        features: feature network of the perceptual loss and the projected discriminator.
        feature_weights: its file; efficientnet-lite0 needs none.
        feature_size: side that pictures are enlarged to before it.
        ema_half_life: half-life of the generator's moving average.
        precision: fp32 or bf16 feature maps.
        snapshot: photos between two grids and saved states.
        log: photos between two lines of stats.jsonl.
        seed: of everything random.
        init: an exported network of the same shape to start from.
        name: of the exported network.
    """

    out: str
    data: list[str]
    masks: list[str] = field(default_factory=list)
    segmenter: str = ""
    hold: int = 64
    generator: DeepSEEConfig = field(default_factory=DeepSEEConfig)
    variant: str = "independent"
    references: References = field(default_factory=References)
    small_share: float = 0.5
    found_share: float = 0.0
    drawn_share: float = 0.0
    spread: float = 1.0
    noise: float = 0.2
    noise_share: float = 0.5
    images: int = 1_300_000
    batch: int = 4
    lr_g: float = 1e-4
    lr_d: float = 4e-4
    lr_steps: tuple[tuple[int, float, float], ...] = ()
    small_rate: float = 0.25
    betas: tuple[float, float] = (0.0, 0.9)
    discriminator: str = "patch"
    patch_width: int = 32
    width: int = 64
    pixel_width: int = 24
    adversary: float = 1.0
    projected_adversary: float = 1.0
    adversary_start: tuple[int, int] = (0, 0)
    matching: float = 10.0
    perceptual: float = 10.0
    perceptual_weights: tuple[float, ...] = ()
    pixels: float = 0.0
    consistency: float = 0.0
    outside: float = 0.0
    features: str = "efficientnet-lite0"
    feature_weights: str = ""
    feature_size: int = 128
    ema_half_life: float = 10_000.0
    precision: str = "fp32"
    snapshot: int = 8_000
    log: int = 800
    seed: int = 0
    init: str = ""
    name: str = "deepsee"

    def __post_init__(self) -> None:
        check(
            self,
            {
                "count": ("images", "batch", "snapshot", "log"),
                "weight": (
                    "lr_g", "lr_d", "lr_steps", "noise", "small_rate", "adversary", "projected_adversary", "matching", "perceptual",
                    "perceptual_weights", "pixels", "consistency", "spread", "outside", "pixel_width", "hold", "adversary_start",
                ),
                "share": ("small_share", "found_share", "drawn_share", "noise_share"),
                "width": ("patch_width", "width", "feature_size"),
                "positive": ("ema_half_life",),
                "decay": ("betas",),
                "seed": ("seed",),
            },
        )  # fmt: skip
        check(self.references, {"share": ("person", "anyone")}, "references.")
        check_choice("variant", self.variant, tuple(VARIANTS))
        check_choice("discriminator", self.discriminator, DISCRIMINATORS)
        check_choice("features", self.features, tuple(FEATURE_NETWORKS))
        check_choice("precision", self.precision, ("fp32", "bf16"))
        if self.references.person + self.references.anyone > 1:
            raise RecipeError(
                f"references: person ({self.references.person}) and anyone ({self.references.anyone}) must not exceed 1 together."
            )
        taps = len(FEATURE_NETWORKS[self.features].channels)
        if self.perceptual_weights and len(self.perceptual_weights) != taps:
            raise RecipeError(
                f"perceptual_weights ({list(self.perceptual_weights)}) must list {taps} for {self.features}."
            )
        if self.masks and len(self.masks) != len(self.data):
            raise RecipeError(f"masks ({len(self.masks)}) must name one for each of {len(self.data)} sources of data.")
        if self.adversary_start[0] > self.adversary_start[1]:
            raise RecipeError(f"adversary_start ({list(self.adversary_start)}) must not run backwards.")
        if self.snapshot % self.batch or self.log % self.batch:
            raise RecipeError(
                f"snapshot ({self.snapshot}) and log ({self.log}) must be multiples of batch ({self.batch})."
            )


def shape_of(recipe: Recipe) -> DeepSEEConfig:
    """The shape of the recipe's network, as its variant asks for."""
    v, shape = VARIANTS[recipe.variant], recipe.generator
    small, sharp = v.small or (v.styled and not v.small and bool(recipe.small_share) and v.semantics), v.sharp or v.own
    return replace(
        shape,
        regions=shape.regions if v.semantics else 1,
        style=shape.style if v.styled else 0,
        drawn=shape.drawn if v.styled and small and sharp else 0,
        small_styles=small,
        sharp_styles=sharp and (v.sharp or recipe.small_share < 1),
        legacy_512=False,
    )


def source(recipe: Recipe, images: int) -> Source:
    """Where the styles of the step after so many photos come from; it depends on the seed and on them alone."""
    v = VARIANTS[recipe.variant]
    if not v.styled:
        return "none"
    if v.small:
        return "reference-small"
    if v.semantics and random.Random(f"{recipe.seed}/source/{images}").random() < recipe.small_share:
        return "own-small"
    return "own-sharp" if v.own else "reference-sharp"


def found_there(recipe: Recipe, images: int) -> bool:
    """Whether the regions of that step are those found in the small photo."""
    return random.Random(f"{recipe.seed}/found/{images}").random() < recipe.found_share


def drawn_there(recipe: Recipe, images: int) -> bool:
    """Whether that step answers twice, with drawn styles."""
    if not shape_of(recipe).drawn or source(recipe, images) != "own-small":
        return False
    return random.Random(f"{recipe.seed}/drawn/{images}").random() < recipe.drawn_share


def noise(recipe: Recipe, images: int) -> float:
    """The noise on the styles of that step."""
    there = random.Random(f"{recipe.seed}/noise/{images}").random() < recipe.noise_share
    return recipe.noise if there else 0.0


def rates(recipe: Recipe, images: int) -> tuple[float, float]:
    """Learning rates of generator and discriminator after so many photos."""
    return stepped(recipe.lr_g, recipe.lr_d, recipe.lr_steps, images)


def word(recipe: Recipe, images: int) -> float:
    """Share of their weights that the discriminators have after so many photos."""
    first, full = recipe.adversary_start
    return 1.0 if images >= full else max(0.0, (images - first) / max(1, full - first))


__all__ = [
    "REGIONS", "VARIANTS", "Recipe", "References", "drawn_there", "found_there", "noise", "rates", "shape_of", "source", "word",
]  # fmt: skip
