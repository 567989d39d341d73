"""Fréchet and kernel distance between two sets of pictures of any number: pictures stream through and are not kept.

Only features of the published Inception file give a "fid" and a "kid"; those of any other network are called `fd-<name>` and
`kd-<name>`.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path

import torch
from torch import Tensor

from preimage.errors import InputError
from preimage.feature_networks import NETWORKS, load_network
from preimage.files import write_bytes_atomic
from preimage.measure.distances import (
    FeatureScale,
    FeatureStatistics,
    KernelDistance,
    frechet_distance,
    kernel_distance,
)
from preimage.nets.features import FeatureNetwork
from preimage.nets.inception import FIDInception

FORMAT = "preimage-statistics-1"
SUBSETS, SUBSET_SIZE, DEGREE = 100, 1000, 3
"""KID's conventions: so many pairs of subsets of so many vectors, kernel (x·y / d + 1)³ (Bińkowski et al., 2018)."""


class Reservoir:
    """Some vectors of a stream, each with the same chance to be among them (Vitter, 1985, algorithm R).

    Args:
        capacity: how many are kept.
        seed: of the choice; it does not depend on the batches that the vectors come in.
    """

    def __init__(self, capacity: int = 10_000, seed: int = 0):
        self.capacity = capacity
        self.seen = 0
        self._kept: list[Tensor] = []
        self._rng = torch.Generator().manual_seed(seed)

    @property
    def vectors(self) -> Tensor:
        """(k, d) float32, k at most the capacity; in the order of the stream until that is reached."""
        if len(self._kept) != 1:
            self._kept = [torch.cat(self._kept)] if self._kept else [torch.zeros(0, 0)]
        return self._kept[0]

    def update(self, vectors: Tensor) -> None:
        """Take in vectors (n, d)."""
        vectors = vectors.detach().float().cpu()
        room = max(0, self.capacity - self.seen)
        first, rest = vectors[:room], vectors[room:]
        if len(first):
            self._kept = [part for part in self._kept if len(part)] + [first.clone()]
        start = self.seen + len(first)
        self.seen += len(vectors)
        if not len(rest):
            return
        order = torch.arange(start + 1, self.seen + 1, dtype=torch.float64)
        places = (torch.rand(len(rest), generator=self._rng, dtype=torch.float64) * order).long()
        for i in (places < self.capacity).nonzero().flatten().tolist():
            self.vectors[int(places[i])] = rest[i]

    def state(self) -> dict[str, Tensor]:
        """Everything, as tensors to keep in a file; see `from_state`."""
        return {
            "vectors": self.vectors,
            "seen": torch.tensor(self.seen),
            "capacity": torch.tensor(self.capacity),
            "generator": self._rng.get_state(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> Reservoir:
        """A reservoir that goes on where `state` was taken."""
        out = cls(int(state["capacity"]))
        out.seen, out._kept = int(state["seen"]), [state["vectors"].clone()]
        out._rng.set_state(state["generator"].clone())
        return out


class SetValues(dict[str, float]):
    """Distances of two sets by name.

    Attributes:
        kernel: the kernel distance with its spread between subsets.
        counts: pictures judged, and real ones.
        warnings: what to know when reading the values; the same was warned of.
    """

    def __init__(self, values: dict[str, float], kernel: KernelDistance, counts: tuple[int, int], notes: list[str]):
        super().__init__(values)
        self.kernel, self.counts, self.warnings = kernel, counts, notes


class _Side:
    """What is kept of one set."""

    def __init__(self, capacity: int, seed: int):
        self.statistics = FeatureStatistics()
        self.reservoir = Reservoir(capacity, seed)
        self.sizes: set[str] = set()


class SetDistance:
    """Fréchet and kernel distance between pictures that are judged and real ones, in the eyes of one network.

    Published values are of 8-bit files, so round pictures that are not on that grid. Memory: the features of at most `capacity`
    pictures and one covariance per set.

    Args:
        name: what the network is called in the names of the values, such as the `label` of its entry in
            `feature_networks.NETWORKS`.
        network: gives the feature vectors (`pooled`).
        capacity: feature vectors of each set that are kept for the kernel distance.
        seed: of that choice and of the subsets.
        scaled: whether features are taken in units of their spread over the real set (`FeatureScale`), so that a few loud
            ones do not decide alone. None: not for FID and KID, which are defined without, else yes.
        batch: pictures that go through the network together.
    """

    def __init__(
        self,
        name: str,
        network: FeatureNetwork,
        capacity: int = 10_000,
        seed: int = 0,
        scaled: bool | None = None,
        batch: int = 32,
    ):
        published = isinstance(network, FIDInception) and network.official
        self.network, self.seed, self.batch = network, seed, batch
        self.scaled = not published if scaled is None else scaled
        self.names = ("fid", "kid") if published and not self.scaled else (f"fd-{name}", f"kd-{name}")
        self._sides = {real: _Side(capacity, 2 * seed + real) for real in (False, True)}

    def update(self, images: Tensor, real: bool) -> None:
        """Take in pictures (n, 3, H, W), RGB in [0, 1], of either set; n may be 0.

        Raises:
            InputError: a wrong shape or range, NaN, or pictures too small for the network.
        """
        side, smallest = self._sides[real], self.network.smallest
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise InputError(
                f"{self.names[0]}: needs float pictures (n, 3, H, W), got {tuple(images.shape)}, {images.dtype}."
            )
        if min(images.shape[-2:]) < smallest:
            raise InputError(
                f"{self.names[0]}: pictures of {images.shape[-1]}x{images.shape[-2]} are too small; "
                f"{type(self.network).__name__} needs {smallest} pixels or more on either side."
            )
        if not len(images):
            return
        if not (float(images.min()) >= -1e-3 and float(images.max()) <= 1 + 1e-3):  # also for NaN
            raise InputError(f"{self.names[0]}: needs pictures in [0, 1]; these leave it, or hold NaN.")
        device = next((p.device for p in self.network.parameters()), images.device)
        for part in torch.split(images, self.batch):
            with torch.no_grad():
                features = self.network.pooled(part.to(device, torch.float32)).cpu()
            side.statistics.update(features)
            side.reservoir.update(features)
        side.sizes.add(f"{images.shape[-1]}x{images.shape[-2]}")

    def count(self, real: bool) -> int:
        """Pictures taken in so far."""
        return self._sides[real].statistics.count

    def compute(self) -> SetValues:
        """The distances of what was taken in so far.

        Warns:
            UserWarning: too few pictures for a value that can be compared, or sets of different picture sizes.

        Raises:
            InputError: fewer than two pictures in a set.
        """
        judged, real = self._sides[False], self._sides[True]
        counts = (judged.statistics.count, real.statistics.count)
        if min(counts) < 2:
            raise InputError(
                f"{self.names[0]}: needs two pictures or more in each set, has {counts[0]} and {counts[1]} real ones."
            )
        notes = []
        if judged.sizes != real.sizes:
            sizes = [" and ".join(sorted(side.sizes)) for side in (judged, real)]
            notes.append(f"{self.names[0]}: pictures of {sizes[0]} against real ones of {sizes[1]}; size alone shows.")
        scale = FeatureScale.of(real.reservoir.vectors) if self.scaled else None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            frechet = frechet_distance(judged.statistics, real.statistics, scale)
        notes += [f"{self.names[0]}: {warning.message}" for warning in caught]
        vectors = (judged.reservoir.vectors, real.reservoir.vectors)
        size = min(SUBSET_SIZE, *map(len, vectors))
        if size < SUBSET_SIZE:
            notes.append(
                f"{self.names[1]}: subsets of {size} pictures instead of {SUBSET_SIZE}; without bias, but the value varies more."
            )
        subsets = 1 if size == max(map(len, vectors)) else SUBSETS  # all subsets would be the same
        kernel = kernel_distance(*vectors, subsets, size, DEGREE, scale, self.seed)
        for note in notes:
            warnings.warn(note, stacklevel=2)
        values = dict(zip(self.names, (frechet, kernel.value), strict=True))
        return SetValues(values, kernel, counts, notes)

    def save_statistics(self, path: str | Path, pictures: str) -> None:
        """Keep what was gathered of the real set, so that other runs need not read it again.

        Args:
            path: safetensors file; replaced at once or not at all.
            pictures: what they were: archive, split, size.

        Raises:
            InputError: no real pictures yet.
            OutputError: the file cannot be written.
        """
        from safetensors.torch import save

        side = self._sides[True]
        if not side.statistics.count:
            raise InputError(f"{path}: nothing to save, no real pictures were taken in.")
        state = {f"statistics.{key}": value for key, value in side.statistics.state().items()}
        state |= {f"reservoir.{key}": value for key, value in side.reservoir.state().items()}
        about = {"pictures": pictures, "sizes": json.dumps(sorted(side.sizes)), **self._identity()}
        write_bytes_atomic(path, save(state, {"format": FORMAT, **about}))

    def load_statistics(self, path: str | Path) -> str:
        """Take what `save_statistics` kept as the real set; more real pictures may follow.

        Returns:
            What the pictures were.

        Raises:
            InputError: no such file, not one of this network with these weights, or real pictures were taken in already.
        """
        from safetensors import SafetensorError, safe_open

        if self._sides[True].statistics.count:
            raise InputError(f"{path}: real pictures were taken in already; load statistics first.")
        try:
            with safe_open(str(path), "pt") as file:
                about = dict(file.metadata() or {})
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path}: no readable file of statistics ({error}); gather them again.") from None
        if about.get("format") != FORMAT:
            raise InputError(f"{path}: holds no statistics of real pictures; gather them again.")
        for key, value in self._identity().items():
            if about.get(key) != value:
                raise InputError(
                    f"{path}: statistics in the eyes of another network ({key} {about.get(key)}, here {value}); "
                    "gather them again with this one."
                )
        try:
            side = _Side(0, 0)
            parts: dict[str, dict[str, Tensor]] = {"statistics": {}, "reservoir": {}}
            for key, tensor in state.items():
                part, _, name = key.partition(".")
                parts[part][name] = tensor
            side.statistics = FeatureStatistics.from_state(parts["statistics"])
            side.reservoir = Reservoir.from_state(parts["reservoir"])
            side.sizes = set(json.loads(about["sizes"]))
        except (KeyError, ValueError, RuntimeError) as error:
            raise InputError(f"{path}: statistics that lack a part ({error}); gather them again.") from None
        self._sides[True] = side
        return str(about.get("pictures", ""))

    def _identity(self) -> dict[str, str]:
        """What statistics depend on: the network, by class, taps and weights."""
        digest = hashlib.sha256()
        for key, value in sorted(self.network.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        network = f"{type(self.network).__name__}({', '.join(self.network.taps)})"
        return {"network": network, "weights": digest.hexdigest()[:16]}


def set_distance(
    source: str | Path, folder: str | Path | None = None, download: bool = False, seed: int = 0
) -> SetDistance:
    """Fréchet and kernel distance in the eyes of a network of `feature_networks`.

    Args:
        source: an entry, a path or a hub id, see `load_network`; "inception" for FID and KID.
        folder, download: see `load_network`.
        seed: see `SetDistance`.

    Raises:
        WeightsError: see `load_network`.
    """
    network = load_network(source, folder, download)
    entry = NETWORKS.get(str(source)) or next(e for e in NETWORKS.values() if e.network is type(network))
    return SetDistance(entry.label, network, seed=seed)
