"""What an answer costs: seconds, peak memory, operations, and how many pictures the prior could make instead."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

from preimage.device import return_memory
from preimage.generate.prior import Prior

T = TypeVar("T")

_STATM = Path("/proc/self/statm")
_INTERVAL = 0.005  # seconds between two looks at the memory


@dataclass(frozen=True)
class Cost(Generic[T]):
    """What one call took; NaN for what was not measured.

    Attributes:
        value: what the call returned.
        seconds: wall time.
        peak_bytes: memory at its highest point, everything included (weights, and on the CPU the whole process).
        increase_bytes: highest point above the start: what the call itself needed. On the CPU memory that the process
            had freed but kept is not counted again, so the first of several calls tells most.
        memory: where: "cuda" is what torch had allocated on the device; "process" the resident set, looked at every 5
            ms; "process high-water" the same where only its highest mark is known: `increase_bytes` is then a lower
            bound.
        flops: floating-point operations, `count_flops`.
        forwards: the same, in syntheses of one picture by the prior, `forward_flops`.
    """

    value: T
    seconds: float
    peak_bytes: float = math.nan
    increase_bytes: float = math.nan
    memory: str = ""
    flops: float = math.nan
    forwards: float = math.nan


def measure_cost(
    call: Callable[[], T], device: str | torch.device = "cpu", *, flops: bool = False, prior: Prior | None = None
) -> Cost[T]:
    """Run `call` and say what it cost.

    Args:
        call: without arguments; whatever it yields lazily must be drained inside, as in `lambda:
            list(method.sample(…))`.
        device: where it computes; a CUDA device is waited for, before and after, and its peak statistics are reset.
        flops: run `call` a second time to count operations, apart from the first so that counting costs no time there:
            the counter looks at every single operation, which made a search over a 64x64 prior take twice its time and
            one over a 16x16 prior four times (one CPU core). It has to do the same again, as searches from equal seeds
            do.
        prior: also express the operations in syntheses of this prior.
    """
    where = torch.device(device)
    _finish(where)
    watch = _CudaMemory(where) if where.type == "cuda" else _ProcessMemory()
    with watch:
        began = time.perf_counter()
        value = call()
        _finish(where)
        seconds = time.perf_counter() - began
    cost = Cost(value, seconds, watch.peak, watch.peak - watch.start, watch.kind)
    if flops:
        counted = count_flops(call)
        cost = replace(cost, flops=counted, forwards=counted / forward_flops(prior) if prior is not None else math.nan)
    return cost


def count_flops(call: Callable[[], object]) -> float:
    """Floating-point operations of matrix products, convolutions and attention in `call`, forward and backward.

    Counted by torch's flop counter; a multiplication with its addition is 2 operations. Element-wise work, norms,
    resizing by interpolation and decompositions count 0. Of a backward pass only what is computed counts: a frozen
    network that is searched through costs one forward more, a trained one two. Known fault of the counter (torch 2.13):
    gradients of the *weights* of a convolution with g groups are counted g times; a search has none.
    """
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


def forward_flops(prior: Prior) -> float:
    """Operations of one synthesis of one picture: the unit of generator-forward equivalents.

    From a W+ latent to the picture, without the mapping network, noise silent.
    """
    mean = prior.mean_latent
    rows, dimensions = prior.latent_shape
    latents = mean.detach().expand(1, rows, dimensions)
    with torch.no_grad():
        return count_flops(lambda: prior.synthesize(latents))


def _finish(device: torch.device) -> None:
    """Wait for what runs there."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class _CudaMemory:
    """Bytes that torch has allocated on one CUDA device."""

    kind = "cuda"

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.start = self.peak = math.nan

    def __enter__(self) -> None:
        torch.cuda.reset_peak_memory_stats(self._device)
        self.start = float(torch.cuda.memory_allocated(self._device))

    def __exit__(self, *_: object) -> None:
        self.peak = float(torch.cuda.max_memory_allocated(self._device))


class _ProcessMemory:
    """Resident bytes of this process: a thread looks at them, the kernel's high-water mark adds peaks between looks."""

    def __init__(self) -> None:
        self.start = self.peak = math.nan
        self.kind = "process" if _STATM.is_file() else "process high-water"
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> None:
        return_memory()
        self._mark = _high_water()
        self.start = self.peak = _resident() if self.kind == "process" else self._mark
        if self.kind == "process":
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
            self.peak = max(self.peak, _resident())
        mark = _high_water()
        if mark > self._mark:  # else the mark is older than this call
            self.peak = max(self.peak, mark)

    def _look(self) -> None:
        while not self._done.wait(_INTERVAL):
            self.peak = max(self.peak, _resident())


def _resident() -> float:
    """Bytes now."""
    return float(int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))


def _high_water() -> float:
    """Most resident bytes ever; NaN where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
