"""The contract of a learned degradation: a network that has seen how real small faces look (SR-NAM, section 3.2)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from preimage.degrade.degradation import Evidence
from preimage.degrade.linear import area
from preimage.errors import InputError, OperatorError
from preimage.image import to_uint8
from preimage.nets.fingerprint import fingerprint
from preimage.nets.layers import freeze
from preimage.seeds import normal

NOISE = "degradation_noise"
"""Under this name candidates keep the noise they were degraded with, (n, noise_dim)."""
WHY_INEXACT = "learned degradation"
"""Why such candidates are never exact: the network has no picture behind every photo, and no two noises agree."""


@runtime_checkable
class LearnedDegradation(Protocol):
    """A network that makes a face small the way cameras do. Calling it is `forward`; it is in evaluation mode.

    Attributes:
        name: for provenance.
    """

    name: str

    @property
    def hr_size(self) -> int:
        """Side of the pictures it takes."""
        ...

    @property
    def lr_size(self) -> int:
        """Side of the pictures it makes."""
        ...

    @property
    def noise_dim(self) -> int:
        """Length of the noise vector that says how this photo was taken."""
        ...

    def noise(self, seeds: Sequence[int], stream: str = "degradation") -> Tensor:
        """Standard normal noise (n, noise_dim), one row per seed."""
        ...

    def __call__(self, pictures: Tensor, noise: Tensor | None = None) -> Tensor:
        """Pictures (n, 3, hr_size, hr_size) in [0, 1], noise (n, noise_dim) or None for zeros -> (n, 3, lr_size, lr_size)."""
        ...


class DegradationNetwork(nn.Module):
    """What learned degradations of this package share: sizes of their configuration, noise by seed, and what they refuse.

    Attributes:
        name: for provenance.
        config: with `hr_size` and `lr_size`.
    """

    name: str
    config: Any

    @property
    def hr_size(self) -> int:
        """Side of the pictures it takes."""
        return int(self.config.hr_size)

    @property
    def lr_size(self) -> int:
        """Side of the pictures it makes."""
        return int(self.config.lr_size)

    @property
    def scale(self) -> float:
        return self.hr_size / self.lr_size

    @property
    def noise_dim(self) -> int:
        """Length of the noise vector."""
        return int(self.config.noise_dim)

    def noise(self, seeds: Sequence[int], stream: str = "degradation") -> Tensor:
        """Standard normal noise (n, noise_dim), one row per seed, on the CPU; a seed always gives the same row."""
        return normal(seeds, (self.noise_dim,), stream)

    def checked(self, pictures: Tensor, noise: Tensor | None) -> Tensor:
        """The noise (n, noise_dim) for these pictures (n, 3, hr_size, hr_size), zeros for None.

        Raises:
            OperatorError: other shapes.
        """
        n, side = len(pictures), self.hr_size
        if tuple(pictures.shape) != (n, 3, side, side):
            raise OperatorError(f"{self.name}: takes pictures (n, 3, {side}, {side}), not {tuple(pictures.shape)}.")
        if noise is None:
            return pictures.new_zeros(n, self.noise_dim)
        if tuple(noise.shape) != (n, self.noise_dim):
            raise OperatorError(f"{self.name}: takes noise ({n}, {self.noise_dim}), not {tuple(noise.shape)}.")
        return noise


class Learned:
    """A learned network as a `Degradation`: it proves nothing, so pictures are kept as they are, and the error is stated.

    Args:
        network: see `LearnedDegradation`.
    """

    kind, why_inexact = "learned", WHY_INEXACT

    def __init__(self, network: LearnedDegradation) -> None:
        self.network = network

    @property
    def name(self) -> str:
        return self.network.name

    def on(self, device: torch.device) -> Self:
        frozen(self.network, device)
        return self

    def draw(self, seeds: Sequence[int], stream: str = "degradation") -> Tensor:
        return self.network.noise(seeds, stream)

    def __call__(self, pictures: Tensor, noise: Tensor | None = None) -> Tensor:
        return apply_learned(self.network, pictures, noise)

    @torch.no_grad()
    def photograph(self, pictures: Tensor, noise: Tensor | None = None) -> Tensor:
        return to_uint8(self(pictures.float() / 255, noise)).cpu()

    def check(self, resolution: int, lr: Tensor | None = None) -> None:
        check_learned(self.network, resolution, lr)

    def finish(self, images: Tensor, lr: Tensor, noise: Tensor | None = None, tolerance: float = 0.0) -> Evidence:
        saved = (images.clamp(0, 1) * 255).round()
        l1, rms = learned_error(self.network, saved / 255, lr, noise)
        none = torch.zeros(len(images))
        return Evidence(saved.to(torch.uint8).cpu(), error=rms, exact=none.bool(), moved=none, l1=l1)

    def spec(self) -> dict[str, Any]:
        return learned_spec(self.network)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Learned) and self.network is other.network

    def __hash__(self) -> int:
        return hash(id(self.network))


def apply_learned(degradation: LearnedDegradation, pictures: Tensor, noise: Tensor | None) -> Tensor:
    """Degrade pictures of any prior: clipped to what a file can hold, and reduced by area to the network's size.

    Args:
        degradation: the network.
        pictures: (n, 3, R, R) around [0, 1], R at least `hr_size`.
        noise: (n, noise_dim), or None for zeros.

    Returns:
        (n, 3, lr_size, lr_size) float32, differentiable.

    Raises:
        OperatorError: pictures that are not square, or smaller than the network takes.
    """
    height, side = pictures.shape[-2:]
    if height != side:
        raise OperatorError(
            f"{degradation.name}: takes square pictures, not {side}x{height}. Crop the face, or choose a linear downscaling "
            "(--degradation bicubic)."
        )
    check_learned(degradation, side)
    pictures = pictures.float().clamp(0, 1)
    if side > degradation.hr_size:
        pictures = area((side, side), lr_size=(degradation.hr_size, degradation.hr_size))(pictures)
    return degradation(pictures, noise).float()


def check_learned(degradation: LearnedDegradation, resolution: int, lr: Tensor | None = None) -> None:
    """Refuse a prior or a photo that the network does not fit.

    Args:
        degradation: the network.
        resolution: side of the prior's pictures.
        lr: (3, h, w), or None.

    Raises:
        OperatorError: a prior smaller than `hr_size`, a photo that is not `lr_size` square.
    """
    small, large = degradation.lr_size, degradation.hr_size
    if resolution < large:
        raise OperatorError(
            f"{degradation.name} degrades {large}x{large} pictures, but these are {resolution}x{resolution}. Choose a "
            f"larger prior or picture, or a linear downscaling (--degradation bicubic)."
        )
    if lr is not None and tuple(lr.shape[-2:]) != (small, small):
        raise OperatorError(
            f"the picture is {lr.shape[-1]}x{lr.shape[-2]}, but {degradation.name} makes {small}x{small} pictures and no "
            f"others. Resize the photo (`preimage degrade --size {small}`), or choose a linear downscaling "
            "(--degradation bicubic)."
        )


def learned_error(
    degradation: LearnedDegradation, pictures: Tensor, lr: Tensor, noise: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Mean absolute (L1) and root mean square difference between the photo and the degraded pictures, in grey levels.

    Args:
        degradation: the network, on the device of `pictures`.
        pictures: (n, 3, R, R) in [0, 1], as saved.
        lr: (3, h, w) in [0, 1].
        noise: (n, noise_dim), or None for zeros.

    Returns:
        Two of (n,) float32, on the CPU.
    """
    with torch.no_grad():
        misses = apply_learned(degradation, pictures, noise) - lr.to(pictures.device)
    misses = 255 * misses.flatten(1)
    return misses.abs().mean(1).cpu(), misses.square().mean(1).sqrt().cpu()


def learned_spec(degradation: LearnedDegradation) -> dict[str, Any]:
    """A JSON-serialisable description: which network it is, by name and by the hash of its tensors."""
    return {
        "name": degradation.name,
        "kind": "learned",
        "hr_size": [degradation.hr_size] * 2,
        "lr_size": [degradation.lr_size] * 2,
        "sha256": fingerprint(degradation),
    }


def frozen(degradation: LearnedDegradation, device: torch.device) -> LearnedDegradation:
    """The network on a device, in evaluation mode, without gradients of its weights."""
    if isinstance(degradation, nn.Module):
        freeze(degradation, device)
    return degradation


def pack_noise(noise: Tensor) -> str:
    """A noise vector (noise_dim,) as text for a PNG file."""
    return base64.b64encode(noise.detach().cpu().numpy().astype("<f4").tobytes()).decode()


def unpack_noise(text: str) -> Tensor:
    """The noise vector (noise_dim,) of a PNG file.

    Raises:
        InputError: damaged text.
    """
    try:
        return torch.from_numpy(np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32))
    except ValueError as error:
        raise InputError(
            f"the noise of the degradation in the file's notes is damaged ({error}); make the candidate again."
        ) from None
