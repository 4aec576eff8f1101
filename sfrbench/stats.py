"""Means, intervals and paired differences of per-case scores.

Scores come as an array (S, C, K): seeds, cases, classes, float64, NaN where nothing was scored. Every
number here is the tables' own mean: over cases per class, then over classes, then over seeds, each
unweighted. Effect and interval come first, p second; with fewer than two cases there is neither.

Interval and p answer one question: where would the mean lie with other cases of this kind and other
trainings? Cases and seeds are two crossed levels: a case keeps its difficulty in all seeds, a seed shifts all
its cases. ``crossed`` takes the variance of the mean apart, ``critical`` says how many standard errors
95 % take. ``benchmarks/intervals.py`` measures how often that holds, and prints what plain bootstrap and
Wilcoxon do beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
DRAWS = 2000
LEVEL = 0.05


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval; ``low`` and ``high`` are none for fewer than two cases.

    ``seeds`` and ``cases`` count what stands behind it; ``covers`` says what the interval covers.
    """

    mean: float
    low: float | None
    high: float | None
    seeds: int
    cases: int

    @property
    def covers(self) -> str:
        if self.low is None:
            return "no interval: fewer than two cases"
        if self.seeds < 2:
            return "cases only: with one seed, variation between trainings is not covered"
        return f"cases and {self.seeds} seeds"


@dataclass(frozen=True)
class Paired:
    """A - B over the same cases and seeds.

    ``p`` belongs to the interval: below 0.05 exactly where the interval leaves out 0. ``wilcoxon`` and
    ``effect`` (rank-biserial, -1..1) are of one difference per case and speak of these trainings only.
    Each is none where there is too little for it.
    """

    difference: Interval
    p: float | None
    wilcoxon: float | None
    effect: float | None


@dataclass(frozen=True)
class Spread:
    """What ``crossed`` finds, each of the batch's shape: the mean, its standard error, and the share of
    seeds in its variance (0..1)."""

    mean: Array
    error: Array
    share: Array


def grand_mean(values: Array) -> float:
    """Mean over cases per class, then over classes, then over seeds; NaN where nothing is scored."""
    seeds, cases, _ = values.shape
    return float(_weighted(values, np.ones((1, cases)), np.ones((1, seeds)))[0])


def class_means(values: Array) -> Array:
    """(S, C, K) to (S, C): the mean over the classes that are scored, NaN where none is."""
    return nanmean(values, axis=2)


