"""Settings of a run of Pro-PULSE's encoders: what a recipe may say, and which stage a run is in."""

from __future__ import annotations

from dataclasses import dataclass, field

from preimage.degrade.linear import OPERATORS
from preimage.errors import RecipeError
from preimage.nets.features import FEATURE_NETWORKS
from preimage.nets.pro_pulse import ProPulseConfig
from preimage.train import losses
from preimage.train.checks import check, check_choice

LOSSES = {
    "wasserstein": (losses.wasserstein_d, losses.wasserstein_g),
    "hinge": (losses.hinge_d, losses.hinge_g),
    "nonsaturating": (losses.nonsaturating_d, losses.nonsaturating_g),
}
NORMS = ("l2", "rms", "mse")
IDENTITY = ("mobilefacenet", "efficientnet-lite0")


@dataclass(frozen=True)
class Critic:
    """Who judges the final pictures (equations 8 and 9); the paper leaves its shape and its Lipschitz control open.

    Attributes:
        kind: stylegan2 (residual, minibatch statistics) or projected (heads on fixed features, which learn faster).
        loss: wasserstein (the paper's), hinge (projected) or nonsaturating.
        control: of its slopes: r1 (at real pictures), gp (WGAN-GP, towards 1, between real and imagined ones) or none.
        weight: of that control; gamma of R1, lambda of WGAN-GP.
        every: steps between two of them, which then count so many times.
        channel_base, channel_max, group: of the residual one, as of a StyleGAN2's.
        features, feature_weights, feature_size, width, pixel_width: of the projected one, as of a StyleGAN2's.
    """

    kind: str = "stylegan2"
    loss: str = "wasserstein"
    control: str = "r1"
    weight: float = 10.0
    every: int = 1
    channel_base: int = 16384
    channel_max: int = 512
    group: int = 4
    features: str = "efficientnet-lite0"
    feature_weights: str = ""
    feature_size: int = 128
    width: int = 64
    pixel_width: int = 16


