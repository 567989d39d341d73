"""NIQE: how far the texture of a picture lies from that of sharp, undistorted ones; no true picture is needed.

Mittal, Soundararajan and Bovik, "Making a 'completely blind' image quality analyzer", IEEE Signal Processing Letters 20(3),
2013. A picture is cut into blocks; each block gives 36 numbers, which describe how its normalised brightness and the
products of neighbours are distributed at two scales. NIQE is the distance between the Gaussian of these vectors and
the Gaussian of a *pristine* model: for photographs of all kinds the published one, for another domain or smaller blocks a
fitted one (`NiqeModel.fit`). It knows textures, not faces: a sharp monster does well.

Where the paper leaves a choice open this follows the authors' release: pictures as 8-bit files, their luma (ITU-R BT.601,
full range, as rgb2gray) rounded; windows at the border repeat the last pixel; the second scale is half the size by
antialiased bicubic with a mirrored border; blocks start at the top left, what is left over at the right and bottom is not
looked at; neighbours are taken cyclically within a block. Tools that judge the limited-range Y instead (BasicSR) differ
by some per cent. In flat areas other implementations fit the signs of rounding errors, and disagree among
themselves; here such coefficients are 0.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.degrade.linear import LinearOperator, bicubic
from preimage.errors import InputError, WeightsError
from preimage.files import write_bytes_atomic
from preimage.image import to_uint8
from preimage.measure.distances import FeatureStatistics
from preimage.measure.metric import Metric

FEATURES = 36
_PUBLISHED = "9135629cc435a9ccc5babe7e625d426296b6a2483d06f02be11ea85b31353e4a"  # sha256 of the figures, 9 decimals
_PIXELS = 2**21  # judged at a time: bounds the memory
_LUMA = (0.298936021293775, 0.587043074451121, 0.114020904255103)  # MATLAB's rgb2gray, BT.601 to three digits
_SIDE, _SIGMA = 7, 7 / 6
_NOISE = 1e-9  # grey levels; what is nearer to its local mean differs by rounding errors only
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))

# Shapes γ from 0.2 to 10 in steps of 0.001 and what the moments of a generalised Gaussian of each shape are.
_SHAPES = torch.arange(200, 10_001, dtype=torch.float64) / 1000
_G1, _G2, _G3 = (torch.lgamma(k / _SHAPES) for k in (1, 2, 3))
_RATIO = torch.exp(2 * _G2 - _G1 - _G3)  # squared mean absolute value over mean square; grows with γ
_SCALE = torch.exp((_G1 - _G3) / 2)
_MEAN = torch.exp(_G2 - _G1)


@dataclass(frozen=True, eq=False)
class NiqeModel:
    """The Gaussian of block features of pristine pictures.

    Attributes:
        mean: (36,) float64.
        covariance: (36, 36) float64.
        block: side of a block in pixels, even, 16 or more.
        name: of the pictures it was fitted on.
        source: what they were, how many.

    Raises:
        InputError: other shapes, NaN, a block that is odd or too small.
    """

    mean: Tensor
    covariance: Tensor
    block: int = 96
    name: str = "custom"
    source: str = ""

    def __post_init__(self) -> None:
        for field, shape in (("mean", (FEATURES,)), ("covariance", (FEATURES, FEATURES))):
            value = getattr(self, field).detach().double().cpu()
            if tuple(value.shape) != shape or not bool(value.isfinite().all()):
                raise InputError(f"NIQE model: {field} must be finite and {shape}, got {tuple(value.shape)}.")
            object.__setattr__(self, field, value)
        _check_block(self.block)

    @property
    def published(self) -> bool:
        """Whether these are the authors' figures, in use with their blocks: only then is it "NIQE"."""
        return self.block == 96 and self._digest() == _PUBLISHED

    def _digest(self) -> str:
        figures = np.concatenate([self.mean.numpy(), self.covariance.numpy().ravel()])
        return hashlib.sha256((np.round(figures, 9) + 0.0).tobytes()).hexdigest()

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """A model from an .npz file: what `save` wrote, or the published figures as BasicSR distributes them.

        Read are `mu_pris_param`, `cov_pris_param`, if there `gaussian_window` (which has to be the window used here),
        `block`, `name` and `source`.

        Raises:
            WeightsError: no such file, or not a model of this kind.
        """
        path = Path(path)
        if not path.is_file():
            raise WeightsError(f"{path}: no such file. A NIQE model is an .npz file; give its path, or fit one.")
        try:
            with np.load(path, allow_pickle=False) as data:
                values = {key: data[key] for key in data.files}
            window = values.get("gaussian_window")
            if window is not None and not (window.shape == (_SIDE, _SIDE) and np.allclose(window, gaussian_window())):
                raise ValueError("its gaussian_window is another one")
            model = cls(
                torch.from_numpy(np.asarray(values["mu_pris_param"], np.float64).reshape(-1)),
                torch.from_numpy(np.asarray(values["cov_pris_param"], np.float64)),
                int(values.get("block", 96)),
                str(values.get("name", path.stem.removeprefix("niqe-"))),
                str(values.get("source", "")),
            )
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise WeightsError(f"{path}: not a NIQE model ({error}); fetch it again, or fit one.") from error
        return model

    def save(self, path: str | Path) -> None:
        """Writes the model as an .npz file that `load` reads. Raises OutputError where that is not possible."""
        file = io.BytesIO()
        np.savez(
            file,
            mu_pris_param=self.mean.numpy()[None],
            cov_pris_param=self.covariance.numpy(),
            gaussian_window=gaussian_window().numpy(),
            block=np.int64(self.block),
            name=np.str_(self.name),
            source=np.str_(self.source),
        )
        write_bytes_atomic(path, file.getvalue())

    @classmethod
    def fit(
        cls,
        images: Iterable[Tensor],
        block: int = 96,
        sharpness: float = 0.75,
        name: str = "custom",
        source: str = "",
    ) -> Self:
        """A model of other pristine pictures, which are read one after the other and not kept.

        Of each picture those blocks count whose mean local deviation exceeds `sharpness` times that of its sharpest block
        (section III.B of the paper): people focus on the sharp parts.

        Args:
            images: pictures (3, H, W) or batches (n, 3, H, W), RGB in [0, 1], each at least one block large.
            block: side of a block; 32 suits faces of 64 to 128 pixels, which then have 4 to 16 blocks.
            sharpness: in [0, 1).
            name: of the model; the metric will be `niqe-<name>`.
            source: what the pictures are.

        Raises:
            InputError: settings or pictures that cannot be used, or too few usable blocks (36 or fewer) in all of them.
        """
        _check_block(block)
        if not 0 <= sharpness < 1:
            raise InputError(f"NIQE model: sharpness must be in [0, 1), not {sharpness}.")
        statistics = FeatureStatistics()
        for batch in images:
            for part in _parts(batch[None] if batch.ndim == 3 else batch, block):
                features, deviation = block_features(part, block)
                sharp = deviation > sharpness * deviation.amax(1, keepdim=True)
                statistics.update(features[sharp & features.isfinite().all(2)])
        if statistics.count <= FEATURES:
            raise InputError(
                f"NIQE model: {statistics.count} sharp blocks of {block}x{block} in all pictures, {FEATURES + 1} or more are "
                "needed; give more or larger pictures, or smaller blocks."
            )
        return cls(statistics.mean, statistics.covariance, block, name, source)


