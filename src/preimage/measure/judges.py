"""Which feature networks judge a prior, and which of them may: what trained a prior flatters it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preimage.nets.features import FeatureNetwork, SqueezeNet, VGG19Distilled
from preimage.nets.mobilefacenet import MobileFaceNet


@dataclass(frozen=True)
class Judge:
    """A feature network that distances are named after: `fd-<name>`, `kd-<name>`.

    Attributes:
        network: its class.
        file: its file in the folder of feature networks.
        trains_as: the training features (`nets.features.FEATURE_NETWORKS`) that see as it does; a prior whose
            discriminator used one of them learned to please this judge.
    """

    name: str
    network: type[FeatureNetwork]
    file: str
    trains_as: tuple[str, ...] = ()

    def load(self, folder: str | Path) -> FeatureNetwork:
        """The network, frozen, from its file in this folder.

        Raises:
            WeightsError: no such file, or not one of this network.
        """
        return self.network.from_file(Path(folder) / self.file)


_VGG = ("vgg19-distilled", "vgg19-normalised")
JUDGES: dict[str, Judge] = {
    judge.name: judge
    for judge in (
        Judge("vgg", VGG19Distilled, "vgg19-distilled-relu5_1.safetensors", _VGG),
        Judge("identity", MobileFaceNet, "mobilefacenet-128d.safetensors"),
        Judge("squeeze", SqueezeNet, "squeezenet11-keras.safetensors", ("squeezenet",)),
    )
}


def training_features(trained: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The feature networks that a prior's discriminator looked through, of what its file says under `trained`.

    Returns:
        Names out of `nets.features.FEATURE_NETWORKS`; none for a discriminator on pixels; None where the file does not say.
    """
    discriminator = trained.get("recipe", {}).get("discriminator", {})
    if "kind" not in discriminator:
        return None
    if discriminator["kind"] != "projected":
        return ()
    features = discriminator.get("features", ())
    return (features,) if isinstance(features, str) else tuple(features)


def is_partial(judge: Judge, trained: Mapping[str, Any]) -> bool:
    """Whether the prior was trained on features such as this judge's, so that its verdict flatters."""
    return any(name in judge.trains_as for name in training_features(trained) or ())
