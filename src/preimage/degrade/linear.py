"""Linear downscaling by name: the operator that knows what made it and can be written down, and who makes which."""

from __future__ import annotations

import base64
import inspect
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from preimage.degrade.consistency import downscale_saved, make_exact, make_near
from preimage.degrade.degradation import Evidence
from preimage.degrade.kernels import BORDERS as BORDERS
from preimage.degrade.kernels import Array, Scale, Size, axis_matrix, cubic, lanczos3, pair, sizes, whole
from preimage.degrade.separable import Separable
from preimage.errors import OperatorError
from preimage.texts import one_line

if TYPE_CHECKING:
    from PIL import Image

_PILLOW = {"bicubic": "BICUBIC", "bilinear": "BILINEAR", "lanczos": "LANCZOS", "area": "BOX"}


class LinearOperator(Separable):
    """A separable linear downscaling of pictures (..., H, W) to (..., h, w), the same for every channel. Immutable.

    What it does with pictures (`adjoint`, `pinv`, `residual`, `project`) is told in `Separable`; here it has a name, and a
    description from which it is rebuilt.

    Args:
        rows: (h, H), acts on columns of pixels (vertical).
        cols: (w, W), acts on rows of pixels (horizontal).
        name: what to call it; the registered names belong to the factories below.
        border: how it treats edges, one of `BORDERS`, or "custom".
        settings: what else the factory `name` needs to rebuild it; None keeps the matrices themselves in `spec`.

    Raises:
        OperatorError: matrices that are not 2-D, finite and wider than high, or a registered name without `settings`.
    """

    kind, why_inexact = "linear", ""

    def __init__(
        self,
        rows: Tensor | Array,
        cols: Tensor | Array,
        *,
        name: str = "matrices",
        border: str = "custom",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(rows, cols)
        if settings is None and name in OPERATORS:
            raise OperatorError(f"the name {name!r} belongs to a factory; choose another for your own matrices")
        self._name, self._border = name, border
        self._settings = None if settings is None else dict(settings)

    def on(self, device: torch.device) -> Self:
        """Itself: every call brings the matrices to where its argument is."""
        return self

    def draw(self, seeds: Sequence[int], stream: str = "") -> None:
        """It has no randomness of its own."""

    def photograph(self, pictures: Tensor, noise: Tensor | None = None) -> Tensor:
        """What files of the small pictures hold, by Pillow where Pillow has this filter; see `consistency.downscale_saved`."""
        return downscale_saved(pictures, self)

    def check(self, resolution: int, lr: Tensor | None = None) -> None:
        """Refuse other sizes than its own; see `preimage.degrade.degradation.Degradation`."""
        side, size = (resolution, resolution), self.lr_size if lr is None else tuple(lr.shape[-2:])
        if self.hr_size != side or self.lr_size != size:
            raise OperatorError(
                f"the operator goes from {self.hr_size} to {self.lr_size}, but prior and photo need {side} to {size}."
            )

    def finish(self, images: Tensor, lr: Tensor, noise: Tensor | None = None, tolerance: float = 0.0) -> Evidence:
        """The nearest files that shrink to the photo byte for byte, or within the tolerance; see `preimage.degrade.consistency`."""
        found = make_near(images, lr, self, tolerance) if tolerance else make_exact(images, lr, self)
        return Evidence(found.images, found.error, found.exact, found.moved, found.worst if tolerance else None)

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
