"""Which feature networks judge a prior, and which of them may: what a prior looked through flatters it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from preimage.declaration import Declaration
from preimage.feature_networks import NETWORKS, NetworkEntry, load_network
from preimage.nets.features import FeatureNetwork


@dataclass(frozen=True)
class Judge:
    """A feature network that distances are named after: `fd-<name>`, `kd-<name>`.

    Attributes:
        entry: its line in the table of networks.
        trains_as: the training features (`nets.features.FEATURE_NETWORKS`, and the identity network of Pro-PULSE) that see as it
            does; a network that learned through one of them learned to please this judge.
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
        Judge(NETWORKS["mobilefacenet"], ("mobilefacenet",)),
        Judge(NETWORKS["squeezenet11-keras"], ("squeezenet",)),
    )
}


def is_partial(judge: Judge, declaration: Declaration) -> bool:
    """Whether a network looked through features such as this judge's while it was trained, so that its verdict flatters."""
    return any(name in judge.trains_as for name in declaration.looked_through or ())
