"""Means, intervals and paired differences of per-case scores.

Scores come as an array (S, C, K): seeds, cases, classes, float64, NaN where nothing was scored. Every
number here is the tables' own mean: over cases per class, then over classes, then over seeds, each
unweighted. Effect and interval come first, p second; with fewer than two cases there is neither.

Interval and p answer one question: where would the mean lie with other cases of this kind and other
trainings? ``intervals`` works them out within the bounds of the metric; one that would say next to nothing is
none, with the reason. ``benchmarks/intervals.py`` measures how often they hold, and prints what plain
bootstrap and Wilcoxon do beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sfrbench.maths import intervals
from sfrbench.maths.intervals import Array as Array
from sfrbench.maths.intervals import Bounds

DRAWS = 2000
_TOO_FEW = "fewer than two cases"


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval; ``low`` and ``high`` are None if there is no interval, for the reason
    ``why``.

    ``seeds`` and ``cases`` count what stands behind it; ``covers`` says what the interval covers.
    """

    mean: float
    low: float | None
    high: float | None
    seeds: int
    cases: int
    why: str = ""

    @property
    def covers(self) -> str:
        if self.low is None:
            return f"no interval: {self.why}"
        if self.seeds < 2:
            return "cases only: with one seed, variation between trainings is not covered"
        return f"cases and {self.seeds} seeds"


@dataclass(frozen=True)
class Paired:
    """A - B over the same cases and seeds.

    ``p`` belongs to the interval: below 0.05 exactly where there is one that leaves out 0. ``wilcoxon`` and
    ``effect`` (rank-biserial, -1..1) are of one difference per case and speak of these trainings only.
    Each is none where there is too little for it.
    """

    difference: Interval
    p: float | None
    wilcoxon: float | None
    effect: float | None


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


def mean_interval(values: Array, bounds: Bounds) -> Interval:
    """The mean and its 95 % interval over cases and seeds, within the bounds of the metric.

    In simulations with effects of cases, of trainings and a rest it covers 93 % and more, near the bounds
    too; the plain percentile bootstrap covers 79 to 94 % with three seeds. With one seed it is over cases
    alone. It does not cover another choice of labelled cases, which all seeds share. Where some values are
    not scored, the error is that of the linearised mean (``_linearised``).
    """
    mean, table = grand_mean(values), _linearised(values)
    seeds, cases = table.shape
    if cases < 2:
        return Interval(mean, None, None, values.shape[0], cases, _TOO_FEW)
    if not bounds.holds(values):
        return Interval(mean, None, None, seeds, cases, "scores beyond the range of the metric")
    spread = intervals.crossed(table)
    if not spread.varies:
        return Interval(mean, None, None, seeds, cases, "the same score in every case and seed")
    low, high = intervals.of_mean(spread, seeds, cases, bounds)
    why = _says_nothing(spread, seeds, cases) if intervals.mean_is_open(low, high, bounds) else ""
    return _interval(mean, low, high, seeds, cases, why)


def difference(a: Array, b: Array, bounds: Bounds) -> tuple[Interval, float | None]:
    """a - b of two arms on the same seeds, cases and classes, both (S, C, K), and the p that goes with it.

    A value counts only where both arms have one. An interval that leaves out 0 is given however wide it is.
    Raises ``ValueError`` for unequal shapes.
    """
    if a.shape != b.shape:
        raise ValueError(f"unequal shapes: {a.shape} and {b.shape}")
    lost = np.isnan(a - b)
    a, b = np.where(lost, np.nan, a), np.where(lost, np.nan, b)
    mean, table = grand_mean(a - b), _linearised(a)
    seeds, cases = table.shape
    if cases < 2:
        return Interval(mean, None, None, a.shape[0], cases, _TOO_FEW), None
    if not (bounds.holds(a) and bounds.holds(b)):
        return Interval(mean, None, None, seeds, cases, "scores beyond the range of the metric"), None
    gap = intervals.Difference.of(table, _linearised(b))
    p = float(gap.p(seeds, cases, bounds))
    if np.isnan(p):
        return Interval(mean, None, None, seeds, cases, "the same difference in every case and seed"), None
    low, high = gap.interval(seeds, cases, bounds)
    why = _says_nothing(gap.spread, seeds, cases) if gap.is_open(low, high, bounds) else ""
    return _interval(mean, low, high, seeds, cases, why), p


def _interval(mean: float, low: Array, high: Array, seeds: int, cases: int, why: str) -> Interval:
    return Interval(mean, None if why else float(low), None if why else float(high), seeds, cases, why)


def _says_nothing(spread: intervals.Spread, seeds: int, cases: int) -> str:
    """Why an interval is wider than what it could tell."""
    differ = f"{seeds} seeds" if spread.share > 0.5 else f"{cases} cases"
    return f"{differ} differ so much that it would say next to nothing"


def paired(a: Array, b: Array, bounds: Bounds) -> Paired:
    """The difference a - b of two arms on the same seeds, cases and classes, both (S, C, K).

    Interval and p are of ``difference``. Wilcoxon's signed-rank test and the rank-biserial effect are of one
    difference per case, its mean over classes and seeds. They take the trainings as given: two arms of equal
    worth whose trainings happened to fall apart differ in most cases, and Wilcoxon then calls it real. Raises
    ``ValueError`` for unequal shapes.
    """
    interval, p = difference(a, b, bounds)
    if interval.cases < 2:
        return Paired(interval, None, None, None)
    per_case = case_means(a - b)
    known = per_case[~np.isnan(per_case)]
    return Paired(interval, p, wilcoxon(known), rank_biserial(known))


def wilcoxon(differences: Array) -> float | None:
    """Two-sided p of the signed-rank test on (n,) differences; 1 where none differs, None for n < 2.

    With n differences it cannot fall below 2 / 2^n: not below 0.05 for fewer than six.
    """
    if differences.size < 2:
        return None
    if not differences.any():
        return 1.0
    from scipy import stats

    return float(stats.wilcoxon(differences).pvalue)


def rank_biserial(differences: Array) -> float | None:
    """Matched-pairs rank-biserial correlation of (n,) differences, -1..1; None for n < 2 or no difference.

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
    """Percentile interval (95 %) of the mean from a two-level bootstrap; None for fewer than two cases.

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
    """``linearised`` of the seeds and cases that are scored at all: (S', C')."""
    known = ~np.isnan(values)
    return linearised(values[known.any(axis=(1, 2))][:, known.any(axis=(0, 2))])


def linearised(values: Array) -> Array:
    """(S, C, K) to (S, C): values whose mean is the grand mean, though some are not scored.

    A case stands for its seed's mean plus C times what it adds to it: by Taylor's expansion of the mean over
    scored cases, (value - class mean) / n for each class, averaged over classes. Where all is scored that is
    the case's own mean over classes; a case that a seed did not score adds nothing, and a seed that scored
    nothing is NaN.
    """
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