def niqe_metric(model: NiqeModel) -> Metric:
    """NIQE under a model: named "niqe" under the published one only, else `niqe-<name of the model>`."""
    return Metric(
        "niqe" if model.published else f"niqe-{model.name}",
        lambda images: niqe(images, model),
        lower_is_better=True,
        reference=False,
        summary="How unlike undistorted pictures its textures are; undefined (NaN) for a flat picture.",
        source=f"Mittal et al., 2013; own implementation, blocks of {model.block} pixels; {model.source or model.name}.",
        smallest=model.block,
    )


def niqe(images: Tensor, model: NiqeModel) -> Tensor:
    """NIQE of pictures (n, 3, H, W), RGB in [0, 1]: (n,) float64 on the CPU, lower is better.

    The square root of (m₁ − m₂)ᵀ ((C₁ + C₂) / 2)⁺ (m₁ − m₂), eq. 10. A picture of few blocks tells little about its own
    covariance, and that of a single block counts as 0; compare values of one size and one model only. As in the release,
    a block without values on both sides of its local mean has shape 0.2, adds nothing else to the mean and is not part of
    the covariance. NaN where no block is textured.

    Raises:
        InputError: not RGB pictures, or smaller than a block.
    """
    return torch.cat([_distances(block_features(part, model.block)[0], model) for part in _parts(images, model.block)])


def _distances(features: Tensor, model: NiqeModel) -> Tensor:
    """(n, blocks, 36) -> (n,)."""
    means, covariances = features.nanmean(1), []
    for blocks in features:
        whole = blocks[blocks.isfinite().all(1)]
        covariances.append(torch.cov(whole.T) if len(whole) > 1 else torch.zeros_like(model.covariance))
    apart = model.mean - means
    inverse = torch.linalg.pinv((model.covariance + torch.stack(covariances)) / 2, hermitian=True)
    return torch.einsum("ni,nij,nj->n", apart, inverse, apart).clamp_min(0).sqrt()


