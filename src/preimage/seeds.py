"""A seed is an address: the same seed gives the same numbers, for any batch size, order or number of devices."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from operator import index
from typing import SupportsIndex

import torch
from torch import Tensor

from preimage.errors import InputError

MAX_SEED = 2**32 - 1
"""Largest seed: torch's CPU generator looks at 32 bits of a seed only, so a larger one would repeat a smaller one."""

MAX_COUNT = 100_000
"""Most seeds one request may name; above it a typing error is likelier than a wish."""

_PART = re.compile(r"\s*([0-9]+)\s*(?:-\s*([0-9]+)\s*)?")
_EXAMPLE = "write numbers and ranges such as 0-7,9,12-13"


def parse_seeds(spec: str | int | Iterable[int], *, limit: int = MAX_COUNT) -> tuple[int, ...]:
    """Reads a list of seeds such as ``"0-7,9,12-13"``; ranges include both ends.

    Args:
        spec: text, one seed, or seeds as integers.
        limit: most seeds accepted.

    Returns:
        The seeds in the order given, each once.

    Raises:
        InputError: nothing named, not a number, negative, above `MAX_SEED`, a range that runs backwards, too many.
    """
    if isinstance(spec, str):
        ranges = [_parse_part(part, spec) for part in spec.split(",")]
    else:
        values = [spec] if isinstance(spec, int) else spec
        if not isinstance(values, Iterable):
            raise InputError(f"seeds are a {type(spec).__name__}; {_EXAMPLE}")
        ranges = [_single(value) for value in islice(values, limit + 1)]  # no further: the values may never end
    if not ranges:
        raise InputError(f"no seeds given; {_EXAMPLE}")
    if sum(len(part) for part in ranges) > limit:
        raise InputError(f"seeds {spec!r:.60} name more than {limit} candidates; ask for fewer at a time")
    return tuple(dict.fromkeys(seed for part in ranges for seed in part))


def write_seeds(seeds: Iterable[int]) -> str:
    """Seeds as `parse_seeds` reads them, such as "0-7,9,12-13"; neighbours that rise by one as a range, in the order given."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1][1:] = [seed]
        else:
            runs.append([seed])
    return ",".join("-".join(map(str, run)) for run in runs)


def _parse_part(part: str, spec: str) -> range:
    found = _PART.fullmatch(part)
    if found is None:
        what = "no seeds given" if not spec.strip() else f"seeds {spec!r}: cannot read {part.strip()!r}"
        raise InputError(f"{what}; {_EXAMPLE} (no negative numbers)")
    # Python refuses to convert absurdly long numbers; 20 digits are enough to see that a seed is too large.
    first, last = (int(number.lstrip("0")[:20] or "0") for number in (found[1], found[2] or found[1]))
    if last < first:
        raise InputError(f"seeds {spec!r}: the range {part.strip()} runs backwards; write {last}-{first}")
    _single(last)
    return range(first, last + 1)


def _single(seed: SupportsIndex) -> range:
    try:
        value = -1 if isinstance(seed, bool) else index(seed)
    except TypeError:
        value = -1
    if not 0 <= value <= MAX_SEED:
        raise InputError(f"seed {seed!r} is not a whole number from 0 to {MAX_SEED}; choose one in that range")
    return range(value, value + 1)


def generator(seed: int, stream: str = "latent") -> torch.Generator:
    """The random number generator at an address.

    Streams keep apart what one candidate draws: latents, noise maps and whatever comes later each have their own
    numbers, so that drawing more of one never shifts another. Within a stream, different seeds never share a
    generator state; across streams, equal states are as rare as chance makes them (1 in 2^32 per pair).

    Args:
        seed: 0 to `MAX_SEED`.
        stream: name of the stream.

    Returns:
        A CPU generator (the numbers must not depend on the device).

    Raises:
        InputError: a seed out of range.
    """
    return torch.Generator().manual_seed(_scatter(_single(seed)[0], stream))


def _scatter(seed: int, stream: str) -> int:
    """One permutation of the 32-bit numbers per stream: a four-round Feistel network over SHA-256.

    A plain hash of (stream, seed) would not do: torch keeps only 32 bits of it, and among 100 000 hashes of 32 bits
    a pair of equal ones is to be expected. A permutation has no collisions.
    """
    left, right = seed >> 16, seed & 0xFFFF
    for turn in range(4):
        digest = hashlib.sha256(f"preimage|{stream}|{turn}|{right}".encode()).digest()
        left, right = right, left ^ int.from_bytes(digest[:2], "big")
    return left << 16 | right


def seed_of(name: str, turn: int = 0) -> int:
    """The seed of a thing with a name, such as a picture in a folder, whatever else is beside it; another for each turn."""
    return int.from_bytes(hashlib.blake2b(f"{turn}/{name}".encode(), digest_size=4).digest(), "big")


def normal(seeds: Sequence[int], shape: Sequence[int], stream: str = "latent") -> Tensor:
    """Standard normal numbers, drawn for each seed by its own generator.

    Args:
        seeds: n seeds.
        shape: shape of one draw.
        stream: name of the stream, see `generator`.

    Returns:
        (n, *shape) float32 on the CPU; row i depends on ``seeds[i]``, `shape` and `stream` alone.

    Raises:
        InputError: a seed out of range.
    """
    out = torch.empty(len(seeds), *shape, dtype=torch.float32)
    for row, seed in zip(out, seeds, strict=True):
        # Drawn in float64 and rounded: torch's float32 path differs between processors in the last bits.
        draw = torch.randn(math.prod(shape), generator=generator(seed, stream), dtype=torch.float64)
        row.copy_(draw.view(row.shape))
    return out
