"""Differentiable augmentation: the same random changes for real and imagined pictures.

Simple ones (Zhao et al., 2020) stand here, those of ADA (Karras et al., 2020) in `train.ada`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.train import ada


def colour(x: Tensor) -> Tensor:
    """Random brightness (±0.25), saturation (0 to 2) and contrast (0.5 to 1.5) per picture, pictures in [0, 1]."""
    n = len(x)
    brightness, saturation, contrast = torch.rand(3, n, 1, 1, 1, device=x.device, dtype=x.dtype).unbind(0)
    x = x + (brightness - 0.5) * 0.5
    grey = x.mean(dim=1, keepdim=True)
    x = grey + (x - grey) * (saturation * 2)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (x - mean) * (contrast + 0.5)


def translation(x: Tensor, ratio: float = 0.125) -> Tensor:
    """Shift each picture by up to `ratio` of its side; what enters is grey."""
    n, _, height, width = x.shape
    reach = max(1, round(height * ratio))
    padded = F.pad(x - 0.5, (reach,) * 4)
    dy, dx = torch.randint(0, 2 * reach + 1, (2, n), device=x.device).unbind(0)
    rows = torch.arange(height, device=x.device)[None] + dy[:, None]
    cols = torch.arange(width, device=x.device)[None] + dx[:, None]
    picture = torch.arange(n, device=x.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[picture, rows[:, :, None], cols[:, None]].permute(0, 3, 1, 2) + 0.5


def cutout(x: Tensor, ratio: float = 0.5) -> Tensor:
    """Replace one square of `ratio` of the side by grey; its centre lies anywhere, so it may stick out."""
    n, _, height, width = x.shape
    size = round(height * ratio)
    top, left = (torch.randint(0, s + 1 - size % 2, (n, 1, 1), device=x.device) - size // 2 for s in (height, width))
    rows = torch.arange(height, device=x.device)[None, :, None]
    cols = torch.arange(width, device=x.device)[None, None]
    hole = (rows >= top) & (rows < top + size) & (cols >= left) & (cols < left + size)
    return torch.where(hole[:, None], torch.full_like(x, 0.5), x)


SIMPLE = {"colour": colour, "translation": translation, "cutout": cutout}
ADAPTIVE = {"ada-blit": ada.blit, "ada-geometry": ada.geometry, "ada-colour": ada.colour}
AUGMENTATIONS = (*SIMPLE, *ADAPTIVE)


def augment(x: Tensor, policy: tuple[str, ...], probability: float = 1.0) -> Tensor:
    """Apply the named augmentations: the simple ones, all together, to a random share of the pictures; then those of ADA.

    Below a probability of about 0.8 the generator cannot mistake the changes for the data (Karras et al., 2020, ADA).

    Args:
        x: pictures (n, 3, h, w) in [0, 1].
        policy: names, of `AUGMENTATIONS`.
        probability: share of the pictures that the simple ones change, and of each single change of ADA.
    """
    changed = x
    for name in policy:
        if name in SIMPLE:
            changed = SIMPLE[name](changed)
    if probability < 1.0 and changed is not x:
        changed = torch.where(torch.rand(len(x), 1, 1, 1, device=x.device) < probability, changed, x)
    for name in policy:
        if name in ADAPTIVE:
            changed = ADAPTIVE[name](changed, probability)
    return changed
