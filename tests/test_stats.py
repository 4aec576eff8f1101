"""Statistics against hand-worked cases, and the interval's coverage on data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

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


def test_a_constant_difference_has_an_interval_of_no_width():
    b = np.random.default_rng(0).normal(size=(3, 10, 2))
    result = stats.paired(b + 2, b)
    assert result.difference.low == pytest.approx(2)
    assert result.difference.high == pytest.approx(2)
    assert result.p == pytest.approx(2 / 2**10)  # all ten signs equal: exact two-sided p


def test_equal_arms_have_p_one():
    a = np.random.default_rng(0).normal(size=(2, 6, 1))
    assert stats.paired(a, a).p == 1.0


def test_a_pair_counts_only_where_both_are_scored():
    a = np.array([[[1.0], [2.0], [np.nan], [4.0]]])
    b = np.array([[[0.0], [np.nan], [0.0], [2.0]]])
    result = stats.paired(a, b)
    assert result.difference.mean == pytest.approx(1.5)
    assert result.difference.cases == 2


def test_unequal_shapes_are_refused():
    with pytest.raises(ValueError, match="unequal shapes"):
        stats.paired(np.zeros((1, 2, 1)), np.zeros((1, 3, 1)))


def test_the_interval_is_seeded_and_contains_the_mean():
    values = np.random.default_rng(1).normal(70, 5, size=(3, 15, 2))
    first, second = stats.mean_interval(values), stats.mean_interval(values)
    assert first == second
    assert first.low is not None
    assert first.high is not None
    assert first.low < first.mean < first.high
    assert stats.mean_interval(values, seed=1) != first


def test_with_one_seed_only_cases_are_drawn():
    values = np.random.default_rng(2).normal(size=(1, 40, 1))
    interval = stats.mean_interval(values, draws=4000)
    assert interval.low is not None
    assert interval.high is not None
    width = interval.high - interval.low
    assert width == pytest.approx(2 * 1.96 * values.std() / np.sqrt(40), rel=0.1)
    assert "cases only" in interval.covers


def test_holm():
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm([0.5, None, 0.6]) == [1.0, None, 1.0]
    assert stats.holm([]) == []


def test_wilcoxon_needs_two_differences():
    assert stats.wilcoxon(np.array([1.0])) is None
    assert stats.wilcoxon(np.array([1.0, 2.0])) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("seeds", "seed_sd", "least", "most"),
    [(1, 0.0, 0.88, 0.99), (8, 1.0, 0.86, 0.995), (8, 0.0, 0.90, 1.0)],
)
def test_the_interval_covers_the_truth_about_as_often_as_it_says(seeds, seed_sd, least, most):
    """Crossed effects: case (sd 3), training (seed_sd), rest (sd 1); the true mean is 2."""
    rng = np.random.default_rng(7)
    runs, hits = 300, 0
    for run in range(runs):
        case = rng.normal(0, 3, size=(1, 25, 1))
        training = rng.normal(0, seed_sd, size=(seeds, 1, 1))
        values = 2 + case + training + rng.normal(0, 1, size=(seeds, 25, 1))
        interval = stats.mean_interval(values, draws=400, seed=run)
        assert interval.low is not None
        assert interval.high is not None
        hits += interval.low <= 2 <= interval.high
    assert least <= hits / runs <= most
