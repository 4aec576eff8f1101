"""Statistics against hand-worked cases, and the interval's coverage on data whose truth is known."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats as scipy_stats

from sfrbench.maths import intervals, stats
from sfrbench.maths.intervals import Bounds, Difference
from sfrbench.maths.stats import Array

PERCENT = Bounds(100.0)


def test_the_mean_goes_over_cases_then_classes_then_seeds():
    values = np.array([[[90.0, 40.0], [70.0, np.nan]], [[80.0, 60.0], [60.0, 20.0]]])  # (2, 2, 2)
    # seed 0: classes 80 and 40 -> 60; seed 1: 70 and 40 -> 55
    assert stats.grand_mean(values) == pytest.approx(57.5)


def test_nothing_scored_is_nan_and_no_interval():
    interval = stats.mean_interval(np.full((2, 3, 1), np.nan), PERCENT)
    assert np.isnan(interval.mean)
    assert interval.low is None
    assert interval.cases == 0


def test_one_case_has_no_interval_and_no_p():
    result = stats.paired(np.array([[[3.0]], [[5.0]]]), np.array([[[1.0]], [[2.0]]]), PERCENT)
    assert result.difference.mean == pytest.approx(2.5)
    assert result.difference.low is None
    assert result.difference.high is None
    assert result.p is None
    assert "fewer than two" in result.difference.covers


def test_what_does_not_vary_has_no_interval_and_no_test():
    b = np.random.default_rng(0).normal(60, 5, size=(3, 10, 2))
    result = stats.paired(b + 2, b, PERCENT)
    assert result.difference.mean == pytest.approx(2)
    assert (result.difference.low, result.p) == (None, None)
    assert result.difference.why == "the same difference in every case and seed"
    assert result.wilcoxon == pytest.approx(2 / 2**10)  # all ten signs equal: exact two-sided p
    assert result.effect == 1
    dead = stats.mean_interval(np.zeros((3, 4, 1)), PERCENT)
    assert (dead.mean, dead.low, dead.why) == (0, None, "the same score in every case and seed")


def test_equal_arms_have_p_one():
    a = np.random.default_rng(0).normal(60, 5, size=(2, 6, 1))
    result = stats.paired(a, a, PERCENT)
    assert (result.difference.low, result.difference.high) == (0, 0)
    assert (result.p, result.wilcoxon, result.effect) == (1.0, 1.0, None)


@pytest.mark.parametrize("high", [100.0, math.inf])
def test_equal_arms_differ_by_nothing_to_the_bit_wherever_their_scores_lie(high):
    """Means go to a scale without bounds and back, which costs the last bit of most of them."""
    rng = np.random.default_rng(3)
    for scale in (1e-3, 0.1, 1, 30, 99):
        a = rng.uniform(0, scale, size=(1, 2, 1))
        found = stats.paired(a, a, Bounds(high)).difference
        assert (found.mean, found.low, found.high) == (0, 0, 0)


def test_a_pair_counts_only_where_both_are_scored():
    a = np.array([[[1.0], [2.0], [np.nan], [4.0]]])
    b = np.array([[[0.0], [np.nan], [0.0], [2.0]]])
    result = stats.paired(a, b, PERCENT)
    assert result.difference.mean == pytest.approx(1.5)
    assert result.difference.cases == 2


def test_unequal_shapes_are_refused():
    with pytest.raises(ValueError, match="unequal shapes"):
        stats.paired(np.zeros((1, 2, 1)), np.zeros((1, 3, 1)), PERCENT)


def test_what_is_not_scored_leaves_the_interval_of_the_rest():
    """A case that nothing scored is as good as absent; a gap in one class leaves the tables' own mean."""
    rng = np.random.default_rng(3)
    whole = rng.normal(60, 5, size=(3, 9, 2))
    with_gap = np.insert(whole, 4, np.nan, axis=1)
    assert stats.mean_interval(with_gap, PERCENT) == stats.mean_interval(whole, PERCENT)
    whole[1, 3, 0] = whole[0, 5, :] = np.nan
    interval = stats.mean_interval(whole, PERCENT)
    assert interval.low is not None
    assert interval.high is not None
    odds = [math.log(value / (100 - value)) for value in (interval.low, interval.mean, interval.high)]
    assert (odds[0] + odds[2]) / 2 == pytest.approx(odds[1])
    assert interval.mean == pytest.approx(stats.grand_mean(whole))
    assert interval.cases == 9


def test_the_bootstrap_is_seeded_and_contains_the_mean():
    values = np.random.default_rng(1).normal(70, 5, size=(3, 15, 2))
    drawn = stats.bootstrap(values)
    assert drawn is not None
    assert drawn == stats.bootstrap(values)
    assert drawn != stats.bootstrap(values, seed=1)
    assert drawn[0] < values.mean() < drawn[1]
    assert stats.bootstrap(values[:, :1]) is None


