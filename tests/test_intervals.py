"""Intervals against hand-worked cases, within the bounds, and how often they hold on data of known truth."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats as scipy_stats

from sfrbench.maths import intervals, stats
from sfrbench.maths.intervals import Array, Bounds, Difference

PERCENT, DISTANCE = Bounds(100.0), Bounds(math.inf)


def test_mean_squares_of_a_hand_worked_layout():
    """Rows are seeds: mean 5, mean squares 36 (seeds), 16 (cases), 4 (rest)."""
    spread = intervals.crossed(np.array([[1.0, 3.0], [5.0, 11.0]]))
    assert float(spread.mean) == 5
    assert float(spread.error) == pytest.approx(np.sqrt((36 + 16 - 4) / 4))
    assert float(spread.share) == pytest.approx(0.75)


def test_the_critical_value_lies_between_the_quantiles_of_both_levels():
    """Seeds have S - 1 degrees of freedom, cases half of C - 1."""
    p = np.asarray(0.05)
    of_seeds, of_cases = scipy_stats.t.isf(0.025, 2), scipy_stats.t.isf(0.025, 4.5)
    for share, wanted in ((0.0, of_cases), (1.0, of_seeds), (0.25, 0.25 * of_seeds + 0.75 * of_cases)):
        assert float(intervals.critical(np.asarray(share), 3, 10, p)) == pytest.approx(wanted)


def test_an_interval_over_cases_by_hand():
    """One seed: t on the log odds of the mean, its error by the delta method; of a distance on its log."""
    values = np.array([88.0, 97.0, 94.0, 91.0, 98.0, 95.0, 83.0, 96.0, 92.0]).reshape(1, 9, 1)
    mean, half = values.mean() / 100, scipy_stats.t.isf(0.025, 4) * scipy_stats.sem(values.ravel()) / 100
    odds, step = math.log(mean / (1 - mean)), half / (mean * (1 - mean))
    found = stats.mean_interval(values, PERCENT)
    wanted = [100 / (1 + math.exp(-(odds + sign * step))) for sign in (-1, 1)]
    assert [found.low, found.high] == pytest.approx(wanted)
    assert found.mean - wanted[0] > wanted[1] - found.mean  # longer to the side away from the bound
    assert "cases only" in found.covers
    found = stats.mean_interval(values, DISTANCE)
    step = half / mean
    assert [found.low, found.high] == pytest.approx([100 * mean * math.exp(sign * step) for sign in (-1, 1)])


def test_a_difference_joins_the_limits_of_its_means():
    """Against an arm at 0 all of the error is the other arm's, and so is the interval."""
    a = np.random.default_rng(1).beta(2, 30, size=(3, 8, 1)) * 100
    alone, gap = stats.mean_interval(a, PERCENT), stats.difference(a, np.zeros_like(a), PERCENT)[0]
    assert (gap.low, gap.high) == pytest.approx((alone.low, alone.high))
    back = stats.difference(np.zeros_like(a), a, PERCENT)[0]
    assert gap.low is not None
    assert gap.high is not None
    assert (back.low, back.high) == pytest.approx((-gap.high, -gap.low))


def test_in_the_middle_of_the_range_it_is_the_t_interval_of_the_differences():
    rng = np.random.default_rng(2)
    b = rng.normal(50, 3, size=(1, 14, 1))
    a = b + rng.normal(0.4, 1, size=(1, 14, 1))
    gap, p = stats.difference(a, b, PERCENT)
    error = scipy_stats.sem((a - b).ravel())
    half = scipy_stats.t.isf(0.025, 6.5) * error
    assert (gap.low, gap.high) == pytest.approx((gap.mean - half, gap.mean + half), abs=0.01)
    assert p == pytest.approx(2 * scipy_stats.t.sf(abs(gap.mean) / error, 6.5), rel=0.01)


def bounded(count: int, centres: tuple[float, float], seeds: int, cases: int, bounds: Bounds) -> Array:
    """Scores (count, 2 arms, S, C), normal on the log odds (or the log): near a bound for a large centre."""
    rng = np.random.default_rng(100 * seeds + cases)
    x = rng.normal(0, 0.8, (count, 1, 1, cases)) + rng.normal(0, 0.4, (count, 2, 1, cases))
    x = x + rng.normal(0, 0.2, (count, 2, seeds, 1)) + rng.normal(0, 0.3, (count, 2, seeds, cases))
    x = x + np.array(centres)[:, None, None]
    return np.asarray(100 / (1 + np.exp(-x)) if bounds is PERCENT else np.exp(x))


