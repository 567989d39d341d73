"""Which feature networks judge a prior, and which of them may: what trained a prior flatters it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preimage.measure.networks import NETWORKS, NetworkEntry, load_network
from preimage.nets.features import FeatureNetwork


@dataclass(frozen=True)
class Judge:
    """A feature network that distances are named after: `fd-<name>`, `kd-<name>`.

    Attributes:
        entry: its line in the table of networks.
        trains_as: the training features (`nets.features.FEATURE_NETWORKS`) that see as it does; a prior whose
            discriminator used one of them learned to please this judge.
    """

    entry: NetworkEntry
    trains_as: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.entry.label

    def load(self, folder: str | Path) -> FeatureNetwork:
        """The network, frozen, from its file in this folder.

        Raises:
            WeightsError: no such file, or not one of this network.
        """
        return load_network(self.entry.name, folder)


JUDGES: dict[str, Judge] = {
    judge.name: judge
    for judge in (
        Judge(NETWORKS["vgg19-distilled"], ("vgg19-distilled", "vgg19-normalised")),
        Judge(NETWORKS["mobilefacenet"]),
        Judge(NETWORKS["squeezenet11-keras"], ("squeezenet",)),
    )
}


def training_features(trained: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The feature networks that a prior's discriminator looked through, of what its file says under `trained`.

    Returns:
        Names out of `nets.features.FEATURE_NETWORKS`; none for a discriminator on pixels; None where the file does not say.
    """
    recipe = trained.get("recipe", {})
    if isinstance(recipe.get("features"), str):  # a recipe of train/posterior.py
        return (recipe["features"],)
    discriminator = recipe.get("discriminator", {})
    if "kind" not in discriminator:
        return () if "drift" in recipe else None  # a recipe of train/progan.py, whose discriminator sees pixels
    if discriminator["kind"] != "projected":
        return ()
    features = discriminator.get("features", ())
    return (features,) if isinstance(features, str) else tuple(features)


def is_partial(judge: Judge, trained: Mapping[str, Any]) -> bool:
    """Whether the prior was trained on features such as this judge's, so that its verdict flatters."""
    return any(name in judge.trains_as for name in training_features(trained) or ())
