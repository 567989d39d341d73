"""The 19 regions of a face (CelebAMask-HQ, Lee et al., 2020, in DeepSEE's order), and maps of them as tensors and as palette PNG."""

from __future__ import annotations

import difflib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from preimage.errors import InputError
from preimage.files import write_bytes_atomic
from preimage.image import check_side, open_image


@dataclass(frozen=True)
class Label:
    """A region.

    Attributes:
        name: what the user types.
        colour: red, green, blue, of palette PNGs and of pictures of maps.
    """

    name: str
    colour: tuple[int, int, int]


LABELS: tuple[Label, ...] = (
    Label("background", (38, 42, 51)),
    Label("skin", (239, 190, 148)),
    Label("nose", (224, 143, 92)),
    Label("eyeglasses", (44, 222, 222)),
    Label("left-eye", (39, 92, 214)),
    Label("right-eye", (107, 159, 255)),
    Label("left-brow", (96, 52, 140)),
    Label("right-brow", (165, 118, 214)),
    Label("left-ear", (196, 196, 48)),
    Label("right-ear", (240, 240, 130)),
    Label("mouth", (255, 255, 255)),
    Label("upper-lip", (228, 26, 72)),
    Label("lower-lip", (150, 8, 44)),
    Label("hair", (112, 76, 40)),
    Label("hat", (36, 132, 62)),
    Label("earring", (255, 128, 0)),
    Label("necklace", (255, 0, 220)),
    Label("neck", (201, 150, 116)),
    Label("cloth", (120, 196, 132)),
)
"""By number. Left and right are the person's: the left eye stands in the right half of a photo."""
NUMBER = len(LABELS)
PAIRS: tuple[tuple[int, int], ...] = ((4, 5), (6, 7), (8, 9))
"""Left and right of the same."""
GROUPS: dict[str, tuple[int, ...]] = {
    "eyes": (4, 5), "brows": (6, 7), "ears": (8, 9), "lips": (11, 12), "face": (1, 2, 4, 5, 6, 7, 10, 11, 12),
}  # fmt: skip
"""Names for several regions at once."""
PALETTE = [value for label in LABELS for value in label.colour]


def find_regions(text: str) -> tuple[int, ...]:
    """Numbers of the regions that are named, such as "hair,lips" or "left eye", without repeats.

    Raises:
        InputError: an unknown name; the message has the nearest ones and all.
    """
    known = {label.name: (number,) for number, label in enumerate(LABELS)} | GROUPS
    found: dict[int, None] = {}
    for word in text.split(","):
        name = "-".join(word.lower().replace("_", " ").split())
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else "."
            raise InputError(
                f"region {word.strip()!r:.40}: there is none of this name{hint} Regions: {', '.join(known)}."
            )
        found |= dict.fromkeys(known[name])
    return tuple(found)


def _swapped() -> Tensor:
    table = torch.arange(256)
    for left, right in PAIRS:
        table[left], table[right] = right, left
    return table


_SWAPPED = _swapped()


def flip(labels: Tensor) -> Tensor:
    """Maps (..., H, W), mirrored; what was left becomes right."""
    return _SWAPPED.to(labels.device)[labels.long()].to(labels.dtype).flip(-1)


def one_hot(labels: Tensor) -> Tensor:
    """Maps (n, H, W) -> (n, NUMBER, H, W) of 0 and 1, float32.

    Raises:
        InputError: another shape, or a value that is no label.
    """
    if labels.ndim != 3 or labels.is_floating_point():
        raise InputError(f"labels {labels.dtype} {tuple(labels.shape)}: give whole numbers (n, H, W).")
    _check_values(labels, "labels")
    return F.one_hot(labels.long(), NUMBER).permute(0, 3, 1, 2).float().contiguous()


