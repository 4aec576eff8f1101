"""The rows of a result table: what names them, what they count, and what is special about them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from sfrbench.report.render.style import DASH
from sfrbench.report.render.tables import Entry, Notes
from sfrbench.results import dead
from sfrbench.results.axes import axis_text
from sfrbench.results.dead import Dead
from sfrbench.results.lines import Line, Over
from sfrbench.results.measures import flattery

if TYPE_CHECKING:
    from sfrbench.report.facts.info import ReportInfo
    from sfrbench.report.item import Shown


ONE_RESULT = "one result, whatever the seed: no spread over seeds; held against every seed of other rows"


@dataclass(frozen=True)
class View:
    """What a table shows: lines of one subset, the frame's rows of that subset, and how they are shown."""

    frame: pd.DataFrame
    info: ReportInfo
    lines: Sequence[Line]
    subset: str
    how: Shown

    @property
    def std(self) -> str:
        """What ± is over: 'seeds', 'cases' or 'none'."""
        return self.how.std

    @property
    def over(self) -> Over:
        """What the standard deviation is over."""
        return "cases" if self.std == "cases" else "seeds"

    @property
    def shows_std(self) -> bool:
        return self.std != "none"

    @property
    def classes(self) -> tuple[str, ...]:
        """Every class of any line, in the order of the first line that has it."""
        return tuple(dict.fromkeys(name for line in self.lines for name in line.classes))

    @property
    def counts(self) -> set[int]:
        """The different numbers of classes among the lines with results."""
        return {len(line.classes) for line in self.lines if line.seeds}


def leading(view: View) -> tuple[list[str], list[list[str]]]:
    """The columns that name a row: the method, and each axis that there is."""
    rows, shown = view.how.rows, view.lines
    paths = list(dict.fromkeys(path for line in shown for path in line.axes))
    method = rows == "arm" or len({line.arm for line in shown}) > 1
    if rows in paths:
        paths = [rows, *(path for path in paths if path != rows)]
    names = ["Method", *paths] if rows == "arm" else [*paths, *(["Method"] if method else [])]
    texts = []
    for line in shown:
        axes = [axis_text(line.axes[path]) if path in line.axes else DASH for path in paths]
        texts.append([line.label, *axes] if rows == "arm" else [*axes, *([line.label] if method else [])])
    return names, texts


def by_axis(shown: Sequence[Line], info: ReportInfo, path: str) -> list[Line]:
    """The lines in the order of one axis, within it in the order of arms."""
    values = [axis_text(value) for value in info.axes.get(path, ())]

    def place(line: Line) -> int:
        text = axis_text(line.axes.get(path))
        return values.index(text) if text in values else len(values)

    return sorted(shown, key=place)


def counts_of(line: Line, info: ReportInfo) -> list[str]:
    """n, seeds, empty."""
    if not line.seeds:
        return [DASH, f"0/{len(info.seeds)}", DASH]
    per_seed = line.frame.groupby("seed")["case"].nunique()
    n = str(per_seed.max()) if per_seed.nunique() == 1 else f"{per_seed.min()}–{per_seed.max()}"
    seeds = f"{len(line.seeds)}/{len(info.seeds)}" if line.missing else str(len(line.results))
    return [n, seeds, str(line.empty())]


def marks_of(line: Line, notes: Notes, info: ReportInfo, metrics: Iterable[str]) -> str:
    """Marks of what is special about a line: missing seeds, empty predictions that score as perfect in one of
    the ``metrics`` that the table shows."""
    marks = ""
    by_reason: dict[str, list[int]] = {}
    for seed, reason in line.missing:
        by_reason.setdefault(reason, []).append(seed)
    for reason, seeds in by_reason.items():
        all_gone = len(seeds) == len(info.seeds)
        which = "no seed has a result" if all_gone else f"without seed {', '.join(map(str, seeds))}"
        marks += notes.mark(f"{which}: {reason}")
    if line.is_one:
        marks += notes.mark(ONE_RESULT)
    reasons = [reason for metric in metrics if (reason := flattery(line, metric))]
    for reason in dict.fromkeys(reasons):
        marks += notes.mark(f"{reason}, under this protocol: never called best for that")
    return marks


def with_dead(entry: Entry, dead_classes: Sequence[Dead], notes: Notes, what: str = "") -> Entry:
    """The entry of a mean over classes, with a mark where one of them is dead."""
    return (
        replace(entry, marks=entry.marks + notes.mark(dead.note(dead_classes, what)))
        if dead_classes
        else entry
    )


def merge_equal(shown: Sequence[Line]) -> list[Line]:
    """Lines that stand on the same evaluate nodes become one, named by all their labels."""
    groups: dict[Any, list[Line]] = {}
    for line in shown:
        groups.setdefault((line.keys or line.arm, line.point), []).append(line)
    merged = []
    for (_, point), members in groups.items():
        first = members[0]
        label = ", ".join(dict.fromkeys(line.label for line in members))
        merged.append(Line(first.arm, label, first.axes, point, first.frame, first.classes, first.missing))
    return merged
