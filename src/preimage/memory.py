"""How many candidates fit into memory at once, and what running out of it looks like."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from preimage.errors import MethodError

T = TypeVar("T")
AUTO = "auto"
MOST = {"cpu": 8, "mps": 8, "cuda": 32}
"""Largest batch that `auto` takes: beyond it nothing is gained, and a batch is the longest wait for a first candidate."""
SPARE = 0.15  # of what is available: other programs go on
BEYOND_GRAPH = 1.15  # what a backward pass takes beside the graph; 1.06 measured at 512 and 1024 px
LARGE = 512  # bytes of graph per byte of picture that no prior was seen to exceed (430: StyleGAN2 F at 512 px)


def parse_batch(batch: int | str) -> int | None:
    """A batch size, or None for "auto".

    Raises:
        MethodError: neither.
    """
    text = str(batch).strip()
    if text == AUTO:
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:10]) <= 1 << 20:
        raise MethodError(f"batch ({text[:40]}) must be a whole number of at least 1, or auto.")
    return int(text)


def available(device: torch.device) -> int | None:
    """Bytes that can still be taken on a device; None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    found = [value for value in (_of_machine(), _of_group(), _of_process()) if value is not None]
    return max(0, min(found)) if found else None


def _of_machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    except (OSError, ValueError, IndexError):
        pass
    try:  # no /proc: half of what is built in
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return None


def _of_group(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What the container leaves, by control groups of either version; file caches do not count as used."""
    for folder, limit, used, cache in (
        (root, "memory.max", "memory.current", "inactive_file"),
        (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            stats = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            return int((folder / limit).read_text()) - int((folder / used).read_text()) + int(stats.get(cache, 0))
        except (OSError, ValueError):  # no such group, or "max": no limit
            continue
    return None


def _of_process() -> int | None:
    """What `ulimit -v` leaves."""
    if sys.platform == "win32":
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    try:
        return limit - int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def graph_bytes(network: object, run: Callable[[], Tensor]) -> int:
    """Bytes that a forward pass keeps for the backward pass, without the network's own tensors.

    Args:
        network: whose parameters and buffers do not count.
        run: the forward pass; it needs gradients.
    """
    own: set[int] = set()
    if isinstance(network, nn.Module):
        own = {t.untyped_storage()._cdata for t in (*network.parameters(), *network.buffers())}
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            held[storage._cdata] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = run()  # alive until the count is done, else storages are given away twice
    del kept
    return sum(held.values())


def fitting(device: torch.device, resolution: int, measure: Callable[[], int]) -> int:
    """The batch that `auto` stands for, at least 1.

    Args:
        device: where it runs.
        resolution: side of the pictures.
        measure: gives the bytes of one candidate's graph; only asked where memory may be short.
    """
    most, free = MOST.get(device.type, 8), available(device)
    if free is None or most * LARGE * 12 * resolution**2 <= free // 2:
        return most
    return max(1, min(most, int(free * (1 - SPARE) / (BEYOND_GRAPH * max(measure(), 1)))))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a CPU or a GPU."""
    text = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError)
        and any(words in text for words in ("allocate memory", "out of memory", "not enough memory", "bad_alloc"))
    )


def unless_out_of_memory(call: Callable[[], T]) -> T | None:
    """What a call returns; None where memory ran out. Any other error is raised."""
    try:
        return call()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None


def free_memory() -> None:
    """Give back what a failed batch held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def halved(batch: Sequence[object], what: str) -> int:
    """Half of a batch that did not fit.

    Raises:
        MethodError: it was a single one.
    """
    free_memory()
    if len(batch) < 2:
        raise MethodError(
            f"{what}: not enough memory for a single candidate. Close other programs, or choose a smaller prior or --precision "
            "bf16."
        )
    return len(batch) // 2
