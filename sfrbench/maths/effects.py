"""The effect of one change over several methods: its mean, with an interval over methods, cases and seeds.

d[m, s, c] is the difference that the change makes to method m in the training with seed s on test case c:

    d[m, s, c] = mu + method[m] + case[c] + seed[s] + (each two together) + rest[m, s, c]

All effects are random. Cases are crossed with methods, for all methods are scored on the same. So are seeds:
methods share what a seed makes once for all of them, such as the fine-tuned SAM, its pseudo-labels, the
initial weights and the order of the data. A training's own luck is method and seed together.

By the mean squares of this layout (analysis of variance, method of moments) the squared error of the mean is

    (MS_m + max(MS_c - MS_mc, 0) + max(MS_s - MS_ms, 0)) / (M S C)

the three-way form of what ``intervals.crossed`` takes (Hillis, Berbaum and Metz 2008, Academic Radiology
15(5)); the effect of a case and a seed together is in it twice, which errs on the safe side. The critical
value is Cochran's, as there. ``benchmarks/overall_effect.py`` measures how often such intervals hold, and
what comes of taking the seeds of different methods for unrelated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfrbench.maths.intervals import LEVEL, Array, Bounds, level_where
from sfrbench.maths.stats import Interval, linearised, nanmean


@dataclass(frozen=True)
class Spread:
    """A mean, and the parts of its squared error that come from methods (with the luck of their own
    trainings), cases and shared seeds; ``freedom`` is that of each. Arrays are of the batch's shape."""

    mean: Array
    methods: Array
    cases: Array
    seeds: Array
    freedom: tuple[float, float, float]

    @property
    def parts(self) -> tuple[Array, Array, Array]:
        return self.methods, self.cases, self.seeds

    @property
    def error(self) -> Array:
        """The standard error."""
        return np.asarray(np.sqrt(self.methods + self.cases + self.seeds))

    @property
    def varies(self) -> NDArray[np.bool_]:
        """Whether there is any spread, beyond rounding."""
        return np.asarray(self.error > 1e-9 * np.abs(self.mean))

    def off(self, p: Array) -> Array:
        """How far the mean is off with probability ``p``, both sides together: standard errors times the
        quantiles of t, each weighted by the share of its part."""
        from scipy.special import stdtrit

        whole = np.where(self.error > 0, self.error, 1.0)
        weighted = (
            part / whole * -stdtrit(freedom, p / 2)
            for part, freedom in zip(self.parts, self.freedom, strict=True)
        )
        return np.asarray(sum(weighted))

    def p(self) -> Array:
        """The two-sided p of no effect: the level at which the interval just reaches 0. Without any spread
        there is no test: NaN, and 1 for a mean of 0."""
        found = level_where(lambda p: np.asarray(np.abs(self.mean) <= self.off(p)), self.mean)
        return np.asarray(np.where(self.varies, found, np.where(self.mean == 0, 1.0, np.nan)))


def spread(values: Array) -> Spread:
    """Of complete differences (..., M, S, C): methods, seeds, cases. Needs two methods and two cases; one
    seed says nothing of others.

    Cases have half of C - 1 degrees of freedom, as in ``intervals.critical``.
    """
    methods, seeds, cases = values.shape[-3:]
    of_method = values.mean(axis=(-2, -1))
    return Spread(
        values.mean(axis=(-3, -2, -1)),
        of_method.var(axis=-1, ddof=1) / methods,
        _beyond(values.mean(axis=-2)),
        _beyond(values.mean(axis=-1)) if seeds > 1 else np.zeros(values.shape[:-3]),
        (methods - 1, (cases - 1) / 2, max(seeds - 1, 1)),
    )


def _beyond(table: Array) -> Array:
    """Of (..., M, N): what the N columns add to the squared error of the mean beyond that of the M rows;
    never below 0."""
    rows, columns = table.shape[-2:]
    by_row, by_column = table.mean(axis=-1, keepdims=True), table.mean(axis=-2, keepdims=True)
    rest = table - by_row - by_column + table.mean(axis=(-2, -1), keepdims=True)
    left = (rest**2).sum(axis=(-2, -1)) / ((rows - 1) * (columns - 1) * rows * columns)
    return np.asarray(np.maximum(by_column[..., 0, :].var(axis=-1, ddof=1) / columns - left, 0))


@dataclass(frozen=True)
class Overall:
    """The effect over ``methods`` methods. ``shares`` are those of methods, cases and seeds in its squared
    error, 0..1 and none without an interval; ``p`` belongs to the interval, as in ``stats.Paired``."""

    effect: Interval
    p: float | None
    methods: int
    shares: tuple[float, float, float] | None


def overall(pairs: Sequence[tuple[Array, Array]], bounds: Bounds) -> Overall:
    """The mean over methods of a - b, for which ``pairs`` has both arms of each: (S, C, K) on the same seeds
    and cases, NaN where nothing was scored, with one number at the least in each.

    A value counts only where both arms have one. Every method has the same weight, whatever it lacks, so the
    effect is the mean of the methods' own differences. Raises ``ValueError`` for unequal shapes.
    """
    if len({array.shape[:2] for pair in pairs for array in pair}) > 1:
        raise ValueError("unequal seeds and cases")
    gaps = [a - b for a, b in pairs]
    values = complete(gaps)
    methods, seeds, cases = values.shape
    mean = float(values.mean())
    why = ""
    if methods < 2 or cases < 2:
        why = "there is only one" if methods < 2 else "fewer than two cases"
    elif not all(bounds.holds(array) for pair in pairs for array in pair):
        why = "scores beyond the range of the metric"
    if why:
        return Overall(Interval(mean, None, None, seeds, cases, why), None, methods, None)
    found = spread(values)
    p = float(found.p())
    if np.isnan(p):
        why = "the same difference in every method, case and seed"
        return Overall(Interval(mean, None, None, seeds, cases, why), None, methods, None)
    off = float(found.off(np.asarray(LEVEL)))
    low, high = max(mean - off, -bounds.high), min(mean + off, bounds.high)
    if not off:
        return Overall(Interval(mean, low, high, seeds, cases), p, methods, None)
    methods_share, cases_share, seeds_share = (float(part) / float(found.error) ** 2 for part in found.parts)
    shares = (methods_share, cases_share, seeds_share)
    why = _says_nothing(low, high, shares, pairs, bounds)
    effect = Interval(mean, None if why else low, None if why else high, seeds, cases, why)
    return Overall(effect, p, methods, shares)


def complete(gaps: Sequence[Array]) -> Array:
    """Differences of M methods, (S, C, K) each, as (M, S, C) whose mean over a method is that method's own.

    A seed that a method lacks stands at the mean of its others, case by case; what else is not scored is
    linearised (``stats.linearised``).
    """
    tables = [linearised(gap) for gap in gaps]
    return np.stack([np.where(np.isnan(table), nanmean(table, axis=0), table) for table in tables])


def _says_nothing(
    low: float,
    high: float,
    shares: tuple[float, float, float],
    pairs: Sequence[tuple[Array, Array]],
    bounds: Bounds,
) -> str:
    """Why an interval says next to nothing, by the rule of ``intervals.Difference``; empty where it does."""
    level = np.nanmean([[np.nanmean(a), np.nanmean(b)] for a, b in pairs], axis=0).sum()
    most = bounds.high / 2 if np.isfinite(bounds.high) else level
    if low > 0 or high < 0 or high - low <= most:
        return ""
    source = ("methods", "cases", "seeds")[int(np.argmax(shares))]
    return f"{source} differ so much that it would say next to nothing"
