"""Batches that fit: what is said to be free, what a graph takes, and what happens when it was too much."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import preimage
from preimage import memory
from preimage.errors import MethodError
from preimage.invert.search import Search
from preimage.memory import available, fitting, graph_bytes, is_out_of_memory, parse_batch

CPU = torch.device("cpu")


def test_batches():
    assert parse_batch("auto") is None
    assert parse_batch(3) == parse_batch("3") == 3
    for wrong in (0, -1, "0", "2.5", "", "many", True, "9" * 400, 1 << 30):
        with pytest.raises(MethodError, match="whole number of at least 1, or auto"):
            parse_batch(wrong)


def test_every_method_refuses_an_empty_batch(tiny_prior):
    for method in preimage.list_methods():
        with pytest.raises(MethodError, match=r"batch \(0\)"):
            preimage.load(method, batch=0)


def test_free_memory_is_plausible():
    free = available(CPU)
    assert free is not None
    assert 1 << 20 < free < 1 << 50


def test_limits_of_containers(tmp_path):
    assert memory._of_group(tmp_path) is None
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 100\n")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert memory._of_group(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory._of_group(tmp_path) == 700


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited by RLIMIT_AS on Linux only")
def test_limits_of_a_process():
    program = (
        "import resource; from preimage.memory import _of_process\n"
        "assert _of_process() is None\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 44, resource.RLIM_INFINITY))\n"
        "assert 0 < _of_process() < 1 << 44\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_graph_is_what_it_holds():
    x = torch.zeros(10, 100, requires_grad=True)
    layer = torch.nn.Linear(100, 100)
    assert graph_bytes(layer, lambda: layer(x)) == 4000  # its input; the weights are the network's own
    assert graph_bytes(layer, lambda: (x * x).exp()) == 8000  # x, and the result of exp


def test_what_fits(monkeypatch):
    for free, wanted in ((1 << 40, 8), (24 << 30, 7), (10 << 30, 2), (1 << 30, 1)):
        monkeypatch.setattr(memory, "available", lambda _, free=free: free)
        assert fitting(CPU, 1024, lambda: int(2.5 * 2**30)) == wanted
    monkeypatch.setattr(memory, "available", lambda _: 2 << 30)
    assert fitting(CPU, 64, lambda: pytest.fail("measured a small prior")) == 8
    monkeypatch.setattr(memory, "available", lambda _: None)
    assert fitting(CPU, 1024, lambda: pytest.fail("nothing to compare it with")) == 8


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("can't allocate memory")]
)
def test_a_batch_that_does_not_fit_is_halved_and_gives_the_same(tiny_prior, tiny_lr, monkeypatch, error):
    wanted = preimage.upsample(tiny_lr, range(5), prior=tiny_prior, method="pulse", device="cpu", steps=3, batch=1)
    original, sizes = Search.step, []

    def short(search):
        sizes.append(len(search.rows))
        if len(search.rows) > 2:
            raise error
        return original(search)

    monkeypatch.setattr(Search, "step", short)
    found = preimage.upsample(tiny_lr, range(5), prior=tiny_prior, method="pulse", device="cpu", steps=3)
    assert sizes == [5, *[2] * 6, *[1] * 3]
    assert found.seeds == wanted.seeds
    assert float((found.images - wanted.images).abs().max()) <= 1.01 / 255


def test_a_single_candidate_that_does_not_fit_is_said_so(tiny_prior, tiny_lr, monkeypatch):
    def never(*_):
        raise MemoryError

    monkeypatch.setattr(Search, "step", never)
    with pytest.raises(MethodError, match="tiny: not enough memory for a single candidate"):
        preimage.upsample(tiny_lr, range(3), prior=tiny_prior, method="pulse", device="cpu", steps=3)


def test_other_errors_are_not_taken_for_it():
    assert not is_out_of_memory(RuntimeError("size mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)  # what torch itself says on a CPU


def test_auto_measures_a_prior_that_may_be_too_large(tiny_prior, tiny_lr, monkeypatch):
    method = preimage.load("pulse", prior=tiny_prior, device="cpu")
    one = method._graph_of_one()
    assert 10_000 < one < 10_000_000
    monkeypatch.setattr(memory, "available", lambda _: int(3.5 * memory.BEYOND_GRAPH / (1 - memory.SPARE) * one))
    assert [len(part) for part in method.upsample(tiny_lr, range(7), steps=2)] == [3, 3, 1]
