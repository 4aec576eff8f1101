"""Statistics against hand-worked cases, and the interval's coverage on data whose truth is known."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats as scipy_stats

from sfrbench import stats


def test_the_mean_goes_over_cases_then_classes_then_seeds():
    values = np.array([[[90.0, 40.0], [70.0, np.nan]], [[80.0, 60.0], [60.0, 20.0]]])  # (2, 2, 2)
    # seed 0: classes 80 and 40 -> 60; seed 1: 70 and 40 -> 55
    assert stats.grand_mean(values) == pytest.approx(57.5)


def test_nothing_scored_is_nan_and_no_interval():
    interval = stats.mean_interval(np.full((2, 3, 1), np.nan))
    assert np.isnan(interval.mean)
    assert interval.low is None
    assert interval.cases == 0


def test_one_case_has_no_interval_and_no_p():
    result = stats.paired(np.array([[[3.0]], [[5.0]]]), np.array([[[1.0]], [[2.0]]]))
    assert result.difference.mean == pytest.approx(2.5)
    assert result.difference.low is None
    assert result.difference.high is None
    assert result.p is None
    assert "fewer than two" in result.difference.covers


def test_a_constant_difference_has_an_interval_of_no_width_and_no_test():
    b = np.random.default_rng(0).normal(size=(3, 10, 2))
    result = stats.paired(b + 2, b)
    assert result.difference.low == pytest.approx(2)
    assert result.difference.high == pytest.approx(2)
    assert result.p is None
    assert result.wilcoxon == pytest.approx(2 / 2**10)  # all ten signs equal: exact two-sided p
    assert result.effect == 1


def test_equal_arms_have_p_one():
    a = np.random.default_rng(0).normal(size=(2, 6, 1))
    result = stats.paired(a, a)
    assert (result.p, result.wilcoxon, result.effect) == (1.0, 1.0, None)


def test_a_pair_counts_only_where_both_are_scored():
    a = np.array([[[1.0], [2.0], [np.nan], [4.0]]])
    b = np.array([[[0.0], [np.nan], [0.0], [2.0]]])
    result = stats.paired(a, b)
    assert result.difference.mean == pytest.approx(1.5)
    assert result.difference.cases == 2


def test_unequal_shapes_are_refused():
    with pytest.raises(ValueError, match="unequal shapes"):
        stats.paired(np.zeros((1, 2, 1)), np.zeros((1, 3, 1)))


def test_mean_squares_of_a_hand_worked_layout():
    """Rows are seeds: mean 5, mean squares 36 (seeds), 16 (cases), 4 (rest)."""
    spread = stats.crossed(np.array([[1.0, 3.0], [5.0, 11.0]]))
    assert float(spread.mean) == 5
    assert float(spread.error) == pytest.approx(np.sqrt((36 + 16 - 4) / 4))
    assert float(spread.share) == pytest.approx(0.75)


def test_the_critical_value_lies_between_the_quantiles_of_both_levels():
    p = np.asarray(0.05)
    of_seeds, of_cases = scipy_stats.t.isf(0.025, 2), scipy_stats.t.isf(0.025, 9)
    for share, wanted in ((0.0, of_cases), (1.0, of_seeds), (0.25, 0.25 * of_seeds + 0.75 * of_cases)):
        assert float(stats.critical(np.asarray(share), 3, 10, p)) == pytest.approx(wanted)


def test_with_one_seed_it_is_students_test_over_cases():
    values = np.random.default_rng(2).normal(0.4, 1, size=(1, 14, 1))
    result = stats.paired(values, np.zeros_like(values))
    known = scipy_stats.ttest_1samp(values.ravel(), 0)
    assert result.p == pytest.approx(known.pvalue)
    assert (result.difference.low, result.difference.high) == pytest.approx(known.confidence_interval(0.95))
    assert "cases only" in result.difference.covers


@pytest.mark.parametrize("shift", [0.0, 0.3, 0.6, 1.0, 2.0])
def test_p_is_below_the_level_where_the_interval_leaves_out_nothing(shift):
    values = np.random.default_rng(int(10 * shift)).normal(shift, 1, size=(3, 8, 2))
    result = stats.paired(values, np.zeros_like(values))
    assert result.difference.low is not None
    assert result.difference.high is not None
    assert result.p is not None
    assert (result.p < 0.05) == (not result.difference.low <= 0 <= result.difference.high)


def test_what_is_not_scored_leaves_the_interval_of_the_rest():
    """A case that nothing scored is as good as absent; a gap in one class leaves the tables' own mean."""
    rng = np.random.default_rng(3)
    whole = rng.normal(size=(3, 9, 2))
    with_gap = np.insert(whole, 4, np.nan, axis=1)
    assert stats.mean_interval(with_gap) == stats.mean_interval(whole)
    whole[1, 3, 0] = whole[0, 5, :] = np.nan
    interval = stats.mean_interval(whole)
    assert interval.low is not None
    assert interval.high is not None
    assert (interval.low + interval.high) / 2 == pytest.approx(stats.grand_mean(whole))
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


