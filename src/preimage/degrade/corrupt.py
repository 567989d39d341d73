"""What goes wrong besides shrinking: noise, motion blur, salt-and-pepper, JPEG (PULSE's robustness set, figure 6).

Every function takes pictures (n, 3, H, W), float in [0, 1], and returns the same shape and type, clipped to [0, 1].
Randomness is drawn per picture and on the CPU: `seed` is the first picture's, the next ones count up (or one seed per
picture); with `generator` instead, picture after picture takes its seed from it. A picture's corruption therefore
depends on its seed alone, not on the batch, its order or the device.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from preimage import seeds as addresses
from preimage.errors import InputError

Seed = int | Sequence[int]

_MOTION_LENGTH, _MOTION_SIDE = 100, 1024  # PULSE: length 100 on faces of 1024


def gaussian_noise(
    images: Tensor, std: float = 25.0, *, seed: Seed = 0, generator: torch.Generator | None = None
) -> Tensor:
    """Adds independent normal noise of `std` 8-bit grey levels to every value (PULSE: 25 and 50, after downscaling)."""
    _check(images)
    _check_amount("std", std, 0, math.inf)
    noise = [
        torch.randn(images.shape[1:], generator=g, dtype=torch.float64) for g in _each(images, "noise", seed, generator)
    ]
    return _apply_each(images, noise, lambda x, n: x + n * (std / 255))


def salt_and_pepper(
    images: Tensor, density: float = 0.05, *, seed: Seed = 0, generator: torch.Generator | None = None
) -> Tensor:
    """Replaces a share `density` of the pixels, half by white, half by black, in all channels alike.

    PULSE: 0.05, after downscaling; whether it draws per pixel or per channel is not specified.
    """
    _check(images)
    _check_amount("density", density, 0, 1)
    size = images.shape[-2:]
    draws = [torch.rand(size, generator=g, dtype=torch.float64) for g in _each(images, "pepper", seed, generator)]

    def strike(x: Tensor, draw: Tensor) -> Tensor:
        return x.masked_fill(draw < density, 0.0).masked_fill(draw < density / 2, 1.0)

    return _apply_each(images, draws, strike)


def motion_blur(
    images: Tensor, length: float | None = None, *, seed: Seed = 0, generator: torch.Generator | None = None
) -> Tensor:
    """Averages along a straight line of random direction, one direction per picture; edges are continued outwards.

    Args:
        length: of the line, in pixels of the pictures given. None stands for PULSE's 100 pixels at 1024, scaled to the
            longer side. PULSE blurs before downscaling.
    """
    _check(images)
    if length is None:
        length = _MOTION_LENGTH * max(images.shape[-2:]) / _MOTION_SIDE
    _check_amount("length", length, 0, 4 * max(images.shape[-2:]))
    turns = [torch.rand((), generator=g, dtype=torch.float64) for g in _each(images, "motion", seed, generator)]
    return _apply_each(images, [_line(length, math.pi * float(t)) for t in turns], _filter)


def jpeg(images: Tensor, quality: float = 50, *, seed: Seed = 0, generator: torch.Generator | None = None) -> Tensor:
    """Stores each picture as JPEG of this quality, 1 to 95, and reads it back; nothing about it is random."""
    from PIL import Image

    _check(images)
    _check_amount("quality", quality, 1, 95)
    if quality != int(quality):
        raise InputError(f"JPEG quality is a whole number, not {quality}")

    def store(x: Tensor, _: Tensor) -> Tensor:
        levels = (x.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(levels.numpy())).save(file, "JPEG", quality=int(quality))
        with Image.open(file) as image:
            return torch.from_numpy(np.array(image)).permute(2, 0, 1).double() / 255

    return _apply_each(images, [torch.empty(0)] * len(images), store)


class CorruptionFunction(Protocol):
    """The shape all functions above share: pictures, one amount, where the randomness comes from."""

    def __call__(
        self, images: Tensor, amount: float, /, *, seed: Seed = 0, generator: torch.Generator | None = None
    ) -> Tensor: ...


@dataclass(frozen=True)
class Corruption:
    """One corruption with its amount; call it like its function.

    Attributes:
        name: as in `CORRUPTIONS`.
        function: what does it.
        stage: "hr", applied before downscaling, or "lr", after it.
        unit: what the amount measures, for messages.
        limits: smallest and largest amount.
        amount: how much; None lets motion blur scale its default with the picture.
    """

    name: str
    function: CorruptionFunction
    stage: Literal["hr", "lr"]
    unit: str
    limits: tuple[float, float]
    amount: float | None

    def __call__(self, images: Tensor, *, seed: Seed = 0, generator: torch.Generator | None = None) -> Tensor:
        if self.amount is None:
            return motion_blur(images, None, seed=seed, generator=generator)
        return self.function(images, self.amount, seed=seed, generator=generator)

    def __str__(self) -> str:
        return self.name if self.amount is None else f"{self.name}:{self.amount:g}"


CORRUPTIONS: dict[str, Corruption] = {
    c.name: c
    for c in (
        Corruption("gaussian_noise", gaussian_noise, "lr", "standard deviation in grey levels", (0, 255), 25.0),
        Corruption("motion_blur", motion_blur, "hr", "length in HR pixels", (0, 4096), None),
        Corruption("salt_and_pepper", salt_and_pepper, "lr", "share of the pixels", (0, 1), 0.05),
        Corruption("jpeg", jpeg, "lr", "JPEG quality", (1, 95), 50.0),
    )
}
"""Corruptions by the name used on the command line, with their default amounts."""


def parse_corruption(text: str) -> Corruption:
    """Reads "name" or "name:amount", for instance "gaussian_noise:25".

    Raises:
        InputError: an unknown name, or an amount that is no number or out of range.
    """
    name, colon, amount = text.strip().partition(":")
    name = name.strip().replace("-", "_")
    if name not in CORRUPTIONS:
        raise InputError(
            f"there is no corruption {name!r}; choose one of: {', '.join(CORRUPTIONS)}, such as gaussian_noise:25"
        )
    corruption = CORRUPTIONS[name]
    if not colon:
        return corruption
    low, high = corruption.limits
    try:
        value = float(amount)
    except ValueError:
        value = math.nan
    if not low <= value <= high or (name == "jpeg" and value != int(value)):
        raise InputError(
            f"corruption {text!r}: the amount is the {corruption.unit}, {low:g} to {high:g}, not {amount.strip()!r}"
        )
    return replace(corruption, amount=value)


def _each(images: Tensor, stream: str, seed: Seed, generator: torch.Generator | None) -> list[torch.Generator]:
    """One generator per picture."""
    n = len(images)
    if generator is not None:
        limit = addresses.MAX_SEED + 1
        seeds: Sequence[int] = [
            int(torch.randint(limit, (), generator=generator, device=generator.device)) for _ in range(n)
        ]
    else:
        seeds = range(seed, seed + n) if isinstance(seed, int) else seed
    if len(seeds) != n:
        raise InputError(f"{len(seeds)} seeds for {n} pictures; give one for each, or only the first")
    return [addresses.generator(s, f"corrupt/{stream}") for s in seeds]


def _apply_each(images: Tensor, draws: Sequence[Tensor], change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Changes each picture alone, in float64 on the CPU, so that neither batch nor device can matter."""
    if not len(images):
        return images.clone()
    changed = [change(x.detach().cpu().double(), d) for x, d in zip(images, draws, strict=True)]
    return torch.stack(changed).clamp(0, 1).to(images)


