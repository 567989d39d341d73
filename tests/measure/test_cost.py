"""Operations against closed forms; memory against what a call allocates."""

from __future__ import annotations

import math
import time

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.generate.stylegan2 import StyleGAN2
from preimage.measure.cost import count_flops, forward_flops, measure_cost

MIB = 2**20


def weights(*shape: int, grad: bool = False) -> Tensor:
    return torch.ones(shape, requires_grad=grad)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_costs_two_operations_per_multiplication(groups: int) -> None:
    x, w = weights(2, 6, 10, 12), weights(8, 6 // groups, 3, 3)
    expected = 2 * 2 * 8 * (6 // groups) * 3 * 3 * 8 * 10
    assert count_flops(lambda: F.conv2d(x, w, groups=groups)) == expected
    with torch.inference_mode():
        assert count_flops(lambda: F.conv2d(x, w, groups=groups)) == expected


def test_a_matrix_product_costs_two_operations_per_multiplication() -> None:
    a, b = weights(7, 5), weights(5, 3)
    assert count_flops(lambda: a @ b) == 2 * 7 * 5 * 3
    assert count_flops(lambda: torch.einsum("ij,jk->ik", a, b)) == 2 * 7 * 5 * 3
    assert count_flops(lambda: F.linear(a, weights(3, 5), weights(3))) == 2 * 7 * 5 * 3
    assert count_flops(lambda: a * 3 + 1) == 0


def test_of_a_backward_pass_only_what_is_computed_counts() -> None:
    frozen, trained = weights(8, 6, 3, 3), weights(8, 6, 3, 3, grad=True)
    x = weights(2, 6, 10, 12, grad=True)
    forward = count_flops(lambda: F.conv2d(x, frozen))
    assert count_flops(lambda: F.conv2d(x, frozen).sum().backward()) == 2 * forward
    assert count_flops(lambda: F.conv2d(x, trained).sum().backward()) == 3 * forward


def test_forwards_are_pictures_the_prior_could_make(tiny_prior: StyleGAN2) -> None:
    latents = tiny_prior.latents([1, 2, 3])
    with torch.no_grad():
        cost = measure_cost(lambda: tiny_prior.synthesize(latents), flops=True, prior=tiny_prior)
    assert cost.forwards == pytest.approx(3, rel=1e-6)
    assert cost.flops == pytest.approx(3 * forward_flops(tiny_prior), rel=1e-6)

    def search() -> None:
        moving = latents.clone().requires_grad_()
        tiny_prior.synthesize(moving).sum().backward()

    assert count_flops(search) / forward_flops(tiny_prior) == pytest.approx(6, rel=0.05)  # a frozen prior: 2 a picture


def test_one_synthesis_costs_at_least_its_convolutions(tiny_prior: StyleGAN2) -> None:
    """Both 3x3 layers of every side and the 1x1 layer to RGB, at the side they write to."""
    config, least = tiny_prior.config, 0
    for side in config.resolutions:
        channels = config.channels(side)
        least += 2 * side * side * channels * (9 * channels + 3)
        if side > 4:
            least += 2 * (side // 2) ** 2 * channels * 9 * config.channels(side // 2)
    assert least < forward_flops(tiny_prior) < 2 * least


def test_the_call_runs_once_and_once_more_to_be_counted() -> None:
    calls = []

    def call() -> str:
        calls.append(1)
        time.sleep(0.02)
        return "done"

    cost = measure_cost(call)
    assert len(calls) == 1
    assert cost.value == "done"
    assert cost.seconds >= 0.02
    assert math.isnan(cost.flops)
    assert math.isnan(cost.forwards)
    counted = measure_cost(call, flops=True)
    assert len(calls) == 3
    assert counted.flops == 0
    assert math.isnan(counted.forwards)


def test_memory_of_a_call_is_at_its_highest_point() -> None:
    def call() -> int:
        kept = torch.ones(96 * MIB // 4)
        time.sleep(0.05)  # several looks
        return int(kept[0])

    cost = measure_cost(call)
    if cost.memory != "process":
        pytest.skip("this system does not tell how much memory a process holds now")
    assert 90 * MIB < cost.increase_bytes < 200 * MIB
    assert cost.peak_bytes > cost.increase_bytes
    nothing = measure_cost(lambda: None)
    assert 0 <= nothing.increase_bytes < 10 * MIB


def test_a_call_that_fails_is_not_swallowed() -> None:
    def call() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measure_cost(call)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_memory_of_a_cuda_device_is_what_torch_allocated() -> None:
    held = torch.ones(8 * MIB // 4, device="cuda")
    cost = measure_cost(lambda: float(torch.ones(64 * MIB // 4, device="cuda")[0]), "cuda")
    assert cost.memory == "cuda"
    assert 64 * MIB <= cost.increase_bytes < 70 * MIB
    assert cost.peak_bytes >= cost.increase_bytes + held.numel() * 4