def tables(count: int, cases: int, of_case: float, training: float = 1.5) -> np.ndarray:
    """Scores (count, 5 arms, 3 seeds, cases) with true means of 0: cases sd 5, rest sd 3."""
    rng = np.random.default_rng(cases)
    scores = rng.normal(0, 5, size=(count, 1, 1, cases)) + rng.normal(0, of_case, size=(count, 5, 1, cases))
    return (
        scores + rng.normal(0, training, size=(count, 5, 3, 1)) + rng.normal(0, 3, size=(count, 5, 3, cases))
    )


def covered(scores: np.ndarray) -> float:
    spread = stats.crossed(scores)
    half = stats.critical(spread.share, *scores.shape[-2:], np.asarray(0.05)) * spread.error
    return float((np.abs(spread.mean) <= half).mean())


@pytest.mark.parametrize(("cases", "of_case"), [(8, 0.0), (8, 3.0), (20, 0.0), (20, 3.0)])
def test_intervals_hold_and_tables_seldom_call_what_is_not_there(cases, of_case):
    """4,000 tables, 16,000 differences. Intervals over cases alone cover 60 to 90 % here, and ours with the
    normal quantile in place of t 83 to 90 %."""
    scores = tables(4000, cases, of_case)
    differences = scores[:, 1:] - scores[:, :1]
    assert 0.945 <= covered(differences) <= 0.98
    assert 0.945 <= covered(scores[:, 0]) <= 0.982
    spread = stats.crossed(differences)
    p = stats.crossed_p(spread, 3, cases)
    assert (p.min(axis=1) * 4 < 0.05).mean() < 0.06  # Holm's first step


def test_bootstrap_and_wilcoxon_do_not_hold_where_trainings_differ():
    """Why they are companions."""
    scores = tables(250, 20, 1.0, training=3)
    differences = (scores[:, 1:] - scores[:, :1]).reshape(-1, 3, 20)
    booted = [stats.bootstrap(one[:, :, None], draws=400) for one in differences[::4]]
    assert np.mean([one is not None and one[0] <= 0 <= one[1] for one in booted]) < 0.9
    called = [stats.wilcoxon(one.mean(axis=0)) for one in differences[::4]]
    assert np.mean([p is not None and p < 0.05 for p in called]) > 0.3
    assert covered(differences) > 0.93


def test_one_table_and_many_at_once_are_the_same():
    scores = tables(6, 8, 2.0)[:, 0]
    p = stats.crossed_p(stats.crossed(scores), 3, 8)
    for one, expected in zip(scores, p, strict=True):
        found = stats.paired(one[:, :, None], np.zeros((3, 8, 1)))
        assert found.p == pytest.approx(expected)
