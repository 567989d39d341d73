"""Linear downscaling, y = H x Wᵀ: one small matrix per axis, with its adjoint, pseudo-inverse and projection."""

from __future__ import annotations

import base64
import inspect
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
import torch
from torch import Tensor, nn

from preimage.degrade.kernels import BORDERS as BORDERS
from preimage.degrade.kernels import Array, Scale, Size, axis_matrix, cubic, lanczos3, pair, sizes, whole
from preimage.errors import InputError, OperatorError
from preimage.texts import one_line

if TYPE_CHECKING:
    from PIL import Image

_CUT = 1e-6  # relative; a direction damped more than this holds nothing an 8-bit picture could tell
_PILLOW = {"bicubic": "BICUBIC", "bilinear": "BILINEAR", "lanczos": "LANCZOS", "area": "BOX"}


class LinearOperator(nn.Module):
    """A separable linear downscaling of pictures (..., H, W) to (..., h, w), the same for every channel. Immutable.

    The matrices are kept in float64 whatever the module is cast to; each call works on its argument's device and in
    its argument's precision (16-bit floats are computed in float32 and returned as they came).

    Args:
        rows: (h, H), acts on columns of pixels (vertical).
        cols: (w, W), acts on rows of pixels (horizontal).
        name: what to call it; the registered names belong to the factories below.
        border: how it treats edges, one of `BORDERS`, or "custom".
        settings: what else the factory `name` needs to rebuild it; None keeps the matrices themselves in `spec`.

    Raises:
        OperatorError: matrices that are not 2-D, finite and wider than high, or a registered name without `settings`.
    """

    rows: Tensor
    cols: Tensor

    def __init__(
        self,
        rows: Tensor | Array,
        cols: Tensor | Array,
        *,
        name: str = "matrices",
        border: str = "custom",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        for axis, given in (("rows", rows), ("cols", cols)):
            matrix = torch.as_tensor(given).detach().to("cpu", torch.float64, copy=True)
            if matrix.ndim != 2 or not 1 <= matrix.shape[0] <= matrix.shape[-1] or not matrix.isfinite().all():
                raise OperatorError(
                    f"{axis} must be a finite matrix (low, high size) that does not enlarge, not {tuple(matrix.shape)}"
                )
            self.register_buffer(axis, matrix)
        if settings is None and name in OPERATORS:
            raise OperatorError(f"the name {name!r} belongs to a factory; choose another for your own matrices")
        self._name, self._border = name, border
        self._settings = None if settings is None else dict(settings)
        self._cache: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Shrinks x (..., H, W) to A x = H x Wᵀ, (..., h, w). Raises OperatorError for another size."""
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

    @property
    def name(self) -> str:
        """The factory that made it, or the name given to custom matrices."""
        return self._name

    @property
    def border(self) -> str:
        """One of `BORDERS`, or "custom"."""
        return self._border

    @property
    def pillow_filter(self) -> Image.Resampling | None:
        """The Pillow filter that computes the same (in 8 bits, rounding after each axis), or None."""
        if self._settings is None or self.border != "renormalise" or self.name not in _PILLOW:
            return None
        from PIL import Image

        return Image.Resampling[_PILLOW[self.name]]

    def spec(self) -> dict[str, Any]:
        """A JSON-serialisable description from which `from_spec` rebuilds this operator exactly."""
        spec = {"name": self.name, "hr_size": list(self.hr_size), "lr_size": list(self.lr_size), "border": self.border}
        if self._settings is None:
            return spec | {"rows": _pack(self.rows), "cols": _pack(self.cols)}
        return spec | self._settings

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> LinearOperator:
        """The operator that `spec()` described.

        What is allocated follows from `hr_size` and `lr_size` alone: whoever reads them from a file compares them with the
        pictures first.

        Raises:
            OperatorError: a description that is not one.
        """
        try:
            rest = dict(spec)
            name, hr, lr = (
                rest.pop("name"),
                whole(rest.pop("hr_size"), "hr_size"),
                whole(rest.pop("lr_size"), "lr_size"),
            )
            if "rows" in rest:
                rows, cols = _unpack(rest["rows"], lr[0], hr[0]), _unpack(rest["cols"], lr[1], hr[1])
                return cls(rows, cols, name=str(name), border=str(rest["border"]))
            return make_operator(name, hr_size=hr, lr_size=lr, **rest)
        except OperatorError:
            raise
        except Exception as error:  # a description may come from anybody: every value can be of any kind
            raise OperatorError(f"not the description of an operator ({one_line(error, 100)})") from error

    def extra_repr(self) -> str:
        (high, wide), (low, narrow) = self.hr_size, self.lr_size
        extra = "".join(f", {k}={v!r:.40}" for k, v in (self._settings or {}).items())
        return f"{self.name}, {high}x{wide} -> {low}x{narrow}, border={self.border}{extra}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LinearOperator) and self.spec() == other.spec()

    def __hash__(self) -> int:
        return hash((self.name, self.border, self.hr_size, self.lr_size))

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


def bicubic(
    size: Size, scale: Scale | None = None, *, lr_size: Size | None = None, border: str = "renormalise"
) -> LinearOperator:
    """Antialiased cubic convolution with a = −0.5, as in Pillow, torch (antialias=True), MATLAB and PULSE.

    Args:
        size: HR size, one side or (H, W).
        scale: factor ≥ 1 or one per axis, need not be whole; the LR size is H / scale, rounded.
        lr_size: the LR size itself, instead of `scale`.
        border: one of `BORDERS`; "reflect" is PULSE's (for even factors), "symmetric" MATLAB's.

    Raises:
        OperatorError: a size, scale or border that makes no downscaling.
    """
    return _filtered("bicubic", cubic, 2.0, size, scale, lr_size, border)


def bilinear(
    size: Size, scale: Scale | None = None, *, lr_size: Size | None = None, border: str = "renormalise"
) -> LinearOperator:
    """Antialiased triangle filter: Pillow's BILINEAR, torch's antialiased bilinear. Arguments as for `bicubic`."""
    return _filtered("bilinear", lambda t: np.maximum(1 - np.abs(t), 0), 1.0, size, scale, lr_size, border)


def lanczos(
    size: Size, scale: Scale | None = None, *, lr_size: Size | None = None, border: str = "renormalise"
) -> LinearOperator:
    """Sinc windowed by a sinc of three lobes: Pillow's LANCZOS. Arguments as for `bicubic`."""
    return _filtered("lanczos", lanczos3, 3.0, size, scale, lr_size, border)


def area(
    size: Size, scale: Scale | None = None, *, lr_size: Size | None = None, border: str = "renormalise"
) -> LinearOperator:
    """Mean of the pixels whose centre falls into each LR pixel: Pillow's BOX. Arguments as for `bicubic`."""
    return _filtered("area", lambda t: ((t > -0.5) & (t <= 0.5)).astype(np.float64), 0.5, size, scale, lr_size, border)


def gaussian(
    size: Size,
    scale: Scale | None = None,
    sigma: Scale | None = None,
    *,
    lr_size: Size | None = None,
    border: str = "renormalise",
) -> LinearOperator:
    """Gaussian blur, sampled at the centres of the LR pixels; cut off at four deviations.

    Args:
        sigma: standard deviation in HR pixels, one or (vertical, horizontal); default half the scale, i.e. half an LR
            pixel, which leaves little aliasing and stays well conditioned.

    The others as for `bicubic`.
    """
    hr, lr = sizes(size, scale, lr_size)
    deviations = pair([H / h / 2 for H, h in zip(hr, lr, strict=True)] if sigma is None else sigma, "sigma")
    if min(deviations) <= 0:
        raise OperatorError(f"sigma must be positive, in HR pixels, not {sigma!r}")

    def axis(n: int, m: int, s: float) -> Array:
        return axis_matrix(n, m, lambda d: np.exp(-0.5 * (d**2 - (d**2).min()) / s**2), max(4 * s, 1.0), border)

    rows, cols = (axis(H, h, s) for H, h, s in zip(hr, lr, deviations, strict=True))
    return LinearOperator(rows, cols, name="gaussian", border=border, settings={"sigma": list(deviations)})


def from_kernel(
    size: Size,
    scale: Scale | None = None,
    kernel: Sequence[float] | Tensor | Array = (1.0,),
    *,
    lr_size: Size | None = None,
    border: str = "renormalise",
    phase: Scale | None = None,
) -> LinearOperator:
    """Correlation with any 1-D kernel along both axes, then decimation.

    Args:
        kernel: taps one HR pixel apart, first tap left and top; normalised to sum 1.
        phase: HR coordinate on which the kernel of the first LR pixel is centred; default (scale − 1) / 2, so that
            nothing shifts; 0 gives the common "blur, then x[::s]". Taps that fall between pixels are shared linearly.

    The others as for `bicubic`.

    Raises:
        OperatorError: also for a kernel that is not a finite row of numbers with a sum other than 0.
    """
    hr, lr = sizes(size, scale, lr_size)
    taps = np.asarray(kernel, dtype=np.float64)
    if taps.ndim != 1 or not np.isfinite(taps).all() or abs(taps.sum()) <= 1e-9 * np.abs(taps).sum():
        raise OperatorError("a kernel is a row of finite numbers whose sum is not 0")
    settings = {"kernel": taps.tolist()}
    taps = taps / taps.sum()
    grid = np.arange(len(taps) + 2) - (len(taps) + 1) / 2

    def axis(n: int, m: int, start: float | None) -> Array:
        shape = np.concatenate(([0.0], taps, [0.0]))
        return axis_matrix(n, m, lambda d: np.interp(d, grid, shape), len(taps) / 2 + 1, border, start)

    starts = (None, None) if phase is None else pair(phase, "phase")
    rows, cols = (axis(H, h, start) for H, h, start in zip(hr, lr, starts, strict=True))
    settings["phase"] = None if phase is None else list(starts)
    return LinearOperator(rows, cols, name="kernel", border=border, settings=settings)


OPERATORS: dict[str, Callable[..., LinearOperator]] = {
    "bicubic": bicubic,
    "bilinear": bilinear,
    "lanczos": lanczos,
    "area": area,
    "gaussian": gaussian,
    "kernel": from_kernel,
}
"""Factories by the name used on the command line and in `spec`."""


def make_operator(
    name: str,
    *,
    hr_size: Size,
    lr_size: Size | None = None,
    scale: Scale | None = None,
    border: str = "renormalise",
    **settings: Any,
) -> LinearOperator:
    """The operator of a registered name; `settings` go to its factory (sigma, kernel, phase).

    Raises:
        OperatorError: an unknown name or setting, or values the factory refuses.
    """
    if not isinstance(name, str) or name not in OPERATORS:
        raise OperatorError(f"there is no operator {name!r:.60}; choose one of: {', '.join(OPERATORS)}")
    factory = OPERATORS[name]
    unknown = [key for key in settings if key not in inspect.signature(factory).parameters]
    if unknown:
        raise OperatorError(f"operator {name!r} has no setting {', '.join(unknown)}")
    return factory(hr_size, scale, lr_size=lr_size, border=border, **settings)


def _filtered(
    name: str,
    shape: Callable[[Array], Array],
    radius: float,
    size: Size,
    scale: Scale | None,
    lr_size: Size | None,
    border: str,
) -> LinearOperator:
    """An operator whose kernel `shape`, of the given radius, is stretched by the scale: offsets are in LR pixels."""
    hr, lr = sizes(size, scale, lr_size)

    def axis(n: int, m: int) -> Array:
        return axis_matrix(n, m, lambda d: shape(d * (1 / (n / m))), radius * (n / m), border)

    return LinearOperator(axis(hr[0], lr[0]), axis(hr[1], lr[1]), name=name, border=border, settings={})


def _working(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _pack(matrix: Tensor) -> str:
    return base64.b64encode(zlib.compress(matrix.cpu().numpy().astype("<f8").tobytes(), 9)).decode()


def _unpack(text: str, low: int, high: int) -> Array:
    expected = low * high * 8
    data = zlib.decompressobj().decompress(
        base64.b64decode(text), expected + 1
    )  # no more, whatever the text unpacks to
    if len(data) != expected:
        raise OperatorError(f"its matrices are not of {low}x{high} numbers")
    return np.frombuffer(data, "<f8").reshape(low, high).astype(np.float64)
