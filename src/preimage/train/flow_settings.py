"""Settings of a run of a flow."""

from __future__ import annotations

from dataclasses import dataclass, field

from preimage.errors import RecipeError
from preimage.generate.flow import FlowConfig
from preimage.train.checks import check, check_choice


@dataclass(frozen=True)
class Recipe:
    """Settings of one run; every duration counts pictures.

    Attributes:
        out: run folder.
        data: folders or zip archives of training pictures.
        generator: shape of the flow.
        second: posterior's network that enlarges what the flow draws (name, path or hub id): the export is then both as one prior
            (`preimage.generate.cascade`), and so are the grids, and it learns from faces that were shrunk as that network takes
            them; None for the flow alone.
        images: how many pictures to show in all.
        batch: pictures per step, over all processes.
        hold: pictures that are never learned from; stats.jsonl has their loss.
        lr, betas, weight_decay: of AdamW.
        warm_up: pictures over which the rate rises.
        decay_from: share of `images` behind which the rate falls to zero, along a cosine.
        clip: longest gradient; 0: any.
        coupling: whether the pictures and the noise of a batch are paired so that the way between them is short (Pooladian et al.,
            2023; Tong et al., 2024), which straightens the flow.
        time_mean, time_spread: of the logit of the times that are learned from, a Gaussian (Esser et al., 2024); 0 is noise and
            picture in equal parts.
        ema_half_life: half-life of the moving average.
        precision: fp32 or bf16 feature maps.
        snapshot: pictures between two grids and saved states.
        log: pictures between two lines of stats.jsonl.
        seed: of everything random.
        init: flow, alone or in front of `second`, to start from (name, path or hub id); empty for random weights.
        name: of the exported prior.
    """

    out: str
    data: list[str]
    generator: FlowConfig = field(default_factory=FlowConfig)
    second: str | None = None
    images: int = 1_000_000
    batch: int = 128
    hold: int = 256
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    warm_up: int = 20_000
    decay_from: float = 0.6
    clip: float = 1.0
    coupling: bool = True
    time_mean: float = 0.0
    time_spread: float = 1.1
    ema_half_life: float = 30_000.0
    precision: str = "fp32"
    snapshot: int = 64_000
    log: int = 6_400
    seed: int = 0
    init: str = ""
    name: str = "flow"

    def __post_init__(self) -> None:
        bounds = {
            "count": ("images", "batch", "snapshot", "log", "warm_up"),
            "weight": ("lr", "weight_decay", "clip", "hold"),
            "positive": ("time_spread", "ema_half_life"),
            "share": ("decay_from",),
            "decay": ("betas",),
            "seed": ("seed",),
        }
        check(self, bounds)
        check_choice("precision", self.precision, ("fp32", "bf16"))
        if self.snapshot % self.batch or self.log % self.batch:
            raise RecipeError(
                f"snapshot ({self.snapshot}) and log ({self.log}) must be multiples of batch ({self.batch})."
            )
