"""What a pickle holds, as inert data: names, records, storages, tensors, arrays; sizes are checked before they are believed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from preimage.errors import WeightsError

MOST_DIMENSIONS = 16
_DTYPES = {
    "Double": torch.float64, "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16,
    "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
    "Bool": torch.bool, "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128,
}  # fmt: skip
STORAGES: dict[str, torch.dtype] = {
    f"torch.{device}{kind}Storage": dtype for kind, dtype in _DTYPES.items() for device in ("", "cuda.")
} | {f"torch.storage.{kind}Storage": torch.uint8 for kind in ("Untyped", "_Untyped")}
ELEMENTS: dict[str, torch.dtype] = {
    str(dtype): dtype for dtype in (*_DTYPES.values(), torch.uint16, torch.uint32, torch.uint64)
}


@dataclass(frozen=True)
class Name:
    """A function or class that a file names, such as `torch.FloatStorage`; only its name."""

    dotted: str


class Record(dict[Any, Any]):
    """An object that a file describes: the state it would have had.

    Attributes:
        what: dotted name of its class.
    """

    def __init__(self, what: str, state: Iterable[Any] = ()):
        super().__init__(state)
        self.what = what


class Limits:
    """What one file may cost, however often it repeats itself.

    Args:
        size: of the file in bytes.

    Attributes:
        memory: bytes that may be allocated beside the file itself.
        repeats: bytes, as float32, of numbers that a file names more than once: whoever converts it makes tensors of their own.
        text: bytes of text.
        operations: of pickles; a checkpoint takes about 60 for each tensor.
    """

    def __init__(self, size: int):
        self.memory = size + (1 << 25)
        self.repeats = 2 * size + (1 << 25)  # everything in half precision may have two names
        self.text = 1 << 28
        self.operations = 2_000_000

    def spend(self, memory: int = 0, text: int = 0, operations: int = 0, repeats: int = 0) -> None:
        """Count what is about to be used.

        Raises:
            WeightsError: it is more than any checkpoint takes.
        """
        self.memory -= memory
        self.text -= text
        self.operations -= operations
        self.repeats -= repeats
        if self.repeats < 0:
            raise WeightsError(
                "names the same numbers again and again, so that they would grow far beyond its size; damaged, or made to "
                "exhaust memory. If you trust whoever made it, ask for a file with one name for each tensor."
            )
        if min(self.memory, self.text, self.operations) < 0:
            raise WeightsError(
                "takes far more memory or work than its size warrants; damaged, or made to exhaust both."
            )


@dataclass(eq=False)
class Storage:
    """Numbers in a row.

    Attributes:
        dtype: of each.
        count: how many the file declares.
        data: their bytes; None until a file of the older format has come to them.
        named: how many of its bytes have got names by now, each counted as often as it is named.
    """

    dtype: torch.dtype
    count: int
    data: memoryview | None = None
    named: int = 0
    _raw: Tensor | None = field(default=None, repr=False)

    def fill(self, data: memoryview) -> None:
        """Give it its bytes, which must be as many as declared."""
        if len(data) < self.count * self.dtype.itemsize:
            raise WeightsError(
                f"declares {self.count} numbers where it has {len(data)} bytes; it is cut short, or damaged on purpose."
            )
        self.data = data[: self.count * self.dtype.itemsize]

    def name(self, count: int, size: int, limits: Limits) -> None:
        """Count `count` numbers of `size` bytes that get a name; those beyond the storage's own are repeats."""
        before = max(self.named, self.count * self.dtype.itemsize)
        self.named += count * size
        limits.spend(repeats=max(self.named - before, 0) // size * 4)

    def raw(self, limits: Limits) -> Tensor:
        """Its bytes (n,) uint8; on the file itself where they lie at a usable address there, otherwise a copy."""
        if self._raw is None:
            if self.data is None:
                raise WeightsError("names a storage whose numbers are missing; it is cut short.")
            if not len(self.data):
                self._raw = torch.empty(0, dtype=torch.uint8)
            elif self.data.readonly or np.frombuffer(self.data, np.uint8).ctypes.data % 8:
                limits.spend(memory=len(self.data))
                self._raw = torch.frombuffer(bytearray(self.data), dtype=torch.uint8)
            else:
                self._raw = torch.frombuffer(self.data, dtype=torch.uint8)
        return self._raw


@dataclass(frozen=True, eq=False)
class TensorView:
    """A tensor as a file describes it: a view on a storage; nothing is checked or made before `tensor`."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def tensor(self, limits: Limits) -> Tensor:
        """The tensor itself.

        Raises:
            WeightsError: it reaches beyond its storage, or repeats its numbers beyond what the file holds.
        """
        size, stride, (offset,) = counts(self.size), counts(self.stride), counts((self.offset,))
        held = self.storage.count * self.storage.dtype.itemsize // self.dtype.itemsize
        count = math.prod(size)
        reach = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) + 1 if count else 0
        if reach > held or count > held:
            raise WeightsError(f"declares a tensor of {'x'.join(map(str, size))} on a storage of {held} numbers.")
        self.storage.name(count, self.dtype.itemsize, limits)
        raw = self.storage.raw(limits)[: held * self.dtype.itemsize]
        return raw.view(self.dtype).as_strided(size, stride, offset if count else 0)


@dataclass(eq=False)
class DType:
    """A numpy dtype of plain numbers; `order` is "<" or ">"."""

    code: str
    order: str = "<"

    @property
    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


@dataclass(eq=False)
class Array:
    """A numpy array as a file describes it."""

    dtype: DType | None = None
    shape: tuple[int, ...] = ()
    data: Any = b""
    fortran: bool = False

    def tensor(self, limits: Limits) -> Tensor:
        """A copy of it as a tensor.

        Raises:
            WeightsError: it declares another size than its bytes have.
        """
        if self.dtype is None:
            raise WeightsError("names an array without numbers.")
        shape, dtype = counts(self.shape), self.dtype.numpy
        data = memoryview(self.data.encode("latin-1") if isinstance(self.data, str) else self.data)
        if math.prod(shape) * dtype.itemsize != len(data):
            raise WeightsError(f"declares an array of {'x'.join(map(str, shape))} where it has {len(data)} bytes.")
        limits.spend(memory=len(data))
        array = np.frombuffer(data, dtype).reshape(shape, order="F" if self.fortran else "C")
        return torch.from_numpy(array.astype(dtype.newbyteorder("="), order="C"))


def counts(values: Any) -> tuple[int, ...]:
    """Whole numbers that can be sizes."""
    values = tuple(values)
    if len(values) > MOST_DIMENSIONS or any(type(v) is not int or not 0 <= v < 1 << 48 for v in values):
        raise WeightsError("declares sizes that are none.")
    return tuple(map(int, values))
