"""The table of paired differences between arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from sfrbench import stats
from sfrbench.report import captions
from sfrbench.report.results import Line, header, lines, subset_of
from sfrbench.report.sections import Notes
from sfrbench.report.style import DASH, axis_text, number, p_value, signed
from sfrbench.report.tables import Entry, Table

if TYPE_CHECKING:
    from sfrbench.report.info import ReportInfo


ONE_SEED = "one seed: the interval is over cases only"


@dataclass(frozen=True)
class Pair:
    """Two lines whose difference stands in a row."""

    one: Line
    other: Line

    @property
    def name(self) -> str:
        point = "".join(f", {path} {axis_text(value)}" for path, value in self.one.axes.items())
        return f"{self.one.label} − {self.other.label}{point}"

    def behind(self) -> dict[str, Any]:
        """What the difference stands on: both lines."""
        own = self.one.behind()
        axes = {path: text for path, text in own["match"].items() if path != "arm"}
        return {
            "row": self.name,
            "arm": f"{self.one.arm} − {self.other.arm}",
            "match": {"a": self.one.arm, "b": self.other.arm, **axes},
            "sides": [own, self.other.behind()],
        }


def pairs_table(
    frame: pd.DataFrame, info: ReportInfo, item: Mapping[str, Any], name: str
) -> tuple[list[Table], list[Pair]]:
    """Paired differences of an item's pairs, at each point of the axes that both arms have."""
    subset = subset_of(frame, item)
    every = lines(frame, info, subset)
    metrics = [str(metric) for metric in item.get("metrics") or ("dice",)]
    notes = Notes()
    found: list[tuple[Line, Line, str, stats.Paired | None, str]] = []
    for a, b in item["pairs"]:
        for one, other in _same_points(every, str(a), str(b)):
            for metric in metrics:
                result, why = _compare(one, other, metric)
                found.append((one, other, metric, result, why))
    adjusted = stats.holm([result.p if result else None for *_, result, _ in found])
    rows, data = [], []
    for (one, other, metric, result, why), corrected in zip(found, adjusted, strict=True):
        texts, record = _pair_texts(one, other, metric, result, corrected, frame)
        mark = notes.mark(why) if why else ""
        rows.append(tuple(Entry(text, marks=mark if index == 0 else "") for index, text in enumerate(texts)))
        record |= {"subset": subset, "profile": info.profile, "protocol": info.protocol, "note": why}
        data.append(record)
    heads = ("A − B", "Metric", "Difference", "95 % interval", "p", "p (Holm)", "n", "seeds")
    said = (
        f"Paired differences on {captions.subset_text(subset)}, means over cases, classes and seeds. "
        "Interval: two-level bootstrap (2000 draws) over cases and, where there are several, seeds; with few "
        "seeds it understates how much trainings vary. p: Wilcoxon signed-rank test on one difference per "
        f"case, two-sided; Holm: corrected for the {len(found)} comparisons of this table."
    )
    table = Table(
        name,
        "Paired differences.",
        said,
        heads,
        tuple(rows),
        notes.listed,
        tuple(data),
        captions.tail(info),
        2,
    )
    pairs = {(id(one), id(other)): Pair(one, other) for one, other, *_ in found}
    return [table], list(pairs.values())


def _same_points(every: Sequence[Line], a: str, b: str) -> list[tuple[Line, Line]]:
    """The lines of two arms, point by point; where they share none, their first lines, to show the gap."""
    ones = [line for line in every if line.arm == a]
    others = {line.point: line for line in every if line.arm == b}
    both = [(line, others[line.point]) for line in ones if line.point in others]
    return both or [(one, other) for one in ones[:1] for other in list(others.values())[:1]]


def _compare(one: Line, other: Line, metric: str) -> tuple[stats.Paired | None, str]:
    """The comparison over common seeds and cases, and why there is none or only a part."""
    seeds = [seed for seed in one.seeds if seed in other.seeds]
    cases = [case for case in one.cases if case in other.cases]
    lost = [(line, seed, reason) for line in (one, other) for seed, reason in line.missing]
    why = "; ".join(dict.fromkeys(f"{line.label}, seed {seed}: {reason}" for line, seed, reason in lost))
    if not seeds or not cases or one.point != other.point:
        return None, why or "no case, seed or point in common"
    result = stats.paired(one.cube(metric, cases, seeds), other.cube(metric, cases, seeds))
    if result.difference.low is not None and result.difference.low == result.difference.high == 0:
        equal = "equal in every case: what differs between A and B has no effect"
        why = f"{why}; {equal}" if why else equal
    if len(seeds) == 1:
        why = f"{why}; {ONE_SEED}" if why else ONE_SEED
    return result, why


def _pair_texts(
    one: Line,
    other: Line,
    metric: str,
    result: stats.Paired | None,
    corrected: float | None,
    frame: pd.DataFrame,
) -> tuple[list[str], dict[str, str]]:
    gap = result.difference if result else None
    low, high = (number(gap.low), number(gap.high)) if gap else (DASH, DASH)
    texts = [
        Pair(one, other).name,
        header(frame, metric),
        signed(gap.mean if gap else None),
        f"{signed(gap.low)} to {signed(gap.high)}" if gap and gap.low is not None else DASH,
        p_value(result.p if result else None),
        p_value(corrected),
        str(gap.cases) if gap else "0",
        str(gap.seeds) if gap else "0",
    ]
    record = {"a": one.arm, "b": other.arm, **{path: axis_text(value) for path, value in one.axes.items()}}
    record |= {"metric": metric, "difference": number(gap.mean) if gap else "", "low": low, "high": high}
    record |= {"p": texts[4], "p_holm": texts[5], "n": texts[6], "seeds": texts[7]}
    return texts, {key: "" if value == DASH else value for key, value in record.items()}
