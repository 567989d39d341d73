"""The operators against Pillow, torch and an independent convolution; algebra and description of every one of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from preimage.degrade import BORDERS, OPERATORS, LinearOperator, bicubic, from_kernel, gaussian, make_operator
from preimage.errors import OperatorError

SIZES = [
    ((64, 64), (16, 16)),
    ((37, 53), (11, 7)),
    ((40, 41), (15, 13)),
    ((5, 3), (1, 2)),
    ((1, 9), (1, 2)),
    ((20, 20), (20, 20)),
    ((128, 65), (2, 32)),
]
SETTINGS = {"kernel": {"kernel": [0.1, 0.5, 0.3, 0.2]}}
EVERY = [
    pytest.param(name, border, hr, lr, id=f"{name}-{border}-{hr[0]}x{hr[1]}-{lr[0]}x{lr[1]}")
    for name in OPERATORS
    for border in BORDERS
    for hr, lr in SIZES
]


def build(name: str, border: str, hr: tuple[int, int], lr: tuple[int, int]) -> LinearOperator:
    return make_operator(name, hr_size=hr, lr_size=lr, border=border, **SETTINGS.get(name, {}))


def rand(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(("name", "border", "hr", "lr"), EVERY)
def test_algebra(name: str, border: str, hr: tuple[int, int], lr: tuple[int, int]) -> None:
    op = build(name, border, hr, lr)
    x, y = rand(2, 3, *hr), rand(3, *lr)
    assert (op.hr_size, op.lr_size, op.name, op.border) == (hr, lr, name, border)
    torch.testing.assert_close(op.rows.sum(1), torch.ones(lr[0], dtype=torch.float64))
    torch.testing.assert_close((op(x) * y).sum(), (x * op.adjoint(y)).sum())
    torch.testing.assert_close(op(op.pinv(op(x))), op(x), atol=1e-6, rtol=0)
    torch.testing.assert_close(op.residual(x, y), y - op(x))
    fitted = op(rand(3, *hr).flip(-1))  # kernels that lose a direction reach only what lies in their range
    once = op.project(x, fitted)
    torch.testing.assert_close(op(once), fitted.expand(2, -1, -1, -1), atol=1e-6, rtol=0)
    torch.testing.assert_close(op.project(once, fitted), once, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("name", "border", "hr", "lr"), EVERY)
def test_spec_rebuilds_the_same_operator(name: str, border: str, hr: tuple[int, int], lr: tuple[int, int]) -> None:
    op = build(name, border, hr, lr)
    again = LinearOperator.from_spec(json.loads(json.dumps(op.spec())))
    assert again == op
    assert hash(again) == hash(op)
    torch.testing.assert_close(again.rows, op.rows, atol=1e-15, rtol=0)
    torch.testing.assert_close(again.cols, op.cols, atol=1e-15, rtol=0)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["bicubic", "bilinear", "lanczos", "area"]),
    hr=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    share=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)),
)
def test_equals_pillow_and_torch(name: str, hr: tuple[int, int], share: tuple[float, float]) -> None:
    lr = (max(1, int(hr[0] * share[0])), max(1, int(hr[1] * share[1])))
    op = make_operator(name, hr_size=hr, lr_size=lr)
    x = rand(*hr, dtype=torch.float32)
    pillow = Image.fromarray(x.numpy()).resize((lr[1], lr[0]), op.pillow_filter)
    assert pillow.mode == "F"
    np.testing.assert_allclose(op(x.double()).numpy(), np.asarray(pillow), atol=1e-6)
    if name in ("bicubic", "bilinear") and hr[1] > 1 < lr[1]:  # torch 2.13 misreads pictures one pixel wide
        theirs = F.interpolate(x.double()[None, None], size=lr, mode=name, antialias=True)[0, 0]
        torch.testing.assert_close(op(x.double()), theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("side", "scale"), [(32, 2), (32, 4), (64, 8), (96, 6), (16, 8)])
@pytest.mark.parametrize(("border", "pad"), [("reflect", "reflect"), ("symmetric", "symmetric")])
def test_equals_the_convolution_of_pulse(side: int, scale: int, border: str, pad: str) -> None:
    offsets = (np.arange(4 * scale) - 2 * scale + 0.5) / scale
    t = np.abs(offsets)
    taps = np.where(t <= 1, 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2)
    taps = taps / taps.sum()
    x = rand(3, side, side)
    width = 3 * scale // 2
    wide = np.pad(x.numpy(), ((0, 0), (width, 3 * scale - width), (width, 3 * scale - width)), mode=pad)  # type: ignore[call-overload]
    kernel = torch.from_numpy(np.outer(taps, taps))[None, None]
    expected = F.conv2d(torch.from_numpy(wide)[:, None], kernel, stride=scale)[:, 0, : side // scale, : side // scale]
    torch.testing.assert_close(bicubic(side, scale, border=border)(x), expected, atol=1e-12, rtol=0)


def test_borders_fold_as_often_as_needed() -> None:
    for border, mode in (("reflect", "reflect"), ("symmetric", "symmetric")):
        op = from_kernel(3, 1, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], border=border)  # reaches 5 pixels to the right
        expected = np.pad(np.arange(3.0), (5, 5), mode=mode)[10:]  # type: ignore[call-overload]
        np.testing.assert_allclose((op.cols @ torch.arange(3.0, dtype=torch.float64)).numpy(), expected[:3])


def test_kernel_phase_zero_is_blur_and_stride() -> None:
    x = rand(12, 12)
    op = from_kernel(12, 3, [1, 2, 1], border="symmetric", phase=0)
    blurred = from_kernel(12, 1, [1, 2, 1], border="symmetric")(x)
    torch.testing.assert_close(op(x), blurred[::3, ::3])
    torch.testing.assert_close(from_kernel(12, 2, [1, 1])(x), make_operator("area", hr_size=12, scale=2)(x))


def test_gaussian_default_and_pair() -> None:
    assert gaussian(64, 8) == gaussian(64, 8, sigma=4.0)
    assert gaussian((64, 32), (8, 4)).spec()["sigma"] == [4.0, 2.0]
    assert gaussian(16, 4, sigma=1e-3).rows.isfinite().all()
    assert gaussian(64, 8).pillow_filter is None


def test_sizes_and_scales() -> None:
    assert bicubic(64, 8).lr_size == (8, 8)
    assert bicubic((61, 83), 3.3).lr_size == (18, 25)
    assert bicubic((64, 32), (8, 2)).scale == (8.0, 2.0)
    assert bicubic(10, lr_size=(3, 7)).scale == (10 / 3, 10 / 7)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("cubic", {"hr_size": 8, "scale": 2}, "choose one of: bicubic"),
        ("bicubic", {"hr_size": 8, "scale": 0.5}, "enlarge"),
        ("bicubic", {"hr_size": 8, "lr_size": 9}, "cannot shrink"),
        ("bicubic", {"hr_size": 8, "scale": 100}, "cannot shrink"),
        ("bicubic", {"hr_size": 8}, "either"),
        ("bicubic", {"hr_size": 8, "scale": 2, "lr_size": 4}, "either"),
        ("bicubic", {"hr_size": 0, "scale": 2}, "whole pixels"),
        ("bicubic", {"hr_size": (8, 8, 3), "scale": 2}, "pair"),
        ("bicubic", {"hr_size": 8, "scale": float("nan")}, "finite"),
        ("bicubic", {"hr_size": 8, "scale": 2, "border": "wrap"}, "border"),
        ("bicubic", {"hr_size": 8, "scale": 2, "sigma": 3}, "no setting sigma"),
        ("gaussian", {"hr_size": 8, "scale": 2, "sigma": -1}, "positive"),
        ("kernel", {"hr_size": 8, "scale": 2, "kernel": [1, -1]}, "sum"),
        ("kernel", {"hr_size": 8, "scale": 2, "kernel": [[1.0]]}, "row of"),
        ("kernel", {"hr_size": 2, "scale": 1, "kernel": [1.0] + [0.0] * 20}, "sees nothing"),
    ],
)
def test_refusals_say_why(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(OperatorError, match=message):
        make_operator(name, **arguments)  # type: ignore[arg-type]


def test_custom_matrices() -> None:
    rows, cols = rand(2, 5), rand(3, 4)
    op = LinearOperator(rows, cols.numpy(), name="mine")
    x = rand(5, 4)
    torch.testing.assert_close(op(x), rows @ x @ cols.mT)
    again = LinearOperator.from_spec(json.loads(json.dumps(op.spec())))
    assert again == op
    assert torch.equal(again.rows, rows)
    assert op != LinearOperator(rows + 1e-9, cols, name="mine")
    assert op.pillow_filter is None
    rows.zero_()
    assert op.rows.any(), "the operator keeps its own copy"
    for bad in (torch.zeros(5, 2), torch.zeros(3), torch.full((2, 3), torch.nan)):
        with pytest.raises(OperatorError, match="finite matrix"):
            LinearOperator(bad, cols)
    with pytest.raises(OperatorError, match="belongs"):
        LinearOperator(cols, cols, name="bicubic")
    for broken in ({}, {"name": "mine"}, op.spec() | {"rows": "???"}, op.spec() | {"hr_size": [9, 9]}):
        with pytest.raises(OperatorError):
            LinearOperator.from_spec(broken)
