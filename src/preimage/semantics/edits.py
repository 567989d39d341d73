"""Edits of a map of regions: what a person who explores asks for ("her mouth closed", "more hair"), as functions of a map.

DeepSEE changes shape by painting over the map (Bühler et al., 2020, section 5.4, figures 7 and 8). Here no pixel is ever left without a
label: what a region gives up goes to the nearest other that may spread (`FILLING`). Left and right are the person's.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from preimage.errors import InputError
from preimage.semantics.labels import LABELS, NUMBER, find_regions, resize

FILLING = (0, 1, 13, 14, 17, 18)
"""Labels that may spread into what another leaves: background, skin, hair, hat, neck, cloth; no earring grows where hair goes."""
SKIN, GLASSES, EYES, MOUTH, UPPER, LOWER = 1, 3, (4, 5), 10, 11, 12
Region = int | str | Sequence[int]
"""A number, names as of `find_regions`, or numbers."""
FAR = 1 << 20


def numbers_of(region: Region) -> tuple[int, ...]:
    """The numbers of a region.

    Raises:
        InputError: an unknown name or a number that is no label.
    """
    if isinstance(region, str):
        return find_regions(region)
    found = (region,) if isinstance(region, int) else tuple(region)
    if wrong := [n for n in found if not 0 <= n < NUMBER]:
        raise InputError(
            f"region {wrong[0]}: labels go from 0 to {NUMBER - 1}; or give a name such as {LABELS[13].name}."
        )
    return found


def where(labels: Tensor, region: Region) -> Tensor:
    """The pixels (H, W) of a region, bool.

    Raises:
        InputError: no map (H, W), or an unknown region.
    """
    if labels.ndim != 2 or labels.is_floating_point():
        raise InputError(f"labels {labels.dtype} {tuple(labels.shape)} are no map; give whole numbers (H, W).")
    return torch.isin(labels.long(), torch.tensor(numbers_of(region), device=labels.device))


def nearest(inside: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each pixel (H, W) the nearest one that is `inside`, exactly: squared distance, row, column.

    Along rows first, then along columns (Saito and Toriwaki, 1994). The distance is huge where nothing is inside.
    """
    height, width = inside.shape
    rows, columns = (torch.arange(n, device=inside.device) for n in (height, width))
    left = torch.where(inside, columns, -FAR).cummax(1).values
    right = torch.where(inside, columns, FAR).flip(1).cummin(1).values.flip(1)
    column = torch.where(columns - left <= right - columns, left, right)
    along = (columns - column).square()
    found, row = zip(*((along + (rows - y).square()[:, None]).min(0) for y in range(height)), strict=True)
    best = torch.stack(row)
    return torch.stack(found), best, column.gather(0, best).clamp(0, width - 1)


def spread(inside: Tensor, pixels: int) -> Tensor:
    """Pixels (H, W) whose distance from one that is `inside` is at most `pixels`, Euclidean."""
    return nearest(inside)[0] <= pixels * pixels


def fill(labels: Tensor, hole: Tensor, by: Region = FILLING) -> Tensor:
    """The map with each pixel of the hole (H, W) given the nearest label outside of it that is one of `by`; skin where there is none."""
    sources = where(labels, by) & ~hole
    if not bool(sources.any()):
        return torch.where(hole, labels.new_tensor(SKIN), labels)
    _, rows, columns = nearest(sources)
    return torch.where(hole, labels[rows, columns], labels)


# ------------------------------------------------------------------------------------------------------------- edits


def grow(labels: Tensor, region: Region, pixels: int) -> Tensor:
    """The region reaches so many pixels further; of several regions each grows, and those that are named do not eat each other.

    Args:
        labels: (H, W) whole numbers of `LABELS`.
        region: what grows; one that is not there stays so.
        pixels: how far; less than 0 shrinks.

    Returns:
        (H, W), as the other edits.
    """
    if pixels < 0:
        return shrink(labels, region, -pixels)
    out, named = labels.clone(), where(labels, region)
    for number in numbers_of(region):
        own = where(labels, number)
        out[spread(own, pixels) & ~named] = number
    return out


