"""The scores of an exported cell, for its card and for what a hub reads of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

from sfrbench.deploy.cell import Finished
from sfrbench.report.facts.info import ReportInfo
from sfrbench.results.frame import load_frame
from sfrbench.results.line import Line, Stat
from sfrbench.results.lines import header, lines, unit_of


@dataclass(frozen=True)
class Score:
    """One metric: the mean over classes, or of one class."""

    metric: str
    name: str  # "Dice (%) ↑, liver"
    unit: str
    value: float  # of this network: the mean over cases
    seeds: Stat  # of the arm at this point of its axes


@dataclass(frozen=True)
class Scored:
    """All scores of a cell. ``subset`` is what they are on: "test" or "validation"."""

    subset: str
    cases: int
    seeds: tuple[int, ...]  # of the arm at this point of its axes
    scores: tuple[Score, ...]


def scored(cell: Finished, info: ReportInfo) -> Scored | None:
    """The scores of a cell; none where it has not been scored."""
    frame = load_frame(cell.experiment)
    own = cell.cell
    shown = [
        line
        for line in lines(frame, info.grid, own.score)
        if line.arm == own.arm and all(line.axes.get(path) == value for path, value in own.axes.items())
    ]
    if not shown or own.seed not in shown[0].seeds:
        return None
    line = shown[0]
    this = replace(line, frame=line.frame[line.frame["seed"] == own.seed])
    found: list[Score] = []
    for metric in dict.fromkeys(map(str, frame["metric"])):
        found += _of(this, line, metric, header(frame, metric), unit_of(frame, metric))
    subset = {"test": "test", "val": "validation"}[own.score]
    return Scored(subset, len(this.cases), line.seeds, tuple(found))


def _of(this: Line, line: Line, metric: str, name: str, unit: str) -> Iterator[Score]:
    """The mean over classes and, where there are several, each class; nothing for what is not scored."""
    named = [(name, None)]
    if len(line.classes) > 1:
        named += [(f"{name}, {cls}", cls) for cls in cast("tuple[Any, ...]", line.classes)]
    for text, cls in named:
        one = this.stat(metric, cls).mean
        if one is not None:
            yield Score(metric, text, unit, one, line.stat(metric, cls))
