"""Fidelity: equal to scikit-image, exact about bytes, and clear about what it cannot judge."""

from __future__ import annotations

import math

import pytest
import torch
from skimage import data
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from preimage.degrade.consistency import make_exact
from preimage.degrade.linear import bicubic
from preimage.errors import InputError, OperatorError
from preimage.measure.fidelity import FIDELITY, NTIRE_LR_PSNR, byte_exact, lr_psnr_saved, luma


@pytest.fixture(scope="module")
def photos() -> Tensor:
    """Two photographs, 96x80."""
    crops = [data.astronaut()[40:136, 180:260], data.coffee()[100:196, 200:280]]
    return torch.stack([torch.from_numpy(c.copy()).permute(2, 0, 1).float() / 255 for c in crops])


def noisy(x: Tensor, strength: float, seed: int = 0) -> Tensor:
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    return (x + strength * noise).clamp(0, 1)


def ssim_of_scikit_image(x: Tensor, y: Tensor, axis: int | None) -> float:
    pair = [t.double().permute(1, 2, 0).numpy() if axis is not None else t.double()[0].numpy() for t in (x, y)]
    settings = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0, channel_axis=axis)
    return float(structural_similarity(*pair, **settings))


def yellow(x: Tensor) -> Tensor:
    """Y of scikit-image, (1, H, W) in [0, 1]."""
    return torch.from_numpy(rgb2ycbcr(x.double().permute(1, 2, 0).numpy())[..., 0])[None] / 255


def test_luma_is_that_of_scikit_image(photos: Tensor) -> None:
    expected = torch.stack([yellow(p) for p in photos])
    torch.testing.assert_close(luma(photos.double()), expected, rtol=0, atol=1e-12)
    ends = luma(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1)).flatten()
    assert (ends * 255).tolist() == pytest.approx([16, 235], abs=1e-4)


@pytest.mark.parametrize("strength", [0.01, 0.1, 0.5])
def test_psnr_and_ssim_are_those_of_scikit_image(photos: Tensor, strength: float) -> None:
    images = noisy(photos, strength)
    found = {name: FIDELITY[name](images, photos) for name in ("psnr-rgb", "psnr-y", "ssim-rgb", "ssim-y")}
    assert all(v.shape == (2,) and v.dtype == torch.float64 for v in found.values())
    for i, (x, y) in enumerate(zip(images, photos, strict=True)):
        grey = yellow(x), yellow(y)
        expected = {
            "psnr-rgb": peak_signal_noise_ratio(y.double().numpy(), x.double().numpy(), data_range=1.0),
            "psnr-y": peak_signal_noise_ratio(grey[1].numpy(), grey[0].numpy(), data_range=1.0),
            "ssim-rgb": ssim_of_scikit_image(x, y, axis=2),
            "ssim-y": ssim_of_scikit_image(*grey, axis=None),
        }
        for name, value in expected.items():
            assert float(found[name][i]) == pytest.approx(value, abs=1e-4), name


def test_a_constant_error_has_a_known_psnr() -> None:
    x = torch.full((3, 3, 16, 16), 0.5)
    errors = torch.tensor([0.1, 0.01, 0.25])
    values = FIDELITY["psnr-rgb"](x + errors.view(3, 1, 1, 1), x)
    assert values.tolist() == pytest.approx([-20 * math.log10(e) for e in errors.tolist()], abs=1e-4)
    # all of the error in green: a third of it in the mean over RGB, 128.553 / 255 of it in Y
    green = x.clone()
    green[:, 1] += 0.1
    assert FIDELITY["psnr-rgb"](green, x)[0].item() == pytest.approx(20 + 10 * math.log10(3), abs=1e-4)
    assert FIDELITY["psnr-y"](green, x)[0].item() == pytest.approx(20 - 20 * math.log10(128.553 / 255), abs=1e-4)


def test_perfect_copies(photos: Tensor) -> None:
    large = torch.nn.functional.interpolate(photos, (192, 176))
    for name, metric in FIDELITY.items():
        values = metric(large, large)
        if name.startswith("psnr"):
            assert values.tolist() == [math.inf, math.inf]
        else:
            assert values.tolist() == pytest.approx([1, 1], abs=1e-6)


