"""Further inputs beside the photo, from whatever form a user holds them in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from preimage.errors import InputError
from preimage.image import as_picture, open_image
from preimage.invert.method import Input, Method
from preimage.semantics.labels import read_mask, resize


def as_guide(given: Input, value: object, side: int) -> Tensor:
    """A guide as a method takes it.

    Args:
        given: which input it is.
        value: a path, a Pillow picture, an array or a tensor.
        side: of the pictures that the method makes.

    Returns:
        "picture": (3, side, side) float32 in [0, 1], the middle square, reduced by Lanczos, or enlarged where the input takes that.
        "labels": (side, side) int64; files may be square maps of any size.

    Raises:
        InputError: no picture, one that is too small, or labels of another size.
    """
    name = str(value) if isinstance(value, str | Path) else given.name
    if given.kind == "labels":
        return _labels(value, name, side)
    if isinstance(value, str | Path):
        with open_image(Path(value)) as image:
            found = ImageOps.exif_transpose(image).convert("RGB")
    else:
        pixels = as_picture(value, name=given.name).pixels
        found = Image.fromarray((pixels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
    if min(found.size) < side and not given.enlarge:
        raise InputError(
            f"{name}: {found.width}x{found.height} pixels, but a {given.name} must have {side} or more on a side."
        )
    return as_picture(ImageOps.fit(found, (side, side), Image.Resampling.LANCZOS)).pixels


def as_guides(method: Method, guides: Mapping[str, object]) -> dict[str, Any]:
    """All guides of a call as a method takes them; None leaves one out, and unknown ones stay for the method to refuse."""
    known = {given.name: given for given in method.capabilities.inputs}
    return {
        name: as_guide(known[name], value, method.resolution) if name in known else value
        for name, value in guides.items()
        if value is not None
    }


def _labels(value: object, name: str, side: int) -> Tensor:
    if isinstance(value, str | Path):
        return resize(read_mask(value), side).long()
    if isinstance(value, Image.Image):
        if value.mode not in ("L", "P"):
            raise InputError(
                f"{name}: labels are a grey or palette picture, one number for each pixel, not {value.mode}."
            )
        value = np.array(value)
    labels = torch.as_tensor(np.asarray(value) if not isinstance(value, Tensor) else value)
    if labels.is_floating_point() or tuple(labels.shape) != (side, side):
        raise InputError(
            f"{name}: labels must be {side}x{side} whole numbers, not {tuple(labels.shape)} {labels.dtype}."
        )
    return labels.long()
