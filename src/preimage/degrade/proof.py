"""Proof from files alone: what a saved picture shrinks to, compared with a photo byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from preimage.degrade.consistency import downscale_saved, lr_levels
from preimage.degrade.linear import LinearOperator, bicubic
from preimage.errors import InputError


def verify(path: str | Path, lr_path: str | Path, operator: LinearOperator | None = None) -> tuple[bool, float]:
    """Whether the picture in one file shrinks exactly to the picture in another, and the RMS miss in grey levels.

    Args:
        path: the large picture, of any format of `preimage.image`; taken as 8-bit RGB.
        lr_path: the small one.
        operator: how to shrink; default Pillow's bicubic.

    Raises:
        InputError: a file that is missing, unreadable or has transparent pixels.
        OperatorError: sizes that do not fit each other or the operator.
    """
    misses = _misses(path, lr_path, operator)
    return not bool(misses.any()), float(misses.square().mean().sqrt())


def largest_miss(path: str | Path, lr_path: str | Path, operator: LinearOperator | None = None) -> float:
    """The largest difference in grey levels between the shrunken picture in one file and the picture in another.

    Arguments and errors as for `verify`.
    """
    return float(_misses(path, lr_path, operator).abs().max())


def _misses(path: str | Path, lr_path: str | Path, operator: LinearOperator | None) -> Tensor:
    hr, lr = _open(path), _open(lr_path)
    if operator is None:
        operator = bicubic(tuple(hr.shape[-2:]), lr_size=tuple(lr.shape[-2:]))
    return downscale_saved(hr[None], operator)[0].double() - lr_levels(lr, operator)


def _open(path: str | Path) -> Tensor:
    from preimage.image import MAX_SIDE, open_image  # loads Pillow, which `import preimage` does not need

    with open_image(Path(path)) as image:
        if max(image.size) > MAX_SIDE:
            raise InputError(
                f"{path}: {image.width}x{image.height} pixels, more than {MAX_SIDE} on a side; no candidate is"
            )
        if image.has_transparency_data and np.array(image.convert("RGBA"))[..., 3].min() < 255:
            raise InputError(
                f"{path}: has transparent pixels, so what is seen is not what shrinks; flatten it onto a background"
            )
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
