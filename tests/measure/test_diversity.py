"""Diversity and LR-PSNR against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.errors import InputError
from preimage.measure.diversity import lr_psnr, pairwise_distance, rms_distance, spread_within_between


def grey(*levels: float) -> Tensor:
    """One flat picture per grey level, (n, 3, 4, 5)."""
    return torch.tensor(levels).view(-1, 1, 1, 1).expand(-1, 3, 4, 5) / 255


def test_rms_distance_is_in_grey_levels_and_per_picture() -> None:
    torch.testing.assert_close(rms_distance(grey(0, 10, 255), grey(3, 10, 0)), torch.tensor([3.0, 0.0, 255.0]))
    one_pixel = torch.zeros(1, 3, 4, 5)
    one_pixel[0, 0, 0, 0] = 60 / 255
    assert float(rms_distance(one_pixel, grey(0))) == pytest.approx(60 / 60**0.5, rel=1e-6)


def test_copies_have_no_diversity() -> None:
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).expand(5, -1, -1, -1)
    assert pairwise_distance(picture) == 0
    assert spread_within_between([picture, picture]) == (0, 0)
    spread = spread_within_between([picture[:2], 1 - picture], lambda x: x.flatten(1))
    assert spread.within == 0
    assert spread.between > 0


def test_pairwise_distance_is_the_mean_over_pairs() -> None:
    assert pairwise_distance(grey(0, 3, 9)) == pytest.approx((3 + 9 + 6) / 3, rel=1e-6)
    many = torch.rand(20, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    pairs = [float(rms_distance(many[i : i + 1], many[j : j + 1])) for i in range(20) for j in range(i)]
    assert pairwise_distance(many) == pytest.approx(sum(pairs) / len(pairs), rel=1e-6)
    assert pairwise_distance(grey(0, 3), lambda a, b: torch.full((len(a),), 7.0)) == 7


def test_spread_within_and_between_faces_by_hand() -> None:
    spread = spread_within_between([grey(0, 4), grey(10, 16, 13), grey(100)])
    assert spread.within == pytest.approx((4 + (6 + 3 + 3) / 3) / 2, rel=1e-6)  # every face counts once
    assert spread.between == pytest.approx(((13 - 2) + (100 - 2) + (100 - 13)) / 3, rel=1e-6)
    assert spread.ratio == pytest.approx(4 / 65.3333, rel=1e-4)


def test_spread_of_features_is_a_cosine_distance() -> None:
    groups = [torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(n)) for n in (2, 3)]

    def features(x: Tensor) -> Tensor:
        return x.flatten(1)[:, :6] - 0.5

    units = [F.normalize(features(g), dim=1) for g in groups]
    cosines = [units[1][i] @ units[1][j] for i, j in ((0, 1), (0, 2), (1, 2))]
    within = (1 - units[0][0] @ units[0][1] + 1 - sum(cosines) / 3) / 2
    spread = spread_within_between(groups, features)
    assert spread.within == pytest.approx(float(within), rel=1e-5)
    assert spread.between == pytest.approx(1 - float((units[0] @ units[1].T).mean()), rel=1e-5)


def test_lr_psnr_has_its_closed_form() -> None:
    values = lr_psnr(torch.tensor([255.0, 25.5, 1.0, 0.0]))
    torch.testing.assert_close(values, torch.tensor([0.0, 20.0, 48.1308036, math.inf], dtype=torch.float64))
    assert float(lr_psnr(0)) == math.inf
    assert float(lr_psnr(2.55)) == pytest.approx(40)


def test_what_cannot_be_measured_is_said() -> None:
    for wrong in (-1.0, float("nan")):
        with pytest.raises(InputError):
            lr_psnr(wrong)
    for few in (grey(1), grey(1)[0]):
        with pytest.raises(InputError):
            pairwise_distance(few)
    for groups in ([grey(1, 2)], [grey(1), grey(2)], [grey(1, 2), grey(1)[:0]], []):
        with pytest.raises(InputError):
            spread_within_between(groups)
