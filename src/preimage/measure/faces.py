"""Faces: same person, same geometry, same attributes as the true picture, each through a network that the user chooses.

No network is shipped. Anything with the one method of a protocol below will do, on whatever pictures it accepts; a value is
named after its network, because it means nothing without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor

from preimage.errors import InputError
from preimage.measure.metric import Metric


class IdentityNetwork(Protocol):
    """Who a face looks like, such as `preimage.nets.mobilefacenet.MobileFaceNet`."""

    def embed(self, x: Tensor) -> Tensor:
        """Unit vectors (n, d) of faces (n, 3, H, W), RGB in [0, 1]."""
        ...


class LandmarkNetwork(Protocol):
    """Where the parts of a face are, such as `preimage.nets.landmarks.Landmarks68`."""

    def heatmaps(self, x: Tensor) -> Tensor:
        """One map per landmark, (n, L, h, w), of faces (n, 3, H, W), RGB in [0, 1]."""
        ...


class AttributeClassifier(Protocol):
    """What is visible in a face: smile, glasses, a beard ..."""

    @property
    def names(self) -> Sequence[str]:
        """The k attributes."""
        ...

    def scores(self, x: Tensor) -> Tensor:
        """Scores (n, k) in [0, 1] of faces (n, 3, H, W), RGB in [0, 1]."""
        ...


def identity_similarity(network: IdentityNetwork, name: str | None = None) -> Metric:
    """Cosine between the identity vectors of candidate and true picture: 1 the same, around 0 for strangers.

    Args:
        network: what embeds faces.
        name: of the network; default its `name`, else its class.
    """

    def values(images: Tensor, reference: Tensor) -> Tensor:
        first, second = (F.normalize(e.double(), dim=1) for e in _both(network.embed, images, reference, "embed"))
        return (first * second).sum(1)

    name = _name(network, name)
    return Metric(
        f"identity-{name}",
        values,
        lower_is_better=False,
        summary="Whether it looks like the same person: cosine of identity vectors, 1 the same, near 0 strangers.",
        source=f"Cosine similarity of the embeddings of {name}.",
    )


def landmark_distance(network: LandmarkNetwork, name: str | None = None) -> Metric:
    """Squared difference of landmark heat-maps, summed over pixels, mean over landmarks (Lioutas, SR-NAM, eq. 7).

    As printed there: a sum, so that it grows with the resolution of the heat-maps and the width of their peaks. Compare
    values of one network with one setting only.

    Args:
        network: what finds landmarks.
        name: of the network; default its `name`, else its class.
    """

    def values(images: Tensor, reference: Tensor) -> Tensor:
        first, second = _both(network.heatmaps, images, reference, "heatmaps")
        return (first.double() - second.double()).square().sum((2, 3)).mean(1)

    name = _name(network, name)
    return Metric(
        f"landmarks-{name}",
        values,
        lower_is_better=True,
        summary="How far the parts of the face are from where they should be: squared difference of heat-maps.",
        source=f"SR-NAM (Lioutas), eq. 7, heat-maps of {name}{_setting(network)}.",
    )


def attribute_difference(classifier: AttributeClassifier, only: Sequence[str] = (), name: str | None = None) -> Metric:
    """Mean absolute difference of attribute scores (Pro-PULSE, fig. 8b; with one name in `only`, a bar of fig. 8a).

    Args:
        classifier: what scores attributes.
        only: these of its attributes; default all.
        name: of the classifier; default its `name`, else its class.

    Raises:
        InputError: an attribute that the classifier does not have.
    """
    if unknown := set(only) - set(classifier.names):
        raise InputError(f"no attributes {', '.join(sorted(unknown))}; there are {', '.join(classifier.names)}.")
    chosen = [list(classifier.names).index(attribute) for attribute in only or classifier.names]

    def values(images: Tensor, reference: Tensor) -> Tensor:
        first, second = _both(classifier.scores, images, reference, "scores")
        return (first.double() - second.double()).abs()[:, chosen].mean(1)

    name = _name(classifier, name)
    what = ", ".join(only) if only else f"all {len(chosen)} attributes"
    return Metric(
        "-".join([f"attributes-{name}", *(_slug(attribute) for attribute in only)]),
        values,
        lower_is_better=True,
        summary="Whether smile, glasses, age and the like are the same: mean absolute difference of their scores.",
        source=f"Pro-PULSE (2022), fig. 8; scores of {name}, {what}.",
    )


def _both(answer: Callable[[Tensor], Tensor], images: Tensor, reference: Tensor, what: str) -> tuple[Tensor, Tensor]:
    """A network's answers for the pictures and for the reference; where all share one reference it is asked once."""
    shared = len(images) > 1 and reference.stride(0) == 0
    first, second = answer(images), answer(reference[:1] if shared else reference)
    axes = 4 if what == "heatmaps" else 2
    if first.ndim != axes or len(first) != len(images) or first.shape[1:] != second.shape[1:]:
        raise InputError(
            f"the network's {what} of {len(images)} pictures has shape {tuple(first.shape)}, of the reference "
            f"{tuple(second.shape)}; see the protocol for what it should be."
        )
    return first, second.expand_as(first)


def _name(network: object, name: str | None) -> str:
    return name or _slug(str(getattr(network, "name", None) or type(network).__name__))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.*]+", "-", text.lower()).strip("-")


def _setting(network: object) -> str:
    side, sigma = getattr(network, "side", None), getattr(network, "sigma", None)
    return f", {side}x{side}, sigma {sigma:g}" if isinstance(side, int) and isinstance(sigma, float) else ""