@pytest.mark.parametrize("name", FIDELITY)
def test_more_noise_is_worse_and_pictures_do_not_mix(photos: Tensor, name: str) -> None:
    large = torch.nn.functional.interpolate(photos, (192, 176))
    metric = FIDELITY[name]
    values = torch.stack([metric(noisy(large, s), large) for s in (0.02, 0.1, 0.4)])
    assert bool((values.diff(dim=0) < 0).all())
    assert not metric.lower_is_better
    first, second = noisy(large, 0.1, seed=0), noisy(large, 0.1, seed=1)
    together = metric(torch.cat([first, second]), torch.cat([large, large]))
    torch.testing.assert_close(together, torch.cat([metric(first, large), metric(second, large)]), rtol=0, atol=1e-5)
    torch.testing.assert_close(metric(first, large[0])[:1], metric(first[:1], large[:1]), rtol=0, atol=1e-6)


def test_ms_ssim_of_one_scale_after_the_other() -> None:
    """Product of the contrast terms of four scales and the SSIM of the fifth, each to its published power."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, 3, 24, 24, generator=generator)
    x = torch.nn.functional.interpolate(coarse, 192, mode="bicubic").clamp(0, 1)
    y = noisy(x, 0.1)
    value = 1.0
    # a pixel and its noise are independent: the coarsest scale hardly sees it, so that the four finer ones decide
    for k, power in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        a, b = (torch.nn.functional.avg_pool2d(t, 2**k) if k else t for t in (x, y))
        pair = [t[0].permute(1, 2, 0).double().numpy() for t in (a, b)]
        settings = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0, channel_axis=2)
        if k < 4:
            settings["K1"] = 1e4  # makes the luminance term 1: what is left is contrast and structure
        value *= float(structural_similarity(*pair, **settings)) ** power
    # the coarsest scale is taken over its mirrored border as well
    assert float(FIDELITY["ms-ssim-rgb"](y, x)) == pytest.approx(value, abs=2e-3)


def test_a_negative_of_itself_has_no_ms_ssim_but_is_no_nan(photos: Tensor) -> None:
    large = torch.nn.functional.interpolate(photos, (192, 176))
    assert FIDELITY["ms-ssim-rgb"](1 - large, large).tolist() == [0, 0]


def test_pictures_too_small_are_refused() -> None:
    for name, side in (("ms-ssim-rgb", 175), ("ssim-rgb", 10), ("ssim-y", 10)):
        metric = FIDELITY[name]
        assert metric.smallest == side + 1
        with pytest.raises(InputError, match="too small"):
            metric(torch.rand(1, 3, side, 200), torch.rand(1, 3, side, 200))
        x = torch.rand(1, 3, side + 1, side + 1)
        assert metric(x, x).tolist() == pytest.approx([1], abs=1e-6)


# ------------------------------------------------------------------------------------------------- the saved files


def test_the_saved_file_of_an_exact_picture_has_no_error(photos: Tensor) -> None:
    operator = bicubic((96, 80), 8)
    lr = (operator(photos[0]).clamp(0, 1) * 255).round() / 255
    result = make_exact(torch.stack([photos[0], photos[1]]), lr, operator)
    assert bool(result.exact.all())
    for images in (result.images, result.images.float() / 255):
        assert byte_exact(images, lr, operator).tolist() == [True, True]
        assert lr_psnr_saved(images, lr, operator).tolist() == [math.inf, math.inf]
        assert byte_exact(images, (lr * 255).round().to(torch.uint8), operator).all()


def test_what_is_measured_is_the_rounded_picture(photos: Tensor) -> None:
    """Grey pictures of known levels: all misses equal, the PSNR is that of the difference."""
    operator = bicubic(32, 4)
    levels = torch.tensor([100.0, 100.4, 100.6, 105.0, 110.0])
    images = (levels / 255).view(5, 1, 1, 1).expand(5, 3, 32, 32)
    lr = torch.full((3, 8, 8), 100 / 255)
    assert byte_exact(images, lr, operator).tolist() == [True, True, False, False, False]
    values = lr_psnr_saved(images, lr, operator)
    assert values.dtype == torch.float64
    expected = [math.inf, math.inf, *(20 * math.log10(255 / miss) for miss in (1, 5, 10))]
    assert values.tolist() == pytest.approx(expected)
    assert [v >= NTIRE_LR_PSNR for v in values.tolist()] == [True, True, True, False, False]


def test_what_cannot_be_compared_is_said() -> None:
    operator = bicubic(32, 4)
    images, lr = torch.rand(2, 3, 32, 32), torch.rand(3, 8, 8)
    for measure in (lr_psnr_saved, byte_exact):
        with pytest.raises(InputError, match="NaN"):
            measure(images.index_fill(0, torch.tensor([1]), float("nan")), lr, operator)
        with pytest.raises(OperatorError):
            measure(images[:, :, :16], lr, operator)
        with pytest.raises(OperatorError, match="7x8"):
            measure(images, lr[:, 1:], operator)
        with pytest.raises(InputError):
            measure(images[0], lr, operator)
