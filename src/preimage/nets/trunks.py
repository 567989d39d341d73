"""The trunks that LPIPS looks through: AlexNet, VGG-16 and SqueezeNet 1.1, with torchvision's key names.

Only the convolutions up to the last tap; the classifiers of the public files are passed over when a file is read.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from preimage.nets.features import SQUEEZENET_FIRES, FeatureNetwork, Fire


class Trunk(FeatureNetwork):
    """A chain of layers called `features`, as torchvision numbers them; takes RGB in [0, 1].

    LPIPS (Zhang et al., 2018) shifts pictures in [−1, 1] by (−.030, −.088, −.188) and divides them by (.458, .448, .450),
    which is torchvision's normalisation of pictures in [0, 1] by means (.485, .456, .406) and spreads (.229, .224, .225):
    what these networks were trained with.

    Attributes:
        at: the layers whose outputs are the taps.
    """

    at: tuple[int, ...] = ()
    shift: Tensor
    scale: Tensor

    def __init__(self, features: Sequence[nn.Module]):
        super().__init__()
        self.features = nn.Sequential(*features)
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1), persistent=False)

    @staticmethod
    def ignored(key: str) -> bool:
        """Classifiers: `classifier.…` (torchvision), `pre_logits.…` and `head.…` (timm)."""
        return key.startswith(("classifier.", "pre_logits.", "head."))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Activations at the taps, of pictures (n, 3, h, w), RGB in [0, 1]."""
        x = ((x * 2 - 1 - self.shift) / self.scale).contiguous(memory_format=torch.channels_last)
        out = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.at:
                out.append(x)
        return out


class AlexNet(Trunk):
    """AlexNet with one column (Krizhevsky, 2014, arXiv:1404.5997): 2,469,696 parameters; taps after each ReLU."""

    taps = ("relu1", "relu2", "relu3", "relu4", "relu5")
    channels = (64, 192, 384, 256, 256)
    at = (1, 4, 7, 9, 11)
    smallest = 31

    def __init__(self) -> None:
        super().__init__([
            nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
        ])  # fmt: skip


class VGG16(Trunk):
    """VGG-16 (Simonyan and Zisserman, 2015, table 1, D): 14,714,688 parameters; taps before each pool."""

    taps = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
    channels = (64, 128, 256, 512, 512)
    at = (3, 8, 15, 22, 29)
    smallest = 16

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        channels_in = 3
        for channels, depth in zip(self.channels, (2, 2, 3, 3, 3), strict=True):
            layers += [nn.MaxPool2d(2)] if layers else []
            for _ in range(depth):
                layers += [nn.Conv2d(channels_in, channels, 3, padding=1), nn.ReLU()]
                channels_in = channels
        super().__init__(layers)


class SqueezeNet11(Trunk):
    """SqueezeNet 1.1 (Iandola et al., 2016), torchvision's training: 722,496 parameters; taps after conv1, fire3, fire5 to fire9.

    The same network with another training, other normalisation and other keys is `nets.features.SqueezeNet`.
    """

    taps = ("conv1", "fire3", "fire5", "fire6", "fire7", "fire8", "fire9")
    channels = (64, 128, 256, 384, 384, 512, 512)
    at = (1, 4, 7, 9, 10, 11, 12)
    smallest = 17

    def __init__(self) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, stride=2), nn.ReLU()]
        for i, shape in enumerate(SQUEEZENET_FIRES, start=2):
            layers += [nn.MaxPool2d(3, 2, ceil_mode=True)] if i in (2, 4, 6) else []
            layers.append(Fire(*shape, name="squeeze"))
        super().__init__(layers)
