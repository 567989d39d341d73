"""Pictures side by side: heat maps, contact sheets and the grid of candidates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from preimage.errors import InputError
from preimage.image import to_pillow

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
_MARGIN = 8
_INK, _PAPER = (60, 60, 60), (255, 255, 255)
# sRGB at CIE lightness 6, 24, 42, 60, 78, 96: indigo, purple, red, orange, yellow, cream.
_HEAT = (
    (0.050, 0.069, 0.163),
    (0.242, 0.173, 0.459),
    (0.688, 0.185, 0.460),
    (0.915, 0.414, 0.302),
    (0.956, 0.714, 0.316),
    (0.980, 0.965, 0.749),
)


def heatmap(values: Tensor) -> Tensor:
    """Colours numbers in [0, 1] from dark (0) to bright (1), lightness rising evenly.

    Args:
        values: (h, w); clipped to [0, 1].

    Returns:
        (3, h, w) float32 in [0, 1].

    Raises:
        InputError: not (h, w), or NaN.
    """
    if values.ndim != 2 or bool(values.isnan().any()):
        raise InputError(f"a heat map needs (h, w) numbers without NaN, not {tuple(values.shape)}")
    stops = torch.tensor(_HEAT)
    position = values.detach().cpu().float().clamp(0, 1) * (len(stops) - 1)
    below = position.floor().clamp(max=len(stops) - 2)
    lower = stops[below.long()]
    colours = lower + (stops[below.long() + 1] - lower) * (position - below)[..., None]
    return colours.permute(2, 0, 1).contiguous()


def contact_sheet(
    rows: Sequence[Sequence[Tensor | None]],
    *,
    captions: Sequence[Sequence[str]] | None = None,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    cell: int = 256,
) -> Tensor:
    """Lays pictures out on white paper, brought to one size.

    Args:
        rows: pictures (3, h, w), (1, h, w) or (h, w), uint8 or in [0, 1]; None leaves a gap; rows may differ in
            length. Small ones are enlarged by nearest neighbour, so that their pixels stay visible.
        captions: a text below each picture.
        row_labels: a text left of each row.
        column_labels: a text above each column.
        cell: longest side of each picture on the sheet, in pixels.

    Returns:
        (3, H, W) float32 in [0, 1].

    Raises:
        InputError: no picture at all, or something that is not one.
    """
    pictures = [[None if image is None else _fit(to_pillow(image), cell) for image in row] for row in rows]
    present = [picture for row in pictures for picture in row if picture is not None]
    if not present:
        raise InputError("a contact sheet needs at least one picture")
    width, height = (max(picture.size[axis] for picture in present) for axis in (0, 1))
    font = _font(max(11, cell // 14))
    line = int(sum(font.getbbox("Agy")[1::2])) + 2  # top bearing twice plus the text: even space above and below
    label = min(2 * cell, max(_width(text, font) for text in row_labels) + _MARGIN) if row_labels else 0
    left, top = _MARGIN + label, _MARGIN + (line if column_labels else 0)
    step_x, step_y = width + _MARGIN, height + _MARGIN + (line if captions else 0)
    columns = max(len(row) for row in pictures)
    sheet = Image.new("RGB", (left + columns * step_x, top + len(pictures) * step_y), _PAPER)
    draw = ImageDraw.Draw(sheet)

    def write(text: str, x: int, y: int, room: int) -> None:
        draw.text((x, y), _shorten(text, font, room), fill=_INK, font=font)

    for column, text in enumerate((column_labels or ())[:columns]):
        write(text, left + column * step_x, _MARGIN // 2, width)
    for index, row in enumerate(pictures):
        y = top + index * step_y
        if row_labels:
            write(row_labels[index], _MARGIN, y + (height - line) // 2, label - _MARGIN)
        for column, picture in enumerate(row):
            x = left + column * step_x
            if picture is not None:
                sheet.paste(picture, (x + (width - picture.width) // 2, y + (height - picture.height) // 2))
            if captions:
                write(captions[index][column], x, y + height, width)
    return torch.from_numpy(np.array(sheet)).permute(2, 0, 1).contiguous().float() / 255


def candidate_grid(
    lr: Tensor, images: Tensor, captions: Sequence[str], certainty: Tensor | None = None, *, columns: int = 10
) -> Tensor:
    """Input, candidates and certainty side by side: the `grid.png` of a result.

    Args:
        lr: (3, h, w) in [0, 1].
        images: (n, 3, H, W) in [0, 1].
        captions: n texts, such as ``"seed 0"``.
        certainty: (H, W) in [0, 1] or None; bright where the photo pins the picture down, dark where it is imagined.
        columns: pictures per row; more of them continue below.

    Returns:
        (3, height, width) float32 in [0, 1].
    """
    pictures = [lr, *images]
    texts = [f"input {lr.shape[-1]}×{lr.shape[-2]}", *captions]
    if certainty is not None:
        pictures.append(heatmap(certainty))
        texts.append("dark: imagined")
    starts = range(0, len(pictures), columns)
    return contact_sheet([pictures[i : i + columns] for i in starts], captions=[texts[i : i + columns] for i in starts])


def _fit(picture: Image.Image, cell: int) -> Image.Image:
    scale = cell / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX)


def _font(size: int) -> Font:
    try:
        return ImageFont.load_default(size)
    except ImportError:  # Pillow without FreeType has one small bitmap font
        return ImageFont.load_default()


def _width(text: str, font: Font) -> int:
    return int(font.getlength(_plain(text))) + 1


def _shorten(text: str, font: Font, room: int) -> str:
    """The text as far as it fits `room` pixels."""
    text = _plain(text)
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "..") > room:
        text = text[:-1]
    return text + ".."


def _plain(text: str) -> str:
    # Pillow's built-in fonts have Latin-1 at most, and no multiplication sign.
    text = text.replace("×", "x").replace("−", "-").encode("latin-1", errors="replace").decode("latin-1")
    return " ".join(text.split())
