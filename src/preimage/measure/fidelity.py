"""Fidelity: how near a candidate is to the true picture (PSNR, SSIM, MS-SSIM), and its saved file to the input.

All of these reward the blurred mean of all possible faces: a candidate that imagines sharp detail differs from the one
true face, and pays. They say how much was pinned down, not how good a candidate looks.

Conventions, where the literature has several: pictures are judged whole, no border is cut off; RGB means all three
channels together; Y is the luma of ITU-R BT.601 in its limited range, as in MATLAB's rgb2ycbcr and the tables of the
super-resolution literature, unrounded; the peak is 255 grey levels for Y as well.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from preimage.degrade.consistency import downscale_saved
from preimage.degrade.linear import LinearOperator
from preimage.errors import InputError, OperatorError
from preimage.image import check_lr, to_uint8
from preimage.measure.diversity import lr_psnr
from preimage.measure.metric import Metric

NTIRE_LR_PSNR = 45.0
"""dB: what NTIRE's challenges on the space of super-resolutions (Lugmayr et al., 2021, 2022) demand of a candidate."""

_LUMA, _BLACK = (65.481, 128.553, 24.966), 16.0  # ITU-R BT.601, 8 bits: Y = 16 + 65.481 R + 128.553 G + 24.966 B
_SIGMA, _WINDOW, _MARGIN = 1.5, 11, 5
_COARSEST = 176  # torchmetrics asks that a side divided by 16 exceed the window less one


def luma(images: Tensor) -> Tensor:
    """Y of pictures (n, 3, H, W), RGB in [0, 1]: (n, 1, H, W), from 16/255 (black) to 235/255 (white), unrounded."""
    weights = torch.tensor(_LUMA, dtype=images.dtype, device=images.device) / 255
    return torch.einsum("c,nchw->nhw", weights, images)[:, None] + _BLACK / 255


def _psnr(images: Tensor, reference: Tensor) -> Tensor:
    """(n,) dB of pictures (n, c, H, W) with peak 1, over all channels and pixels; infinite for equal pictures."""
    values: Tensor = peak_signal_noise_ratio(
        images.double(), reference.double(), data_range=1.0, reduction="none", dim=(1, 2, 3)
    )
    return values


def _ssim(images: Tensor, reference: Tensor) -> Tensor:
    """(n,) mean SSIM of pictures (n, c, H, W) in a range of 1, over channels and all windows inside the picture."""
    # channels_last: the depthwise blur inside is then 2.7 times faster on a CPU
    x, y = (t.float().contiguous(memory_format=torch.channels_last) for t in (images, reference))
    _, whole = structural_similarity_index_measure(
        x, y, sigma=_SIGMA, kernel_size=_WINDOW, data_range=1.0, reduction="none", return_full_image=True
    )
    inside: Tensor = whole[..., _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    return inside.double().mean((1, 2, 3))


def _ms_ssim(images: Tensor, reference: Tensor) -> Tensor:
    """(n,) MS-SSIM of pictures (n, c, H, W) in a range of 1."""
    x, y = (t.float().contiguous(memory_format=torch.channels_last) for t in (images, reference))
    values: Tensor = multiscale_structural_similarity_index_measure(
        x, y, sigma=_SIGMA, kernel_size=_WINDOW, data_range=1.0, reduction="none", normalize="relu"
    )
    return values


_SSIM_SOURCE = (
    "Wang et al., 2004; torchmetrics. Gaussian window of 11 pixels, sigma 1.5, K 0.01 and 0.03, range 1 (255 grey levels), "
    "means over the windows that lie inside the picture, as scikit-image does; float32."
)
_PSNR_SOURCE = "10 log10(1 / mean squared error), range 1 (255 grey levels); torchmetrics."
_Y = " Y: ITU-R BT.601, limited range (MATLAB's rgb2ycbcr), unrounded."

FIDELITY: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "psnr-rgb",
            _psnr,
            lower_is_better=False,
            summary="Peak signal-to-noise ratio to the true picture, all channels together; infinite for a perfect copy.",
            unit="dB",
            source=_PSNR_SOURCE,
        ),
        Metric(
            "psnr-y",
            lambda images, reference: _psnr(luma(images), luma(reference)),
            lower_is_better=False,
            summary="Peak signal-to-noise ratio to the true picture, brightness only; infinite for a perfect copy.",
            unit="dB",
            source=_PSNR_SOURCE + _Y,
        ),
        Metric(
            "ssim-rgb",
            _ssim,
            lower_is_better=False,
            summary="Structural similarity to the true picture, mean of the channels; 1 for a perfect copy.",
            source=_SSIM_SOURCE,
            smallest=_WINDOW,
        ),
        Metric(
            "ssim-y",
            lambda images, reference: _ssim(luma(images), luma(reference)),
            lower_is_better=False,
            summary="Structural similarity to the true picture, brightness only; 1 for a perfect copy.",
            source=_SSIM_SOURCE + _Y,
            smallest=_WINDOW,
        ),
        Metric(
            "ms-ssim-rgb",
            _ms_ssim,
            lower_is_better=False,
            summary="Structural similarity to the true picture over five scales, mean of the channels; 1 for a copy.",
            source="Wang et al., 2003; torchmetrics. Five scales with the published weights, window as for SSIM; a negative "
            "contrast term counts as 0, and the coarsest scale takes windows over its mirrored border in.",
            smallest=_COARSEST,
        ),
    )
}
"""Metrics against the true picture, by name.

PSNR of equal pictures is infinite, which is what the formula says and no cap can improve; whoever takes a mean over
pictures has to say what becomes of those. The unit of SSIM is none.
"""


def lr_psnr_saved(images: Tensor, lr: Tensor, operator: LinearOperator) -> Tensor:
    """PSNR in dB between the input and what the saved candidates shrink to, in bytes: infinite for an exact file.

    A candidate passes NTIRE's test from `NTIRE_LR_PSNR` on. Unlike `preimage.measure.diversity.lr_psnr` of a stored error
    this measures anew, on the pictures that are given.

    Args:
        images: (n, 3, H, W), float in [0, 1] (rounded and clipped to bytes, as saving does) or uint8.
        lr: (3, h, w), the picture that went in; values between 8-bit levels are rounded to them.
        operator: from (H, W) to (h, w).

    Returns:
        (n,) float64.

    Raises:
        InputError: NaN, wrong shapes or ranges.
        OperatorError: an operator for other sizes.
    """
    return lr_psnr(_misses(images, lr, operator).square().flatten(1).mean(1).sqrt())


def byte_exact(images: Tensor, lr: Tensor, operator: LinearOperator) -> Tensor:
    """Whether the saved candidates shrink to the very bytes of the input: (n,) bool; arguments as of `lr_psnr_saved`."""
    return (_misses(images, lr, operator) == 0).flatten(1).all(1)


def _misses(images: Tensor, lr: Tensor, operator: LinearOperator) -> Tensor:
    """Shrunken files less the input, grey levels: (n, 3, h, w) float64."""
    if images.is_floating_point() and not bool(images.isfinite().all()):
        raise InputError("candidates hold NaN or infinite values; find where they arise before saving them.")
    small = downscale_saved(to_uint8(images.detach().cpu()), operator)
    wanted = to_uint8(check_lr(lr))
    if wanted.shape != small.shape[1:]:
        raise OperatorError(f"{operator!r} does not make an lr of {wanted.shape[-2]}x{wanted.shape[-1]}.")
    return small.double() - wanted.double()
