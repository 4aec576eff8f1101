"""Ranks of methods over datasets or cases, and which of them cannot be told apart.

Demšar 2006 (JMLR 7) draws mean ranks on a line and joins methods that no test tells apart. Of the tests that
may stand behind the joins we take pairwise ones with Holm's correction, as Benavoli, Corani and Mangili 2016
(JMLR 17) advise: Nemenyi's test of two methods depends on which others are in the table.

Over datasets the test of two methods is Wilcoxon's signed-rank test on their means. Over the cases of one
dataset all cases share the trainings, which a test over cases would take for given; there it is the test of
the paired differences (``stats.difference``), over cases and seeds.

Where empty predictions count as distance 0 or are left out, the case (or dataset) that has most of them ranks
last, whatever its score: an empty prediction is never best. Such a method is not tested, nor set in bold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sfrbench.maths import stats
from sfrbench.maths.intervals import LEVEL
from sfrbench.maths.metric_names import METRICS
from sfrbench.maths.stats import Array
from sfrbench.results.axes import axis_text, point_texts
from sfrbench.results.lines import Line, lines, subset_of
from sfrbench.results.measures import bounds_of, flattered, flattery

if TYPE_CHECKING:
    from sfrbench.report.facts.info import ReportInfo

DATASET = "dataset"
_LEAST_CASES = 6  # below it no signed-rank test reaches 0.05, and ranks are too coarse to join


@dataclass(frozen=True)
class Place:
    """A method in the table of ranks: its line, or one for each dataset."""

    name: str
    lines: Sequence[Line]

    def behind(self) -> dict[str, Any]:
        """What the rank stands on."""
        arm = self.lines[0].arm
        sides = [line.behind() for line in self.lines]
        return {"row": self.name, "arm": arm, "match": {"arm": arm, "method": self.name}, "sides": sides}


@dataclass(frozen=True)
class Ranking:
    """Methods from best to worst. ``scores`` and ``ranks`` are (methods, blocks); ``p`` holds Holm's p
    of each pair of places, or is None if no test is possible, for the reason ``why``."""

    over: str  # 'datasets' or 'cases'
    names: tuple[str, ...]
    lines: tuple[tuple[Line, ...], ...]
    blocks: tuple[str, ...]
    scores: Array
    ranks: Array
    friedman: float | None
    p: Mapping[tuple[int, int], float | None] | None
    why: str = ""
    gaps: tuple[str, ...] = ()  # methods and blocks that are left out, with the reason
    flattery: Mapping[int, str] = field(default_factory=dict)  # place -> which empty predictions, where any

    @property
    def mean_ranks(self) -> list[float]:
        return [float(rank) for rank in self.ranks.mean(axis=1)]

    def places(self) -> list[Place]:
        """What the row of each method stands on."""
        return [Place(name, own) for name, own in zip(self.names, self.lines, strict=True)]

    def apart(self, one: int, other: int) -> bool:
        """Whether two places are told apart at 0.05."""
        found = (self.p or {}).get((min(one, other), max(one, other)))
        return found is not None and found < LEVEL

    def cliques(self) -> list[tuple[int, int]]:
        """First and last place of every longest run in which no two methods are told apart."""
        runs: list[tuple[int, int]] = []
        for first in range(len(self.names)):
            last = first
            while last + 1 < len(self.names) and not any(
                self.apart(place, last + 1) for place in range(first, last + 1)
            ):
                last += 1
            if last > first and not any(low <= first and last <= high for low, high in runs):
                runs.append((first, last))
        return runs

    def without_bar(self) -> list[str]:
        """The pairs that are not told apart and lie in no run."""
        runs = self.cliques()
        return [
            f"{self.names[one]} and {self.names[other]}"
            for one, other in combinations(range(len(self.names)), 2)
            if not self.apart(one, other) and not any(low <= one and other <= high for low, high in runs)
        ]


@dataclass(frozen=True)
class _Method:
    """A method's lines (one for each dataset, else one), and its score in each block; NaN where all of it was
    left out for an empty prediction. ``empty`` counts such in each block, ``flattery`` says it."""

    name: str
    lines: tuple[Line, ...]
    scores: Mapping[str, float]
    empty: Mapping[str, float] = field(default_factory=dict)
    flattery: str = ""


def ranking(frame: pd.DataFrame, info: ReportInfo, metric: str) -> Ranking | str:
    """The ranks of the methods by a metric, or why there are none."""
    subset = subset_of(frame)
    every = lines(frame, info.grid, subset)
    over = "datasets" if len(info.axes.get(DATASET, ())) > 1 else "cases"
    methods = _over_datasets(every, metric) if over == "datasets" else _over_cases(every, metric)
    gaps = [f"{one.name}: {_reason(one)}" for one in methods if not one.scores]
    methods = [one for one in methods if one.scores]
    names = list(dict.fromkeys(block for one in methods for block in one.scores))
    blocks = [block for block in names if all(block in one.scores for one in methods)]
    if len(blocks) < len(names):
        gaps.append(f"{len(names) - len(blocks)} of {len(names)} {over}: not scored for every method")
    if len(methods) < 2 or not blocks:
        what = "fewer than two methods have a result" if len(methods) < 2 else f"no {over} in common"
        return f"No ranks: {what}. {' '.join(f'{gap}.' for gap in gaps)}".strip()
    scores = np.array([[one.scores[block] for block in blocks] for one in methods])
    empty = np.array([[one.empty.get(block, 0.0) for block in blocks] for one in methods])
    ranks = _ranks(scores, METRICS[metric].larger, empty)
    order = [int(place) for place in np.argsort(ranks.mean(axis=1), kind="stable")]
    methods, scores, ranks = [methods[place] for place in order], scores[order], ranks[order]
    why = _too_small(over, len(methods), len(blocks))
    return Ranking(
        over,
        tuple(one.name for one in methods),
        tuple(one.lines for one in methods),
        tuple(blocks),
        scores,
        ranks,
        None if why else _friedman(ranks),
        None if why else _tests(over, methods, scores, metric),
        why,
        tuple(gaps),
        {place: one.flattery for place, one in enumerate(methods) if one.flattery},
    )


def _over_datasets(every: Sequence[Line], metric: str) -> list[_Method]:
    """One method for each arm and point of the other axes; its mean on each dataset."""
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in every:
        rest = point_texts(line.axes, without=DATASET)
        groups.setdefault((line.arm, ", ".join([line.label, *rest])), []).append(line)
    made = []
    for (_, name), own in groups.items():
        sets = {axis_text(line.axes.get(DATASET)): line for line in own}
        means = {key: line.stat(metric).mean for key, line in sets.items()}
        known = {key: mean for key, mean in means.items() if mean is not None}
        empty = {
            key: len(flat) / (len(line.cases) * len(line.results) * len(line.classes))
            for key, line in sets.items()
            if len(flat := flattered(line, metric))
        }
        told = "; ".join(f"{key}: {flattery(line, metric)}" for key, line in sets.items() if key in empty)
        made.append(_Method(name, tuple(own), {**dict.fromkeys(empty, np.nan), **known}, empty, told))
    return made


def _over_cases(every: Sequence[Line], metric: str) -> list[_Method]:
    """One method for each line; the mean of each case over classes and seeds."""
    made = []
    for line in every:
        means = stats.case_means(line.cube(metric)) if line.seeds else np.empty(0)
        known = {
            case: float(mean) for case, mean in zip(line.cases, means, strict=True) if not np.isnan(mean)
        }
        flat = flattered(line, metric)["case"].value_counts()
        empty = {str(case): count / len(line.results) for case, count in flat.items()}
        known = {**dict.fromkeys(empty, np.nan), **known}
        known = {case: known[case] for case in line.cases if case in known}
        made.append(_Method(line.short(every), (line,), known, empty, flattery(line, metric)))
    return made


def _reason(method: _Method) -> str:
    reasons = dict.fromkeys(reason for line in method.lines for _, reason in line.missing)
    return "; ".join(reasons) or "not scored"


def _ranks(scores: Array, larger: bool, empty: Array) -> Array:
    """Ranks (methods, blocks), 1 the best: fewest flattering empty predictions first, then by score; equals
    share the mean of their ranks."""
    from scipy.stats import rankdata

    keys = np.where(np.isnan(scores), np.inf, -scores if larger else scores)
    keys = rankdata(empty, axis=0, method="dense") * (len(scores) + 1) + rankdata(
        keys, axis=0, method="dense"
    )
    return np.asarray(rankdata(keys, axis=0))


def _too_small(over: str, methods: int, blocks: int) -> str:
    """Why no test could tell any two apart, where none could."""
    pairs = methods * (methods - 1) // 2
    if methods < 3:
        return "with two methods the paired difference says it all"
    if over == "cases" and blocks < _LEAST_CASES:
        return f"{blocks} cases are too few, at least {_LEAST_CASES} are needed"
    least = next(n for n in range(1, 64) if pairs * 2.0 / 2**n <= LEVEL)
    if over == "datasets" and blocks < least:
        return (
            f"{blocks} datasets are too few: Holm's correction for {pairs} pairs leaves nothing below 0.05 "
            f"with fewer than {least}"
        )
    return ""


def _friedman(ranks: Array) -> float | None:
    """p of Friedman's test that all methods rank alike; None if every block ties all of them."""
    if not np.ptp(ranks, axis=0).any():
        return None
    from scipy.stats import friedmanchisquare

    return float(friedmanchisquare(*ranks).pvalue)


def _tests(
    over: str, methods: Sequence[_Method], scores: Array, metric: str
) -> dict[tuple[int, int], float | None]:
    pairs = list(combinations(range(len(methods)), 2))
    own = [method.lines[0] for method in methods]
    least = min(2, max(len(line.results) for line in own))
    ps: list[float | None] = []
    for one, other in pairs:
        if methods[one].flattery or methods[other].flattery:
            ps.append(None)
        elif over == "datasets":
            ps.append(stats.wilcoxon(scores[one] - scores[other]))
        else:
            ps.append(_paired(own[one], own[other], metric, least))
    return dict(zip(pairs, stats.holm(ps), strict=True))


def _paired(one: Line, other: Line, metric: str, least: int) -> float | None:
    """p of the paired difference; None for fewer common seeds than ``least``, a p of another kind."""
    seeds, cases = one.common(other)
    if len(seeds) < least or not cases:
        return None
    a, b = (line.cube(metric, cases, seeds) for line in (one, other))
    return stats.difference(a, b, bounds_of(metric))[1]
