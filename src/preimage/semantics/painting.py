"""What a person paints with a brush over a map of regions, as labels again."""

from __future__ import annotations

import torch
from torch import Tensor

from preimage.errors import InputError
from preimage.semantics.labels import NUMBER, PALETTE, coloured, resize


def painted(labels: Tensor, strokes: Tensor) -> Tensor:
    """A map on which strokes in the colours of `LABELS` were laid.

    Where a stroke covers half or more, the region of the nearest colour is taken: brushes have soft edges.

    Args:
        labels: (H, W) whole numbers of `LABELS`.
        strokes: (4, h, w) red, green, blue and cover in [0, 1], square as the map, of any size.

    Returns:
        (H, W), of the map's type.

    Raises:
        InputError: another shape.
    """
    if strokes.ndim != 3 or len(strokes) != 4 or labels.ndim != 2:
        raise InputError(f"strokes {tuple(strokes.shape)} on {tuple(labels.shape)}: give (4, h, w) on a map (H, W).")
    palette = torch.tensor(PALETTE, dtype=torch.float32).view(NUMBER, 3) / 255
    flat = strokes[:3].float().flatten(1).T
    colour = torch.cdist(flat, palette).argmin(1).view(strokes.shape[1:])
    there = strokes[3] >= 0.5
    # what is not painted is one label more, so that reducing weighs it against what is
    layer = resize(torch.where(there, colour, NUMBER), labels.shape[-1]).to(labels.device)
    return torch.where(layer < NUMBER, layer.to(labels.dtype), labels)


def paintable(labels: Tensor, picture: Tensor, side: int) -> Tensor:
    """A map to paint on: its colours, with the picture showing through, (3, side, side) in [0, 1].

    Args:
        labels: (H, W) whole numbers of `LABELS`.
        picture: (3, H, W) in [0, 1], what the map belongs to.
        side: of what comes out; its pixels are those of the map, enlarged.
    """
    shown = 0.7 * coloured(labels.long()) + 0.3 * picture
    return torch.nn.functional.interpolate(shown[None], (side, side), mode="nearest")[0]
