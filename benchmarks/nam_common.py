"""What the benchmarks of SR-NAM share: the photos, the judges, one search, one table."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.candidates import Candidates
from preimage.collection import Collection
from preimage.degrade.degradation import Degradation
from preimage.degrade.learned import Learned, LearnedDegradation, apply_learned
from preimage.feature_networks import NETWORKS, load_network
from preimage.image import to_uint8
from preimage.invert.search import Found, search
from preimage.invert.search_settings import SearchSettings
from preimage.measure.distances import FeatureScale, kernel_distance
from preimage.nets.layers import channels_last
from preimage.train.data import to_tensor
from preimage.train.small_faces import count_by_side, small_faces

DATA = Path("../shared/data")
JUDGE, IDENTITY = "squeezenet11-keras", "mobilefacenet"


def parser(text: str | None, count: int) -> argparse.ArgumentParser:
    """Options that all of them have."""
    p = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--small", type=Path, default=DATA / "lowres-real.zip/val", help="natively small faces")
    p.add_argument("--faces", type=Path, default=DATA / "faces256-val.zip", help="archive of sharp faces")
    p.add_argument("--native", type=int, nargs=2, default=(16, 1000), help="native sides of the small faces, pixels")
    p.add_argument("-n", "--count", type=int, default=count, help="natively small faces; 0: all")
    p.add_argument("--degraded", type=int, default=None, help="faces degraded by the network; as many, if not given")
    p.add_argument("--seeds", type=int, default=3, help="restarts per photo")
    p.add_argument("--prior", default="progan-faces64", help="name or path")
    p.add_argument("--degradation", default="degradation-gan-64to16", help="name or path")
    p.add_argument("--weights", type=Path, default=Path("../shared/weights"), help="folder of feature networks")
    p.add_argument("--device", default="cpu")
    return p


def native_photos(args: argparse.Namespace, side: int) -> tuple[Tensor, str]:
    """Natively small faces (n, 3, side, side) on the 8-bit grid, evenly out of the folder, and what they are in words."""
    found, sides = small_faces([str(args.small)], side, tuple(args.native))
    photos = to_tensor(found)
    places = spaced(len(photos), args.count)
    return photos[places], count_by_side([sides[i] for i in places])


def spaced(total: int, count: int) -> list[int]:
    """`count` places spread evenly over `total`; 0 takes all."""
    count = min(count or total, total)
    return [i * total // count for i in range(count)]


@torch.no_grad()
def degraded_photos(args: argparse.Namespace, degradation: LearnedDegradation) -> Tensor:
    """Sharp faces (the first of a fixed shuffle) through the network, (n, 3, side, side) on the 8-bit grid."""
    count = args.count if args.degraded is None else args.degraded
    sharp = sharp_faces(args, degradation.hr_size, count or None)
    noise = degradation.noise(range(1_000_000, 1_000_000 + len(sharp)))  # seeds that no restart has
    return to_uint8(apply_learned(degradation, sharp, noise)).float() / 255


def sharp_faces(args: argparse.Namespace, side: int, count: int | None = None) -> Tensor:
    """(n, 3, side, side), the first of a fixed shuffle."""
    with Collection(args.faces) as collection:
        return torch.stack([collection.tensor(name, side) for name in collection.sample(count)])


@dataclass
class Runs:
    """Restarts on several photos.

    Attributes:
        photos: (p, 3, h, w).
        images: (p, s, 3, R, R), clipped to [0, 1] and rounded to bytes.
        small: (p, s, 3, h, w), these degraded by the learned network.
        trace: (p, s, steps), best error so far, grey levels in the measure of the loss.
        l1: (p, s), of the saved pictures through the learned network, grey levels.
        norm: mean root mean square of the latents' coordinates.
        seconds: per candidate.
    """

    photos: Tensor
    images: Tensor
    small: Tensor
    trace: Tensor
    l1: Tensor
    norm: float
    seconds: float

    @classmethod
    def of(
        cls,
        photos: Tensor,
        images: Sequence[Tensor],
        noise: Sequence[Tensor],
        degradation: LearnedDegradation,
        seconds: float,
        trace: Sequence[Tensor] = (),
        norm: float = math.nan,
    ) -> Runs:
        """From the pictures of each photo and the noise that each is degraded with."""
        with torch.no_grad():
            saved = [to_uint8(x).float() / 255 for x in images]
            small = torch.stack([apply_learned(degradation, x, z) for x, z in zip(saved, noise, strict=True)])
        l1 = 255 * (small - photos[:, None]).abs().flatten(2).mean(2)
        traces = torch.stack(list(trace)) if trace else torch.empty(0)
        return cls(photos, torch.stack(saved), small, traces, l1, norm, seconds / l1.numel())


def walk(prior: Any, operator: Any, degradation: Any, photos: Tensor, seeds: int, settings: SearchSettings) -> Runs:
    """Search `seeds` candidates of every photo through `operator`; they are judged through `degradation`."""
    for network in (prior, degradation):
        channels_last(network)  # as the methods do
    began, found = time.monotonic(), []
    for photo in photos:
        degrade = operator if isinstance(operator, Degradation) else Learned(operator)
        found.append(search(prior, degrade, photo, range(seeds), settings))
    seconds = time.monotonic() - began
    fixed = degradation.noise(range(seeds))
    noise = [fixed if f.degradation is None else f.degradation for f in found]
    norm = float(torch.stack([f.latents for f in found]).square().mean(-1).sqrt().mean())
    traces = [levels(f, settings.loss) for f in found]
    return Runs.of(photos, [f.images for f in found], noise, degradation, seconds, traces, norm)


def levels(found: Found, loss: str) -> Tensor:
    """Best error so far in grey levels: L1, or RMS where the loss is L2."""
    best = found.trace.cummin(1).values
    return 255 * (best if loss == "l1" else best.sqrt())


def of_candidates(parts: Sequence[Candidates], photos: Tensor, degradation: LearnedDegradation) -> Runs:
    """Candidates of a method, one batch per photo, judged with the noise of their seeds."""
    noise = [degradation.noise(c.seeds) if c.l1 is None else c.latents["degradation_noise"] for c in parts]
    return Runs.of(photos, [c.images for c in parts], noise, degradation, sum(c.seconds for c in parts))


def apart(pictures: Tensor) -> float:
    """Mean absolute difference in grey levels between restarts (p, s, 3, h, w) of the same photo."""
    s = pictures.shape[1]
    pairs = [(pictures[:, i] - pictures[:, j]).abs().mean() for i in range(s) for j in range(i)]
    return 255 * float(torch.stack(pairs).mean()) if pairs else math.nan


class Judges:
    """Kernel distance to sharp faces, and identity beside the photo; feature networks are loaded once."""

    def __init__(self, args: argparse.Namespace, side: int) -> None:
        self.network, self.label = load_network(JUDGE, args.weights), NETWORKS[JUDGE].label
        self.identity: Any = load_network(IDENTITY, args.weights)
        self.real = self._features(sharp_faces(args, side))
        self.scale = FeatureScale.of(self.real)

    def kernel_distance(self, images: Tensor) -> float:
        """Kernel distance of (n, 3, R, R) to the sharp faces, in units of the spread of their features."""
        made = self._features(images)
        return kernel_distance(made, self.real, subset_size=min(len(made), 200), scale=self.scale).value

    @torch.no_grad()
    def _features(self, images: Tensor) -> Tensor:
        return torch.cat([self.network.pooled(part) for part in images.split(50)])

    @torch.no_grad()
    def likeness(self, runs: Runs) -> float:
        """Identity cosine of the degraded candidates and their photos, both enlarged by bicubic to 64 pixels."""
        s = runs.small.shape[1]
        made, photo = (self._embed(x) for x in (runs.small.flatten(0, 1), runs.photos))
        return float((made * photo.repeat_interleave(s, 0)).sum(1).mean())

    def _embed(self, small: Tensor) -> Tensor:
        large = F.interpolate(small, (64, 64), mode="bicubic", align_corners=False).clamp(0, 1)
        embedded: Tensor = self.identity.embed(large)
        return embedded


def head(*names: str) -> None:
    """Print the head of a Markdown table."""
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names), flush=True)


def row(*cells: str | float) -> None:
    """Print a row as soon as it is known; numbers with one digit behind the point."""
    print("| " + " | ".join(cell if isinstance(cell, str) else f"{cell:.1f}" for cell in cells) + " |", flush=True)
