"""The operators against Pillow, torch and an independent convolution; the algebra of every one of them."""

from __future__ import annotations

import copy
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
from preimage.errors import InputError, OperatorError

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


def test_refuses_pictures_that_do_not_fit() -> None:
    op = bicubic(16, 4)
    with pytest.raises(OperatorError, match=r"expects \(..., 16, 16\)"):
        op(torch.zeros(3, 16, 17))
    with pytest.raises(OperatorError):
        op.pinv(torch.zeros(16, 16))
    with pytest.raises(InputError, match="255"):
        op(torch.zeros(3, 16, 16, dtype=torch.uint8))


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


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 8e-3), (torch.float16, 2e-3)])
def test_precisions(dtype: torch.dtype, tolerance: float) -> None:
    op = bicubic(128, 8)
    x, y = rand(2, 3, 128, 128), rand(3, 16, 16)
    for low, exact in (
        (op(x.to(dtype)), op(x)),
        (op.adjoint(y.to(dtype)), op.adjoint(y)),
        (op.project(x.to(dtype), y.to(dtype)), op.project(x, y)),
    ):
        assert low.dtype == dtype
        torch.testing.assert_close(low.double(), exact, atol=tolerance, rtol=tolerance)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(op(x.float()).double(), op(x), atol=2e-6, rtol=0)


def test_gradients() -> None:
    op = bicubic((9, 7), (3, 2))
    x, y = rand(2, 9, 7).requires_grad_(), rand(2, *op.lr_size).requires_grad_()
    with torch.inference_mode():  # what it fills the cache with must still serve training
        op.project(rand(2, 9, 7), rand(2, *op.lr_size))
    assert torch.autograd.gradcheck(op, (x,))
    assert torch.autograd.gradcheck(op.pinv, (y,))
    assert torch.autograd.gradcheck(op.adjoint, (y,))
    assert torch.autograd.gradcheck(op.project, (x, y))


def test_lives_in_modules() -> None:
    op = bicubic(32, 4)
    x = rand(3, 32, 32)
    expected = op(x)
    assert torch.equal(op.apply(x), expected)
    seen: list[str] = []
    holder = torch.nn.Sequential(op)
    holder.apply(lambda module: seen.append(type(module).__name__))
    assert seen == ["LinearOperator", "Sequential"]
    for moved in (holder.half(), holder.to(torch.bfloat16), holder.double(), copy.deepcopy(holder)):
        assert moved[0].rows.dtype == torch.float64
        assert torch.equal(moved(x), expected)
    assert not list(op.parameters())
    assert "bicubic, 32x32 -> 8x8" in repr(op)


def test_state_dict_round_trip_and_immutability() -> None:
    op, other = bicubic(32, 4), bicubic(32, 4, border="reflect")
    again = bicubic(32, 4)
    again.load_state_dict(op.state_dict())
    again.load_state_dict({k: v.bfloat16() for k, v in op.state_dict().items()})
    assert torch.equal(again.rows, op.rows), "a rounded state does not cost accuracy"
    with pytest.raises(RuntimeError, match="another operator"):
        again.load_state_dict(other.state_dict())
    with pytest.raises(RuntimeError, match="another operator"):
        again.load_state_dict(bicubic(32, 8).state_dict())
    with pytest.raises(RuntimeError, match="Missing"):
        again.load_state_dict({})
    with pytest.raises(AttributeError, match="immutable"):
        op.rows = torch.zeros(8, 32)
    for name in ("name", "border", "scale", "hr_size", "lr_size"):
        with pytest.raises(AttributeError):
            setattr(op, name, 1)
    assert op != other
    assert op != "bicubic"
