"""A few candidates that stand for many: those that differ most, and the share of all that each of them stands for.

After Cohen, Manor, Bahat, Michaeli, "From Posterior Sampling to Meaningful Diversity in Image Restoration" (ICLR 2024): the first
samples of a posterior look alike, because most of it is alike; a set to choose from should show its extremes too. Of the ways that
they compare this is farthest-point selection in an embedding: of pixels, of identity or of landmarks, whichever difference is
meaningful to the one who looks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from preimage.candidates import Candidates
from preimage.errors import InputError, WeightsError
from preimage.seeds import write_seeds

Embedding = Callable[[Tensor], Tensor]
"""Pictures (n, 3, H, W), RGB in [0, 1] -> vectors (n, d), whose Euclidean distance says how much two pictures differ."""

_BATCH = 16  # pictures that a network looks at together


def pick(candidates: Candidates, count: int, by: str | Embedding = "pixels", name: str = "") -> Candidates:
    """The few of many candidates that differ most, each with the share of all that it stands for.

    Args:
        candidates: of one photo, more than `count`.
        count: how many, at least 2.
        by: what they should differ in: a text of `find_embedding`, or an `Embedding` of your own.
        name: of that, for people; empty: its own.

    Returns:
        The picked ones in the order of picking: the most usual first (the smallest sum of distances to all), then always the one
        that is farthest from those before. `Candidates.share` is how large a part of all is nearest to each, `Candidates.picked`
        says of which seeds. Each is what its seed alone gives.

    Raises:
        InputError: a count that leaves nothing to choose, candidates that were picked already, an embedding of another shape.
        WeightsError: a network that is not there.
    """
    check_count(count, len(candidates))
    if candidates.picked:
        raise InputError(f"these candidates are {candidates.picked}; give all that were drawn to pick others.")
    vectors = embed(candidates.images, find_embedding(by) if isinstance(by, str) else by)
    places, shares = farthest(vectors, count)
    about = f"{count} of {len(candidates)} by {name or name_of(by)}, seeds {write_seeds(candidates.seeds)}"
    return replace(candidates.select(places), share=shares, picked=about)


@dataclass(frozen=True)
class Picking:
    """What to pick of the candidates of every photo.

    Attributes:
        count: how many.
        by: what they should differ in, loaded.
        name: of that.
    """

    count: int
    by: Embedding
    name: str

    @classmethod
    def plan(cls, count: int, of: int, by: str | Embedding = "pixels") -> Picking:
        """Load what it needs, before anything is drawn; see `pick`.

        Raises:
            InputError, WeightsError: as `pick`.
        """
        check_count(count, of)
        return cls(count, find_embedding(by) if isinstance(by, str) else by, name_of(by))

    def of(self, candidates: Candidates) -> Candidates:
        """The picked ones."""
        return pick(candidates, self.count, self.by, self.name)


def name_of(by: str | Embedding) -> str:
    """What candidates were told to differ in, in a word."""
    return by.partition("=")[0] if isinstance(by, str) else str(getattr(by, "__name__", type(by).__name__))


def check_count(count: int, of: int) -> None:
    """Refuse to pick so many of so few.

    Raises:
        InputError: with the mend.
    """
    if not 2 <= count < of:
        raise InputError(
            f"pick {count} of {of} candidates: at least 2, and fewer than are drawn; draw more, such as --pick 8 --of 64."
        )


def farthest(vectors: Tensor, count: int) -> tuple[list[int], Tensor]:
    """Greedy farthest points (Gonzalez, 1985), from the medoid on, and how many vectors are nearest to each.

    No other choice of so many points that begins there covers the rest within less than half its radius.

    Args:
        vectors: (n, d); equal distances are decided for the first.
        count: 1 to n.

    Returns:
        Places in `vectors` in the order of picking; (count,) float32 shares of all n, which add up to 1. One that lies as near
        to two is counted for the earlier.
    """
    apart = torch.cdist(vectors.double(), vectors.double(), compute_mode="donot_use_mm_for_euclid_dist")
    places = [int(apart.sum(1).argmin())]
    reach = apart[places[0]].clone()
    while len(places) < count:
        reach[places] = -1.0  # a copy of a picked one has distance 0 too
        places.append(int(reach.argmax()))
        reach = torch.minimum(reach, apart[places[-1]])
    nearest = apart[:, places].argmin(1)
    nearest[places] = torch.arange(count, device=nearest.device)  # a picked one stands for itself, whatever equals it
    return places, (torch.bincount(nearest, minlength=count) / len(vectors)).float().cpu()


def embed(images: Tensor, embedding: Embedding) -> Tensor:
    """Vectors (n, d) of pictures (n, 3, H, W), a batch at a time.

    Raises:
        InputError: an answer that is no vector for each picture.
    """
    with torch.no_grad():
        vectors = torch.cat([embedding(part).float().cpu() for part in torch.split(images, _BATCH)])
    if vectors.ndim != 2 or len(vectors) != len(images) or not bool(vectors.isfinite().all()):
        raise InputError(
            f"the embedding of {len(images)} pictures has shape {tuple(vectors.shape)} or holds NaN; it must be one finite vector each."
        )
    return vectors


def find_embedding(by: str) -> Embedding:
    """An embedding by name.

    Args:
        by: "pixels" (Euclidean distance is the RMS difference in grey levels), "identity" (unit vectors of MobileFaceNet) or
            "landmarks" (the RMS distance of 68 points, in hundredths of the picture's side). A network's file may follow, "identity=PATH"; else it
            is looked for where `preimage.feature_networks.weights_folder` says.

    Raises:
        InputError: no such embedding, or a file for pixels.
        WeightsError: no such file, or not this network.
    """
    name, given, path = by.partition("=")
    if name not in EMBEDDINGS or (given and (name == "pixels" or not path)):
        raise InputError(f"by {by!r:.80}: there are {', '.join(EMBEDDINGS)}, and identity=FILE, landmarks=FILE.")
    return EMBEDDINGS[name](path)


def _pixels(_: str) -> Embedding:
    def flat(images: Tensor) -> Tensor:
        rows = images.flatten(1)
        return rows * (255 / math.sqrt(rows.shape[1]))

    return flat


def _identity(path: str) -> Embedding:
    from preimage.feature_networks import load_network
    from preimage.nets.mobilefacenet import MobileFaceNet

    network = load_network(Path(path) if path else "mobilefacenet")
    if not isinstance(network, MobileFaceNet):
        raise WeightsError(
            f"{path}: holds a {type(network).__name__}, which knows no faces; give mobilefacenet-128d.safetensors."
        )
    return network.embed


def _landmarks(path: str) -> Embedding:
    from preimage.feature_networks import locate
    from preimage.nets.landmarks import Landmarks68

    network = Landmarks68(path or locate("landmarks68"))
    return partial(_spots, network.points)


def _spots(points: Embedding, images: Tensor) -> Tensor:
    found = points(images)
    return found.flatten(1) * (100 / math.sqrt(found.shape[1]))


EMBEDDINGS: dict[str, Callable[[str], Embedding]] = {"pixels": _pixels, "identity": _identity, "landmarks": _landmarks}
"""What candidates may differ in, by name; each takes the path of its network's file, empty for the usual place."""
