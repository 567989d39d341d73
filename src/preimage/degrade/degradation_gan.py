"""The learned degradation of SR-NAM (Lioutas, 2019, section 3.2): a sharp face and a noise vector in, a small face out.

Unlike a linear operator it has seen how natively small faces look: out of focus, noisy, compressed. One sharp face has many
small ones, one per noise vector. It meets `degrade.learned.LearnedDegradation`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.bounds import DEEPEST, WIDEST, check_whole
from preimage.degrade.learned import DegradationNetwork
from preimage.errors import WeightsError
from preimage.nets.residual import PreActivationBlock


@dataclass(frozen=True)
class DegradationGANConfig:
    """Shape of the generator: one group of two residual blocks per entry of `down` and `up`.

    Attributes:
        hr_size, lr_size: sides of the pictures it takes and makes.
        noise_dim: length of the noise vector.
        down: channels of the groups that halve the size; published are 12 blocks in 6 groups, four halvings (64 -> 4). The
            paper leaves widths open.
        up: channels of the groups behind a pixel shuffle, which doubles the size; published are two (4 -> 16).
    """

    hr_size: int = 64
    lr_size: int = 16
    noise_dim: int = 100
    down: tuple[int, ...] = (96, 128, 256, 512)
    up: tuple[int, ...] = (128, 32)

    def __post_init__(self) -> None:
        for key in ("down", "up"):  # a file has lists
            widths = getattr(self, key)
            if not isinstance(widths, list | tuple) or len(widths) > DEEPEST:
                raise WeightsError(f"degradation: {key} ({widths!r:.40}) must be a list of at most {DEEPEST} widths.")
            object.__setattr__(self, key, tuple(widths))
            check_whole("degradation", {f"{key}[{i}]": width for i, width in enumerate(widths)}, 1, WIDEST)
        check_whole("degradation", {name: getattr(self, name) for name in ("hr_size", "lr_size")}, 1, 1024)
        check_whole("degradation", {"noise_dim": self.noise_dim}, 1, WIDEST)
        made = self.hr_size / 2 ** len(self.down) * 2 ** len(self.up)
        if made != self.lr_size or self.hr_size % 2 ** len(self.down):
            raise ValueError(
                f"{len(self.down)} halvings and {len(self.up)} doublings of {self.hr_size} px do not make {self.lr_size} px."
            )
        wide = (*self.down, *self.up)
        if not self.down or any(c % 4 for c in wide[len(self.down) - 1 : -1]):
            raise ValueError(
                f"down {list(self.down)}, up {list(self.up)}: needs one halving or more, and widths before a pixel shuffle "
                "that are multiples of 4."
            )


class DegradationGAN(DegradationNetwork):
    """Encoder-decoder of pre-activation residual blocks; the noise becomes a fourth channel of the input.

    In eval mode batch norm uses its running statistics, so what becomes of a picture does not depend on its batch.

    Args:
        config: shape.
        name: for provenance.
    """

    def __init__(self, config: DegradationGANConfig | None = None, name: str = "degradation-gan"):
        super().__init__()
        self.config, self.name = config or DegradationGANConfig(), name
        c = self.config
        self.spread = nn.Linear(c.noise_dim, c.hr_size**2)
        self.stem = nn.Conv2d(4, c.down[0], 3, padding=1)
        groups = [_group(a, b, down=True) for a, b in pairwise((c.down[0], *c.down))]
        groups += [_group(a // 4, b, down=False) for a, b in pairwise((c.down[-1], *c.up))]
        self.groups = nn.ModuleList(groups)
        last = (*c.down, *c.up)[-1]
        self.head = nn.Sequential(
            nn.BatchNorm2d(last), nn.ReLU(), nn.Conv2d(last, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1)
        )

    def metadata(self) -> dict[str, Any]:
        return {"architecture": "degradation-gan", "config": asdict(self.config)}

    def forward(self, pictures: Tensor, noise: Tensor | None = None) -> Tensor:
        """Sharp faces to small ones, differentiable in both.

        Args:
            pictures: (n, 3, hr_size, hr_size) float, RGB in [0, 1].
            noise: (n, noise_dim); None means zeros.

        Returns:
            (n, 3, lr_size, lr_size), RGB in [0, 1].

        Raises:
            OperatorError: other shapes.
        """
        n, side, noise = len(pictures), self.hr_size, self.checked(pictures, noise)
        extra = self.spread(noise).view(n, 1, side, side)
        x = torch.cat([pictures * 2 - 1, extra.to(pictures.dtype)], dim=1)
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        for i, group in enumerate(self.groups):
            x = group(x if i < len(self.config.down) else F.pixel_shuffle(x, 2))
        made: Tensor = self.head(x).float().tanh() / 2 + 0.5
        return made


def _group(channels_in: int, channels: int, down: bool) -> nn.Sequential:
    """Two residual blocks, the first of which halves the size where `down`."""
    first = PreActivationBlock(channels_in, channels, pool="average" if down else "")
    return nn.Sequential(first, PreActivationBlock(channels, channels))
