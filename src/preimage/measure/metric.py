"""What a metric is: one value per picture, a direction, a unit, and what it has to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from preimage.errors import InputError

Values = Callable[[Tensor, Tensor], Tensor] | Callable[[Tensor], Tensor]
"""(n, 3, H, W) and, with a reference, (n, 3, H, W), RGB in [0, 1] -> (n,), one value per picture."""


@dataclass(frozen=True)
class Metric:
    """One number per picture, with what is needed to print and to compare it.

    Attributes:
        name: as it is printed; a stand-in for a published metric carries a star (`lpips-squeeze*`).
        values: the function.
        lower_is_better: direction.
        reference: whether it compares with the true picture.
        summary: one sentence, what it says.
        unit: such as "dB"; empty for a plain number.
        source: paper, equation, implementation.
        smallest: shortest side of a picture it can judge, in pixels.
    """

    name: str
    values: Values
    lower_is_better: bool
    reference: bool = True
    summary: str = ""
    unit: str = ""
    source: str = ""
    smallest: int = 1

    def __call__(self, images: Tensor, reference: Tensor | None = None) -> Tensor:
        """Values of pictures (n, 3, H, W), RGB in [0, 1]: (n,) float64 on the CPU; a batch is worked on as a whole.

        Args:
            images: the pictures to judge.
            reference: the true pictures, of the same shape, or one (3, H, W) for all; ignored by metrics that need none.

        Raises:
            InputError: wrong shapes, NaN, a missing reference, pictures too small for this metric.
        """
        _check(images, self.name)
        if min(images.shape[-2:]) < self.smallest:
            raise InputError(
                f"{self.name}: pictures of {images.shape[-1]}x{images.shape[-2]} are too small; it needs {self.smallest} "
                "pixels or more on either side. Leave this metric out."
            )
        with torch.inference_mode():
            if not self.reference:
                return self.values(images).double().cpu()  # type: ignore[call-arg]
            if reference is None:
                raise InputError(f"{self.name}: compares with the true picture; give the reference.")
            if reference.ndim == 3:
                reference = reference.expand_as(images)
            _check(reference, f"{self.name}, reference")
            if reference.shape != images.shape:
                raise InputError(
                    f"{self.name}: pictures {tuple(images.shape)} and reference {tuple(reference.shape)} differ in shape; "
                    "bring them to one size first."
                )
            return self.values(images, reference).double().cpu()  # type: ignore[call-arg]


def _check(images: Tensor, what: str) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or not len(images):
        raise InputError(f"{what}: needs pictures (n, 3, H, W), n at least 1, got {tuple(images.shape)}.")
    if not images.is_floating_point() or not bool(images.isfinite().all()):
        raise InputError(f"{what}: needs finite float pictures in [0, 1].")