def shrink(labels: Tensor, region: Region, pixels: int) -> Tensor:
    """The region draws back by so many pixels; the nearest other region takes what it leaves. At the border of the map it stays."""
    if pixels < 0:
        return grow(labels, region, -pixels)
    hole = torch.zeros_like(labels, dtype=torch.bool)
    for number in numbers_of(region):
        own = where(labels, number)
        hole |= own & spread(~own, pixels)
    return _given_away(labels, hole, region)


def move(labels: Tensor, region: Region, dx: int, dy: int) -> Tensor:
    """The region stands so many pixels further to the right (dx) and down (dy); the nearest other region takes its old place."""
    inside = where(labels, region)
    out = _given_away(labels, inside, region)
    height, width = labels.shape
    rows, columns = (torch.arange(n, device=labels.device) - d for n, d in ((height, dy), (width, dx)))
    there = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    arrives = inside[rows][:, columns] & there
    out[arrives] = labels[rows][:, columns][arrives]
    return out


def replace(labels: Tensor, region: Region, other: Region) -> Tensor:
    """All pixels of the region become the other one, a single label (DeepSEE closes a mouth so)."""
    to = numbers_of(other)
    if len(to) != 1:
        raise InputError(f"replace: {other} is {len(to)} regions; name one that takes the place.")
    out = labels.clone()
    out[where(labels, region)] = to[0]
    return out


def remove(labels: Tensor, region: Region) -> Tensor:
    """The region disappears; the nearest others take its place."""
    return _given_away(labels, where(labels, region), region)


def copy_region(labels: Tensor, other_labels: Tensor, region: Region) -> Tensor:
    """The region as another map has it: its own is given away first.

    Args:
        labels: (H, W).
        other_labels: (H', W'), square as the first; brought to its size.
        region: what is copied.
    """
    if other_labels.shape != labels.shape:
        other_labels = resize(other_labels, labels.shape[-1])
    out, arrives = remove(labels, region), where(other_labels, region)
    out[arrives] = other_labels[arrives].to(out.dtype)
    return out


def close_mouth(labels: Tensor) -> Tensor:
    """The open mouth becomes lip: each of its columns is shared by the two, the upper above. Without lips it becomes skin."""
    inside = where(labels, MOUTH)
    if not bool(inside.any()):
        return labels.clone()
    upper, lower = bool(where(labels, UPPER).any()), bool(where(labels, LOWER).any())
    out = labels.clone()
    if not (upper or lower):
        return remove(labels, MOUTH)
    depth, count = inside.cumsum(0), inside.sum(0)
    above = inside & (2 * depth <= count[None])
    out[inside] = LOWER if lower else UPPER
    if upper:
        out[above] = UPPER
    return out


def add_glasses(labels: Tensor, size: float = 1.0) -> Tensor:
    """Eyeglasses around both eyes with a bridge between them: a lens is an ellipse that covers eye and glass, as the maps have it.

    Args:
        labels: (H, W), with at least one eye.
        size: of the lenses; 1 is 1.05 times the width of the picture's distance between the eyes in all.

    Raises:
        InputError: neither eyes to put them on nor glasses that hide them.
    """
    height, width = labels.shape
    centres = [_centre(where(labels, eye)) for eye in EYES]
    found = [c for c in centres if c is not None]
    if not found and bool(where(labels, GLASSES).any()):
        return labels.clone()  # sunglasses, which hide the eyes
    if not found:
        raise InputError("add-glasses: the map has no eye; mark at least one first (labels left-eye, right-eye).")
    if len(found) == 1:  # the other is hidden: a usual distance away on the side of the nose
        nose = _centre(where(labels, 2))
        middle = nose[1] if nose is not None else width / 2
        found.append((found[0][0], 2 * middle - found[0][1]))
    (y0, x0), (y1, x1) = sorted(found, key=lambda c: c[1])
    apart = max(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 2.0)
    rows = torch.arange(height, device=labels.device)[:, None].float()
    columns = torch.arange(width, device=labels.device)[None].float()
    cos, sin = (x1 - x0) / apart, (y1 - y0) / apart
    glass = torch.zeros(height, width, dtype=torch.bool, device=labels.device)
    for y, x in ((y0, x0), (y1, x1)):
        along, across = (columns - x) * cos + (rows - y) * sin, (rows - y) * cos - (columns - x) * sin
        glass |= (along / (0.42 * apart * size)).square() + (across / (0.3 * apart * size)).square() <= 1
    along, across = (columns - x0) * cos + (rows - y0) * sin, (rows - y0) * cos - (columns - x0) * sin
    glass |= (along >= 0) & (along <= apart) & (across.abs() <= max(0.05 * apart * size, 0.5))
    out = labels.clone()
    out[glass & ~where(labels, "hair,hat,background")] = GLASSES
    return out


