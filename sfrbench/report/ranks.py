"""Ranks of methods over datasets or cases: a table, and the diagram of what cannot be told apart.

Demšar 2006 (JMLR 7) draws mean ranks on a line and joins methods that no test tells apart. Of the tests that
may stand behind the joins we take pairwise ones with Holm's correction, as Benavoli, Corani and Mangili 2016
(JMLR 17) advise: Nemenyi's test of two methods depends on which others are in the table.

Over datasets the test of two methods is Wilcoxon's signed-rank test on their means. Over the cases of one
dataset all cases share the trainings, which a test over cases would take for given; there it is the test of
the paired differences (``stats.paired``), over cases and seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sfrbench import stats
from sfrbench.report import captions, dead, rows
from sfrbench.report.results import METRICS, Line, header, lines, subset_of
from sfrbench.report.style import DASH, axis_text, number, p_value, point_texts
from sfrbench.report.tables import Entry, Notes, Table, rank_entries
from sfrbench.stats import Array

if TYPE_CHECKING:
    from sfrbench.report.info import ReportInfo

DATASET = "dataset"
_NO_TEST = "no test: fewer than two seeds in common, or the same difference everywhere"
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
    of each pair of places, and is none where no test is possible: then ``why`` says so."""

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

    @property
    def mean_ranks(self) -> list[float]:
        return [float(rank) for rank in self.ranks.mean(axis=1)]

    def places(self) -> list[Place]:
        """What the row of each method stands on."""
        return [Place(name, own) for name, own in zip(self.names, self.lines, strict=True)]

    def apart(self, one: int, other: int) -> bool:
        """Whether two places are told apart at 0.05."""
        found = (self.p or {}).get((min(one, other), max(one, other)))
        return found is not None and found < stats.LEVEL

    def cliques(self) -> list[tuple[int, int]]:
        """First and last place of every longest run in which no two methods are told apart."""
        found: list[tuple[int, int]] = []
        for first in range(len(self.names)):
            last = first
            while last + 1 < len(self.names) and not any(
                self.apart(place, last + 1) for place in range(first, last + 1)
            ):
                last += 1
            if last > first and not any(low <= first and last <= high for low, high in found):
                found.append((first, last))
        return found

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
    """A method's lines (one for each dataset, else one) and its score in each block."""

    name: str
    lines: tuple[Line, ...]
    scores: Mapping[str, float]


def ranking(frame: pd.DataFrame, info: ReportInfo, item: Mapping[str, Any]) -> Ranking | str:
    """The ranks of the methods by the item's metric, or why there are none."""
    metric, subset = str(item["ranks"]), subset_of(frame, item)
    every = lines(frame, info, subset)
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
    ranks = _ranks(scores, METRICS[metric][1])
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
        None if why else _friedman(scores),
        None if why else _tests(over, methods, scores, metric),
        why,
        tuple(gaps),
    )


def _over_datasets(every: Sequence[Line], metric: str) -> list[_Method]:
    """One method for each arm and point of the other axes; its mean on each dataset."""
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in every:
        rest = point_texts(line.axes, without=DATASET)
        groups.setdefault((line.arm, ", ".join([line.label, *rest])), []).append(line)
    made = []
    for (_, name), own in groups.items():
        means = {axis_text(line.axes.get(DATASET)): line.stat(metric).mean for line in own}
        made.append(_Method(name, tuple(own), {key: mean for key, mean in means.items() if mean is not None}))
    return made


def _over_cases(every: Sequence[Line], metric: str) -> list[_Method]:
    """One method for each line; the mean of each case over classes and seeds."""
    made = []
    for line in every:
        means = stats.case_means(line.cube(metric)) if line.seeds else np.empty(0)
        known = {
            case: float(mean) for case, mean in zip(line.cases, means, strict=True) if not np.isnan(mean)
        }
        made.append(_Method(line.short(every), (line,), known))
    return made


def _reason(method: _Method) -> str:
    reasons = dict.fromkeys(reason for line in method.lines for _, reason in line.missing)
    return "; ".join(reasons) or "not scored"


def _ranks(scores: Array, larger: bool) -> Array:
    """Ranks (methods, blocks), 1 the best; equals share the mean of their ranks."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(-scores if larger else scores, axis=0))


def _too_small(over: str, methods: int, blocks: int) -> str:
    """Why no test could tell any two apart, where none could."""
    pairs = methods * (methods - 1) // 2
    if methods < 3:
        return "with two methods the paired difference says it all"
    if over == "cases" and blocks < _LEAST_CASES:
        return f"{blocks} cases are too few, at least {_LEAST_CASES} are needed"
    least = next(n for n in range(1, 64) if pairs * 2.0 / 2**n <= stats.LEVEL)
    if over == "datasets" and blocks < least:
        return (
            f"{blocks} datasets are too few: Holm's correction for {pairs} pairs leaves nothing below 0.05 "
            f"with fewer than {least}"
        )
    return ""


def _friedman(scores: Array) -> float | None:
    """p of Friedman's test that all methods rank alike; none where every block ties all of them."""
    if not np.ptp(scores, axis=0).any():
        return None
    from scipy.stats import friedmanchisquare

    return float(friedmanchisquare(*scores).pvalue)


