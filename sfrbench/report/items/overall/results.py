"""Differences of all rows of an effect in one metric, and the mean over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sfrbench.maths import effects, stats
from sfrbench.maths.metric_names import METRICS
from sfrbench.report.items.overall.contrasts import Contrast, Group
from sfrbench.report.items.pairs.table import compare
from sfrbench.results.lines import Line
from sfrbench.results.measures import bounds_of

_LEAST_CASES = 2
Means = tuple[float, float]


@dataclass(frozen=True)
class Row:
    """A contrast in one metric; ``notes`` are why it has no number or only a part, and what is special."""

    contrast: Contrast
    result: stats.Paired | None
    holm: float | None
    notes: tuple[str, ...]
    means: Means | None  # with the change, without

    def verdict(self, larger: bool) -> str:
        """'better' or 'worse' where the whole interval says so; else empty."""
        gap = None if self.result is None else self.result.difference
        if gap is None or gap.low is None or gap.high is None or gap.low <= 0 <= gap.high:
            return ""
        return "better" if (gap.low > 0) == larger else "worse"


@dataclass(frozen=True)
class Results:
    """A group in one metric. ``whole`` is over the rows with a number, none where they cannot be averaged,
    for the reason ``why``."""

    group: Group
    metric: str
    rows: tuple[Row, ...]
    whole: effects.Overall | None
    why: str

    @property
    def shown(self) -> list[Row]:
        """The rows with a number."""
        return [row for row in self.rows if row.result is not None]

    @property
    def means(self) -> Means | None:
        """Means over the rows with a number: with the change, without."""
        known = [row.means for row in self.shown if row.means]
        return (
            (float(np.mean([a for a, _ in known])), float(np.mean([b for _, b in known]))) if known else None
        )

    @property
    def name(self) -> str:
        """What the mean over the rows is called."""
        count, of = len(self.shown), len(self.rows)
        if of == 1:
            return "Mean over one row"
        return f"Mean over {f'all {of}' if count == of else f'{count} of {of}'} {self.group.noun}"

    def behind(self) -> dict[str, Any]:
        """What the mean over the rows stands on: both lines of each."""
        sides = [side for row in self.shown for side in row.contrast.sides()]
        return {"row": self.name, "arm": "", "match": {"row": self.name, "arm": ""}, "sides": sides}

    def count(self, verdict: str) -> int:
        """Rows whose whole interval is on one side."""
        return sum(row.verdict(METRICS[self.metric].larger) == verdict for row in self.rows)


def results_of(group: Group, metric: str) -> Results:
    """Differences of all rows in one metric, corrected for their number, and the mean over them."""
    made = [_compared(contrast, metric) for contrast in group.contrasts]
    adjusted = stats.holm([result.p if result else None for result, *_ in made])
    rows = tuple(
        Row(contrast, result, holm, tuple(notes), means)
        for contrast, (result, notes, means), holm in zip(group.contrasts, made, adjusted, strict=True)
    )
    pairs = [_sides(row.contrast) for row in rows if row.result is not None]
    whole, why = _overall(pairs, metric)
    return Results(group, metric, rows, whole, why)


def _compared(contrast: Contrast, metric: str) -> tuple[stats.Paired | None, list[str], Means | None]:
    if contrast.one is None or contrast.other is None:
        return None, [contrast.why], None
    one, other = contrast.one, contrast.other
    result, notes = compare(one, other, metric)
    if result is None or np.isnan(result.difference.mean):
        return None, notes or ["not scored"], None
    seeds, cases = one.common(other)
    a, b = (line.cube(metric, cases, seeds) for line in (one, other))
    lost = np.isnan(a - b)
    with_it, without = (stats.grand_mean(np.where(lost, np.nan, side)) for side in (a, b))
    return result, notes, (with_it, without)


def _sides(contrast: Contrast) -> tuple[Line, Line]:
    assert contrast.one is not None
    assert contrast.other is not None
    return contrast.one, contrast.other


def _overall(pairs: Sequence[tuple[Line, Line]], metric: str) -> tuple[effects.Overall | None, str]:
    """The mean over rows, on every seed and case that any of them has; or why there is none."""
    common = [one.common(other) for one, other in pairs]
    seeds = sorted({seed for own, _ in common for seed in own})
    shared = set.intersection(*(set(cases) for _, cases in common)) if common else set()
    if len(pairs) > 1 and len(shared) < _LEAST_CASES:
        return None, "they share fewer than two cases"
    if not pairs:
        return None, "none has a result"
    cases = sorted({case for _, own in common for case in own})
    cubes = [
        (_padded(one, metric, seeds, cases, own), _padded(other, metric, seeds, cases, own))
        for (one, other), own in zip(pairs, common, strict=True)
    ]
    return effects.overall(cubes, bounds_of(metric)), ""


def _padded(
    line: Line, metric: str, seeds: Sequence[int], cases: Sequence[str], own: tuple[list[int], list[str]]
) -> stats.Array:
    """Scores (S, C, K) on all ``seeds`` and ``cases``, NaN but for the line's ``own`` of a contrast."""
    whole = np.full((len(seeds), len(cases), len(line.classes)), np.nan)
    places = np.ix_([seeds.index(seed) for seed in own[0]], [cases.index(case) for case in own[1]])
    whole[places] = line.cube(metric, own[1], own[0])
    return whole
