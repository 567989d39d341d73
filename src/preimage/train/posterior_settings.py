"""Settings of a run of the posterior sampler, and the problems that it is trained on."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from functools import lru_cache

from preimage.degrade.linear import LinearOperator, make_operator
from preimage.errors import RecipeError
from preimage.nets.conditional import ConditionalConfig
from preimage.nets.features import FEATURE_NETWORKS
from preimage.nets.local import LocalConfig
from preimage.train.checks import check, check_choice
from preimage.train.loop import stepped

KERNELS = ("bicubic", "bilinear", "lanczos", "area", "gaussian")


@dataclass(frozen=True)
class Problems:
    """Which small pictures are shown: one size and one downscaling for all photos of a step.

    Attributes:
        smallest, largest: sides in pixels; drawn so that every octave comes equally often.
        kernels: downscalings to draw from.
        focus: side of the bicubic problem that is shown most.
        focus_share: share of the steps that show it.
        noisy_share: share of the other steps whose photos are noisy, for a network that is `tolerant`.
        noise: tolerance in grey levels that those are answered within, from and to, drawn so that every octave comes equally
            often; the noise is normal, of half its spread.
        degraded_share: share of the other steps whose photos were taken by the recipe's learned `degradation`.
    """

    smallest: int = 8
    largest: int = 48
    kernels: tuple[str, ...] = KERNELS
    focus: int = 16
    focus_share: float = 0.5
    noisy_share: float = 0.0
    noise: tuple[float, float] = (1.0, 16.0)
    degraded_share: float = 0.0


@dataclass(frozen=True)
class Problem:
    """What the photos of one step are.

    Attributes:
        operator: the downscaling that is inverted.
        tolerance: how many grey levels the photos may be missed by; their noise has half of it as its spread.
        degraded: whether the learned degradation takes them instead; the tolerance is then measured.
    """

    operator: LinearOperator
    tolerance: float = 0.0
    degraded: bool = False


@dataclass(frozen=True)
class Recipe:
    """Settings of one run; every duration counts photos, each of which is answered twice.

    Attributes:
        out: run folder.
        data: folders or zip archives of sharp faces.
        hold: so many of them, evenly spaced, are never learned from; the grids show eight of them.
        generator: shape of the network.
        problems: which small pictures it learns to answer.
        degradation: name or file of a learned degradation, which takes the photos of `problems.degraded_share`.
        images: how many photos to show in all.
        batch: photos per step, over all processes.
        lr_g, lr_d: Adam's learning rates.
        lr_steps: from so many photos on, other rates: [[images, lr_g, lr_d], ...]; with lr_g 0 the discriminator learns alone,
            as a new one beside an `init` must at first.
        betas: Adam's betas.
        feature_score, pixel_score: weights of the energy score in features and in patches of pixels.
        spread: weight of the distance between two answers in both scores. 1 is the proper score; the discriminator's word draws
            answers together, and a little more than 1 makes up for it.
        texture_score: weight of a score of how much texture there is, window by window and in logarithms, where a blemish on a plain
            wall is far off; the distance between answers counts half in it.
        keep_sharpness: weight of the squared difference, in spreads, between the sharpness of answers and that which they were
            told.
        patch: side of those patches.
        adversary: weight of the discriminator's word.
        adversary_start: it learns from the first number of photos on, and its word rises from 0 to full between the two.
        outside: weight of the mean square by which answers leave [0, 1].
        features: feature network of discriminator and score.
        feature_weights: its file; efficientnet-lite0 needs none.
        feature_size: side that pictures are enlarged to before it.
        width, pixel_width: channels of the discriminator's heads on features, and of the one on pixels.
        ema_half_life: half-life of the generator's moving average.
        precision: fp32 or bf16 feature maps.
        compile: torch.compile the networks (pays after about a minute).
        snapshot: photos between two grids and saved states.
        log: photos between two lines of stats.jsonl.
        seed: of everything random.
        init: an exported network to start from, of this shape or without its last levels, which then begin at zero.
        init_discriminator: a saved discriminator whose heads to start from, such as runs/NAME/state/model_1.safetensors; what does
            not fit, such as the head on pixels of another size, starts anew.
        name: of the exported network.
    """

    out: str
    data: list[str]
    hold: int = 200
    generator: ConditionalConfig = field(default_factory=ConditionalConfig)
    problems: Problems = field(default_factory=Problems)
    degradation: str = ""
    images: int = 400_000
    batch: int = 16
    lr_g: float = 2e-3
    lr_d: float = 2e-3
    lr_steps: tuple[tuple[int, float, float], ...] = ()
    betas: tuple[float, float] = (0.0, 0.99)
    feature_score: float = 12.0
    pixel_score: float = 8.0
    spread: float = 1.0
    texture_score: float = 0.0
    keep_sharpness: float = 0.0
    patch: int = 4
    adversary: float = 1.0
    adversary_start: tuple[int, int] = (4_000, 12_000)
    outside: float = 100.0
    features: str = "efficientnet-lite0"
    feature_weights: str = ""
    feature_size: int = 128
    width: int = 64
    pixel_width: int = 24
    ema_half_life: float = 10_000.0
    precision: str = "fp32"
    compile: bool = False
    snapshot: int = 8_000
    log: int = 800
    seed: int = 0
    init: str = ""
    init_discriminator: str = ""
    name: str = "posterior"

    def __post_init__(self) -> None:
        check(
            self,
            {
                "count": ("images", "batch", "patch", "snapshot", "log"),
                "weight": (
                    "lr_g", "lr_d", "lr_steps", "feature_score", "pixel_score", "adversary", "outside", "pixel_width",
                    "hold", "adversary_start", "texture_score", "keep_sharpness",
                ),
                "width": ("width", "feature_size"),
                "positive": ("ema_half_life", "spread"),
                "decay": ("betas",),
                "seed": ("seed",),
            },
        )  # fmt: skip
        shares = ("focus_share", "noisy_share", "degraded_share")
        check(
            self.problems,
            {"share": shares, "count": ("smallest", "largest", "focus"), "positive": ("noise",)},
            "problems.",
        )
        check_choice("features", self.features, tuple(FEATURE_NETWORKS))
        check_choice("precision", self.precision, ("fp32", "bf16"))
        check_choice("problems.kernels", self.problems.kernels, KERNELS)
        p, side = self.problems, self.generator.resolution
        if not p.smallest <= p.largest < side or not p.focus < side or not p.kernels:
            raise RecipeError(
                f"problems: smallest ({p.smallest}), largest ({p.largest}) and focus ({p.focus}) must rise in this order below "
                f"{side}, and kernels must name one or more."
            )
        if p.noise[0] > p.noise[1] or p.noisy_share + p.degraded_share > 1:
            raise RecipeError(
                f"problems: noise ({list(p.noise)}) must rise, and noisy_share ({p.noisy_share}) and degraded_share "
                f"({p.degraded_share}) must not exceed 1 together."
            )
        if (p.noisy_share or p.degraded_share) and not self.generator.tolerant:
            raise RecipeError("problems: noisy and degraded photos need generator.tolerant: true.")
        if bool(self.degradation) != bool(p.degraded_share):
            raise RecipeError(
                f"degradation ({self.degradation or 'none'}) and problems.degraded_share ({p.degraded_share}) go together."
            )
        if self.keep_sharpness and not getattr(self.generator, "sharpness", ()):
            raise RecipeError(
                "keep_sharpness: needs generator.sharpness; a network that is not told one cannot be held to it."
            )
        if side % self.patch:
            raise RecipeError(f"patch ({self.patch}) must divide the resolution ({side}).")
        if self.adversary_start[0] > self.adversary_start[1]:
            raise RecipeError(f"adversary_start ({list(self.adversary_start)}) must not run backwards.")
        if self.snapshot % self.batch or self.log % self.batch:
            raise RecipeError(
                f"snapshot ({self.snapshot}) and log ({self.log}) must be multiples of batch ({self.batch})."
            )


@dataclass(frozen=True)
class LocalRecipe(Recipe):
    """Settings of a run of the second stage (`nets.local`): it learns on crops, from a quarter of their side.

    Attributes:
        generator: shape of the network; its resolution is the side of the crops.
        sides: for each source of `data`, the side to which its pictures are brought before crops are cut.
        crops: of each picture; more are different places, not more pictures.
        first: name or file of a first stage; where given, both are exported as one network too, `chain.safetensors`.
    """

    generator: LocalConfig = field(default_factory=LocalConfig)  # type: ignore[assignment]
    problems: Problems = field(default_factory=lambda: Problems(32, 32, ("bicubic",), focus=32, focus_share=1.0))
    sides: tuple[int, ...] = ()
    crops: int = 64
    first: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, {"count": ("crops",), "width": ("sides",)})
        if len(self.sides) != len(self.data):
            raise RecipeError(f"sides ({list(self.sides)}) must name one size for each of {len(self.data)} sources.")
        small, p = self.generator.resolution // self.generator.factor, self.problems
        if (p.smallest, p.largest, p.focus) != (small, small, small):
            raise RecipeError(f"problems: smallest, largest and focus must all be {small}, a quarter of the crops.")
        if p.kernels != ("bicubic",) or p.focus_share != 1:
            raise RecipeError(
                "problems: a second stage undoes the bicubic step alone; kernels [bicubic], focus_share 1."
            )


def rates(recipe: Recipe, images: int) -> tuple[float, float]:
    """Learning rates of generator and discriminator after so many photos."""
    return stepped(recipe.lr_g, recipe.lr_d, recipe.lr_steps, images)


def adversary(recipe: Recipe, images: int) -> float:
    """Weight of the discriminator's word after so many photos."""
    first, full = recipe.adversary_start
    rise = 1.0 if images >= full else max(0.0, (images - first) / max(1, full - first))
    return recipe.adversary * rise


def draw_problem(recipe: Recipe, images: int) -> Problem:
    """The problem of the step after so many photos; it depends on the seed and on them alone, so that a run can resume."""
    p, side = recipe.problems, recipe.generator.resolution
    rng = random.Random(f"{recipe.seed}/{images}")
    if rng.random() < p.focus_share:
        return Problem(problem("bicubic", side, p.focus))
    kind = rng.random()
    size = min(max(round(_octaves(rng, p.smallest - 0.5, p.largest + 0.5)), p.smallest), p.largest)
    operator = problem(rng.choice(p.kernels), side, size)
    if kind < p.noisy_share:
        return Problem(operator, _octaves(rng, *p.noise))
    if kind < p.noisy_share + p.degraded_share:
        return Problem(problem("bicubic", side, p.focus), degraded=True)
    return Problem(operator)


def _octaves(rng: random.Random, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


@lru_cache(maxsize=512)
def problem(kernel: str, resolution: int, size: int) -> LinearOperator:
    """A square downscaling, kept with its pseudo-inverse."""
    return make_operator(kernel, hr_size=resolution, lr_size=size)
