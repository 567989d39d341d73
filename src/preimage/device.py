"""Device and precision, decided in one place."""

from __future__ import annotations

import ctypes
import os
import statistics
import time
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch

from preimage.errors import InputError

_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(name: str | torch.device = "auto") -> torch.device:
    """Turns a device name into a device that is there.

    Args:
        name: ``"auto"`` (the GPU if there is one, else Apple's GPU, else the CPU), ``"cpu"``, ``"cuda"``,
            ``"cuda:1"``, ``"mps"``, or a device.

    Returns:
        The device; ``"cuda"`` stays without a number, that is torch's current one.

    Raises:
        InputError: an unknown name, or a device this machine does not have.
    """
    keep_memory()
    if str(name) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device {name!r} is not known; use auto, cpu, cuda, cuda:1 or mps") from None
    if device.type == "cuda":
        _check_cuda(device)
    elif device.type == "mps":
        if not _has_mps():
            raise InputError("device mps: this machine has no Apple GPU that torch can use; use device auto or cpu")
    elif device.type != "cpu" or device.index:
        raise InputError(f"device {name!r} is not supported; use auto, cpu, cuda, cuda:1 or mps")
    return device


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def _check_cuda(device: torch.device) -> None:
    if not torch.cuda.is_available():
        why = (
            "this torch was built without CUDA; install a CUDA build of torch"
            if torch.version.cuda is None
            else "torch finds no usable NVIDIA GPU or driver; check nvidia-smi and CUDA_VISIBLE_DEVICES"
        )
        raise InputError(f"device {device}: {why}, or use device auto or cpu")
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        there = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise InputError(f"device {device} does not exist; this machine has {there}")


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """Turns a precision name into the type the networks compute in.

    ``"auto"`` is float32 on every device: a search follows small gradients for hundreds of steps, and a seed should
    give the same picture wherever it runs. Half precision is a speed-up the user asks for.

    Args:
        name: ``"auto"``, ``"fp32"``, ``"bf16"`` or ``"fp16"``.
        device: where the networks will run, as `resolve_device` gave it.

    Returns:
        ``torch.float32``, ``torch.bfloat16`` or ``torch.float16``.

    Raises:
        InputError: an unknown name, or a precision this device cannot compute in.
    """
    if name == "auto":
        return torch.float32
    if name not in _PRECISIONS:
        raise InputError(f"precision {name!r} is not known; use auto, {', '.join(_PRECISIONS)}")
    if name == "fp16" and device.type == "cpu":
        raise InputError(
            "precision fp16 on the CPU: processors compute it slower than fp32, and without gradient scaling small "
            "gradients become zero; use precision fp32 or bf16, or a GPU"
        )
    if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise InputError(f"precision bf16 on {device}: this GPU only emulates it; use precision fp32 or fp16")
    return _PRECISIONS[name]


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """A context in which networks compute in `dtype`; does nothing for float32.

    Args:
        device: where the networks run.
        dtype: as `resolve_precision` gave it.
    """
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=dtype)


@cache
def keep_memory() -> None:
    """Let glibc keep large blocks that are given back, where glibc is what allocates; once.

    Without it every large tensor is mapped and zeroed anew by the kernel, which costs more than computing it does.
    """
    if (glibc := _glibc()) is None:
        return
    for option in (-3, -1):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
        if not glibc.mallopt(option, 1 << 30):
            glibc.mallopt(option, 1 << 25)  # the most that older versions take


def return_memory() -> None:
    """Give back to the system what glibc keeps of it and nobody uses, so that what a call takes can be seen."""
    if (glibc := _glibc()) is not None:
        glibc.malloc_trim(0)


def _glibc() -> Any:
    """The C library, where it is glibc; else None."""
    try:
        library = ctypes.CDLL("libc.so.6")
        return library if library.mallopt and library.malloc_trim else None
    except (OSError, AttributeError):  # not Linux, or another C library
        return None


def resolve_threads(wanted: int | str = "auto") -> int:
    """How many threads torch is to compute with: a number, or "auto" for as many as cores are free.

    Threads of torch wait for each other in every operation: two on a core that other work holds are many times slower
    than one alone.

    Args:
        wanted: "auto", or a number of 1 or more.

    Raises:
        InputError: neither.
    """
    if wanted == "auto":
        return max(1, min(torch.get_num_threads(), _allowed(), (os.cpu_count() or 1) - _busy()))
    try:
        count = int(wanted)
    except ValueError:
        count = 0
    if not 1 <= count <= 1024:
        raise InputError(f"threads {wanted!r:.40} is not known; use auto, or a number of 1 or more")
    return count


def _allowed() -> int:
    """Cores that this process may use: its affinity, and the quota of its container (cgroup 2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return cores if quota == "max" else max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):
        return cores


def _busy() -> int:
    """How many tasks run beside this one now; 0 where nobody tells."""
    counts = []
    for _ in range(5):
        try:
            lines = Path("/proc/stat").read_text().splitlines()
            counts.append(int(next(line for line in lines if line.startswith("procs_running")).split()[1]) - 1)
        except (OSError, ValueError, StopIteration, IndexError):
            return 0
        time.sleep(0.01)
    return int(statistics.median(counts))
