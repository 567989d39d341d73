"""Pictures as Python code holds them: tensors and numpy arrays of any common shape and range, checked and turned to one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from preimage.errors import InputError


def array_size(picture: object) -> tuple[int, int] | None:
    """Width and height of a tensor or numpy array that has the shape of a picture; None for others."""
    shape = tuple(picture.shape) if isinstance(picture, Tensor | np.ndarray) else ()
    shape = shape[1:] if len(shape) == 4 and shape[0] == 1 else shape
    if len(shape) == 3:
        last = shape[2] in (1, 3) and (isinstance(picture, np.ndarray) or shape[0] not in (1, 3))
        shape = shape[:2] if last else shape[1:]
    return (shape[1], shape[0]) if len(shape) == 2 and 0 not in shape else None


def array_values(x: Tensor | np.ndarray[Any, Any], name: str) -> Tensor:
    """The picture as float32 in [0, 1], (c, h, w) with c 1 or 3, on the CPU; bytes are divided by 255.

    Raises:
        InputError: another type, shape or range, NaN or infinity; it calls the picture `name`.
    """
    values = _channels_first(_numbers(x, name), isinstance(x, np.ndarray), name)
    _check_range(values, name)
    return values


def _numbers(x: Tensor | np.ndarray[Any, Any], name: str) -> Tensor:
    """The same numbers as a float32 CPU tensor; uint8 divided by 255."""
    floating = x.is_floating_point() if isinstance(x, Tensor) else x.dtype.kind == "f"
    byte = x.dtype in (torch.uint8, np.uint8)
    if not (floating or byte):
        raise InputError(f"{name}: holds {x.dtype}; convert to uint8 in 0 to 255, or to float32 in [0, 1]")
    if isinstance(x, np.ndarray):
        with np.errstate(over="ignore"):
            x = torch.tensor(x.astype(np.float32, order="C"))
    values = x.detach().cpu().float()
    return values / 255 if byte else values


def _channels_first(values: Tensor, last: bool, name: str) -> Tensor:
    """(c, h, w) with c 1 or 3; `last`: read an ambiguous shape as channels last."""
    shape = tuple(values.shape)
    if values.numel() == 0:
        raise InputError(f"{name}: shape {shape} holds no pixels; give a picture of at least 1×1")
    if values.ndim == 4:
        if shape[0] != 1:
            raise InputError(f"{name}: shape {shape} is a batch of {shape[0]}; give one picture at a time")
        values = values[0]
    if values.ndim == 2:
        return values[None]
    if values.ndim == 3 and last and values.shape[2] in (1, 3):
        return values.permute(2, 0, 1)
    if values.ndim == 3 and values.shape[0] in (1, 3):
        return values
    hint = "give (3, h, w) or (1, h, w)" + (", or (h, w, 3)" if last else "")
    if values.ndim == 3 and 4 in (values.shape[0], values.shape[2]):
        hint += "; drop the alpha channel"
    elif values.ndim == 3 and values.shape[2] in (1, 3):
        hint += "; channels come first in a tensor: x.permute(2, 0, 1)"
    raise InputError(f"{name}: shape {shape} is not a picture; {hint}")


def _check_range(values: Tensor, name: str) -> None:
    if not bool(torch.isfinite(values).all()):
        raise InputError(f"{name}: holds NaN or infinity; find where they arise, or replace them with nan_to_num")
    low, high = float(values.min()), float(values.max())
    if low >= -0.5 / 255 and high <= 1 + 0.5 / 255:
        return
    if high > 2 and low >= 0:
        hint = "it looks like 0 to 255: divide by 255, or convert to uint8"
    elif -1.01 <= low < -0.1 and high <= 1.01:
        hint = "it looks like [-1, 1]: use (x + 1) / 2"
    else:
        hint = "rescale it, or use clamp(0, 1) if it only overshoots"
    raise InputError(f"{name}: values from {low:.4g} to {high:.4g}, not in [0, 1]; {hint}")
