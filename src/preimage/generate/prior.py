"""The Prior contract, and the sphere that stands for a latent Gaussian (PULSE, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

LEAK = 0.2  # slope of the mapping network's last activation, which the Gaussian fit undoes


@runtime_checkable
class Prior(Protocol):
    """What the search needs of a generator. Any module with these members is a prior; search code never asks which.

    Attributes:
        name: where it comes from, for provenance.
        resolution: side of the square pictures it makes, in pixels.
        latent_shape: (rows, dimensions) of one W+ latent.
        spaces: the latent spaces it understands, of "Z", "W", "W+".

    A prior may also have `side_outputs(latents, noise=None, largest=None)`: the faces of `synthesize` at every side that it draws, {side:
    (n, 3, side, side)}, RGB around [0, 1], not clamped, coarse to fine, the whole picture last; `largest` is the largest side that is
    wanted, beyond which nothing is computed (`has_side_outputs`). Beside it `side_sizes`, these sides, saves that they are found out.

    And `told`, places of noise maps that are no noise but say how a picture is to look: a search leaves them at 0 (`told_maps`).
    """

    name: str

    @property
    def resolution(self) -> int: ...
    @property
    def latent_shape(self) -> tuple[int, int]: ...
    @property
    def spaces(self) -> tuple[str, ...]: ...
    @property
    def noise_sizes(self) -> tuple[int, ...]:
        """Side of each square noise map, coarse to fine; empty for a generator without noise inputs."""
        ...

    @property
    def mean_latent(self) -> Tensor:
        """Average w, (dimensions,)."""
        ...

    @property
    def gaussian_fit(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each (dimensions,), of W behind the inverse leaky ReLU; without W, of Z itself."""
        ...

    def synthesize(self, latents: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """W+ latents (n, rows, dimensions) -> pictures (n, 3, R, R), RGB around [0, 1], not clamped.

        noise: one map (n or 1, 1, side, side) per entry of `noise_sizes`; None means silent (zeros).
        """
        ...

    def sample(self, seeds: Sequence[int], truncation: float = 1.0) -> Tensor:
        """One picture per seed, (n, 3, R, R) in [0, 1]."""
        ...


def told_maps(prior: object) -> tuple[int, ...]:
    """Places of a prior's noise maps that are no noise (`Prior`); of most priors there are none."""
    return tuple(getattr(prior, "told", ()))


def has_side_outputs(prior: object) -> bool:
    """Whether a prior draws smaller pictures beside the whole one (`Prior`); StyleGAN (2018) does with branches only."""
    return callable(getattr(prior, "side_outputs", None)) and bool(getattr(prior, "side_sizes", True))


@torch.no_grad()
def side_sizes(prior: Any) -> tuple[int, ...]:
    """Sides of the pictures of `prior.side_outputs`, coarse to fine; empty for a prior without. Found by one picture where it does not say."""
    if not has_side_outputs(prior):
        return ()
    said = getattr(prior, "side_sizes", None)
    found = prior.side_outputs(prior.mean_latent.expand(1, *prior.latent_shape)) if said is None else said
    return tuple(sorted(found))


def fit_gaussian(
    mapping: Callable[[Tensor], Tensor], z_dim: int, samples: int = 100_000, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Diagonal Gaussian fit of W before the last leaky ReLU of the mapping network (PULSE's `gaussian_fit`).

    Leaky ReLU is positively homogeneous, so the sqrt(2) gain of StyleGAN2 is absorbed into mean and deviation.

    Args:
        mapping: z (n, z_dim) -> w (n, w_dim).
        samples: how many z to draw; 1e5 gives a standard error of about 0.002.

    Returns:
        mean and standard deviation, each (w_dim,) float32.
    """
    rng = torch.Generator().manual_seed(seed)
    count = 0
    total = squares = torch.zeros([], dtype=torch.float64)
    while count < samples:
        z = torch.randn(min(10_000, samples - count), z_dim, generator=rng)
        v = inverse_leaky_relu(mapping(z)).double()
        total, squares, count = total + v.sum(0), squares + v.square().sum(0), count + len(z)
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(0).sqrt()
    return mean.float(), std.float()


def inverse_leaky_relu(w: Tensor) -> Tensor:
    """Undo a leaky ReLU of slope 0.2: multiply the negative part by 5."""
    return F.leaky_relu(w, 1.0 / LEAK)


def sphere_to_w(u: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """u on the sphere of radius sqrt(d) (…, d) -> w = LeakyReLU_0.2(std * u + mean) (PULSE's stand-in for the mapping)."""
    return F.leaky_relu(u * std + mean, LEAK)


def w_to_sphere(w: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Inverse of `sphere_to_w`; the result lies on the sphere only if w came from it."""
    return (inverse_leaky_relu(w) - mean) / std
