"""95 % intervals of means and of their differences that never leave the range of the metric.

Cases and seeds are two crossed levels: a case keeps its difficulty in all seeds, a seed shifts all its cases.
``crossed`` takes the variance of a mean apart, ``critical`` says how many standard errors a level of
confidence takes. They are laid off on the scale on which the metric has no bound (``Bounds``), so that an
interval near a bound is short on that side and long on the other, as the scores there are skewed. A
difference joins the limits of its two means (``Difference``). All functions take many tables at once, as
(..., S, C).

What no interval here can know: a failure so rare that these cases did not show it. Of n cases it may strike
up to about 3 / n unseen. ``benchmarks/intervals.py`` measures how often the intervals hold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LEVEL = 0.05
_STEPS = 40  # halvings of log10 p


@dataclass(frozen=True)
class Bounds:
    """The range of a metric: from 0 to ``high``, which is infinite for a distance.

    The scale without a bound is log(m / (high - m)), or log(m) where nothing bounds it above.
    """

    high: float

    def holds(self, values: Array) -> bool:
        """Whether all values lie within it, but for rounding; NaN counts for nothing."""
        slack = 1e-9 * self.high if np.isfinite(self.high) else 0.0
        return not (np.any(values < -slack) or np.any(values > self.high + slack))

    def limits(self, mean: Array, off: Array) -> tuple[Array, Array]:
        """Where a mean in the range comes to, ``off`` down and up on the scale without a bound.

        ``off`` is in the unit of the mean: the slope of the scale there is taken out (delta method). A mean
        on the bound stays there, for then all its scores are equal, and one that is off by nothing is its own
        limit, to the bit.
        """
        slope = mean * (1 - mean / self.high)
        inside = (slope > 0) & (off > 0)
        step = np.divide(off, slope, out=np.zeros_like(off), where=inside)
        odds = np.divide(mean, 1 - mean / self.high, out=np.zeros_like(mean), where=inside)
        with np.errstate(over="ignore"):
            low, high = odds * np.exp(-step), odds * np.exp(step)
        if np.isfinite(self.high):  # from odds back to means, without dividing infinity by infinity
            low = low / (1 + low / self.high)
            high = self.high - self.high / (1 + high / self.high)
        return np.where(inside, low, mean), np.where(inside, high, mean)


@dataclass(frozen=True)
class Spread:
    """What ``crossed`` finds, each of the batch's shape: the mean, its standard error, and the share of
    seeds in its variance (0..1)."""

    mean: Array
    error: Array
    share: Array

    @property
    def varies(self) -> NDArray[np.bool_]:
        """Whether there is any spread, beyond rounding."""
        return np.asarray(self.error > 1e-9 * np.abs(self.mean))


def crossed(values: Array) -> Spread:
    """Mean and standard error of (..., S, C) complete values, as a two-way layout of seeds and cases.

    With the mean squares of seeds A, of cases B and of the rest E, the squared error is
    (A + max(B - E, 0)) / (S C): the variance of an arm's difference in studies of several readers and several
    cases, with trainings in the place of readers (Dorfman, Berbaum and Metz 1992, Investigative Radiology
    27(9); Hillis, Berbaum and Metz 2008, Academic Radiology 15(5)). For one seed it is B / C, that of the
    mean over cases. Needs two cases.
    """
    seeds, cases = values.shape[-2:]
    mean = values.mean(axis=(-2, -1))
    by_seed, by_case = values.mean(axis=-1) - mean[..., None], values.mean(axis=-2) - mean[..., None]
    over_cases = seeds * (by_case**2).sum(axis=-1) / (cases - 1)
    over_seeds = np.zeros_like(mean)
    if seeds > 1:
        over_seeds = cases * (by_seed**2).sum(axis=-1) / (seeds - 1)
        rest = values - mean[..., None, None] - by_seed[..., :, None] - by_case[..., None, :]
        left = (rest**2).sum(axis=(-2, -1)) / ((seeds - 1) * (cases - 1))
        over_cases = np.maximum(over_cases - left, 0)
    total = over_seeds + over_cases
    share = np.divide(over_seeds, total, out=np.zeros_like(total), where=total > 0)
    return Spread(mean, np.sqrt(total / (seeds * cases)), share)


def critical(share: Array, seeds: int, cases: int, p: Array) -> Array:
    """Standard errors that a mean is off with probability ``p``, both sides together.

    The t quantiles of both levels, weighted by the share of each in the variance: Cochran's rule for two
    variances (Cochran and Cox 1957, Experimental Designs; Cochran 1964, Biometrics 20(1)). Seeds have S - 1
    degrees of freedom. Cases have half of C - 1: a variance of n values with excess kurtosis k is as
    uncertain as that of normal ones with (n - 1) / (1 + k / 2) degrees of freedom or a little more, and
    scores of cases, skewed as they are near a bound, get k = 2. With all of C - 1 intervals over 8 skewed
    cases hold in 88 to 93 %, with half of it in 93 % and more; over 8 normal ones they then hold in 98 %.
    """
    from scipy.special import stdtrit

    of_cases = -stdtrit((cases - 1) / 2, p / 2)
    if seeds < 2:
        return np.asarray(of_cases)
    return np.asarray(share * -stdtrit(seeds - 1, p / 2) + (1 - share) * of_cases)


def of_mean(spread: Spread, seeds: int, cases: int, bounds: Bounds) -> tuple[Array, Array]:
    """The 95 % interval of means over S seeds and C cases."""
    off = critical(spread.share, seeds, cases, np.asarray(LEVEL)) * spread.error
    return bounds.limits(spread.mean, off)


def mean_is_open(low: Array, high: Array, bounds: Bounds) -> NDArray[np.bool_]:
    """Whether an interval says next to nothing of a mean: it is wider than half of the range, or leaves open
    the distance's order of magnitude (a factor of ten)."""
    if np.isfinite(bounds.high):
        return np.asarray(high - low > bounds.high / 2)
    return np.asarray(high > 10 * low)


