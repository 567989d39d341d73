"""Settings of a StyleGAN2 run: what a recipe may say, and the learning rates that follow from it."""

from __future__ import annotations

from dataclasses import dataclass, field

from preimage.errors import RecipeError
from preimage.generate.stylegan2 import StyleGAN2Config
from preimage.train import losses
from preimage.train.augment import AUGMENTATIONS
from preimage.train.checks import check, check_choice
from preimage.train.loop import stepped

LOSSES = {
    "hinge": (losses.hinge_d, losses.hinge_g),
    "nonsaturating": (losses.nonsaturating_d, losses.nonsaturating_g),
}


@dataclass(frozen=True)
class DiscriminatorSettings:
    """Which discriminator judges, and how.

    Attributes:
        kind: "stylegan2" (residual, minibatch statistics), "projected" (heads on fixed features) or "both".
        loss: "nonsaturating" (StyleGAN2) or "hinge" (projected).
        r1_gamma: weight of the gradient penalty, of both on the residual one alone; 0 turns it off.
        r1_every: steps between two penalties (lazy regularisation).
        channel_base, channel_max: widths of the residual discriminator.
        group: pictures per group of its minibatch statistics.
        features: feature network of the projected one: squeezenet, vgg19-normalised, vgg19-distilled, efficientnet-lite0.
        feature_weights: path of that network's safetensors file; efficientnet-lite0 needs none.
        feature_size: side in pixels that pictures are enlarged to before the feature network.
        width: channels of the projected heads.
        pixel_width: channels of the patch head on the raw pixels; 0 leaves it out.
    """

    kind: str = "stylegan2"
    loss: str = "nonsaturating"
    r1_gamma: float = 1.0
    r1_every: int = 16
    channel_base: int = 16384
    channel_max: int = 512
    group: int = 4
    features: str = "squeezenet"
    feature_weights: str = ""
    feature_size: int = 128
    width: int = 64
    pixel_width: int = 16


@dataclass(frozen=True)
class Recipe:
    """Settings of one run; every duration counts pictures.

    Attributes:
        out: run folder.
        data: folders or zip archives of training pictures.
        generator: shape of the generator.
        discriminator: who judges.
        images: how many real pictures to show in all.
        batch: pictures per step, over all processes.
        lr_g, lr_d: Adam's learning rates.
        lr_steps: from so many pictures on, other rates: [[images, lr_g, lr_d], ...]; with lr_g 0 the discriminator learns alone,
            as a new one beside an `init` must at first.
        betas: Adam's betas.
        style_mixing: probability that a picture uses two latents, crossing over at a random row.
        path_length: weight of the path-length regularisation (2 in the paper); 0 turns it off.
        path_length_every: steps between two of them (lazy regularisation).
        path_length_shrink: on so many times fewer pictures than a step has.
        augment: differentiable augmentations: colour, translation, cutout, or ADA's ada-blit, ada-geometry, ada-colour.
        augment_probability: share of the pictures that are augmented; with `ada_target` the share at the start.
        ada_target: mean sign of the scores of real pictures that the share is steered to (0.6 in the paper); 0: fixed share.
        ada_images: pictures in which the share could go from 0 to 1.
        ada_every: steps between two corrections of the share.
        ema_half_life: half-life of the generator's moving average.
        precision: fp32 or bf16 feature maps.
        compile: torch.compile the networks (pays after about a minute).
        snapshot: pictures between two grids and saved states.
        log: pictures between two lines of stats.jsonl.
        seed: of everything random.
        init: prior that the generator and its average start from (name, path or hub id); empty for random weights.
            A run whose state is lost goes on from its export, with a new discriminator.
        second: posterior's network that enlarges what this generator draws (name, path or hub id): the export is then both as one
            prior (`preimage.generate.cascade`), and so are the grids, and it learns from faces that were shrunk as that network takes
            them; None for the generator alone.
        name: of the exported prior.
    """

    out: str
    data: list[str]
    generator: StyleGAN2Config = field(default_factory=StyleGAN2Config)
    discriminator: DiscriminatorSettings = field(default_factory=DiscriminatorSettings)
    images: int = 400_000
    batch: int = 32
    lr_g: float = 2e-3
    lr_d: float = 2e-3
    lr_steps: tuple[tuple[int, float, float], ...] = ()
    betas: tuple[float, float] = (0.0, 0.99)
    style_mixing: float = 0.5
    path_length: float = 0.0
    path_length_every: int = 4
    path_length_shrink: int = 2
    augment: tuple[str, ...] = ("colour", "translation")
    augment_probability: float = 1.0
    ada_target: float = 0.0
    ada_images: int = 500_000
    ada_every: int = 4
    ema_half_life: float = 10_000.0
    precision: str = "fp32"
    compile: bool = False
    snapshot: int = 20_000
    log: int = 2_000
    seed: int = 0
    init: str = ""
    second: str | None = None
    name: str = "prior"

    def __post_init__(self) -> None:
        d, side = self.discriminator, self.generator.resolution
        bounds = {
            "count": (
                "images", "batch", "snapshot", "log", "path_length_every", "path_length_shrink", "ada_images", "ada_every",
            ),
            "weight": ("lr_g", "lr_d", "lr_steps", "path_length"),
            "positive": ("ema_half_life",),
            "share": ("style_mixing", "augment_probability", "ada_target"),
            "decay": ("betas",),
            "seed": ("seed",),
        }  # fmt: skip
        check(self, bounds)
        judging = {
            "count": ("r1_every", "channel_base", "group", "feature_size"),
            "width": ("channel_max", "width"),
            "weight": ("r1_gamma", "pixel_width"),
        }
        check(d, judging, "discriminator.")
        check_choice("discriminator.kind", d.kind, ("stylegan2", "projected", "both"))
        check_choice("discriminator.loss", d.loss, tuple(LOSSES))
        check_choice("precision", self.precision, ("fp32", "bf16"))
        check_choice("augment", self.augment, AUGMENTATIONS)
        if d.kind != "projected" and d.channel_base < side:
            raise RecipeError(
                f"discriminator.channel_base ({d.channel_base}) must be at least the resolution ({side})."
            )
        if self.snapshot % self.batch or self.log % self.batch:
            raise RecipeError(
                f"snapshot ({self.snapshot}) and log ({self.log}) must be multiples of batch ({self.batch})."
            )


def rates(recipe: Recipe, images: int) -> tuple[float, float]:
    """Learning rates of generator and discriminator after so many pictures, corrected for lazy regularisation."""
    g, d = stepped(recipe.lr_g, recipe.lr_d, recipe.lr_steps, images)
    lazy_g, lazy_d = lazy(recipe)
    return g * lazy_g, d * lazy_d


def lazy(recipe: Recipe) -> tuple[float, float]:
    """Corrections of both players' rates and betas under lazy regularisation (StyleGAN2, appendix B)."""
    pairs = (
        (recipe.path_length, recipe.path_length_every),
        (recipe.discriminator.r1_gamma, recipe.discriminator.r1_every),
    )
    g, d = (every / (every + 1) if weight else 1.0 for weight, every in pairs)
    return g, d