def _line(length: float, angle: float) -> Tensor:
    """Kernel (k, k), k odd, sum 1: the share of a centred line of this length and angle that each pixel holds."""
    reach = math.ceil(length / 2)
    kernel = torch.zeros(2 * reach + 1, 2 * reach + 1, dtype=torch.float64)
    count = max(1, 8 * math.ceil(length))
    along = (torch.arange(count, dtype=torch.float64) + 0.5) / count * length - length / 2
    y, x = reach + along * math.sin(angle), reach + along * math.cos(angle)
    for top, left in ((0, 0), (0, 1), (1, 0), (1, 1)):  # each sample is shared between its four neighbours
        i, j = y.floor().long() + top, x.floor().long() + left
        share = (1 - (y - i).abs()) * (1 - (x - j).abs())
        inside = (i <= 2 * reach) & (j <= 2 * reach) & (share > 0)
        kernel.index_put_((i[inside], j[inside]), share[inside], accumulate=True)
    return kernel / kernel.sum()


def _filter(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolution of (3, H, W) with an odd kernel through the Fourier domain, edges replicated."""
    reach = kernel.shape[0] // 2
    wide = F.pad(x[None], (reach,) * 4, mode="replicate")[0]
    size = [int(s) for s in wide.shape[-2:]]
    spectrum = torch.fft.rfft2(wide) * torch.fft.rfft2(kernel, s=size)
    blurred: Tensor = torch.fft.irfft2(spectrum, s=size)
    return blurred[:, 2 * reach :, 2 * reach :]


def _check(images: Tensor) -> None:
    if not images.is_floating_point() or images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"pictures must be float (n, 3, H, W), not {images.dtype} {tuple(images.shape)}")
    if not images.isfinite().all():
        raise InputError("pictures hold NaN or infinite values")


def _check_amount(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high or math.isinf(value):
        raise InputError(f"{name} must be a number from {low:g} to {high:g}, not {value}")