def block_features(images: Tensor, block: int = 96) -> tuple[Tensor, Tensor]:
    """What NIQE sees of each block: 18 numbers at full and 18 at half size.

    Args:
        images: (n, 3, H, W), RGB in [0, 1], at least one block large.
        block: side of a block, even.

    Returns:
        (n, blocks, 36) float64, NaN where a block is flat; and (n, blocks), the mean local deviation in grey levels.
    """
    down, across = images.shape[-2] // block, images.shape[-1] // block
    weights = torch.tensor(_LUMA, dtype=torch.float64)
    grey = torch.einsum("c,nchw->nhw", weights, to_uint8(images.detach().cpu()).double())
    grey = (grey + 0.5).floor()[:, : down * block, : across * block]
    scales, sharpness = [], torch.empty(0)
    for side in (block, block // 2):
        normalised, deviation = _normalise(grey)
        if side == block:
            sharpness = _blocks(deviation, side).mean((2, 3))
            grey = _half(grey.shape[-2], grey.shape[-1])(grey)
        blocks = _blocks(normalised, side)
        scales.append(_describe(blocks.flatten(0, 1)).view(*blocks.shape[:2], -1))
    return torch.cat(scales, 2), sharpness


def gaussian_window() -> Tensor:
    """The window of local means and deviations: (7, 7) float64 with sum 1, sigma 7/6 pixels."""
    line = _line()
    return torch.outer(line, line)


def _line() -> Tensor:
    line = torch.exp(-(torch.arange(_SIDE, dtype=torch.float64) - _SIDE // 2).square() / (2 * _SIGMA**2))
    return line / line.sum()


def _normalise(grey: Tensor) -> tuple[Tensor, Tensor]:
    """(n, h, w) grey levels -> mean-subtracted contrast-normalised coefficients (eq. 1) and local deviations (eq. 3)."""

    def local_mean(x: Tensor) -> Tensor:
        x = F.pad(x[:, None], (_SIDE // 2,) * 4, mode="replicate")
        return F.conv2d(F.conv2d(x, _line().view(1, 1, 1, -1)), _line().view(1, 1, -1, 1))[:, 0]

    mean = local_mean(grey)
    deviation = (local_mean(grey.square()) - mean.square()).abs().sqrt()
    apart = grey - mean
    return apart.where(apart.abs() > _NOISE, 0) / (deviation + 1), deviation


def _describe(blocks: Tensor) -> Tensor:
    """Coefficients (n, b, b) -> (n, 18): shape and scale of their distribution, and four numbers per kind of neighbour."""
    shape, left, right, _ = _fit(blocks.flatten(1))
    out = [shape, (left + right) / 2]
    for offset in _NEIGHBOURS:
        shape, left, right, unit = _fit((blocks * blocks.roll(offset, (1, 2))).flatten(1))
        out += [shape, (right - left) * unit, left, right]  # the second is η, eq. 8
    return torch.stack(out, 1)


def _fit(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Asymmetric generalised Gaussian (eq. 6) of each row of (n, m), by moments (Lasmar et al., 2009).

    Returns:
        Four times (n,): the shape γ out of the grid, the scales β left and right of 0, and Γ(2/γ) / Γ(1/γ).
    """
    square, negative, positive = x.square(), x < 0, x > 0
    left = ((square * negative).sum(1) / negative.sum(1)).sqrt()
    right = ((square * positive).sum(1) / positive.sum(1)).sqrt()
    skew = left / right
    ratio = x.abs().mean(1).square() / square.mean(1)
    ratio = ratio * (skew**3 + 1) * (skew + 1) / (skew.square() + 1).square()
    above = torch.searchsorted(_RATIO, ratio).clamp(1, len(_RATIO) - 1)
    index = above - (ratio - _RATIO[above - 1] <= _RATIO[above] - ratio).long()
    index = index.where(ratio.isfinite(), 0)
    return _SHAPES[index], left * _SCALE[index], right * _SCALE[index], _MEAN[index]


def _blocks(x: Tensor, side: int) -> Tensor:
    """(n, down · side, across · side) -> (n, down · across, side, side)."""
    n, height, width = x.shape
    return x.reshape(n, height // side, side, width // side, side).transpose(2, 3).flatten(1, 2)


@lru_cache(maxsize=16)
def _half(height: int, width: int) -> LinearOperator:
    return bicubic((height, width), 2, border="symmetric")


def _parts(images: Tensor, block: int) -> tuple[Tensor, ...]:
    """Checked pictures, as many at a time as memory allows."""
    if images.ndim != 4 or images.shape[1] != 3 or not len(images) or min(images.shape[-2:]) < block:
        raise InputError(
            f"NIQE: needs pictures (n, 3, H, W) of at least {block}x{block} pixels, one block, got {tuple(images.shape)}; "
            "a model with smaller blocks can be fitted."
        )
    if images.is_floating_point() and not bool(images.isfinite().all()):
        raise InputError("NIQE: pictures hold NaN or infinite values.")
    return torch.split(images, max(1, _PIXELS // (images.shape[-2] * images.shape[-1])))


def _check_block(block: int) -> None:
    if block < 16 or block % 2:
        raise InputError(f"NIQE: blocks have an even side of 16 pixels or more, not {block}.")
