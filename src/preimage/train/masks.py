"""Pairs of faces and maps of their regions: from archives, from a segmenter, always in step, changed together."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn

from preimage.collection import Collection
from preimage.degrade.linear import bicubic
from preimage.errors import InputError
from preimage.nets.fingerprint import fingerprint
from preimage.processes import host
from preimage.semantics.labels import flip, mask_of, resize
from preimage.semantics.segment import segment
from preimage.train.data import (
    Chosen,
    Pictures,
    archive_of,
    cache_folder,
    eight_bit,
    load_pictures,
    load_source,
    take,
    to_tensor,
)

Masks = NDArray[np.uint8]
"""(n, side, side), numbers of `LABELS`."""


def load_pairs(
    sources: Sequence[str | Path], side: int, cache: str | Path | None = None, progress: bool = True
) -> tuple[Pictures, Masks]:
    """Faces and their maps at one size, decoded once and cached.

    Args:
        sources: folders, `faces.zip` or folders inside one (`faces.zip/train`), each with the folders `images` and `masks`, in which
            what belongs together has the same name but for its ending.
        side: in pixels; faces are reduced by Lanczos, of maps the label with most area is kept.
        cache, progress: of `load_pictures`.

    Returns:
        (n, side, side, 3) and (n, side, side) uint8.

    Raises:
        InputError: a source that is missing or damaged, a face without a map or a map without a face, a file that is no map.
    """
    images, masks = ([f"{source}/{part}" for source in sources] for part in ("images", "masks"))
    for pair in zip(images, masks, strict=True):
        faces, maps = map(_stems, pair)
        if lone := sorted(faces ^ maps):
            there, lacking = pair if lone[0] in faces else pair[::-1]
            raise InputError(f"{there}: {lone[0]} has no partner of this name in {lacking}; add it, or take it out.")
    return load_pictures(images, side, cache, progress), load_masks(masks, side, cache, progress)


def load_masks(
    sources: Sequence[str | Path], side: int, cache: str | Path | None = None, progress: bool = True
) -> Masks:
    """Maps (n, side, side) of folders or archives, in the order of their names; see `load_pairs`."""
    folder = cache_folder(cache)
    parts = [load_source(Path(s), side, folder, progress, _decoded, ()) for s in sources]
    if not parts:
        raise InputError("No maps of regions: give at least one folder or zip archive of them.")
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _decoded(collection: Collection, name: str, side: int) -> Masks:
    where = f"{collection.path}: {name}"
    try:
        with Image.open(io.BytesIO(collection.bytes(name))) as image:
            labels = mask_of(image, where)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise InputError(f"{where} cannot be decoded ({error}). Replace it.") from None
    found: Masks = resize(labels, side).numpy()
    return found


def _stems(source: str) -> set[str]:
    archive, inside = archive_of(source)
    with Collection(archive) as collection:
        return {str(PurePosixPath(n[len(inside) :]).with_suffix("")) for n in collection.names if n.startswith(inside)}


def pseudo_labels(
    pictures: Pictures, network: nn.Module, side: int | None = None, batch: int = 64, small: int | None = None
) -> Masks:
    """Maps of faces by a segmenter that sees them sharp, or as photos of a few pixels.

    Args:
        pictures: (n, S, S, 3) uint8.
        network: a segmenter in eval mode.
        side: of the maps; None: S.
        batch: faces at a time.
        small: side of the photos that it sees, shrunk by bicubic; None: the faces themselves.

    Returns:
        (n, side, side) uint8.
    """
    device = next(network.parameters()).device
    out = np.empty((len(pictures), *(side or pictures.shape[1],) * 2), np.uint8)
    for start in range(0, len(pictures), batch):
        part = to_tensor(np.array(pictures[start : start + batch]), device)
        seen = part if small is None else eight_bit(bicubic(part.shape[-1], lr_size=small).to(device)(part))
        found = segment(network, seen, part.shape[-1]).to(torch.uint8)
        out[start : start + batch] = resize(found, out.shape[1]).cpu().numpy()
    return out


def load_pseudo_labels(
    sources: Sequence[str | Path],
    side: int,
    network: nn.Module,
    cache: str | Path | None = None,
    progress: bool = True,
    small: int | None = None,
) -> Masks:
    """Maps of the faces that `load_pictures` loads of these sources, in its order, found once by a segmenter and cached.

    Args:
        sources, cache, progress: of `load_pictures`.
        side: of the maps; the network sees the faces at this or its own size, whichever is larger.
        network: a segmenter in eval mode.
        small: of `pseudo_labels`.
    """
    size = max(side, int(getattr(network, "resolution", side)))
    pictures = load_pictures(sources, size, cache, progress)
    archives = [Path(archive_of(str(s))[0]) for s in sources]
    about = [(str(s), a.stat().st_mtime_ns) for s, a in zip(sources, archives, strict=True)]
    told = (about, pictures.shape, side, fingerprint(network), *([] if small is None else [small]))
    key = hashlib.sha256(repr(told).encode()).hexdigest()
    path = cache_folder(cache) / f"labels-{side}-{key[:12]}.npy"
    if not path.is_file():
        half_done = path.with_suffix(f".{host()}-{os.getpid()}.tmp.npy")
        try:
            np.save(half_done, pseudo_labels(pictures, network, side, small=small))
            os.replace(half_done, path)
        finally:
            half_done.unlink(missing_ok=True)
    found: Masks = np.load(path, mmap_mode="r")
    return found


def take_masks(masks: Masks, chosen: Sequence[Chosen]) -> Tensor:
    """These maps (n, side, side) int64, mirrored with left and right swapped where they are to be; see `train.data.take`."""
    each = (torch.from_numpy(np.array(masks[i])) for i, _ in chosen)
    return torch.stack([flip(x) if mirror else x for x, (_, mirror) in zip(each, chosen, strict=True)]).long()


def pairs(
    pictures: Pictures, masks: Masks, size: int, chosen: Iterator[Chosen], device: torch.device | str = "cpu"
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of faces (size, 3, S, S) in [0, 1] and their maps (size, S, S) int64, in the order of `train.data.order`."""
    while True:
        batch = [next(chosen) for _ in range(size)]
        yield to_tensor(take(pictures, batch), device), take_masks(masks, batch).to(device)


def jitter(pictures: Tensor, labels: Tensor, turn: float, zoom: float, shift: float) -> tuple[Tensor, Tensor]:
    """Turn, scale and move each face and its map at random, both alike; what enters is mirrored at the border.

    Args:
        pictures, labels: (n, 3, S, S) and (n, S, S).
        turn: largest angle, degrees.
        zoom: largest change of scale; 0.1 lies between 1 / 1.1 and 1.1.
        shift: largest way, in sides.
    """
    angle, scale, right, down = (torch.rand(4, len(pictures), device=pictures.device) * 2 - 1).unbind(0)
    angle, scale = angle * (turn * torch.pi / 180), (1 + zoom) ** scale
    cos, sin = angle.cos() * scale, angle.sin() * scale
    matrix = torch.stack([cos, -sin, right * 2 * shift, sin, cos, down * 2 * shift], 1).reshape(-1, 2, 3)
    where = F.affine_grid(matrix, list(pictures.shape), align_corners=False)
    moved = F.grid_sample(pictures, where, "bilinear", "reflection", align_corners=False)
    found = F.grid_sample(labels[:, None].float(), where, "nearest", "reflection", align_corners=False)
    return moved.clamp(0, 1), found[:, 0].round().long()
