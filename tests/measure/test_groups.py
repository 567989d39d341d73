"""Bootstrap intervals against their promise and scipy's; groups against made-up people."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from preimage.errors import InputError
from preimage.measure.groups import bootstrap_gap, bootstrap_mean, gaps_found, group_rows, parse_groups


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ------------------------------------------------------------------------------------------------------------ intervals


@pytest.mark.parametrize(("n", "level"), [(10, 0.95), (50, 0.95), (30, 0.8)])
def test_intervals_hold_the_true_mean_as_often_as_they_promise(n: int, level: float) -> None:
    """Within three standard errors of 400 tries."""
    sets = normal(400, n) * 3 + 10
    found = [bootstrap_mean(x, resamples=300, level=level, seed=i) for i, x in enumerate(sets)]
    held = np.mean([e.low <= 10 <= e.high for e in found])
    assert held == pytest.approx(level, abs=3 * math.sqrt(level * (1 - level) / 400))


def test_intervals_of_skewed_values_keep_their_promise_better_than_percentiles() -> None:
    rng = torch.Generator().manual_seed(3)
    sets = torch.empty(400, 20, dtype=torch.float64).exponential_(generator=rng)
    held = percentile = 0.0
    for i, x in enumerate(sets):
        e = bootstrap_mean(x, resamples=300, seed=i)
        means = x[torch.randint(20, (300, 20), generator=rng)].mean(1)
        held += e.low <= 1 <= e.high
        percentile += float(means.quantile(0.025)) <= 1 <= float(means.quantile(0.975))
    assert held / 400 > 0.92
    assert held > percentile


def test_intervals_of_gaps_hold_the_true_gap() -> None:
    held = 0
    for i in range(400):
        e = bootstrap_gap(normal(12, seed=i) * 2 + 5, normal(40, seed=10_000 + i), resamples=300, seed=i)
        held += e.low <= 5 <= e.high
    assert held / 400 == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 400))


def test_intervals_of_many_normal_values_are_students() -> None:
    x, y = normal(300) + 4, normal(200, seed=1) * 3
    low, high = scipy.stats.t.interval(0.95, 299, float(x.mean()), float(x.std()) / math.sqrt(300))
    e = bootstrap_mean(x, resamples=20_000)
    assert (e.low, e.high) == pytest.approx((low, high), abs=0.05 * (high - low))
    welch = scipy.stats.ttest_ind(x.numpy(), y.numpy(), equal_var=False).confidence_interval(0.95)
    gap = bootstrap_gap(x, y, resamples=20_000)
    assert gap.mean == pytest.approx(float(x.mean() - y.mean()))
    assert (gap.low, gap.high) == pytest.approx((welch.low, welch.high), abs=0.05 * (welch.high - welch.low))


def test_an_estimate_knows_its_mean_median_worst_and_count() -> None:
    values = [3.0, math.nan, 1.0, 10.0, 2.0]
    e = bootstrap_mean(values, lower_is_better=True)
    assert (e.mean, e.median, e.worst, e.count) == (4, 2.5, 10, 4)
    assert e.low < 4 < e.high
    assert bootstrap_mean(values, lower_is_better=False).worst == 1
    assert math.isnan(bootstrap_mean(values).worst)
    assert bootstrap_mean([1.0, 2.0, 9.0]).median == 2


def test_intervals_have_a_seed_and_follow_the_unit() -> None:
    x = normal(25).exp()
    first = bootstrap_mean(x, seed=1)
    assert first == bootstrap_mean(x, seed=1)
    assert first.low != bootstrap_mean(x, seed=2).low
    moved = bootstrap_mean(x * 255 + 1000, seed=1)
    assert (moved.low, moved.high) == pytest.approx((first.low * 255 + 1000, first.high * 255 + 1000), rel=1e-9)
    turned = bootstrap_mean(-x, seed=1)
    assert (turned.low, turned.high) == pytest.approx((-first.high, -first.low), rel=1e-9)
    assert bootstrap_mean(x, level=0.5).high < bootstrap_mean(x).high < bootstrap_mean(x, level=0.99).high


def test_many_values_are_resampled_in_parts() -> None:
    x = normal(50_000)
    e = bootstrap_mean(x, resamples=200)
    assert e.high - e.low == pytest.approx(2 * 1.96 / math.sqrt(50_000), rel=0.2)


def test_values_that_give_no_interval() -> None:
    one = bootstrap_mean([7.0])
    assert (one.mean, one.median, one.count) == (7, 7, 1)
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    none = bootstrap_mean([math.nan])
    assert none.count == 0
    assert math.isnan(none.mean)
    endless = bootstrap_mean([50.0, math.inf, math.inf], lower_is_better=False)
    assert (endless.mean, endless.median, endless.worst, endless.count) == (math.inf, math.inf, 50, 3)
    assert math.isnan(endless.low)
    assert math.isnan(bootstrap_mean([-math.inf, math.inf]).mean)
    assert not bootstrap_gap([1.0], [2.0, 3.0]).excludes_zero
    assert math.isnan(bootstrap_gap([1.0, 2.0], []).mean)


def test_equal_and_nearly_equal_values_have_a_finite_interval() -> None:
    equal = bootstrap_mean([0.5] * 9)
    assert (equal.low, equal.high) == (0.5, 0.5)
    for values in ([1.0] * 19 + [0.0], [0.0, 1.0], [0.0, 0.0, 1.0]):
        e = bootstrap_mean(values)
        assert -10 < e.low < e.mean < e.high < 10
    assert bootstrap_gap([1.0] * 5, [0.0] * 5).excludes_zero


def test_swapping_sides_turns_the_gap() -> None:
    for sizes in ((9, 30), (20, 20)):
        a, b = normal(sizes[0], seed=1).exp(), normal(sizes[1], seed=2)
        there, back = bootstrap_gap(a, b), bootstrap_gap(b, a)
        assert (there.mean, there.median, there.low, there.high) == pytest.approx(
            (-back.mean, -back.median, -back.high, -back.low), rel=1e-9
        )
        assert there.count == sum(sizes)


# --------------------------------------------------------------------------------------------------------------- groups


def test_a_line_of_the_index_is_read() -> None:
    assert parse_groups({"source": "aaf", "group": "female;age03"}) == {
        "gender": "female",
        "age": "0-12",
        "source": "aaf",
    }
    assert parse_groups({"source": "meb", "group": "male;caucasian"}) == {
        "gender": "male",
        "origin": "caucasian",
        "source": "meb",
    }
    assert parse_groups({"source": "lfw", "group": ""}) == {"source": "lfw"}
    assert parse_groups({"file": "a.png", "group": None}) == {}
    assert parse_groups({"group": " smiling ; male;agefew"}) == {"gender": "male", "group": "smiling;agefew"}


@pytest.mark.parametrize(
    ("years", "group"),
    [("02", "0-12"), ("12", "0-12"), ("13", "13-19"), ("19", "13-19"), ("20", "20-39"), ("39", "20-39"),
     ("40", "40-59"), ("59", "40-59"), ("60", "60+"), ("101", "60+")],
)  # fmt: skip
def test_ages_fall_into_groups(years: str, group: str) -> None:
    assert parse_groups({"group": f"age{years}"}) == {"age": group}


def people() -> tuple[Tensor, list[dict[str, str]]]:
    """Women 2 higher than men; 20 of unknown gender far away from both; three of one origin."""
    groups = [{"source": "aaf", "gender": "female"}] * 30 + [{"source": "meb", "gender": "male"}] * 25
    groups += [{"source": "lfw"}] * 20 + [{"source": "meb", "gender": "male", "origin": "asian"}] * 3
    values = normal(78) * 0.5 + 10
    values[:30] += 2
    values[55:75] += 100
    return values, groups


def test_rows_say_who_is_served_worse() -> None:
    values, groups = people()
    rows = {(r.by, r.group): r for r in group_rows(values, groups, "lpips*", lower_is_better=True)}
    assert list(rows) == [
        ("gender", "female"),
        ("gender", "male"),
        ("source", "aaf"),
        ("source", "lfw"),
        ("source", "meb"),
    ]
    female, male = rows["gender", "female"], rows["gender", "male"]
    assert female.metric == "lpips*"
    assert female.estimate == bootstrap_mean(values[:30], lower_is_better=True)
    assert female.gap.mean == pytest.approx(float(values[:30].mean() - values[[*range(30, 55), 75, 76, 77]].mean()))
    assert (female.gap.low, female.gap.high) == pytest.approx((-male.gap.high, -male.gap.low))
    assert female.gap.low > 1.5  # pictures of unknown gender, 100 higher, are on neither side
    assert female.gap.count == 58
    assert rows["source", "lfw"].gap.low > 90


def test_small_groups_have_no_row_and_small_rests_no_gap() -> None:
    values, groups = people()
    rows = group_rows(values, groups, "m", fewest=3)
    origin = next(r for r in rows if r.by == "origin")
    assert (origin.group, origin.estimate.count) == ("asian", 3)
    assert math.isnan(origin.gap.mean)  # nobody else's origin is known
    values[:27] = math.nan
    assert ("gender", "female") not in {(r.by, r.group) for r in group_rows(values, groups, "m")}
    male = next(r for r in group_rows(values, groups, "m") if r.group == "male")
    assert math.isnan(male.gap.mean)  # three women are left


def test_gaps_that_leave_out_zero_are_counted_beside_chance() -> None:
    values = normal(150, 60)
    groups = [{"gender": "female" if i % 2 else "male"} for i in range(60)]
    rows = [row for x in values for row in group_rows(x, groups, "m", resamples=200, level=0.9)]
    count = gaps_found(rows, level=0.9)
    found = scipy.stats.ttest_ind(values[:, 1::2].numpy(), values[:, ::2].numpy(), axis=1).pvalue < 0.1
    assert count.gaps == 300  # both sides of 150
    assert count.by_chance == pytest.approx(30)
    assert count.found == pytest.approx(2 * found.sum(), abs=10)
    assert gaps_found(group_rows(*people(), "m")).found == 5
    assert gaps_found([]) == (0, 0, 0)


def test_kinds_of_groups_of_ones_own_come_last() -> None:
    groups = [{"zone": "a" if i < 5 else "b", "camera": "x", "gender": "male"} for i in range(10)]
    rows = group_rows(range(10), groups, "m")  # type: ignore[arg-type]
    assert [(r.by, r.group) for r in rows] == [("gender", "male"), ("camera", "x"), ("zone", "a"), ("zone", "b")]
    assert rows[2].gap.mean == -5
    assert group_rows([], [], "m") == []


def test_what_cannot_be_measured_is_said() -> None:
    for level, resamples in ((1.0, 10), (0.0, 10), (0.95, 0)):
        for call in (
            lambda lv, n: bootstrap_mean([1.0, 2.0], n, lv),
            lambda lv, n: bootstrap_gap([1.0, 2.0], [1.0, 2.0], n, lv),
            lambda lv, n: group_rows([1.0], [{}], "m", resamples=n, level=lv),
        ):
            with pytest.raises(InputError, match="level"):
                call(level, resamples)
    with pytest.raises(InputError, match="2 inputs"):
        group_rows([1.0], [{}, {}], "m")
