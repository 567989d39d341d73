"""NIQE: the published figures, a slow reading of the paper as oracle, distortions in order, models of other pictures."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve, gaussian_filter
from scipy.special import gamma
from skimage import data
from torch import Tensor

from preimage.errors import InputError, WeightsError
from preimage.measure.niqe import FEATURES, NiqeModel, block_features, gaussian_window, niqe, niqe_metric

PUBLISHED = Path(__file__).resolve().parents[3] / "shared" / "weights" / "niqe-pristine.npz"


@pytest.fixture(scope="module")
def published() -> NiqeModel:
    if not PUBLISHED.is_file():
        pytest.skip(f"{PUBLISHED} is absent")
    return NiqeModel.load(PUBLISHED)


@pytest.fixture(scope="module")
def model() -> NiqeModel:
    """Fitted on smooth random pictures, blocks of 32."""
    return NiqeModel.fit(textures(12, 128, 0), block=32, sharpness=0, name="textures")


def textures(count: int, side: int, seed: int) -> Tensor:
    """Pictures with detail at all sizes, (count, 3, side, side)."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(count, 3, side, side)
    for k in range(5):
        part = torch.randn(count, 3, side >> k, side >> k, generator=generator) * 0.04 * 1.5**k
        total += torch.nn.functional.interpolate(part, side, mode="bicubic")
    return (total + 0.5).clamp(0, 1)


def photo(name: str) -> Tensor:
    pixels = np.atleast_3d(getattr(data, name)())
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).expand(3, -1, -1).float()[None] / 255


def blurred(x: Tensor, sigma: float) -> Tensor:
    return torch.from_numpy(gaussian_filter(x.numpy(), (0, 0, sigma, sigma)))


def noisy(x: Tensor, levels: float) -> Tensor:
    return (x + levels / 255 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)


# ------------------------------------------------------------------------------------------- a slow reading of the paper


def slow_fit(x: np.ndarray) -> tuple[float, float, float]:
    """Shape and scales of an asymmetric generalised Gaussian: every shape of the grid is tried."""
    grid = np.arange(0.2, 10.0005, 0.001)
    with np.errstate(all="ignore"):
        left, right = (math.sqrt(np.mean(part**2)) if part.size else math.nan for part in (x[x < 0], x[x > 0]))
        skew, r = left / right, np.mean(np.abs(x)) ** 2 / np.mean(x**2)
    wanted = r * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    rho = gamma(2 / grid) ** 2 / (gamma(1 / grid) * gamma(3 / grid))
    shape = grid[np.argmin((rho - wanted) ** 2)]
    factor = math.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return shape, left * factor, right * factor


def slow_features(block: np.ndarray) -> list[float]:
    shape, left, right = slow_fit(block.ravel())
    out = [shape, (left + right) / 2]
    for down, right_by in ((0, 1), (1, 0), (1, 1), (1, -1)):
        neighbour = np.roll(np.roll(block, down, 0), right_by, 1)
        shape, left, right = slow_fit((block * neighbour).ravel())
        out += [shape, (right - left) * gamma(2 / shape) / gamma(1 / shape), left, right]
    return out


def slow_half(x: np.ndarray) -> np.ndarray:
    """Antialiased bicubic by 2 with a mirrored border: the cubic kernel stretched to eight taps."""
    distance = np.abs(np.arange(8) - 3.5) / 2
    taps = np.where(
        distance <= 1,
        1.5 * distance**3 - 2.5 * distance**2 + 1,
        -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2,
    )
    for _ in range(2):
        padded = np.pad(x, ((3, 3), (0, 0)), mode="symmetric")
        x = np.stack([taps @ padded[i : i + 8] / taps.sum() for i in range(0, len(x), 2)]).T
    return x


