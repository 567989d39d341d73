"""Separable linear maps, y = H x Wᵀ: one small matrix per axis, with its adjoint, pseudo-inverse and projection."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, overload

import torch
from torch import Tensor, nn

from preimage.degrade.kernels import Array
from preimage.errors import InputError, OperatorError

if TYPE_CHECKING:
    from PIL import Image

_CUT = 1e-6  # relative; a direction damped more than this holds nothing an 8-bit picture could tell


class Separable(nn.Module):
    """A map of pictures (..., H, W) to (..., h, w) that is linear along each axis, the same for every channel. Immutable.

    The matrices are kept in float64 whatever the module is cast to; each call works on its argument's device and in
    its argument's precision (16-bit floats are computed in float32 and returned as they came).

    Args:
        rows: (h, H), acts on columns of pixels (vertical).
        cols: (w, W), acts on rows of pixels (horizontal).

    Raises:
        OperatorError: matrices that are not 2-D, finite and wider than high.
    """

    rows: Tensor
    cols: Tensor

    def __init__(self, rows: Tensor | Array, cols: Tensor | Array) -> None:
        super().__init__()
        for axis, given in (("rows", rows), ("cols", cols)):
            matrix = torch.as_tensor(given).detach().to("cpu", torch.float64, copy=True)
            if matrix.ndim != 2 or not 1 <= matrix.shape[0] <= matrix.shape[-1] or not matrix.isfinite().all():
                raise OperatorError(
                    f"{axis} must be a finite matrix (low, high size) that does not enlarge, not {tuple(matrix.shape)}"
                )
            self.register_buffer(axis, matrix)
        self._cache: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Shrinks x (..., H, W) to A x = H x Wᵀ, (..., h, w); noise changes nothing. Raises OperatorError for another size."""
        return self._sandwich(x, "rows", "cols", self.hr_size)

    @overload  # type: ignore[override]
    def apply(self, x: Tensor) -> Tensor: ...
    @overload
    def apply(self, x: Callable[[nn.Module], None]) -> Self: ...
    def apply(self, x: Tensor | Callable[[nn.Module], None]) -> Tensor | Self:
        """The same as calling the operator; given a function instead, torch's own `Module.apply`."""
        return self.forward(x) if isinstance(x, Tensor) else super().apply(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y = Hᵀ y W: (..., h, w) -> (..., H, W), so that <A x, y> = <x, Aᵀ y>."""
        return self._sandwich(y, "rows_adjoint", "cols_adjoint", self.lr_size)

    def pinv(self, y: Tensor) -> Tensor:
        """A⁺ y, the smallest picture (..., H, W) that shrinks to y (..., h, w)."""
        return self._sandwich(y, "rows_pinv", "cols_pinv", self.lr_size)

    def residual(self, x: Tensor, y: Tensor) -> Tensor:
        """y − A x, (..., h, w): what x lacks; leading dimensions of x and y broadcast."""
        return (_working(y) - self.forward(_working(x))).to(x.dtype)

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """x + A⁺(y − A x): the picture nearest to x, (..., H, W), among all that shrink to y. It may leave [0, 1]."""
        wide = _working(x)
        return (wide + self.pinv(self.residual(wide, y))).to(x.dtype)

    @property
    def pillow_filter(self) -> Image.Resampling | None:
        """The Pillow filter that computes the same (in 8 bits, rounding after each axis), or None."""
        return None

    @property
    def hr_size(self) -> tuple[int, int]:
        """(H, W) of the pictures it takes."""
        return self.rows.shape[1], self.cols.shape[1]

    @property
    def lr_size(self) -> tuple[int, int]:
        """(h, w) of the pictures it makes."""
        return self.rows.shape[0], self.cols.shape[0]

    @property
    def scale(self) -> tuple[float, float]:
        """(H / h, W / w)."""
        (high, wide), (low, narrow) = self.hr_size, self.lr_size
        return high / low, wide / narrow

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__.get("_buffers", {}):
            raise AttributeError(f"an operator is immutable: build a new one instead of setting {name!r}")
        super().__setattr__(name, value)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # Follow .to(device), ignore .to(dtype); some devices hold no float64, and calls bring their own copies anyway.
        device = fn(torch.empty(0, device=self.rows.device)).device
        if device.type not in ("mps", "meta"):
            for axis in ("rows", "cols"):
                self._buffers[axis] = getattr(self, axis).to(device)
        self._cache.clear()
        return self

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, _: Any, strict: bool, missing: Any, __: Any, errors: Any
    ) -> None:
        """Accepts a state that holds this very operator (in any precision) and reports every other."""
        for axis in ("rows", "cols"):
            own, found = getattr(self, axis), state_dict.get(prefix + axis)
            if found is None:
                if strict:
                    missing.append(prefix + axis)
            elif found.shape != own.shape or not torch.allclose(
                found.to(own), own, rtol=2 * torch.finfo(found.dtype).eps, atol=1e-7
            ):
                errors.append(f"{prefix}{axis} is another operator's than {self!r}; rebuild it with from_spec")

    def _sandwich(self, x: Tensor, left: str, right: str, expected: tuple[int, int]) -> Tensor:
        if not x.is_floating_point():
            raise InputError(f"operators work on float pictures in [0, 1], not {x.dtype}; divide 8-bit values by 255")
        if x.ndim < 2 or tuple(x.shape[-2:]) != expected:
            raise OperatorError(f"{self!r} expects (..., {expected[0]}, {expected[1]}) here, not {tuple(x.shape)}")
        wide = _working(x)
        with torch.autocast(x.device.type, enabled=False):  # it would take the products down to 16 bits
            if expected == self.hr_size:  # shrink the longer dimension of memory first
                out = self._matrix(left, wide) @ (wide @ self._matrix(right, wide).mT)
            else:
                out = (self._matrix(left, wide) @ wide) @ self._matrix(right, wide).mT
        return out.to(x.dtype)

    def _matrix(self, kind: str, like: Tensor) -> Tensor:
        key = (kind, like.dtype, like.device)
        if key not in self._cache:
            axis, _, inverse = kind.partition("_")
            with torch.inference_mode(False), torch.no_grad():  # cached for calls with gradients as well
                matrix = getattr(self, axis).detach()
                if inverse == "adjoint":
                    matrix = matrix.mT.contiguous()
                elif inverse == "pinv":
                    matrix = torch.linalg.pinv(matrix.cpu(), rtol=_CUT)
                self._cache[key] = matrix.to(like.device, like.dtype)
        return self._cache[key]


def _working(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