def resize(labels: Tensor, side: int) -> Tensor:
    """Maps (..., H, W) at (..., side, side): the nearest pixel where they grow, the label with most area where they shrink.

    Every pixel has a label that was there; of equal areas the smaller number wins.
    """
    height, width = labels.shape[-2:]
    if (height, width) == (side, side):
        return labels
    flat = labels.reshape(-1, height, width)
    if side >= max(height, width):
        made = F.interpolate(flat[:, None].float(), (side, side), mode="nearest")[:, 0]
    else:
        made, most = labels.new_zeros(len(flat), side, side), torch.zeros(len(flat), side, side, device=labels.device)
        for label in torch.unique(flat).tolist():
            share = F.adaptive_avg_pool2d((flat == label).float(), side)
            made[share > most] = label
            most = torch.maximum(most, share)
    return made.to(labels.dtype).reshape(*labels.shape[:-2], side, side)


def coloured(labels: Tensor) -> Tensor:
    """Maps (..., H, W) -> pictures (..., 3, H, W) in [0, 1]."""
    palette = torch.tensor(PALETTE, device=labels.device).reshape(NUMBER, 3) / 255
    return palette[labels.long()].movedim(-1, -3)


def read_mask(path: str | Path) -> Tensor:
    """A map (H, W) uint8 from a palette or grey PNG; see `mask_of`.

    Raises:
        InputError: as `preimage.image.open_image` and `mask_of`.
    """
    with open_image(Path(path)) as image:
        check_side(image, path)
        return mask_of(image, str(path))


def mask_of(image: Image.Image, name: str) -> Tensor:
    """A map (H, W) uint8 from a decoded palette or grey picture, square.

    Grey values and indices are numbers of labels. Where all colours that a palette picture uses are those of `LABELS`, they count and
    not its indices: editors number colours anew.

    Raises:
        InputError: another kind of picture, not square, a value that is no label. It begins with `name`.
    """
    if image.mode not in ("L", "P"):
        raise InputError(
            f"{name}: is a picture of mode {image.mode}, not a map of regions; save it as 8-bit palette or grey PNG whose "
            f"values are 0 to {NUMBER - 1} (`preimage.semantics.labels.write_mask` does)."
        )
    if image.width != image.height or image.format not in (None, "PNG"):
        what = f"{image.width}x{image.height} pixels" if image.width != image.height else f"a {image.format} file"
        raise InputError(
            f"{name}: is {what}; a map of regions is a square PNG. Crop the photo first, then mark regions."
        )
    values: NDArray[np.uint8] = np.array(image)
    if image.mode == "P":
        values = _by_colour(values, image.getpalette() or [])
    labels = torch.from_numpy(values)
    _check_values(labels, name)
    return labels


def _by_colour(indices: NDArray[np.uint8], palette: list[int]) -> NDArray[np.uint8]:
    numbers = {label.colour: number for number, label in enumerate(LABELS)}
    table = np.arange(256, dtype=np.uint8)
    for index in np.unique(indices).tolist():
        red, green, blue = (*palette[3 * index : 3 * index + 3], -1, -1, -1)[:3]
        if (red, green, blue) not in numbers:
            return indices
        table[index] = numbers[red, green, blue]
    found: NDArray[np.uint8] = table[indices]
    return found


def write_mask(path: str | Path, labels: Tensor) -> None:
    """Write a map (H, W) as palette PNG in the colours of `LABELS`: all of it or nothing.

    Raises:
        InputError: another shape, or a value that is no label.
        OutputError: as `preimage.files.save_png`.
    """
    if labels.ndim != 2 or labels.is_floating_point():
        raise InputError(f"{path}: labels {labels.dtype} {tuple(labels.shape)} are no map; give whole numbers (H, W).")
    _check_values(labels, str(path))
    image = Image.fromarray(labels.cpu().to(torch.uint8).numpy(), "L")
    image.putpalette(PALETTE)
    data = io.BytesIO()
    image.save(data, "PNG")
    write_bytes_atomic(path, data.getvalue())


def _check_values(labels: Tensor, name: str) -> None:
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < NUMBER:
        wrong = int(labels.max()) if int(labels.max()) >= NUMBER else int(labels.min())
        raise InputError(
            f"{name}: holds the value {wrong}, and labels go from 0 ({LABELS[0].name}) to {NUMBER - 1} ({LABELS[-1].name}). "
            "Replace it, or map another parser's labels to these."
        )
