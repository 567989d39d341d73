"""A collection of pictures: a folder or a zip archive, read one picture at a time, with what its index.csv says of each."""

from __future__ import annotations

import csv
import io
import random
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import MappingProxyType, TracebackType
from typing import Self

from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from preimage.errors import InputError
from preimage.image import MAX_SIDE, as_picture
from preimage.inputs import EXTENSIONS
from preimage.texts import one_line

INDEX = "index.csv"
LARGEST = 1 << 28
"""Bytes of one picture's file that are read; a PNG of 8192x8192 pixels has at most so many."""
_NOTHING: Mapping[str, str] = MappingProxyType({})


class Collection:
    """Pictures of a folder (searched recursively) or a zip archive, by name, in the order of their names.

    Args:
        path: the folder or archive.

    Raises:
        InputError: neither of the two, damaged, or without pictures.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._archive: zipfile.ZipFile | None = None
        if self.path.is_dir():
            found = [p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if p.is_file()]
        elif self.path.is_file() and zipfile.is_zipfile(self.path):
            self._archive = zipfile.ZipFile(self.path)
            found = self._archive.namelist()
        elif self.path.exists():
            raise InputError(f"{path}: neither a folder nor a zip archive. Give pictures in one of the two.")
        else:
            raise InputError(f"{path}: no such folder or archive; check the name.")
        self.names: tuple[str, ...] = tuple(
            sorted(n for n in found if PurePosixPath(n).suffix.lower() in EXTENSIONS and not _hidden(n))
        )
        if not self.names:
            self.close()
            raise InputError(f"{path}: holds no picture ({', '.join(sorted(EXTENSIONS))}).")

    def __len__(self) -> int:
        return len(self.names)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the archive; folders need no closing."""
        if self._archive is not None:
            self._archive.close()

    def bytes(self, name: str) -> bytes:
        """The file as it is stored.

        Raises:
            InputError: no such picture, or one that cannot be read.
        """
        try:
            archive = self._archive
            size = (self.path / name).stat().st_size if archive is None else archive.getinfo(name).file_size
            if size > LARGEST:
                raise ValueError(f"{size:,} bytes, more than {LARGEST:,}")
            return (self.path / name).read_bytes() if archive is None else archive.read(name)
        except (
            OSError,
            KeyError,
            RuntimeError,
            ValueError,
            NotImplementedError,
            zlib.error,
            zipfile.BadZipFile,
        ) as error:
            raise InputError(f"{self.path}: {name} cannot be read ({one_line(error)}). Replace it.") from None

    def image(self, name: str) -> Image.Image:
        """The picture, decoded, upright, in RGB.

        Raises:
            InputError: damaged, or no picture.
        """
        data = self.bytes(name)
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as picture:
                if max(picture.size) > MAX_SIDE:
                    raise ValueError(f"{picture.width}x{picture.height} pixels, more than {MAX_SIDE} on a side")
                return ImageOps.exif_transpose(picture).convert("RGB")
        except UnidentifiedImageError:
            raise InputError(
                f"{self.path}: {name} cannot be decoded (no picture of a known format). Replace it."
            ) from None
        except Exception as error:  # Pillow raises a dozen kinds; all mean the same here
            raise InputError(f"{self.path}: {name} cannot be decoded ({one_line(error)}). Replace it.") from None

    def square(self, name: str, side: int) -> Image.Image:
        """The central square of the picture, brought to `side` by Lanczos where it is not that large already."""
        picture = self.image(name)
        return (
            picture if picture.size == (side, side) else ImageOps.fit(picture, (side, side), Image.Resampling.LANCZOS)
        )

    def tensor(self, name: str, side: int | None = None) -> Tensor:
        """The picture (3, H, W) in [0, 1], every value k/255; its central square of that side where one is given."""
        return as_picture(self.image(name) if side is None else self.square(name, side)).pixels

    def sample(self, count: int | None, seed: int = 0) -> list[str]:
        """The first `count` names of a fixed shuffle; all of them for None."""
        names = list(self.names)
        random.Random(seed).shuffle(names)
        return names[:count]

    def about(self, name: str) -> Mapping[str, str]:
        """The line of index.csv on this picture; empty without one."""
        return self._index.get(name, _NOTHING)

    @cached_property
    def _index(self) -> dict[str, dict[str, str]]:
        try:
            data = self._archive.read(INDEX) if self._archive is not None else (self.path / INDEX).read_bytes()
        except (KeyError, OSError):
            return {}
        try:
            lines = list(csv.DictReader(io.StringIO(data.decode())))
            return {line["file"]: {k: v or "" for k, v in line.items() if isinstance(k, str)} for line in lines}
        except (UnicodeDecodeError, csv.Error, KeyError):
            raise InputError(
                f"{self.path}: its {INDEX} has no `file` column or is damaged; mend or remove it."
            ) from None


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)
