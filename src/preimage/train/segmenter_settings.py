"""Settings of a run of a segmenter, which finds the regions of a face in photos of any size."""

from __future__ import annotations

from dataclasses import dataclass, field

from preimage.degrade.corrupt import parse_corruption
from preimage.errors import RecipeError
from preimage.nets.segmenter import SegmenterConfig
from preimage.semantics.labels import NUMBER
from preimage.train.checks import check, check_choice


@dataclass(frozen=True)
class Recipe:
    """Settings of one run. DeepSEE (section 4.2) gives the network and the data, and none of these numbers.

    Every duration counts pictures.

    Attributes:
        out: run folder.
        data: folders or zip archives with `images` and `masks` (`train.masks.load_pairs`).
        hold: so many pairs, evenly spaced, are never learned from; grids show them, `miou_16` and so on are of them.
        generator: shape of the network; pairs are brought to its `hr_size`.
        sizes: sides of the photos; each photo has one of them at random. hr_size itself: the sharp face.
        degradation, corruptions: what makes the photos, of `train.degrader.make_degrader`.
        images: how many faces to show in all; a run that continues may have more of them.
        batch: pictures per step, over all processes.
        balance: exponent; a label that covers a share p of all pixels weighs p to minus this in the cross entropy. 0: all alike.
        dice: weight of a soft Dice loss (Milletari et al., 2016), the mean over labels, beside the cross entropy. 0: none.
        turn, zoom, shift: degrees, change of scale, share of the side, up to which face and map are moved (`train.masks.jitter`).
        colour: up to this share of `train.augment.colour`.
        lr, power: of AdamW, and how it falls: lr (1 - shown / images) ** power (Chen et al., 2018: 0.9).
        weight_decay, betas: of AdamW.
        ema: what the network's moving average keeps of itself at each step.
        precision: fp32 or bf16 feature maps.
        snapshot, log: pictures between two grids and saved states; between two lines of stats.jsonl.
        seed: of everything random.
        init: an exported segmenter of this shape to start from, by name or path.
        name: of the exported network.
    """

    out: str
    data: list[str]
    hold: int = 64
    generator: SegmenterConfig = field(default_factory=SegmenterConfig)
    sizes: tuple[int, ...] = (16, 24, 32, 48, 64, 128)
    degradation: str = "bicubic"
    corruptions: list[str] = field(default_factory=list)
    images: int = 40_000
    batch: int = 16
    balance: float = 0.25
    dice: float = 0.5
    turn: float = 10.0
    zoom: float = 0.1
    shift: float = 0.05
    colour: float = 0.5
    lr: float = 2e-3
    power: float = 0.9
    weight_decay: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    ema: float = 0.995
    precision: str = "fp32"
    snapshot: int = 8_000
    log: int = 2_000
    seed: int = 0
    init: str = ""
    name: str = "segmenter"

    def __post_init__(self) -> None:
        bounds = {
            "count": ("images", "batch", "snapshot", "log", "hold", "sizes"),
            "weight": ("dice", "turn", "zoom", "lr", "power", "weight_decay"),
            "share": ("shift", "colour", "balance"),
            "decay": ("betas", "ema"),
            "seed": ("seed",),
        }
        check(self, bounds)
        check_choice("precision", self.precision, ("fp32", "bf16"))
        for text in self.corruptions:
            parse_corruption(text)
        if not self.sizes or max(self.sizes) > self.generator.hr_size:
            raise RecipeError(
                f"sizes ({list(self.sizes)}) must be sides of photos up to generator.hr_size ({self.generator.hr_size})."
            )
        if self.generator.labels != NUMBER:
            raise RecipeError(f"generator.labels ({self.generator.labels}) must be {NUMBER}, the regions of a face.")
