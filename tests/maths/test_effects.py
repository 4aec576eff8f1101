"""The effect over methods: mean squares by hand, gaps, what does not vary, and how often intervals hold."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats as scipy_stats

from sfrbench.maths import effects, intervals, stats
from sfrbench.maths.effects import overall, spread
from sfrbench.maths.intervals import Array, Bounds

PERCENT, DISTANCE = Bounds(100.0), Bounds(np.inf)


def pairs_of(values: Array, level: float = 50.0) -> list[tuple[Array, Array]]:
    """Arms whose differences are ``values`` (M, S, C), in one class."""
    return [(level + one[..., None], np.full((*one.shape, 1), level)) for one in values]


def mean_squares(d: Array) -> dict[str, float]:
    """Of a three-way layout (M, S, C), by loops over its cells."""
    m, s, c = d.shape
    whole = d.mean()
    row = {(axis, i): np.take(d, i, axis).mean() for axis in range(3) for i in range(d.shape[axis])}
    found = dict.fromkeys(("m", "s", "c", "ms", "mc"), 0.0)
    for i, j, k in product(range(m), range(s), range(c)):
        a, b, e = row[0, i] - whole, row[1, j] - whole, row[2, k] - whole
        found["m"] += a**2 / (m - 1)
        found["s"] += b**2 / max(s - 1, 1)
        found["c"] += e**2 / (c - 1)
        found["ms"] += (d[i, j].mean() - whole - a - b) ** 2 / ((m - 1) * max(s - 1, 1))
        found["mc"] += (d[i, :, k].mean() - whole - a - e) ** 2 / ((m - 1) * (c - 1))
    return found


@pytest.mark.parametrize("shape", [(2, 3, 2), (6, 3, 8), (5, 2, 20), (4, 1, 7)])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 0, 0), (0, 3, 0), (0, 0, 3), (0, 0, 0)])
def test_the_error_is_that_of_the_mean_squares(shape, sizes):
    rng = np.random.default_rng(sum(shape) + 10 * sum(sizes))
    d = 2 + rng.normal(size=shape)
    for axis, size in enumerate(sizes):
        own = [1, 1, 1]
        own[axis] = shape[axis]
        d = d + size * rng.normal(size=own)
    d = d / 10
    ms = mean_squares(d)
    parts = [ms["m"], max(ms["c"] - ms["mc"], 0), max(ms["s"] - ms["ms"], 0) if shape[1] > 1 else 0.0]
    error = np.sqrt(sum(parts) / d.size)
    quantiles = scipy_stats.t.isf(0.025, [shape[0] - 1, (shape[2] - 1) / 2, max(shape[1] - 1, 1)])
    off = float(np.dot(parts, quantiles)) / sum(parts) * error
    found = overall(pairs_of(d), PERCENT)
    assert found.effect.mean == pytest.approx(d.mean())
    assert (found.effect.low, found.effect.high) == pytest.approx((d.mean() - off, d.mean() + off))
    assert found.shares == pytest.approx([part / sum(parts) for part in parts], abs=1e-9)
    assert (found.methods, found.effect.seeds, found.effect.cases) == shape


def test_with_one_seed_it_is_the_two_way_layout_of_a_pair():
    """Methods stand where ``intervals.crossed`` has seeds."""
    d = np.random.default_rng(3).normal(1, 2, size=(5, 1, 9))
    whole = intervals.crossed(d[:, 0])
    assert float(spread(d).error) == pytest.approx(float(whole.error))
    off = intervals.critical(whole.share, 5, 9, np.asarray(0.05)) * whole.error
    assert overall(pairs_of(d), PERCENT).effect.high == pytest.approx(float(whole.mean + off))


def test_parts_are_right_on_average():
    """Variances 4 of methods, 9 of cases, 1 of seeds, 2.25 of trainings, 4 of the rest."""
    m, s, c = 6, 3, 8
    rng = np.random.default_rng(0)
    d = 2 * rng.normal(size=(20000, m, 1, 1)) + 3 * rng.normal(size=(20000, 1, 1, c))
    d = d + rng.normal(size=(20000, 1, s, 1)) + 1.5 * rng.normal(size=(20000, m, s, 1))
    d = d + 2 * rng.normal(size=(20000, m, s, c))
    found = spread(d)
    rest = 4 / (m * s * c)
    assert found.methods.mean() == pytest.approx(4 / m + 2.25 / (m * s) + rest, rel=0.02)
    assert found.cases.mean() == pytest.approx(9 / c, rel=0.03)
    assert found.seeds.mean() == pytest.approx(1 / s, rel=0.12)  # larger for what is cut at 0


def test_a_p_is_below_the_level_exactly_where_the_interval_leaves_out_0():
    rng = np.random.default_rng(5)
    called = 0
    for _ in range(60):
        found = overall(pairs_of(rng.normal(0.7, 1, (6, 1, 1)) + rng.normal(0, 1, (6, 3, 8))), PERCENT)
        assert found.p is not None
        assert found.effect.low is not None
        assert (found.p < 0.05) == (not found.effect.low <= 0 <= (found.effect.high or 0))
        called += found.p < 0.05
    assert 0 < called < 60


def test_methods_weigh_alike_and_a_missing_seed_stands_at_the_others():
    rng = np.random.default_rng(1)
    a, b = rng.uniform(40, 60, (2, 4, 3, 6, 2))
    a[1, 2] = np.nan  # method 1 lacks seed 2
    b[2, 0, 4, 1] = np.nan  # one class of one case of method 2
    a[3, :, 5] = np.nan  # a case of method 3
    found = overall(list(zip(a, b, strict=True)), PERCENT)
    own = [stats.grand_mean(one) for one in a - b]
    assert found.effect.mean == pytest.approx(np.mean(own))
    values = effects.complete(list(a - b))
    assert values.mean(axis=(1, 2)) == pytest.approx(own)
    assert values[1, 2] == pytest.approx((a - b)[1, :2].mean(axis=(0, 2)))
    assert values[0] == pytest.approx((a - b)[0].mean(axis=2))
    assert not np.isnan(values).any()
    assert (found.effect.seeds, found.effect.cases) == (3, 6)


@pytest.mark.parametrize(
    ("shape", "why"),
    [((1, 3, 8), "there is only one"), ((4, 3, 1), "fewer than two cases"), ((1, 1, 1), "there is only one")],
)
def test_one_method_or_one_case_has_a_mean_and_no_interval(shape, why):
    found = overall(pairs_of(np.random.default_rng(0).normal(size=shape)), PERCENT)
    assert (found.effect.low, found.effect.high, found.p, found.shares) == (None, None, None, None)
    assert found.effect.why == why
    assert np.isfinite(found.effect.mean)


def test_what_does_not_vary_has_no_test_and_equal_arms_p_one():
    found = overall(pairs_of(np.full((4, 3, 5), 2.0)), PERCENT)
    assert found.effect.why == "the same difference in every method, case and seed"
    assert (found.effect.mean, found.p) == (2.0, None)
    found = overall(pairs_of(np.zeros((4, 3, 5))), PERCENT)
    assert (found.effect.low, found.effect.high, found.p, found.shares) == (0.0, 0.0, 1.0, None)


def test_an_interval_stays_within_the_range_and_is_none_where_it_says_nothing():
    rng = np.random.default_rng(2)
    far = [(100 - rng.uniform(0, 2, (1, 4, 1)), rng.uniform(0, 40, (1, 4, 1))) for _ in range(2)]
    found = overall(far, PERCENT).effect
    assert found.low is not None
    assert found.low < found.mean < (found.high or 0) <= 100
    apart = pairs_of(np.array([40.0, -35.0])[:, None, None] + rng.normal(size=(2, 3, 5)))
    assert overall(apart, PERCENT).effect.why == "methods differ so much that it would say next to nothing"
    p = overall(apart, PERCENT).p
    assert p is not None
    assert p > 0.05
    beyond = pairs_of(rng.normal(size=(3, 2, 4)), level=100.0)
    assert overall(beyond, PERCENT).effect.why == "scores beyond the range of the metric"
    assert overall(beyond, DISTANCE).effect.low is not None
    with pytest.raises(ValueError, match="unequal"):
        overall([*beyond, *pairs_of(rng.normal(size=(1, 2, 5)))], DISTANCE)


@pytest.mark.parametrize("methods", [6, 16])
@pytest.mark.parametrize("sizes", [(1.5, 2, 0), (0, 2, 0), (1.5, 0, 0), (0, 0, 0), (1.5, 2, 2)])
def test_intervals_hold(methods, sizes):
    """Methods, cases, shared seeds; 95 % and more in ``benchmarks/overall_effect.py``, 93 with shared seeds
    and nothing else; 2 points below for the noise of 500 layouts."""
    for cases in (8, 20):
        rng = np.random.default_rng(methods + cases)
        d = sizes[0] * rng.normal(size=(500, methods, 1, 1)) + sizes[1] * rng.normal(size=(500, 1, 1, cases))
        d = d + sizes[2] * rng.normal(size=(500, 1, 3, 1)) + 1.5 * rng.normal(size=(500, methods, 3, 1))
        d = d + 2 * rng.normal(size=(500, methods, 1, cases)) + 3 * rng.normal(size=(500, methods, 3, cases))
        found = spread(d)
        assert (np.abs(found.mean) <= found.off(np.asarray(0.05))).mean() >= 0.93, cases