@dataclass(frozen=True)
class Recipe:
    """Settings of one run; the defaults are the paper's, where it gives them. Every duration counts pictures.

    Attributes:
        out: run folder.
        data: folders or zip archives of sharp faces.
        prior: whose latents the encoders write, by name, path, hub id or package.module:Class; frozen.
        hold: so many faces, evenly spaced, are never learned from; grids show them, `psnr_held` is of them.
        encoder: shape of both encoders; hr_size, rows and w_dim must be the prior's.
        degradation: a linear downscaling, which makes the photos and holds the answers against them.
        progressive: stage by stage, the base encoder first; false: all that there is learns from the first picture on.
        earlier: what becomes of the parts of E_W+ when a further stage opens: joint (they go on learning) or frozen.
        end_to_end: the prior learns too, with everything from the first picture on; it is exported beside the encoder.
        sides: whether the side outputs are held against the photo too (equation 6); false: the final picture alone.
        norm: of equation 6, for each picture: l2, the root of the sum of squares, as it is written; rms; or mse.
        rec, identity, adversary: weights of equation 5.
        pull: weight of the mean square of the codes in spreads from the mean latent; not in the paper. Small priors leave faces without.
        identity_network: mobilefacenet, or efficientnet-lite0 for pictures that are no faces.
        identity_weights: path of its safetensors file; efficientnet-lite0 needs none.
        critic: who judges.
        largest, largest_images: until so many pictures only side outputs up to this side are made and held against the photo, and
            nothing else: cheap where the fine half of a prior is dear. 0: never.
        base_images: pictures before the first stage of E_W+ (50,000 steps).
        stage_images: pictures of each stage but the last, which lasts to the end (10,000 steps).
        images: how many to show in all; a run that continues may have more of them.
        batch: pictures per step, over all processes. The paper leaves it open.
        lr, lr_critic: of Adam.
        lr_steps: from so many pictures on, other rates: [[images, lr, lr_critic], ...].
        betas: of Adam, for the encoder; the critic's first is 0.
        ema: what the moving average keeps of itself at each step.
        precision: fp32 or bf16 feature maps.
        snapshot, log: pictures between two grids and saved states; between two lines of stats.jsonl.
        seed: of everything random.
        init: an exported encoder of the same shape and prior to start from, for instance one that saw small side outputs alone.
        name: of the exported encoder.
    """

    out: str
    data: list[str]
    prior: str
    hold: int = 64
    encoder: ProPulseConfig = field(default_factory=ProPulseConfig)
    degradation: str = "bicubic"
    progressive: bool = True
    earlier: str = "joint"
    end_to_end: bool = False
    sides: bool = True
    norm: str = "l2"
    rec: float = 1.0
    identity: float = 1.0
    adversary: float = 0.01
    pull: float = 0.0
    identity_network: str = "mobilefacenet"
    identity_weights: str = ""
    critic: Critic = field(default_factory=Critic)
    largest: int = 0
    largest_images: int = 0
    base_images: int = 400_000
    stage_images: int = 80_000
    images: int = 880_000
    batch: int = 8
    lr: float = 1e-4
    lr_critic: float = 1e-4
    lr_steps: tuple[tuple[int, float, float], ...] = ()
    betas: tuple[float, float] = (0.9, 0.999)
    ema: float = 0.999
    precision: str = "fp32"
    snapshot: int = 40_000
    log: int = 4_000
    seed: int = 0
    init: str = ""
    name: str = "pro-pulse"

    def __post_init__(self) -> None:
        bounds = {
            "count": ("hold", "images", "batch", "snapshot", "log"),
            "weight": (
                "rec", "identity", "adversary", "pull", "largest", "largest_images", "base_images", "stage_images", "lr",
                "lr_critic", "lr_steps",
            ),
            "decay": ("betas", "ema"),
            "seed": ("seed",),
        }  # fmt: skip
        check(self, bounds)
        judging = {"count": ("every", "channel_base", "group", "feature_size"), "width": ("channel_max", "width")}
        check(self.critic, judging | {"weight": ("weight", "pixel_width")}, "critic.")
        for key, value, words in (
            ("precision", self.precision, ("fp32", "bf16")),
            ("earlier", self.earlier, ("joint", "frozen")),
            ("norm", self.norm, NORMS),
            ("degradation", self.degradation, tuple(name for name in OPERATORS if name != "kernel")),
            ("identity_network", self.identity_network, IDENTITY),
            ("critic.kind", self.critic.kind, ("stylegan2", "projected")),
            ("critic.loss", self.critic.loss, tuple(LOSSES)),
            ("critic.control", self.critic.control, ("r1", "gp", "none")),
            ("critic.features", self.critic.features, tuple(FEATURE_NETWORKS)),
        ):
            check_choice(key, value, words)
        if not self.rec + self.identity + self.adversary:
            raise RecipeError("rec, identity and adversary are all 0; there is nothing to learn from.")
        if self.encoder.lr_size >= self.encoder.hr_size:
            raise RecipeError(
                f"encoder.lr_size ({self.encoder.lr_size}) must be below hr_size ({self.encoder.hr_size})."
            )
        if self.largest_images and not self.encoder.lr_size <= self.largest <= self.encoder.hr_size:
            raise RecipeError(
                f"largest ({self.largest}) must lie between encoder.lr_size ({self.encoder.lr_size}) and hr_size "
                f"({self.encoder.hr_size}), or largest_images be 0."
            )
        if self.largest_images and not self.rec:
            raise RecipeError("largest_images: until then rec alone teaches; give it a weight, or leave it out.")

    @property
    def at_once(self) -> bool:
        """Whether everything learns from the first picture on."""
        return self.end_to_end or not self.progressive


def stage_of(recipe: Recipe, images: int) -> int:
    """How many stages of E_W+ answer after so many pictures; 0: the base encoder alone."""
    stages = recipe.encoder.stages
    if recipe.at_once or not stages:
        return stages
    since = images - (recipe.base_images if recipe.encoder.base else 0)
    if since < 0:
        return 0
    return min(stages, 1 + since // recipe.stage_images) if recipe.stage_images else stages


def looked_through(recipe: Recipe, images: int) -> tuple[str, ...]:
    """The feature networks that a run has learned through after so many pictures."""
    if images <= recipe.largest_images:
        return ()
    names = [recipe.identity_network] if recipe.identity else []
    if recipe.adversary and recipe.critic.kind == "projected":
        names.append(recipe.critic.features)
    return tuple(dict.fromkeys(names))