def case_means(values: Array) -> Array:
    """(S, C, K) to (C,): the mean over classes, then over seeds, NaN for a case that nothing scored."""
    return nanmean(class_means(values), axis=0)


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

    The t quantiles of S - 1 and C - 1 degrees of freedom, weighted by the share of each level in the
    variance: Cochran's rule for two variances (Cochran and Cox 1957, Experimental Designs; Cochran 1964,
    Biometrics 20(1)). Satterthwaite's one number of degrees of freedom is a little narrower, and with three
    seeds it lets the error of a whole table after Holm's correction reach 13 % (``benchmarks/intervals.py``).
    """
    from scipy.special import stdtrit

    of_cases = -stdtrit(cases - 1, p / 2)
    if seeds < 2:
        return np.asarray(of_cases)
    return np.asarray(share * -stdtrit(seeds - 1, p / 2) + (1 - share) * of_cases)


def crossed_p(spread: Spread, seeds: int, cases: int) -> Array:
    """The two-sided p that goes with ``critical``: of a true mean of 0, found by halving log p.

    1e-12 where it is below. Without any spread there is no test: NaN, and 1 for a mean of 0.
    """
    known = spread.error > 1e-9 * np.abs(spread.mean)
    off = np.abs(np.divide(spread.mean, spread.error, out=np.zeros_like(spread.mean), where=known))
    low, high = np.full_like(off, -12.0), np.zeros_like(off)
    for _ in range(40):
        middle = (low + high) / 2
        above = critical(spread.share, seeds, cases, 10.0**middle) > off
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.asarray(np.where(known, 10.0 ** ((low + high) / 2), np.where(spread.mean == 0, 1.0, np.nan)))


def mean_interval(values: Array) -> Interval:
    """The mean and its 95 % interval, over cases and seeds: mean ± ``critical`` standard errors.

    In simulations with effects of cases, of trainings and a rest it covers 95 to 99 % with two seeds and
    more; the plain percentile bootstrap covers 79 to 94 % there with three. With one seed it is Student's
    interval over cases. It does not cover another choice of labelled cases, which all seeds share. Where
    some values are not scored, the error is that of the linearised mean (``_linearised``).
    """
    mean, table = grand_mean(values), _linearised(values)
    seeds, cases = table.shape
    if cases < 2:
        return Interval(mean, None, None, values.shape[0], cases)
    spread = crossed(table)
    half = float(critical(spread.share, seeds, cases, np.asarray(LEVEL)) * spread.error)
    return Interval(mean, mean - half, mean + half, seeds, cases)


def paired(a: Array, b: Array) -> Paired:
    """The difference a - b of two arms on the same seeds, cases and classes, both (S, C, K).

    A value counts only where both arms have one. Interval and p are those of the differences over cases and
    seeds. Wilcoxon's signed-rank test and the rank-biserial effect are of one difference per case, its mean
    over classes and seeds. They take the trainings as given: two arms of equal worth whose trainings happened
    to fall apart differ in most cases, and Wilcoxon then calls it real. Raises ``ValueError`` for unequal
    shapes.
    """
    if a.shape != b.shape:
        raise ValueError(f"unequal shapes: {a.shape} and {b.shape}")
    difference = a - b
    interval = mean_interval(difference)
    if interval.low is None:
        return Paired(interval, None, None, None)
    per_case = case_means(difference)
    known = per_case[~np.isnan(per_case)]
    return Paired(interval, mean_p(difference), wilcoxon(known), rank_biserial(known))


def mean_p(values: Array) -> float | None:
    """The two-sided p of a mean of 0 that goes with ``mean_interval``; none where there is no test."""
    table = _linearised(values)
    if table.shape[1] < 2:
        return None
    p = float(crossed_p(crossed(table), *table.shape))
    return None if np.isnan(p) else p


def wilcoxon(differences: Array) -> float | None:
    """Two-sided p of the signed-rank test on (n,) differences; 1 where none differs, none for n < 2.

    With n differences it cannot fall below 2 / 2^n: not below 0.05 for fewer than six.
    """
    if differences.size < 2:
        return None
    if not differences.any():
        return 1.0
    from scipy import stats

    return float(stats.wilcoxon(differences).pvalue)


def rank_biserial(differences: Array) -> float | None:
    """Matched-pairs rank-biserial correlation of (n,) differences, -1..1; none for n < 2 or no difference.

    The rank sum of the positive differences less that of the negative ones, as a share of all (Kerby 2014,
    Comprehensive Psychology 3): 1 where A is larger in every case. Zeros are left out, as in the test.
    """
    known = differences[differences != 0]
    if differences.size < 2 or not known.size:
        return None
    from scipy import stats

    ranks = stats.rankdata(np.abs(known))
    return float((ranks * np.sign(known)).sum() / ranks.sum())


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction over the p-values of one table; none stays none and is not counted."""
    known = sorted((p, index) for index, p in enumerate(values) if p is not None)
    adjusted: list[float | None] = [None] * len(values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[index] = largest
    return adjusted


def bootstrap(values: Array, draws: int = DRAWS, seed: int = 0) -> tuple[float, float] | None:
    """Percentile interval (95 %) of the mean from a two-level bootstrap; none for fewer than two cases.

    Cases and seeds are drawn anew as two crossed levels (the "pigeonhole" bootstrap: Owen 2007, Annals of
    Applied Statistics 1(2)); with one seed only cases are. It knows no quantile of t and sees (n - 1) / n of
    each level's variance, so with few seeds it is too narrow: a companion, not the interval of a table.
    """
    seeds, cases, _ = values.shape
    if int((~np.isnan(values)).any(axis=(0, 2)).sum()) < 2:
        return None
    rng = np.random.default_rng(seed)
    drawn = _weighted(values, _counts(rng, cases, draws), _counts(rng, seeds, draws))
    low, high = np.nanpercentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def _linearised(values: Array) -> Array:
    """(S, C, K) to the scored seeds and cases (S', C'): complete values whose mean is the grand mean.

    A case stands for its seed's mean plus C' times what it adds to it: by Taylor's expansion of the mean over
    scored cases, (value - class mean) / n for each class, averaged over classes. Where all is scored that is
    the case's own mean over classes; a case that a seed did not score adds nothing.
    """
    known = ~np.isnan(values)
    values = values[known.any(axis=(1, 2))][:, known.any(axis=(0, 2))]
    known = ~np.isnan(values)
    class_mean = nanmean(values, axis=1)
    n = np.maximum(known.sum(axis=1), 1)
    gap = np.where(known, values - class_mean[:, None, :], 0.0) / n[:, None, :]
    classes = np.maximum((~np.isnan(class_mean)).sum(axis=1), 1)
    added = gap.sum(axis=2) / classes[:, None]
    return np.asarray(nanmean(class_mean, axis=1)[:, None] + values.shape[1] * added)


def _counts(rng: np.random.Generator, n: int, draws: int) -> Array:
    """How often each of ``n`` is drawn when ``n`` are drawn with replacement: (draws, n)."""
    return rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)


def _weighted(values: Array, case_counts: Array, seed_counts: Array) -> Array:
    """``grand_mean`` for each of B draws: counts (B, C) and (B, S) give (B,)."""
    seeds, cases, classes = values.shape
    known = ~np.isnan(values)
    by_case = np.where(known, values, 0.0).transpose(1, 0, 2).reshape(cases, -1)
    shape = (len(case_counts), seeds, classes)
    total = (case_counts @ by_case).reshape(shape)
    weight = (case_counts @ known.transpose(1, 0, 2).reshape(cases, -1).astype(np.float64)).reshape(shape)
    per_class = np.divide(total, weight, out=np.full(shape, np.nan), where=weight > 0)
    per_seed = nanmean(per_class, axis=2)
    seed_weight = seed_counts * ~np.isnan(per_seed)
    whole = (np.nan_to_num(per_seed) * seed_weight).sum(axis=1)
    weights = seed_weight.sum(axis=1)
    return np.asarray(np.divide(whole, weights, out=np.full(len(whole), np.nan), where=weights > 0))


def nanmean(values: Array, axis: int) -> Array:
    """``numpy.nanmean`` without its warning for slices that hold no number: those give NaN."""
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))
