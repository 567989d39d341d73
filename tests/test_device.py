"""Device and precision; machines this test does not run on are simulated."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from preimage import device as module
from preimage.device import (
    autocast,
    keep_memory,
    resolve_device,
    resolve_precision,
    resolve_threads,
    return_memory,
)
from preimage.errors import InputError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def machine(monkeypatch):
    """Pretends how many GPUs there are."""

    def pretend(gpus: int = 0, mps: bool = False, built: str | None = "12.8", bf16: bool = True) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.version, "cuda", built)

    return pretend


@pytest.mark.parametrize(
    ("gpus", "mps", "name", "device"),
    [
        (0, False, "auto", "cpu"),
        (0, True, "auto", "mps"),
        (2, True, "auto", "cuda"),
        (2, False, "cpu", "cpu"),
        (2, False, "cuda", "cuda"),
        (2, False, "cuda:1", "cuda:1"),
        (0, True, "mps", "mps"),
        (1, False, torch.device("cuda:0"), "cuda:0"),
    ],
)
def test_resolve_device(machine, gpus, mps, name, device):
    machine(gpus, mps)
    assert resolve_device(name) == torch.device(device)


@pytest.mark.parametrize(
    ("gpus", "built", "name", "message"),
    [
        (0, None, "cuda", "device cuda: this torch was built without CUDA"),
        (0, "12.8", "cuda:1", "device cuda:1: torch finds no usable NVIDIA GPU.*or use device auto or cpu"),
        (1, "12.8", "cuda:1", "cuda:1 does not exist; this machine has cuda:0$"),
        (4, "12.8", "cuda:4", "this machine has cuda:0 to cuda:3"),
        (0, None, "mps", "no Apple GPU"),
        (0, None, "gpu", "device 'gpu' is not known; use auto, cpu"),
        (0, None, "", "device '' is not known"),
        (0, None, "meta", "device 'meta' is not supported"),
    ],
)
def test_resolve_device_refuses(machine, gpus, built, name, message):
    machine(gpus, built=built)
    with pytest.raises(InputError, match=message):
        resolve_device(name)


def test_precision(machine):
    machine(1)
    for device in (CPU, CUDA):
        assert resolve_precision("auto", device) == torch.float32
        assert resolve_precision("fp32", device) == torch.float32
        assert resolve_precision("bf16", device) == torch.bfloat16
    assert resolve_precision("fp16", CUDA) == torch.float16


def test_precision_refuses(machine):
    machine(1, bf16=False)
    with pytest.raises(InputError, match=r"fp16 on the CPU: .*slower.*use precision fp32"):
        resolve_precision("fp16", CPU)
    with pytest.raises(InputError, match="bf16 on cuda: this GPU only emulates it"):
        resolve_precision("bf16", CUDA)
    with pytest.raises(InputError, match="'half' is not known; use auto, fp32, bf16, fp16"):
        resolve_precision("half", CPU)


def test_autocast_computes_in_the_type_asked_for():
    layer, x = torch.nn.Linear(4, 4), torch.zeros(1, 4)
    with autocast(CPU, torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    with autocast(CPU, torch.float32):
        assert layer(x).dtype == torch.float32
    assert layer(x).dtype == torch.float32


# ------------------------------------------------------------------------------------------------------ threads, memory


def test_threads_are_a_number_or_the_cores_that_are_free(monkeypatch):
    assert resolve_threads(3) == resolve_threads("3") == 3
    for wrong in (0, "many", "1.5", -1):
        with pytest.raises(InputError, match="use auto, or a number"):
            resolve_threads(wrong)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(module, "_allowed", lambda: 4)
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    for busy, expected in ((0, 4), (10, 4), (13, 3), (15, 1), (40, 1)):
        monkeypatch.setattr(module, "_busy", lambda busy=busy: busy)
        assert resolve_threads("auto") == expected


def test_what_the_machine_says_of_itself():
    assert 1 <= module._allowed() <= 1 << 16
    assert module._busy() >= 0
    keep_memory()
    keep_memory()  # a second time does nothing


def test_memory_that_is_kept_can_be_given_back():
    if not Path("/proc/self/statm").is_file():
        pytest.skip("this system does not tell how much memory a process holds now")

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    keep_memory()
    held = torch.ones(64 << 18)
    del held
    before = resident()
    return_memory()
    assert resident() <= before
    begun = resident()
    held = torch.ones(64 << 18)
    assert resident() - begun > 60 << 20
    assert held.numel() == 64 << 18