def _centre(inside: Tensor) -> tuple[float, float] | None:
    places = inside.nonzero().float()
    return None if not len(places) else (float(places[:, 0].mean()), float(places[:, 1].mean()))


def _given_away(labels: Tensor, hole: Tensor, region: Region) -> Tensor:
    """The hole filled by the nearest labels that do not belong to the region; what of the region stays, stays. Lips and mouth share theirs."""
    stays = where(labels, region) & ~hole
    within = set(numbers_of(region)) <= {MOUTH, UPPER, LOWER}
    out = fill(labels, hole | stays, (*FILLING, MOUTH, UPPER, LOWER) if within else FILLING)
    out[stays] = labels[stays]
    return out


# ----------------------------------------------------------------------------------------------------------- by name


@dataclass(frozen=True)
class Edit:
    """An edit that is named in words, such as "grow:hair:3".

    Attributes:
        function: map and values -> map.
        takes: kinds of the values: "region" or "pixels".
        about: one line for people.
    """

    function: Callable[..., Tensor]
    takes: tuple[str, ...]
    about: str


EDITS: dict[str, Edit] = {
    "grow": Edit(grow, ("region", "pixels"), "a region reaches further"),
    "shrink": Edit(shrink, ("region", "pixels"), "a region draws back"),
    "move": Edit(move, ("region", "pixels", "pixels"), "a region goes right and down"),
    "replace": Edit(replace, ("region", "region"), "a region becomes another"),
    "remove": Edit(remove, ("region",), "a region goes, its neighbours take its place"),
    "close-mouth": Edit(close_mouth, (), "the open mouth becomes lips"),
    "add-glasses": Edit(add_glasses, (), "eyeglasses around the eyes"),
}
"""Those that need no second map; `copy_region` does."""


def parse_edit(text: str) -> Callable[[Tensor], Tensor]:
    """The edit that a text names: "close-mouth", "grow:hair:3", "move:nose:0:-2", "replace:mouth:lower-lip".

    Args:
        text: name and values, with colons between; regions as of `find_regions`, pixels of the map as whole numbers.

    Raises:
        InputError: no such edit, too few or many values, or a value that is none; the message names the choices.
    """
    name, *values = (part.strip() for part in text.split(":"))
    name = name.lower().replace("_", "-").replace(" ", "-")
    if name not in EDITS:
        near = difflib.get_close_matches(name, EDITS, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise InputError(f"edit {text!r:.60}: there is none of this name{hint} Edits: {', '.join(map(usage, EDITS))}.")
    edit = EDITS[name]
    if len(values) != len(edit.takes):
        raise InputError(f"edit {text!r:.60}: write {usage(name)}.")
    given = [_value(text, name, kind, value) for kind, value in zip(edit.takes, values, strict=True)]
    return lambda labels: edit.function(labels, *given)


def apply_edits(labels: Tensor, texts: Sequence[str]) -> Tensor:
    """The map after these edits, one after the other; all are read before the first is made.

    Raises:
        InputError: as `parse_edit` and the edits.
    """
    return reduce(lambda made, edit: edit(made), [parse_edit(text) for text in texts], labels)


def usage(name: str) -> str:
    """How an edit is written, "grow:REGION:PIXELS"."""
    return ":".join([name, *(kind.upper() for kind in EDITS[name].takes)])


def _value(text: str, name: str, kind: str, value: str) -> Region:
    if kind == "region":
        try:
            return find_regions(value)
        except InputError as error:
            raise InputError(f"edit {text!r:.60}: {error}") from None
    try:
        number = int(value)
    except ValueError:
        number = FAR
    if abs(number) >= 1024:
        raise InputError(
            f"edit {text!r:.60}: {value!r:.20} is no whole number of pixels below 1024; write {usage(name)}."
        )
    return number
