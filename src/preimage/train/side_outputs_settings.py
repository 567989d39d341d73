"""Settings of a run of side outputs."""

from __future__ import annotations

from dataclasses import dataclass, field

from preimage.errors import RecipeError
from preimage.generate.side_outputs import SideOutputsConfig
from preimage.nets.features import FEATURE_NETWORKS
from preimage.train.checks import check, check_choice


@dataclass(frozen=True)
class Recipe:
    """Settings of one run; the defaults are Pro-PULSE's (section III-F), where the paper gives them.

    There are no data: the prior itself draws the faces, from random z without truncation. Every duration counts those.

    Attributes:
        out: run folder.
        prior: the frozen generator: name, path or hub id.
        branches: shape of the branches; must fit the prior.
        images: how many faces to draw in all.
        batch: faces per step, over all processes; the paper leaves it open.
        perceptual: weight of the perceptual term (lambda_pp of equation 1).
        features: its network, of `nets.features.FEATURE_NETWORKS`, with all of its taps; the paper's is VGG-16's conv4_2.
        feature_weights: path of that network's safetensors file; efficientnet-lite0 needs none.
        lr, betas: of Adam.
        ema: what the moving average of the branches keeps of itself at each step, less at first.
        precision: fp32 or bf16 in the branches and the feature network; the prior draws in float32.
        snapshot, log: faces between two grids and saved states; between two lines of stats.jsonl.
        seed: of everything random.
        name: of the exported branches.
    """

    out: str
    prior: str
    branches: SideOutputsConfig = field(default_factory=SideOutputsConfig)
    images: int = 400_000
    batch: int = 8
    perceptual: float = 1.0
    features: str = "efficientnet-lite0"
    feature_weights: str = ""
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    ema: float = 0.999
    precision: str = "fp32"
    snapshot: int = 16_000
    log: int = 800
    seed: int = 0
    name: str = "side-outputs"

    def __post_init__(self) -> None:
        bounds = {
            "count": ("images", "batch", "snapshot", "log"),
            "weight": ("perceptual", "lr"),
            "decay": ("betas", "ema"),
            "seed": ("seed",),
        }
        check(self, bounds)
        check_choice("precision", self.precision, ("fp32", "bf16"))
        check_choice("features", self.features, tuple(FEATURE_NETWORKS))
        if not self.prior:
            raise RecipeError("prior: name the generator that gets side outputs, such as faces64 or a path.")
        if self.perceptual and not self.feature_weights and FEATURE_NETWORKS[self.features].package is None:
            raise RecipeError(
                f"feature_weights: give the safetensors file of {self.features}, take efficientnet-lite0, or set "
                "perceptual to 0."
            )