def test_holm():
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm([0.5, None, 0.6]) == [1.0, None, 1.0]
    assert stats.holm([]) == []


def test_wilcoxon_needs_two_differences():
    assert stats.wilcoxon(np.array([1.0])) is None
    assert stats.wilcoxon(np.array([1.0, 2.0])) == pytest.approx(0.5)


def test_wilcoxon_and_its_effect_against_every_choice_of_signs():
    differences = np.array([0.5, -1.0, 2.0, 3.5, -0.2, 4.0, 5.0])
    ranks = np.abs(differences).argsort().argsort() + 1
    sums = [sum(r for r, s in zip(ranks, signs, strict=True) if s) for signs in product((0, 1), repeat=7)]
    mine = int(ranks[differences > 0].sum())
    tail = min(np.mean([total <= mine for total in sums]), np.mean([total >= mine for total in sums]))
    assert stats.wilcoxon(differences) == pytest.approx(2 * tail)
    assert stats.wilcoxon(differences) == scipy_stats.wilcoxon(differences).pvalue
    assert stats.rank_biserial(differences) == pytest.approx((mine - (28 - mine)) / 28)
    assert stats.rank_biserial(-np.abs(differences)) == -1
    assert stats.rank_biserial(np.array([0.0, 0.0])) is None


def tables(count: int, cases: int, of_case: float, training: float = 1.5) -> Array:
    """Scores (count, 5 arms, 3 seeds, cases) with true means of 50: cases sd 5, rest sd 3."""
    rng = np.random.default_rng(cases)
    scores = 50 + rng.normal(0, 5, size=(count, 1, 1, cases)) + rng.normal(0, of_case, (count, 5, 1, cases))
    return np.asarray(
        scores + rng.normal(0, training, (count, 5, 3, 1)) + rng.normal(0, 3, (count, 5, 3, cases))
    )


def against_first(scores: Array) -> tuple[Difference, int, int]:
    """The four others against the first arm, with the numbers of seeds and cases."""
    first = np.broadcast_to(scores[:, :1], scores[:, 1:].shape)
    return Difference.of(scores[:, 1:], first), *scores.shape[2:]


def covered(scores: Array) -> float:
    gap, seeds, cases = against_first(scores)
    low, high = gap.interval(seeds, cases, PERCENT)
    return float(((low <= 0) & (high >= 0)).mean())


@pytest.mark.parametrize(("cases", "of_case"), [(8, 0.0), (8, 3.0), (20, 0.0), (20, 3.0)])
def test_intervals_hold_and_tables_seldom_call_what_is_not_there(cases, of_case):
    """2,000 tables, 8,000 differences. Intervals over cases alone cover 60 to 90 % here, and ours with the
    normal quantile in place of t 83 to 90 %."""
    scores = tables(2000, cases, of_case)
    assert 0.945 <= covered(scores) <= 0.99
    low, high = intervals.of_mean(intervals.crossed(scores[:, 0]), 3, cases, PERCENT)
    assert 0.945 <= ((low <= 50) & (high >= 50)).mean() <= 0.995
    gap, seeds, _ = against_first(scores)
    p = gap.p(seeds, cases, PERCENT)
    assert (p.min(axis=1) * 4 < 0.05).mean() < 0.06  # Holm's first step


def test_bootstrap_and_wilcoxon_do_not_hold_where_trainings_differ():
    """Why they are companions."""
    scores = tables(250, 20, 1.0, training=3)
    differences = (scores[:, 1:] - scores[:, :1]).reshape(-1, 3, 20)
    booted = [stats.bootstrap(one[:, :, None], draws=400) for one in differences[::4]]
    assert np.mean([one is not None and one[0] <= 0 <= one[1] for one in booted]) < 0.9
    called = [stats.wilcoxon(one.mean(axis=0)) for one in differences[::4]]
    assert np.mean([p is not None and p < 0.05 for p in called]) > 0.3
    assert covered(scores) > 0.93


def test_one_table_and_many_at_once_are_the_same():
    scores = tables(6, 8, 2.0)
    gap, seeds, cases = against_first(scores)
    (low, _), p = gap.interval(seeds, cases, PERCENT), gap.p(seeds, cases, PERCENT)
    for index, one in enumerate(scores):
        found, own = stats.difference(one[1][:, :, None], one[0][:, :, None], PERCENT)
        assert own == pytest.approx(p[index, 0])
        assert found.low == pytest.approx(low[index, 0])