@dataclass(frozen=True)
class Difference:
    """Means of ``a`` and ``b`` over the same seeds and cases, and the spread of a - b.

    ``own`` is how much of the difference's squared error comes from a alone: half of (its own + the error of
    a - that of b, squared), for what both share has cancelled. The limits of a - b are those of two
    independent means with these errors, joined as Newcombe 1998 (Statistics in Medicine 17) and Zou and
    Donner 2008 (Statistics in Medicine 27(10)) join them: the root of the sum of both squared distances. They
    stay within what a difference can be, and near the middle of the range they are those of t.
    """

    a: Array
    b: Array
    own: Array
    spread: Spread

    @classmethod
    def of(cls, a: Array, b: Array) -> Difference:
        """Of complete values (..., S, C) each."""
        one, other, gap = crossed(a), crossed(b), crossed(a - b)
        whole = gap.error**2
        return cls(one.mean, other.mean, np.clip((whole + one.error**2 - other.error**2) / 2, 0, whole), gap)

    def limits(self, standard_errors: Array, bounds: Bounds) -> tuple[Array, Array]:
        """So many standard errors to both sides."""
        own = np.sqrt(self.own), np.sqrt(np.maximum(self.spread.error**2 - self.own, 0))
        a_low, a_high = bounds.limits(self.a, standard_errors * own[0])
        b_low, b_high = bounds.limits(self.b, standard_errors * own[1])
        low = self.spread.mean - np.hypot(self.a - a_low, b_high - self.b)
        high = self.spread.mean + np.hypot(a_high - self.a, self.b - b_low)
        return np.maximum(low, -bounds.high), np.minimum(high, bounds.high)

    def interval(self, seeds: int, cases: int, bounds: Bounds) -> tuple[Array, Array]:
        """The 95 % interval of a - b."""
        return self.limits(critical(self.spread.share, seeds, cases, np.asarray(LEVEL)), bounds)

    def is_open(self, low: Array, high: Array, bounds: Bounds) -> NDArray[np.bool_]:
        """Whether an interval says next to nothing: it holds 0, and is wider than half of the range, or than
        both distances together."""
        most = bounds.high / 2 if np.isfinite(bounds.high) else self.a + self.b
        return np.asarray((low <= 0) & (high >= 0) & (high - low > most))

    def p(self, seeds: int, cases: int, bounds: Bounds) -> Array:
        """The two-sided p of equal means: the level at which the interval just reaches 0, found by halving
        log p, so it is below 0.05 exactly where ``interval`` leaves out 0.

        1e-12 where it is below. Without any spread there is no test: NaN, and 1 for a difference of 0.
        """
        spread = self.spread

        def reached(p: Array) -> NDArray[np.bool_]:
            low, high = self.limits(critical(spread.share, seeds, cases, p), bounds)
            return np.asarray((low <= 0) & (high >= 0))

        none = np.where(spread.mean == 0, 1.0, np.nan)
        return np.asarray(np.where(spread.varies, level_where(reached, spread.mean), none))


def level_where(reached: Callable[[Array], NDArray[np.bool_]], like: Array) -> Array:
    """The largest p, of the shape of ``like``, at which an interval of that level still ``reached`` 0, found
    by halving log p; 1e-12 where it is below."""
    least, most = np.full_like(like, -12.0), np.zeros_like(like)
    for _ in range(_STEPS):
        middle = (least + most) / 2
        still = reached(10.0**middle)
        least, most = np.where(still, middle, least), np.where(still, most, middle)
    return np.asarray(10.0 ** ((least + most) / 2))
