"""The table of paired differences between arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from sfrbench.files.units import counted
from sfrbench.maths import stats
from sfrbench.maths.metric_names import METRICS
from sfrbench.report.render import captions
from sfrbench.report.render.style import DASH, judged, number, p_value, signed, span, verdict
from sfrbench.report.render.tables import Entry, Notes, Table, unmarked
from sfrbench.results import dead
from sfrbench.results.axes import axis_texts, point_texts
from sfrbench.results.lines import Line, header, lines, subset_of
from sfrbench.results.measures import bounds_of, flattery

if TYPE_CHECKING:
    from sfrbench.report.facts.info import ReportInfo


_TWO_SEEDS = "two seeds: how much trainings vary is hardly known, so the interval is wide"
HELD = "one result, held against every seed of the other: nothing is said of other trainings of it"
_CROSSED = "over cases and seeds as two crossed levels, so they speak of other cases and other trainings"
_FEW = (
    "Fewer than six cases: interval and p lean on a normal distribution, which so few cannot show; Wilcoxon "
    "cannot fall below 0.05."
)
_NOTHING = "no case, seed or point in common"
ONE_SEED = "one seed: the interval is over cases only, and says nothing of other trainings"


class Operand(Protocol):
    """What a difference is taken of."""

    @property
    def arm(self) -> str: ...
    def behind(self) -> dict[str, Any]: ...


def difference(name: str, match: Mapping[str, str], one: Operand, other: Operand) -> dict[str, Any]:
    """What a row of ``one`` minus ``other`` stands on, for provenance.json: both of them."""
    return {
        "row": name,
        "arm": f"{one.arm} − {other.arm}",
        "match": dict(match),
        "sides": [one.behind(), other.behind()],
    }


@dataclass(frozen=True)
class Pair:
    """Two lines whose difference stands in a row."""

    one: Line
    other: Line

    @property
    def name(self) -> str:
        return ", ".join([f"{self.one.label} − {self.other.label}", *point_texts(self.one.axes)])

    def behind(self) -> dict[str, Any]:
        """What the difference stands on: both lines."""
        match = {"a": self.one.arm, "b": self.other.arm, **axis_texts(self.one.axes)}
        return difference(self.name, match, self.one, self.other)


def pairs_table(
    frame: pd.DataFrame,
    info: ReportInfo,
    wanted: Sequence[tuple[str, str]],
    metrics: Sequence[str],
    name: str,
) -> tuple[list[Table], list[Pair]]:
    """Paired differences of the ``wanted`` arms, at each point of the axes that both arms have."""
    subset = subset_of(frame)
    every = lines(frame, info.grid, subset)
    notes = Notes()
    compared: list[tuple[Line, Line, str, stats.Paired | None, list[str]]] = []
    for a, b in wanted:
        for one, other in same_points(every, str(a), str(b)):
            for metric in metrics:
                if one.point == other.point:
                    result, why = compare(one, other, metric)
                else:
                    result, why = None, _lost(one, other) or [_NOTHING]
                compared.append((one, other, metric, result, why))
    adjusted = stats.holm([result.p if result else None for *_, result, _ in compared])
    rows, data = [], []
    for (one, other, metric, result, why), corrected in zip(compared, adjusted, strict=True):
        texts = _texts(one, other, metric, result, corrected, frame)
        mark = "".join(notes.mark(text) for text in why)
        rows.append(tuple(Entry(text, marks=mark if index == 0 else "") for index, text in enumerate(texts)))
        record = _record(one, other, metric, result, texts)
        record |= {"subset": subset, "profile": info.profile, "protocol": info.protocol}
        record |= {"note": "; ".join(why)}
        data.append(record)
    heads = ("A − B", "Metric", "Difference", "95 % interval", "p", "p (Holm)", "effect r", "p (Wilcoxon)")
    table = Table(
        name,
        "Paired differences.",
        f"A − B on {captions.subset_text(subset)}, mean over cases, classes and seeds.",
        (*heads, "n", "seeds"),
        tuple(rows),
        notes.listed,
        tuple(data),
        captions.tail(info),
        2,
        rules=_rules([result for *_, result, _ in compared if result]),
    )
    pairs = {(id(one), id(other)): Pair(one, other) for one, other, *_ in compared}
    return [unmarked(table)], list(pairs.values())


def same_points(every: Sequence[Line], a: str, b: str) -> list[tuple[Line, Line]]:
    """The lines of two arms, point by point; where they share none, their first lines, to show the gap."""
    ones = [line for line in every if line.arm == a]
    others = {line.point: line for line in every if line.arm == b}
    both = [(line, others[line.point]) for line in ones if line.point in others]
    return both or [(one, other) for one in ones[:1] for other in list(others.values())[:1]]


def compare(one: Line, other: Line, metric: str) -> tuple[stats.Paired | None, list[str]]:
    """The comparison over common seeds and cases, why there is none or only a part, and what is special."""
    seeds, cases = one.common(other)
    why = _lost(one, other)
    if not seeds or not cases:
        return None, why or [_NOTHING]
    names = _names(one, other)
    why += [
        dead.note(dead.find(line.frame, seeds[:1] if line.is_one else seeds, cases), name)
        for line, name in zip((one, other), names, strict=True)
    ]
    why = [text for text in why if text]
    a, b = (line.cube(metric, cases, seeds) for line in (one, other))
    result = stats.paired(a, b, bounds_of(metric))
    gap = result.difference
    if gap.low is None:
        why.append(f"no interval{' and no test' if result.p is None else ''}: {gap.why}")
    elif gap.low == gap.high == 0:
        why.append("equal in every case: what differs between A and B has no effect")
    why += [
        f"{METRICS[metric].label} of {name}: {flat}"
        for line, name in zip((one, other), names, strict=True)
        if (flat := flattery(line, metric))
    ]
    if len(seeds) > 1:
        why += [f"{name}: {HELD}" for line, name in zip((one, other), names, strict=True) if line.is_one]
    if len(seeds) < 3 and gap.low is not None:
        why.append(ONE_SEED if len(seeds) == 1 else _TWO_SEEDS)
    return result, why


def _names(one: Line, other: Line) -> tuple[str, str]:
    """What tells two lines apart: their labels, or these and their points."""
    return (one.label, other.label) if one.label != other.label else (one.name, other.name)


def _lost(one: Line, other: Line) -> list[str]:
    """The seeds that either line lacks, with the reason."""
    found: dict[tuple[str, str], list[int]] = {}
    for line, name in zip((one, other), _names(one, other), strict=True):
        for seed, reason in line.missing:
            found.setdefault((name, reason), []).append(seed)
    return [
        f"{name}, seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}: {reason}"
        for (name, reason), seeds in found.items()
    ]


def _difference(one: Line, other: Line, metric: str) -> stats.Array:
    seeds, cases = one.common(other)
    return np.asarray(one.cube(metric, cases, seeds) - other.cube(metric, cases, seeds))


def _rules(results: Sequence[stats.Paired]) -> tuple[str, ...]:
    tested = sum(result.p is not None for result in results)
    said = [
        "Better, worse: A's mean against B's by the metric, whatever the sign.",
        captions.ARROWS,
        f"Interval and p: {reach(results)}; within the range of the metric, and none where it would say next "
        "to nothing.",
        f"Holm: p corrected for {counted(tested, 'comparison')} of this table.",
        "Effect r: matched-pairs rank-biserial, 1 where A is larger in every case, −1 where in none; p "
        "(Wilcoxon): signed-rank, two-sided, not corrected. Both take one difference per case, its mean over "
        "seeds, and speak of these trainings only.",
        *few_cases(results),
    ]
    return tuple(said)


def reach(results: Sequence[stats.Paired]) -> str:
    """What the intervals of differences are over, and speak of."""
    alone = bool(results) and all(result.difference.seeds == 1 for result in results)
    return "over cases, of one training each" if alone else _CROSSED


def few_cases(results: Sequence[stats.Paired]) -> list[str]:
    """What is to be said of differences over a handful of cases."""
    few = any(result.p is not None and result.difference.cases < 6 for result in results)
    return [_FEW] if few else []


def _texts(
    one: Line,
    other: Line,
    metric: str,
    result: stats.Paired | None,
    corrected: float | None,
    frame: pd.DataFrame,
) -> list[str]:
    """One row as it is printed."""
    gap = result.difference if result else None
    return [
        Pair(one, other).name,
        header(frame, metric),
        judged(gap.mean if gap else None, METRICS[metric].larger),
        span(gap.low, gap.high) if gap else DASH,
        p_value(result.p if result else None),
        p_value(corrected),
        signed(result.effect if result else None),
        p_value(result.wilcoxon if result else None),
        str(gap.cases) if gap else "0",
        str(gap.seeds) if gap else "0",
    ]


def _record(
    one: Line, other: Line, metric: str, result: stats.Paired | None, texts: Sequence[str]
) -> dict[str, str]:
    """One row of the CSV; the bootstrap's percentile interval stands beside the table's own."""
    gap = result.difference if result else None
    boot = stats.bootstrap(_difference(one, other, metric)) if result else None
    record = {"a": one.arm, "b": other.arm, **axis_texts(one.axes)}
    record |= {"metric": metric, "difference": number(gap.mean if gap else None)}
    record |= {"verdict": verdict(gap.mean if gap else None, METRICS[metric].larger)}
    record |= {"low": number(gap.low if gap else None), "high": number(gap.high if gap else None)}
    record |= dict(zip(("p", "p_holm", "effect_r", "p_wilcoxon", "n", "seeds"), texts[4:], strict=True))
    record |= {"effect_r": number(result.effect if result else None)}
    low, high = boot or (None, None)
    record |= {"bootstrap_low": number(low), "bootstrap_high": number(high)}
    return {key: "" if value == DASH else value for key, value in record.items()}
