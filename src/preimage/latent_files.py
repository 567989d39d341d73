"""Files of latents, from which a method goes on: `latents0000.safetensors` in a folder of results."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from preimage.candidates import Candidates
from preimage.errors import InputError
from preimage.files import write_bytes_atomic
from preimage.texts import one_line


def add_latents(path: Path, candidates: Candidates, listed: Callable[[int], bool]) -> None:
    """Put candidates' latents into a file, which is replaced at once or not at all.

    Args:
        path: of the file; what it holds of other candidates stays in it.
        candidates: whose latents.
        listed: whether a seed that the file holds is still a candidate; else its latents go.

    Raises:
        OutputError: it cannot be written.
    """
    from safetensors.torch import save

    tensors, seeds = dict(candidates.latents), list(candidates.seeds)
    try:
        before, there = _read(path)
    except InputError:  # none yet, or damaged
        before, there = {}, []
    rows = [i for i, seed in enumerate(there) if seed not in seeds and listed(seed)]
    shapes = {name: x.shape[1:] for name, x in tensors.items()}
    if rows and {name: x.shape[1:] for name, x in before.items()} == shapes:
        tensors = {name: torch.cat([before[name][rows], x]) for name, x in tensors.items()}
        seeds = [there[i] for i in rows] + seeds
    whole = {name: x.contiguous() for name, x in tensors.items()}
    write_bytes_atomic(path, save(whole, {"seeds": json.dumps(seeds)}))


def load_latents(path: str | Path, seeds: Sequence[int]) -> dict[str, Tensor]:
    """Latents to go on from, of a file of `add_latents`, one row for each seed.

    Raises:
        InputError: no such file, a damaged one, or one that lacks a seed.
    """
    tensors, there = _read(path)
    try:
        rows = [there.index(seed) for seed in seeds]
        return {name: x[rows] for name, x in tensors.items()}
    except (ValueError, IndexError):
        asked = ",".join(map(str, seeds))
        raise InputError(
            f"{path}: holds the seeds {there}, but {asked} are asked for; give --seeds that it holds."
        ) from None


def _read(path: str | Path) -> tuple[dict[str, Tensor], list[int]]:
    """Tensors by name, and the seed of each row."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            there = json.loads((file.metadata() or {})["seeds"])
            if not isinstance(there, list):
                raise TypeError("its seeds are no list")
            return {name: file.get_tensor(name) for name in file.keys()}, there  # noqa: SIM118, no mapping
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise InputError(
            f"{path}: holds no latents ({one_line(error)}). Give a file that `preimage upsample --save-latents` wrote."
        ) from None
