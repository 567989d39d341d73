"""Training pictures: folders and zip archives, decoded once and cached at the training resolution."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from preimage.collection import Collection
from preimage.errors import InputError, RecipeError
from preimage.processes import alive, host

Pictures = NDArray[np.uint8]

_HALF_DONE = re.compile(r"\.(?:([0-9a-f]{8})-)?(\d{1,10})\.tmp\.npy$")


def load_pictures(
    sources: Sequence[str | Path], resolution: int, cache: str | Path | None = None, progress: bool = True
) -> Pictures:
    """All pictures of the sources at one size, decoded once and memory-mapped from then on; several sources join in memory.

    What processes of this machine that were killed have left half done in the cache is removed first.

    Args:
        sources: folders (searched recursively) or zip archives of WebP, JPEG or PNG pictures, in this order; `faces.zip/train`
            is a folder inside an archive.
        resolution: side in pixels; pictures are cropped to their central square and reduced by Lanczos.
        cache: folder for the decoded arrays; default `$PREIMAGE_CACHE` or `~/.cache/preimage`.

    Returns:
        (n, resolution, resolution, 3) uint8 RGB.

    Raises:
        InputError: a source is missing or holds no picture, or a picture cannot be decoded.
    """
    folder = cache_folder(cache)
    parts = [load_source(Path(s), resolution, folder, progress) for s in sources]
    if not parts:
        raise InputError("No training data: give at least one folder or zip archive of pictures (`data:`).")
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def to_tensor(pictures: Pictures, device: torch.device | str = "cpu") -> Tensor:
    """Pictures (n, h, w, 3) uint8 -> (n, 3, h, w) float32 in [0, 1]; they move to the device as bytes."""
    return torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2).float().div_(255)


def eight_bit(photo: Tensor) -> Tensor:
    """Values as a file would hold them, k / 255 in [0, 1]."""
    return (photo.clamp(0, 1) * 255).round() / 255


def archive_of(source: str) -> tuple[str, str]:
    """An archive or folder, and the folder inside it, `faces.zip/train` -> (`faces.zip`, `train/`)."""
    path = Path(source)
    for parent in path.parents:
        if parent.suffix == ".zip" and parent.is_file():
            return str(parent), path.relative_to(parent).as_posix() + "/"
    return source, ""


def plain_source(source: str) -> str:
    """The name of a folder or archive, with the folder inside it; what exported files say of their data."""
    archive, inside = archive_of(source)
    return f"{Path(archive).name}/{inside}".rstrip("/")


def held_back(count: int, hold: int) -> NDArray[np.bool_]:
    """Which of `count` pictures are never learned from: `hold` of them, evenly spaced.

    Raises:
        RecipeError: more to hold than half of what there is.
    """
    if hold * 2 > count:
        raise RecipeError(f"hold ({hold}) would keep back more than half of {count} pictures.")
    where = np.zeros(count, dtype=bool)
    where[np.linspace(0, count - 1, hold).round().astype(int)] = True
    return where


class Crops:
    """Square crops of larger pictures, by number, each always the same; they are cut when they are asked for.

    Args:
        parts: arrays (n, side, side, 3) of any sides not below `size`.
        size: side of the crops.
        count: crops of each picture.
        seed: of their places.
        chosen: of each array, the numbers of the pictures that are cut from; None takes all.

    Raises:
        InputError: pictures that are smaller than the crops.
    """

    def __init__(
        self,
        parts: Sequence[Pictures],
        size: int,
        count: int,
        seed: int = 0,
        chosen: Sequence[Sequence[int]] | None = None,
    ) -> None:
        for part in parts:
            if part.shape[1] < size:
                raise InputError(f"crops of {size} pixels cannot be cut from pictures of {part.shape[1]}.")
        self.parts, self.size, self.count, self.seed = list(parts), size, count, seed
        numbers = chosen or [range(len(part)) for part in parts]
        self.places = [(part, i) for part, kept in zip(self.parts, numbers, strict=True) for i in kept]

    def __len__(self) -> int:
        return self.count * len(self.places)

    def __getitem__(self, index: int) -> Pictures:
        """(size, size, 3) uint8."""
        picture, crop = divmod(range(len(self))[index], self.count)
        key = hashlib.blake2b(f"{self.seed}/{picture}/{crop}".encode(), digest_size=8).digest()
        part, number = self.places[picture]
        room = part.shape[1] - self.size + 1
        top, left = (int.from_bytes(half, "big") % room for half in (key[:4], key[4:]))
        cut: Pictures = part[number, top : top + self.size, left : left + self.size]
        return cut


def load_crops(
    sources: Sequence[str | Path],
    sides: Sequence[int],
    size: int,
    count: int,
    hold: int = 0,
    seed: int = 0,
    progress: bool = True,
) -> tuple[Crops, Crops]:
    """Crops to learn from, and of `hold` pictures of each source, evenly spaced, one crop each that is not learned from.

    Args:
        sources: as for `load_pictures`; `faces.zip/train` names a folder inside an archive.
        sides: the side to which the pictures of each source are brought first.
        size, count: of the crops.
        hold: pictures of each source.
        seed: of the places of the crops.

    Raises:
        RecipeError: more to hold than half of a source.
    """
    folder = cache_folder(None)
    parts, learned, held = list[Pictures](), list[list[int]](), list[list[int]]()
    for source, side in zip(sources, sides, strict=True):
        part = load_source(Path(source), side, folder, progress)
        apart = held_back(len(part), hold)
        parts.append(part)
        held.append(np.flatnonzero(apart).tolist())
        learned.append(np.flatnonzero(~apart).tolist())
    return Crops(parts, size, count, seed, learned), Crops(parts, size, 1, seed, held)


def cache_folder(cache: str | Path | None) -> Path:
    """Where decoded arrays are kept, without what killed processes have left half done; see `load_pictures`."""
    folder = Path(cache or os.environ.get("PREIMAGE_CACHE") or Path.home() / ".cache" / "preimage")
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    return folder


def _sweep(cache: Path) -> None:
    """Remove what processes that were killed while they filled the cache have left there; those that live go on."""
    for path in cache.glob("*.tmp.npy"):
        whose = _HALF_DONE.search(path.name)  # files without a host are of older versions, or this machine's
        if whose and whose[1] in (None, host()) and not alive(int(whose[2])):
            with suppress(OSError):
                path.unlink()


Decode = Callable[[Collection, str, int], Pictures]


def square(collection: Collection, name: str, resolution: int) -> Pictures:
    """The picture of this name (resolution, resolution, 3)."""
    return np.asarray(collection.square(name, resolution))


def load_source(
    source: Path,
    resolution: int,
    cache: Path,
    progress: bool,
    decode: Decode = square,
    channels: tuple[int, ...] = (3,),
) -> Pictures:
    """What one source of `load_pictures` holds, (n, resolution, resolution, *channels), decoded by `decode` and cached."""
    archive, inside = archive_of(str(source))
    with Collection(archive) as collection:
        return _load(collection, resolution, cache, progress, inside, decode, channels)


def _load(
    collection: Collection,
    resolution: int,
    cache: Path,
    progress: bool,
    inside: str,
    decode: Decode,
    channels: tuple[int, ...],
) -> Pictures:
    from tqdm import tqdm

    source, names = collection.path, [name for name in collection.names if name.startswith(inside)]
    if not names:
        raise InputError(f"{source}: holds no picture in {inside}.")
    address: tuple[object, ...] = (str(source.resolve()), source.stat().st_mtime_ns, [*names], resolution)
    if decode is not square:
        address = (*address, decode.__module__, decode.__name__)
    if source.is_dir():  # its own time does not tell that a picture in it was replaced
        stats = [(source / name).stat() for name in names]
        address = (*address, [(s.st_mtime_ns, s.st_size) for s in stats])
    key = hashlib.sha256(repr(address).encode()).hexdigest()
    path = cache / f"{source.stem}-{resolution}-{key[:12]}.npy"
    if not path.is_file():
        half_done = path.with_suffix(f".{host()}-{os.getpid()}.tmp.npy")  # several processes may fill the same cache
        try:
            out = np.lib.format.open_memmap(half_done, "w+", np.uint8, (len(names), resolution, resolution, *channels))
            for i, name in enumerate(tqdm(names, f"decoding {source.name}", disable=not progress)):
                out[i] = decode(collection, name, resolution)
            out.flush()
            os.replace(half_done, path)
        finally:  # also after Ctrl-C: leave no litter
            half_done.unlink(missing_ok=True)
    pictures: Pictures = np.load(path, mmap_mode="r")
    return pictures


Chosen = tuple[int, bool]
"""Number of a picture, and whether it is mirrored."""


def order(count: int, seed: int, start: int = 0, shard: int = 0, shards: int = 1) -> Iterator[Chosen]:
    """Which picture is shown next, endlessly: every epoch has its own order, each picture is mirrored at random.

    It depends only on `seed` and on how many pictures were shown (`start`), so that a resumed run goes on where it stopped. What
    belongs together (a face, its mask, its reference) is taken by one order and stays paired.

    Args:
        count: how many pictures there are.
        seed: of the order.
        start: how many were shown, by all processes.
        shard, shards: of several processes each takes every `shards`-th picture of the same order.
    """
    position = start // shards
    while True:
        epoch, place = divmod(position * shards + shard, count)
        flip = bool(hashlib.blake2b(f"{seed}/{epoch}/{place}".encode(), digest_size=1).digest()[0] & 1)
        yield int(_order(count, seed, epoch)[place]), flip
        position += 1


def take(pictures: Pictures | Crops, chosen: Sequence[Chosen]) -> Pictures:
    """These pictures as bytes (n, R, R, 3), mirrored where they are to be."""
    return np.stack([pictures[i][:, ::-1] if flip else pictures[i] for i, flip in chosen])


class Shown(Dataset[Tensor]):
    """Pictures by batches of `Chosen`, as a `torch.utils.data.DataLoader` asks for them."""

    def __init__(self, pictures: Pictures | Crops) -> None:
        self.pictures = pictures

    def __getitem__(self, chosen: Sequence[Chosen]) -> Tensor:
        return torch.from_numpy(take(self.pictures, chosen))


def batches(
    pictures: Pictures | Crops,
    size: int,
    seed: int,
    start: int = 0,
    shard: int = 0,
    shards: int = 1,
    workers: int = 0,
    device: torch.device | str = "cpu",
) -> Iterator[Tensor]:
    """Endless batches (size, 3, R, R) in [0, 1] on the device, in the order of `order`.

    Args:
        pictures: what is shown.
        size: pictures of a batch.
        seed, start, shard, shards: of `order`.
        workers: processes that cut and mirror ahead; 0 does it here.
        device: pictures move to it as bytes.
    """
    chosen = order(len(pictures), seed, start, shard, shards)
    loader = DataLoader(
        Shown(pictures),
        batch_size=None,
        sampler=([next(chosen) for _ in range(size)] for _ in count()),
        num_workers=workers,
        pin_memory=torch.device(device).type == "cuda",
        generator=torch.Generator(),  # its own: what networks draw does not depend on how pictures are loaded
    )
    for batch in loader:
        yield batch.to(device, non_blocking=True).permute(0, 3, 1, 2).float().div_(255)


_orders: dict[tuple[int, int, int], NDArray[np.int64]] = {}


def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    key = (count, seed, epoch)
    if key not in _orders:
        if len(_orders) > 2:
            _orders.clear()
        _orders[key] = np.random.default_rng((seed, epoch)).permutation(count)
    return _orders[key]
