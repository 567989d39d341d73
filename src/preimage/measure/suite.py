"""Which metrics a run takes: all whose files are at hand, or those named; the others are listed with how to get them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from preimage.errors import MethodError, PreimageError, WeightsError
from preimage.feature_networks import NETWORKS, load_network, locate
from preimage.measure.faces import identity_similarity, landmark_distance
from preimage.measure.fidelity import FIDELITY
from preimage.measure.metric import Metric
from preimage.measure.niqe import NiqeModel, niqe_metric
from preimage.measure.perceptual import LPIPS, TRUNKS, load_lpips, lpips_metric
from preimage.measure.sets import SetDistance
from preimage.nets.landmarks import Landmarks68
from preimage.nets.mobilefacenet import MobileFaceNet
from preimage.weights import embedded

SET_NETWORKS = {
    "fid": "inception",
    "fd-vgg": "vgg19-distilled",
    "fd-identity": "mobilefacenet",
    "fd-squeeze": "squeezenet11-keras",
}
"""Distances between sets (Fréchet, and kernel beside it) and the networks they look through."""
NIQE = "niqe-faces64"
"""The embedded model of small faces: published NIQE needs 96 pixels."""
NAMES = (*FIDELITY, *(f"lpips-{which}" for which in TRUNKS), "identity", "landmarks", "niqe", NIQE, *SET_NETWORKS)
"""What `metrics` may name."""


@dataclass
class Suite:
    """The metrics of one run.

    Attributes:
        metrics: one value per picture.
        lpips: the perceptual distance for the space of solutions: AlexNet's, as NTIRE has it, else VGG's, else SqueezeNet's.
        lpips_name: how its values are called.
        identity: the embedding network, or None.
        sets: makes the distances between sets, by the name asked for.
        missing: metric -> why it is not measured.
        chooser: the metric that picks best, median and worst.
    """

    metrics: list[Metric] = field(default_factory=list)
    lpips: LPIPS | None = None
    lpips_name: str = ""
    identity: MobileFaceNet | None = None
    sets: dict[str, Callable[[], SetDistance]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def chooser(self) -> Metric | None:
        """LPIPS where there is one, else the first metric."""
        named = [m for m in self.metrics if m.name == self.lpips_name]
        return next(iter(named or self.metrics), None)

    def embed(self) -> Callable[[Tensor], Tensor] | None:
        """Pictures -> unit vectors of identity, where there is such a network."""
        return None if self.identity is None else self.identity.embed


def build_suite(
    metrics: Sequence[str] | None = None,
    weights: str | Path | None = None,
    niqe_model: str | Path | None = None,
    download: bool = False,
) -> Suite:
    """Load what a run measures with.

    Args:
        metrics: names out of `NAMES`; None takes all whose files are at hand and lists the others as missing.
        weights: folder of feature networks, see `feature_networks.weights_folder`.
        niqe_model: one more NIQE model, fitted elsewhere (`NiqeModel.save`).
        download: whether networks may be fetched from the hub.

    Raises:
        MethodError: an unknown metric.
        WeightsError: a metric was named whose file is not there; the message says how to get it.
    """
    unknown = [name for name in metrics or () if name not in NAMES]
    if unknown:
        raise MethodError(f"metrics: {', '.join(unknown)} unknown; there are {', '.join(NAMES)}.")
    suite = Suite()
    for name in NAMES if metrics is None else metrics:
        try:
            _add(suite, name, weights, download)
        except WeightsError as error:
            if metrics is not None:
                raise
            suite.missing[name] = str(error)
    if niqe_model is not None:
        suite.metrics.append(niqe_metric(NiqeModel.load(niqe_model)))
    for which in TRUNKS:
        if suite.lpips is None and f"lpips-{which}" in (NAMES if metrics is None else metrics):
            try:
                suite.lpips = load_lpips(which, weights, download=download)
                suite.lpips_name = next(m.name for m in suite.metrics if m.name.rstrip("*") == f"lpips-{which}")
            except PreimageError:
                continue
    return suite


def _add(suite: Suite, name: str, weights: str | Path | None, download: bool) -> None:
    if name in FIDELITY:
        suite.metrics.append(FIDELITY[name])
    elif name.startswith("lpips-"):
        suite.metrics.append(lpips_metric(name.removeprefix("lpips-"), weights, download=download))
    elif name == "identity":
        suite.identity = _identity(weights)
        suite.metrics.append(identity_similarity(suite.identity))
    elif name == "landmarks":
        suite.metrics.append(landmark_distance(Landmarks68(locate("landmarks68", weights))))
    elif name == "niqe":
        suite.metrics.append(niqe_metric(NiqeModel.load(locate("niqe-pristine", weights))))
    elif name == NIQE:
        suite.metrics.append(niqe_metric(NiqeModel.load(embedded(NIQE))))
    else:
        network = load_network(SET_NETWORKS[name], weights, download)
        label = NETWORKS[SET_NETWORKS[name]].label
        suite.sets[name] = lambda: SetDistance(label, network)


def _identity(weights: str | Path | None) -> MobileFaceNet:
    network = load_network("mobilefacenet", weights)
    assert isinstance(network, MobileFaceNet)
    return network
