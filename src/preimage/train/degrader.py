"""Small photos of sharp faces, as a recipe asks for them: any trainer of pairs takes `degradation: NAME` through `make_degrader`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from preimage.degrade.corrupt import parse_corruption
from preimage.degrade.learned import apply_learned
from preimage.degrade.linear import OPERATORS, make_operator
from preimage.degrade.style_vae import StyleVAE
from preimage.errors import RecipeError
from preimage.seeds import MAX_SEED
from preimage.train.data import eight_bit
from preimage.train.small_faces import small_faces
from preimage.weights import load_degradation

CORRUPT = "corrupt"
"""The bicubic downscaling, with what goes wrong besides (`preimage.degrade.corrupt`)."""


@dataclass(frozen=True)
class Degrader:
    """Sharp faces (n, 3, R, R) in [0, 1] -> photos (n, 3, r, r), as 8-bit files would hold them. Draws from torch's own generator.

    Attributes:
        name: of the degradation.
        take: the photos.
    """

    name: str
    take: Callable[[Tensor], Tensor]

    def __call__(self, faces: Tensor) -> Tensor:
        return self.take(faces)


def make_degrader(
    degradation: str,
    hr_size: int,
    lr_size: int,
    *,
    corruptions: Sequence[str] = (),
    styles: Sequence[str] = (),
    native: tuple[int, int] = (16, 48),
    device: torch.device | str = "cpu",
) -> Degrader:
    """What makes the photos of a recipe.

    Args:
        degradation: name of a linear downscaling, "corrupt", or name, path or hub id of a learned one.
        hr_size, lr_size: sides of faces and photos.
        corruptions: of "corrupt", such as "gaussian_noise:8", in this order.
        styles: natively small faces, whose styles a styleVAE takes over, one at random for each photo; none: its Gaussian.
        native: smallest and largest native side of these.
        device: of the faces.

    Raises:
        RecipeError: a degradation for other sizes, corruptions without "corrupt", styles that nobody takes over.
        OperatorError, InputError, WeightsError: names that are none, networks that cannot be loaded.
    """
    if bool(corruptions) != (degradation == CORRUPT):
        raise RecipeError('corruptions and the degradation "corrupt" go together; give both, or neither.')
    linear = degradation in OPERATORS or degradation == CORRUPT
    if styles and linear:
        raise RecipeError(f"styles: {degradation} takes over none; leave them out, or set degradation to style-vae.")
    if linear:
        name = "bicubic" if degradation == CORRUPT else degradation
        return Degrader(degradation, _linear(name, hr_size, lr_size, corruptions))
    return _learned(degradation, hr_size, lr_size, styles, native, torch.device(device))


def _linear(name: str, hr_size: int, lr_size: int, corruptions: Sequence[str]) -> Callable[[Tensor], Tensor]:
    operator, wrong = make_operator(name, hr_size=hr_size, lr_size=lr_size), [parse_corruption(c) for c in corruptions]

    def degrade(faces: Tensor) -> Tensor:
        for corruption in wrong:
            if corruption.stage == "hr":
                faces = corruption(faces, seed=_seeds(len(faces)))
        photos = operator(faces)
        for corruption in wrong:
            if corruption.stage == "lr":
                photos = corruption(photos.clamp(0, 1), seed=_seeds(len(faces)))
        return eight_bit(photos)

    return degrade


def _seeds(n: int) -> list[int]:
    return torch.randint(MAX_SEED, (n,)).tolist()


def _learned(
    name: str, hr_size: int, lr_size: int, styles: Sequence[str], native: tuple[int, int], device: torch.device
) -> Degrader:
    network = load_degradation(name, device)
    if network.hr_size > hr_size or network.lr_size != lr_size:
        raise RecipeError(
            f"degradation: {network.name} takes {network.hr_size} pixels or more and makes {network.lr_size}; the recipe has faces of "
            f"{hr_size} and photos of {lr_size}. Train one for these, or change generator.lr_size and generator.scale."
        )
    if styles and not isinstance(network, StyleVAE):
        raise RecipeError(f"styles: {network.name} takes over none; leave them out, or set degradation to style-vae.")
    means = spreads = None
    if styles and isinstance(network, StyleVAE):
        photos = torch.from_numpy(small_faces(list(styles), lr_size, native)[0]).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            means, log_spreads = network.style(photos.to(device))
        spreads = log_spreads.exp()

    @torch.no_grad()
    def degrade(faces: Tensor) -> Tensor:
        noise = torch.randn(len(faces), network.noise_dim, device=faces.device)
        if means is not None and spreads is not None:
            chosen = torch.randint(len(means), (len(faces),))
            noise = means[chosen] + spreads[chosen] * noise
        return eight_bit(apply_learned(network, faces, noise))

    return Degrader(network.name, degrade)