def slow_niqe(image: Tensor, model: NiqeModel) -> float:
    """One picture (3, H, W) of bytes over 255, in numpy and scipy."""
    levels = (image.double() * 255).round().permute(1, 2, 0).numpy()
    grey = np.floor(levels @ np.array([0.298936021293775, 0.587043074451121, 0.114020904255103]) + 0.5)
    down, across = (s // model.block for s in grey.shape)
    grey = grey[: down * model.block, : across * model.block]
    line = np.exp(-(np.arange(-3, 4) ** 2) / (2 * (7 / 6) ** 2))
    window = np.outer(line, line) / line.sum() ** 2
    scales = []
    for side in (model.block, model.block // 2):
        mean = convolve(grey, window, mode="nearest")
        deviation = np.sqrt(np.abs(convolve(grey**2, window, mode="nearest") - mean**2))
        x = (grey - mean) / (deviation + 1)
        places = itertools.product(range(0, down * side, side), range(0, across * side, side))
        scales.append([slow_features(x[i : i + side, j : j + side]) for i, j in places])
        grey = slow_half(grey)
    features = np.concatenate(scales, 1)
    apart = model.mean.numpy() - features.mean(0)
    together = (model.covariance.numpy() + np.cov(features.T)) / 2
    return float(math.sqrt(apart @ np.linalg.pinv(together) @ apart))


def test_equals_a_slow_reading_of_the_paper(model: NiqeModel) -> None:
    x = photo("astronaut")[:, :, 10:111, 180:320]
    assert float(niqe(x, model)) == pytest.approx(slow_niqe(x[0], model), rel=1e-6)
    assert float(niqe(noisy(x, 10), dataclasses.replace(model, block=48))) == pytest.approx(
        slow_niqe((noisy(x, 10) * 255).round()[0] / 255, dataclasses.replace(model, block=48)), rel=1e-6
    )


def test_a_negative_has_the_same_features() -> None:
    """What lies left of 0 comes to lie right of it, and the products of neighbours stay."""
    grey = (textures(2, 96, 8)[:, :1] * 255).round().expand(-1, 3, -1, -1) / 255
    features, sharpness = block_features(grey, 32)
    assert features.shape == (2, 9, FEATURES)
    negative, same = block_features(1 - grey, 32)
    torch.testing.assert_close(negative, features, rtol=0, atol=0.0011)  # a step of the grid of shapes
    torch.testing.assert_close(same, sharpness)


def test_sharpness_is_the_mean_local_deviation() -> None:
    """On a ramp of two grey levels per column: twice the deviation of the window, but at the border."""
    ramp = (torch.arange(96) * 2.0 / 255).expand(1, 3, 96, 96)
    _, sharpness = block_features(ramp, 32)
    line = gaussian_window().sum(0)
    deviation = math.sqrt(float((line * torch.arange(-3, 4).square()).sum()))
    assert sharpness[0, [1, 4, 7]].tolist() == pytest.approx([2 * deviation] * 3, rel=1e-6)
    assert bool((sharpness[0, [0, 3, 6]] < 2 * deviation).all())


def test_window_has_sum_one() -> None:
    window = gaussian_window()
    assert float(window.sum()) == pytest.approx(1, abs=1e-14)
    assert float(window[3, 4] / window[3, 3]) == pytest.approx(math.exp(-0.5 / (7 / 6) ** 2))


# ------------------------------------------------------------------------------------------------ the published model


@pytest.mark.weights
def test_the_published_figures_and_window(published: NiqeModel) -> None:
    stored = np.load(PUBLISHED)
    assert np.abs(stored["gaussian_window"] - gaussian_window().numpy()).max() < 1e-12
    assert np.array_equal(stored["cov_pris_param"], published.covariance.numpy())
    assert published.published
    assert niqe_metric(published).name == "niqe"
    other = dataclasses.replace(published, mean=published.mean * (1 + 1e-6))
    smaller = dataclasses.replace(published, block=32)
    assert [niqe_metric(m).name for m in (other, smaller)] == ["niqe-pristine"] * 2


@pytest.mark.weights
@pytest.mark.parametrize("name", ["astronaut", "camera", "coffee", "chelsea"])
def test_photographs_lie_where_photographs_lie_and_distortions_are_ordered(published: NiqeModel, name: str) -> None:
    metric, x = niqe_metric(published), photo(name)
    clean = float(metric(x))
    assert 2 < clean < 5
    for values in ([metric(blurred(x, s)) for s in (1, 2, 4)], [metric(noisy(x, s)) for s in (5, 10, 20, 40)]):
        assert [clean, *map(float, values)] == sorted([clean, *map(float, values)])


@pytest.mark.weights
def test_a_photograph_under_the_published_model_by_the_slow_reading(published: NiqeModel) -> None:
    x = photo("chelsea")
    assert float(niqe(x, published)) == pytest.approx(slow_niqe(x[0], published), rel=1e-6)


@pytest.mark.weights
def test_saving_keeps_the_published_model(published: NiqeModel, tmp_path: Path) -> None:
    published.save(tmp_path / "a.npz")
    again = NiqeModel.load(tmp_path / "a.npz")
    assert again.published
    assert torch.equal(again.covariance, published.covariance)


# ---------------------------------------------------------------------------------------------------- fitted models


def test_fitting_is_the_mean_and_covariance_of_the_sharp_blocks() -> None:
    x = textures(6, 128, 3)
    x[:, :, :, 64:] = blurred(x[:, :, :, 64:], 3)  # the right half is out of focus
    fitted = NiqeModel.fit(x, block=32, sharpness=0.75, name="mine", source="random")
    features, deviation = block_features(x, 32)
    sharp = deviation > 0.75 * deviation.amax(1, keepdim=True)
    assert not bool(sharp.unflatten(1, (4, 4))[:, :, 3].any())  # wholly inside the blurred half
    kept = features[sharp]
    torch.testing.assert_close(fitted.mean, kept.mean(0))
    torch.testing.assert_close(fitted.covariance, torch.cov(kept.T))
    streamed = NiqeModel.fit((p for p in (x[0], x[1:4], x[4], x[5:])), block=32, sharpness=0.75)
    torch.testing.assert_close(streamed.covariance, fitted.covariance)
    metric = niqe_metric(fitted)
    assert (metric.name, metric.smallest, metric.lower_is_better, metric.reference) == ("niqe-mine", 32, True, False)
    assert "random" in metric.source


@pytest.mark.parametrize("distort", [blurred, noisy])
def test_a_fitted_model_orders_distortions_of_small_pictures(
    model: NiqeModel, distort: Callable[[Tensor, float], Tensor]
) -> None:
    x = textures(8, 64, 7)
    strengths = (0.7, 1.5, 3) if distort is blurred else (10, 20, 40)
    values = [float(niqe(x, model).mean()), *(float(niqe(distort(x, s), model).mean()) for s in strengths)]
    assert values == sorted(values)
    assert values[0] < 0.5 * values[-1]


def test_a_saved_model_comes_back(model: NiqeModel, tmp_path: Path) -> None:
    path = tmp_path / "niqe-x.npz"
    model.save(path)
    again = NiqeModel.load(path)
    assert (again.block, again.name, again.source) == (32, "textures", "")
    assert torch.equal(again.mean, model.mean)
    assert torch.equal(again.covariance, model.covariance)
    np.savez(path, mu_pris_param=model.mean.numpy(), cov_pris_param=model.covariance.numpy())
    bare = NiqeModel.load(path)
    assert (bare.block, bare.name, bare.published) == (96, "x", False)


# ------------------------------------------------------------------------------------------------------------ edges


def test_pictures_do_not_mix(model: NiqeModel) -> None:
    x = textures(5, 70, 2)  # the last 6 rows and columns are not looked at
    together = niqe(x, model)
    assert together.dtype == torch.float64
    torch.testing.assert_close(together, torch.cat([niqe(p[None], model) for p in x]))
    torch.testing.assert_close(together, niqe(x[:, :, :64, :64], model))
    torch.testing.assert_close(together, niqe((x * 255 + 0.5).floor() / 255, model))


def test_one_block_and_none(model: NiqeModel) -> None:
    one = textures(1, 40, 4)
    features = block_features(one, 32)[0][0, 0]
    apart = model.mean - features
    expected = (apart @ torch.linalg.inv(model.covariance / 2) @ apart).sqrt()
    assert float(niqe(one, model)) == pytest.approx(float(expected), rel=1e-6)
    flat = torch.full((1, 3, 64, 64), 0.3)
    assert bool(niqe(flat, model).isnan().all())
    half = textures(1, 64, 5)
    half[..., 32:] = 0.7  # two flat blocks beside two textured ones: a number, and a bad one
    assert float(niqe_metric(model)(half)) > 2 * float(niqe_metric(model)(textures(1, 64, 5)))


def test_flat_areas_do_not_depend_on_rounding_errors(model: NiqeModel) -> None:
    """The same picture beside white, upright and lying: cyclic neighbours agree but for their order."""
    x = textures(1, 96, 6)
    x[..., 40:] = 1.0
    features = block_features(x, 32)[0][0].unflatten(0, (3, 3))
    assert bool(features[:, 2].isnan().any(1).all())
    turned = block_features(x.mT, 32)[0][0].unflatten(0, (3, 3)).transpose(0, 1)
    for first in (0, 18):
        torch.testing.assert_close(features[:, 1, first : first + 2], turned[:, 1, first : first + 2])


def test_what_cannot_be_used_is_said(model: NiqeModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too small"):
        niqe_metric(model)(torch.rand(1, 3, 31, 64))
    with pytest.raises(InputError, match="32x32"):
        niqe(torch.rand(1, 3, 31, 64), model)
    with pytest.raises(InputError, match="NaN"):
        niqe(torch.full((1, 3, 64, 64), torch.nan), model)
    with pytest.raises(InputError, match="16 sharp blocks"):
        NiqeModel.fit(textures(1, 128, 0), block=32, sharpness=0)
    for settings in ({"block": 33}, {"block": 8}, {"sharpness": 1.0}):
        with pytest.raises(InputError):
            NiqeModel.fit(textures(1, 64, 0), **settings)
    with pytest.raises(InputError, match="covariance"):
        dataclasses.replace(model, covariance=torch.eye(18))
    with pytest.raises(WeightsError, match="no such file"):
        NiqeModel.load(tmp_path / "gone.npz")
    path = tmp_path / "a.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(WeightsError, match="not a NIQE model"):
        NiqeModel.load(path)
    np.savez(path, mu_pris_param=np.zeros(36))
    with pytest.raises(WeightsError, match="cov_pris_param"):
        NiqeModel.load(path)
    np.savez(path, mu_pris_param=np.zeros(36), cov_pris_param=np.eye(36), gaussian_window=np.ones((7, 7)) / 49)
    with pytest.raises(WeightsError, match="gaussian_window"):
        NiqeModel.load(path)
