"""Two matrices as a module: precisions, gradients, what moving, casting and loading do to it, what it refuses."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from preimage.degrade.linear import bicubic
from preimage.errors import InputError, OperatorError


def rand(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def test_refuses_pictures_that_do_not_fit() -> None:
    op = bicubic(16, 4)
    with pytest.raises(OperatorError, match=r"expects \(..., 16, 16\)"):
        op(torch.zeros(3, 16, 17))
    with pytest.raises(OperatorError):
        op.pinv(torch.zeros(16, 16))
    with pytest.raises(InputError, match="255"):
        op(torch.zeros(3, 16, 16, dtype=torch.uint8))


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
