"""The space-of-solutions protocol against hand-computed cases and brute force."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.errors import InputError
from preimage.measure.diversity import pairwise_distance, rms_distance
from preimage.measure.solutions import coverage, diversity_score, solution_space


def faces(n: int, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, 8, 6, generator=torch.Generator().manual_seed(seed))


def maps(a: Tensor, b: Tensor) -> Tensor:
    """A distance that keeps its pixels."""
    return (a - b).abs().mean(1)


def embed(x: Tensor) -> Tensor:
    return x.flatten(1)[:, :7] - 0.5


def test_diversity_of_a_case_by_hand() -> None:
    """Means 2, 3 and 2.5; pixel by pixel 1, 1, 0, 3: the best of all is 1.25, and 2 the best of one."""
    three = torch.tensor([[[1.0, 4], [0, 3]], [[3, 1], [4, 4]], [[2, 2], [2, 4]]])
    assert diversity_score(three) == pytest.approx((2 - 1.25) / 2 * 100)
    assert diversity_score(torch.tensor([[[0.0, 2]], [[2, 0]]])) == 100


def test_diversity_is_its_formula() -> None:
    values = np.random.default_rng(0).gamma(1.0, size=(10, 12, 9))
    best, local = values.mean((1, 2)).min(), values.min(0).mean()
    assert diversity_score(torch.tensor(values)) == pytest.approx((best - local) / best * 100, rel=1e-12)
    assert diversity_score(torch.tensor(values * 7)) == pytest.approx(diversity_score(torch.tensor(values)), rel=1e-12)


def test_copies_one_candidate_and_a_perfect_one_have_no_diversity() -> None:
    one = torch.rand(1, 33, 17, generator=torch.Generator().manual_seed(1))
    assert diversity_score(one) == 0
    assert diversity_score(one.repeat(5, 1, 1)) == 0
    assert diversity_score(torch.cat([one, torch.zeros_like(one)])) == 0


def test_coverage_is_the_mean_over_all_subsets() -> None:
    distances = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.5]
    expected = [np.mean([min(chosen) for chosen in combinations(distances, k)]) for k in range(1, 8)]
    assert coverage(distances).tolist() == pytest.approx(expected, rel=1e-12)
    assert coverage(torch.tensor(distances[::-1])).tolist() == pytest.approx(expected, rel=1e-12)


def test_coverage_begins_at_the_mean_ends_at_the_best_and_never_rises() -> None:
    distances = torch.rand(200, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    line = coverage(distances)
    assert line[0] == pytest.approx(float(distances.mean()), rel=1e-12)
    assert line[-1] == distances.min()
    assert bool((line.diff() <= 0).all())
    torch.testing.assert_close(coverage(torch.full((200,), 0.7)), torch.full((200,), 0.7).double())
    k = torch.arange(1, 201)  # the smallest of k uniform numbers lies at 1 / (k + 1) on average
    spaced = torch.arange(1, 201, dtype=torch.float64) / 201
    torch.testing.assert_close(coverage(spaced), 1 / (k + 1).double(), rtol=1e-9, atol=0)


def test_coverage_of_infinite_distances_is_finite_once_a_subset_must_hold_a_finite_one() -> None:
    assert coverage([1.0, math.inf, 2.0]).tolist() == pytest.approx([math.inf, 4 / 3, 1])
    assert coverage([math.inf, 1.0, math.inf]).tolist() == [math.inf, math.inf, 1]


def test_a_space_of_solutions_is_the_sum_of_its_parts() -> None:
    images, reference = faces(5), faces(1, seed=9)[0]
    space = solution_space(images, reference, maps=maps, distance=rms_distance, embed=embed)
    distances = rms_distance(images, reference.expand_as(images))
    assert space.count == 5
    assert space.distance_mean == pytest.approx(float(distances.mean()), rel=1e-6)
    assert space.distance_best == pytest.approx(float(distances.min()), rel=1e-6)
    assert space.coverage == pytest.approx(coverage(distances).tolist(), rel=1e-6)
    assert space.diversity == pytest.approx(diversity_score(maps(images, reference.expand_as(images))), rel=1e-6)
    assert space.pairwise == space.pairwise_rms == pytest.approx(pairwise_distance(images), rel=1e-6)
    cosines = F.cosine_similarity(embed(images)[:, None], embed(images)[None], dim=2)
    assert space.identity_spread == pytest.approx(float(1 - cosines[cosines < 0.9999].mean()), rel=1e-5)
    assert math.isnan(space.lr_psnr_mean)
    assert space.exact is None


def test_without_a_distance_the_maps_give_it_and_without_maps_grey_levels() -> None:
    images, reference = faces(4), faces(1, seed=9)[0]
    means = maps(images, reference.expand_as(images)).flatten(1).mean(1)
    space = solution_space(images, reference, maps=maps)
    assert space.distance_mean == pytest.approx(float(means.mean()), rel=1e-6)
    assert space.distance_best == pytest.approx(float(means.min()), rel=1e-6)
    assert space.pairwise == pytest.approx(
        pairwise_distance(images, lambda a, b: maps(a, b).flatten(1).mean(1)), rel=1e-6
    )
    plain = solution_space(images, reference)
    assert plain.distance_mean == pytest.approx(float(rms_distance(images, reference.expand_as(images)).mean()), 1e-6)
    assert math.isnan(plain.diversity)
    assert math.isnan(plain.identity_spread)


def test_many_candidates_go_through_a_network_in_small_parts_and_change_nothing() -> None:
    largest = 0

    def watched(a: Tensor, b: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, len(a))
        return maps(a, b)

    def eyes(x: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, len(x))
        return embed(x)

    images, reference = faces(40), faces(1, seed=9)[0]
    space = solution_space(images, reference, maps=watched, embed=eyes)
    assert largest <= 16
    assert space.diversity == pytest.approx(diversity_score(maps(images, reference.expand_as(images))), rel=1e-6)
    assert space.pairwise == pytest.approx(
        pairwise_distance(images, lambda a, b: maps(a, b).flatten(1).mean(1)), rel=1e-6
    )
    shuffled = images[torch.randperm(40, generator=torch.Generator().manual_seed(0))]
    again = solution_space(shuffled, reference, maps=maps, embed=embed)
    assert again.diversity == pytest.approx(space.diversity, rel=1e-6)
    assert again.coverage == pytest.approx(space.coverage, rel=1e-6)
    assert again.identity_spread == pytest.approx(space.identity_spread, rel=1e-6)


def test_copies_are_one_solution() -> None:
    copies, reference = faces(1).expand(20, -1, -1, -1), faces(1, seed=9)[0]
    space = solution_space(copies, reference, maps=maps, embed=embed)
    assert (space.diversity, space.pairwise, space.pairwise_rms, space.identity_spread) == (0, 0, 0, 0)
    assert len(set(space.coverage)) == 1 or max(space.coverage) - min(space.coverage) < 1e-12


@pytest.mark.parametrize("given", [None, maps])
def test_a_single_candidate_has_no_diversity_and_no_pairs(given: object) -> None:
    one, truth = faces(1), faces(1, seed=9)[0]
    space = solution_space(one, truth, maps=given, embed=embed, errors=[0.5])  # type: ignore[arg-type]
    assert space.diversity == 0
    assert all(math.isnan(v) for v in (space.pairwise, space.pairwise_rms, space.identity_spread))
    assert space.coverage == pytest.approx((space.distance_best,))
    assert space.lr_psnr_mean == space.lr_psnr_worst == space.lr_psnr_pooled


def test_the_truth_among_the_candidates_is_found() -> None:
    images = faces(4)
    space = solution_space(images, images[2], maps=maps)
    assert space.distance_best == 0
    assert space.diversity == 0
    assert space.coverage[-1] == 0


def test_exact_files_make_the_mean_infinite_and_nothing_else() -> None:
    def explained(*errors: float) -> tuple[float, float, float, int | None, float]:
        space = solution_space(faces(len(errors)), faces(1, seed=9)[0], errors=errors)
        return space.lr_psnr_mean, space.lr_psnr_worst, space.lr_psnr_pooled, space.exact, space.passing

    mean, worst, pooled, exact, passing = explained(0, 1, 10)
    assert mean == math.inf
    assert worst == pytest.approx(20 * math.log10(25.5))
    assert pooled == pytest.approx(20 * math.log10(255 / math.sqrt(101 / 3)))
    assert (exact, passing) == (1, pytest.approx(2 / 3))  # 1 grey level is 48.1 dB
    assert explained(0, 0) == (math.inf, math.inf, math.inf, 2, 1)
    mean, worst, pooled, exact, passing = explained(1, 10)
    assert mean == pytest.approx(20 * math.log10(25.5) + 10)
    assert worst < pooled < mean
    assert exact == 0
    assert explained(1.43, 1.44)[-1] == 0.5  # the mark lies between


def test_what_cannot_be_measured_is_said() -> None:
    images, reference = faces(3), faces(1, seed=9)[0]
    for bad in (torch.zeros(0, 4, 4), torch.zeros(4, 4), -torch.ones(2, 4, 4), torch.full((2, 4, 4), math.nan)):
        with pytest.raises(InputError):
            diversity_score(bad)
    for wrong in ([], [1.0, math.nan]):
        with pytest.raises(InputError):
            coverage(wrong)
    for pictures, truth in (
        (images[:0], reference),
        (images[0], reference),
        (images, images),
        (images, reference[:, 1:]),
        (images * math.nan, reference),
    ):
        with pytest.raises(InputError):
            solution_space(pictures, truth)
    for errors in ([1.0, 2.0], [1.0, 2.0, math.nan], [1.0, 2.0, math.inf], [1.0, 2.0, -1.0]):
        with pytest.raises(InputError):
            solution_space(images, reference, errors=errors)
    with pytest.raises(InputError, match="distance to the true picture"):
        solution_space(images, reference, distance=lambda a, b: -rms_distance(a, b))
    with pytest.raises(InputError, match="embedding"):
        solution_space(images, reference, embed=lambda x: embed(x) * math.nan)