def _tests(
    over: str, methods: Sequence[_Method], scores: Array, metric: str
) -> dict[tuple[int, int], float | None]:
    pairs = list(combinations(range(len(methods)), 2))
    if over == "datasets":
        found = [stats.wilcoxon(scores[one] - scores[other]) for one, other in pairs]
    else:
        own = [method.lines[0] for method in methods]
        least = min(2, max(len(line.seeds) for line in own))
        found = [_paired(own[one], own[other], metric, least) for one, other in pairs]
    return dict(zip(pairs, stats.holm(found), strict=True))


def _paired(one: Line, other: Line, metric: str, least: int) -> float | None:
    """p of the paired difference; none for fewer common seeds than ``least``, a p of another kind."""
    seeds, cases = one.common(other)
    if len(seeds) < least or not cases:
        return None
    return stats.mean_p(one.cube(metric, cases, seeds) - other.cube(metric, cases, seeds))


def ranks_table(
    frame: pd.DataFrame, info: ReportInfo, item: Mapping[str, Any], found: Ranking, name: str
) -> Table:
    """Methods from best to worst: mean rank, mean score, and the test against the best."""
    metric, subset = str(item["ranks"]), subset_of(frame, item)
    notes = Notes()
    datasets = found.blocks if found.over == "datasets" else ()
    best = rank_entries(found.mean_ranks, larger=False, shown=number)
    made, data = [], []
    for place, label in enumerate(found.names):
        p = (found.p or {}).get((0, place))
        against = DASH if place == 0 or p is None else p_value(p)
        mark = notes.mark(found.why or _NO_TEST) if place and p is None else ""
        ranks = [number(rank) for rank in found.ranks[place]] if datasets else []
        marks = "".join(dict.fromkeys(rows.marks_of(line, notes, info) for line in found.lines[place]))
        row = [
            Entry(label, marks=marks),
            Entry(number(found.mean_ranks[place]), best[place]),
            *map(Entry, ranks),
        ]
        mean = Entry(number(float(found.scores[place].mean())))
        for line in found.lines[place]:
            mean = dead.marked(mean, line.dead, notes, line.name if len(found.lines[place]) > 1 else "")
        row += [mean, Entry(against, marks=mark)]
        made.append(tuple(row))
        texts = {"method": label, "arm": found.lines[place][0].arm, "mean_rank": row[1].text}
        texts |= {f"rank_{block}": text for block, text in zip(datasets, ranks, strict=True)}
        texts |= {f"{metric}_mean": number(float(found.scores[place].mean()))}
        texts |= {"p_holm_to_best": "" if against == DASH else against, "over": found.over}
        texts |= {"n": str(len(found.blocks)), "subset": subset}
        data.append(texts | {"profile": info.profile, "protocol": info.protocol, "note": found.why})
    head = header(frame[frame["subset"] == subset], metric)
    return Table(
        name,
        f"Ranks by {METRICS[metric][0]}.",
        caption(found, subset),
        ("Method", "mean rank ↓", *datasets, head, "p to the best (Holm)"),
        tuple(made),
        notes.listed,
        tuple(data),
        captions.tail(info),
    )


def caption(found: Ranking, subset: str) -> str:
    """What the ranks are over, what tells two methods apart, and what is left out."""
    seeds = {seed for own in found.lines for line in own for seed in line.seeds}
    of_cases = f"the {len(found.blocks)} {captions.subset_text(subset)}, each its mean over classes and seeds"
    blocks = f"{len(found.blocks)} datasets" if found.over == "datasets" else of_cases
    said = [f"Mean ranks of {len(found.names)} methods over {blocks}; 1 is best, equals share a rank."]
    if found.p is not None and found.over == "datasets":
        said.append("p: Wilcoxon signed-rank over datasets, two-sided, Holm over all pairs.")
    if found.p is not None and found.over == "cases":
        said.append(
            "p: paired difference over cases and seeds, Holm over all pairs."
            if len(seeds) > 1
            else "p: paired difference over cases, Holm over all pairs; one seed, so these trainings only."
        )
    if found.friedman is not None:
        these = "; it speaks of these trainings only" if found.over == "cases" else ""
        said.append(f"Friedman's test that all rank alike: p {_equals(p_value(found.friedman))}{these}.")
    said += [f"Not tested: {found.why}."] if found.why else []
    said += [f"Left out: {gap}." for gap in found.gaps]
    return " ".join(said)


def _equals(text: str) -> str:
    return text if text.startswith("<") else f"= {text}"