@pytest.mark.parametrize("centres", [(0.8, 0.3), (3.5, 2.5), (6.0, -6.0), (-4.0, -3.0)])
@pytest.mark.parametrize("bounds", [PERCENT, DISTANCE], ids=["share", "distance"])
def test_p_is_below_the_level_exactly_where_an_interval_leaves_out_nothing(centres, bounds):
    """And no interval leaves the range, of means or of differences; the widest ones are not given."""
    called = 0
    for seeds, cases in ((1, 6), (2, 4), (3, 8)):
        for a, b in bounded(25, centres, seeds, cases, bounds)[..., None]:
            mean, (gap, p) = stats.mean_interval(a, bounds), stats.difference(a, b, bounds)
            assert p is not None
            assert (p < 0.05) == (gap.low is not None and not gap.low <= 0 <= (gap.high or 0))
            assert gap.low is None or -bounds.high <= gap.low <= gap.mean <= (gap.high or 0) <= bounds.high
            assert mean.low is None or 0 <= mean.low <= mean.mean <= (mean.high or 0) <= bounds.high
            assert (gap.low is None) == (gap.high is None) == bool(gap.why)
            called += p < 0.05
    assert called > 0


def test_two_trainings_that_fall_apart_have_a_dash_and_its_reason():
    """Such an interval once said -116 to 206."""
    rng = np.random.default_rng(0)
    a = np.stack([rng.normal(level, 3, size=(8, 1)) for level in (75.0, 20.0)])
    b = rng.normal(60, 3, size=(2, 8, 1))
    for found in (stats.mean_interval(a, PERCENT), stats.difference(a, b, PERCENT)[0]):
        assert found.low is None
        assert found.why == "2 seeds differ so much that it would say next to nothing"
        assert found.covers == f"no interval: {found.why}"
    p = stats.difference(a, b, PERCENT)[1]
    assert p is not None
    assert p > 0.05


def test_scores_beyond_the_range_have_no_interval():
    values = np.array([[[50.0], [120.0], [60.0]]])
    assert stats.mean_interval(values, PERCENT).why == "scores beyond the range of the metric"
    assert stats.difference(values, values / 2, PERCENT)[0].low is None
    assert stats.mean_interval(values, DISTANCE).why != stats.mean_interval(values, PERCENT).why


#: Centres of both arms, and the share of dead scores: the middle, near 100 and 0, far apart, with zeros.
WORLDS = {
    "middle": ((0.8, 0.5), PERCENT, 0.0),
    "near 100": ((3.5, 3.0), PERCENT, 0.0),
    "near 0": ((-3.5, -3.0), PERCENT, 0.0),
    "far apart": ((3.0, -3.0), PERCENT, 0.0),
    "dead scores": ((2.0, 2.0), PERCENT, 0.2),
    "distances": ((1.0, 2.0), DISTANCE, 0.0),
}


@pytest.mark.parametrize("world", WORLDS)
def test_intervals_hold_near_the_bounds(world):
    """93 % and more in ``benchmarks/intervals.py``; 2 points below for the noise of 600 tables. Student's
    interval holds in 86 to 92 % near a bound with 5 seeds and 4 or 8 cases."""
    centres, bounds, dead = WORLDS[world]
    for seeds, cases in product((2, 3, 5), (4, 8, 20)):
        scores = bounded(600, centres, seeds, cases, bounds)
        far = bounded(1, centres, 400, 4000, bounds).mean(axis=(0, 2, 3)) * (1 - dead)
        scores = np.where(np.random.default_rng(9).random(scores.shape) < dead, 0, scores)
        spread, gap = intervals.crossed(scores[:, 0]), Difference.of(scores[:, 0], scores[:, 1])
        low, high = intervals.of_mean(spread, seeds, cases, bounds)
        met = (low <= far[0]) & (far[0] <= high) | intervals.mean_is_open(low, high, bounds)
        assert met.mean() >= 0.91, (seeds, cases)
        low, high = gap.interval(seeds, cases, bounds)
        true = far[0] - far[1]
        met = (low <= true) & (true <= high) | gap.is_open(low, high, bounds)
        assert met.mean() >= 0.91, (seeds, cases)
