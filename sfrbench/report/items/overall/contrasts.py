"""Which lines an effect is taken of, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from sfrbench.report.items.pairs.table import same_points
from sfrbench.results.axes import axis_text, axis_texts, point_texts
from sfrbench.results.lines import Line, lines, subset_of

if TYPE_CHECKING:
    from sfrbench.report.facts.info import ReportInfo


@dataclass(frozen=True)
class Contrast:
    """One row: a line with the change and one without; either is none where there is no such line, for the
    reason ``why``."""

    name: str
    one: Line | None
    other: Line | None
    why: str = ""

    @property
    def arm(self) -> str:
        """The arm with the change, or the one that there is."""
        line = self.one or self.other
        return line.arm if line else ""

    def sides(self) -> list[dict[str, Any]]:
        """What both lines stand on."""
        return [line.behind() for line in (self.one, self.other) if line]

    def behind(self) -> dict[str, Any]:
        """What the row stands on."""
        match = {"row": self.name, "arm": self.arm}
        return {"row": self.name, "arm": self.arm, "match": match, "sides": self.sides()}


@dataclass(frozen=True)
class Group:
    """The contrasts of one table.

    ``axis`` is the path of the change, empty of pairs; ``what`` says it, as ``pseudo: offline − none``;
    ``sides`` are the names of both sides, with the change and without; ``point`` has the other axes' values.
    ``rows`` is what rows are: 'arm' or the path of an axis. ``without`` names arms that have no such axis.
    """

    name: str
    axis: str
    what: str
    sides: tuple[str, str]
    point: str
    rows: str
    contrasts: tuple[Contrast, ...]
    without: tuple[str, ...] = ()

    @property
    def others(self) -> list[str]:
        """Paths of the axes of which there is one table for each value."""
        axes = next((line.axes for each in self.contrasts if (line := each.one or each.other)), {})
        return [path for path in axes if path not in (self.axis, self.rows)]

    @property
    def noun(self) -> str:
        return "methods" if self.rows == "arm" else f"values of {self.rows}"


def groups_of(
    frame: pd.DataFrame, info: ReportInfo, of: str | Sequence[tuple[str, str]], rows: str
) -> list[Group] | str:
    """The contrasts of an axis or of pairs of arms, one group for each change and point of the other axes; or
    why there are none."""
    every = lines(frame, info.grid, subset_of(frame))
    return _of_axis(every, info, of, rows) if isinstance(of, str) else _of_pairs(every, info, of, rows)


def _of_axis(every: Sequence[Line], info: ReportInfo, path: str, rows: str) -> list[Group] | str:
    values = [axis_text(value) for value in info.axes.get(path, ())]
    if len(values) < 2:
        return f"No effect of {path}: it has one value here."
    control, without = values[0], _without(every, info, path)
    found: dict[tuple[str, ...], list[Contrast]] = {}
    facts: dict[tuple[str, ...], tuple[str, str]] = {}
    for value in values[1:]:
        for contrast, point in _rows_of(every, info, path, (value, control), rows):
            key = (value, *point)
            found.setdefault(key, []).append(contrast)
            facts[key] = value, ", ".join(point)
    return [
        Group(
            "_".join([path, *key]),
            path,
            f"{path}: {facts[key][0]} − {control}",
            (facts[key][0], control),
            facts[key][1],
            rows,
            tuple(contrasts),
            without,
        )
        for key, contrasts in found.items()
    ]


def _without(every: Sequence[Line], info: ReportInfo, path: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(line.label for line in every if path in info.without.get(line.arm, ())))


def _rows_of(
    every: Sequence[Line], info: ReportInfo, path: str, values: tuple[str, str], rows: str
) -> list[tuple[Contrast, tuple[str, ...]]]:
    """The contrast of each arm and point of the other axes, and the point of its table."""
    by_place: dict[tuple[Any, ...], dict[str, Line]] = {}
    for line in every:
        if path in info.without.get(line.arm, ()):
            continue
        rest = {name: text for name, text in axis_texts(line.axes).items() if name != path}
        place = (line.arm, *rest.items())
        by_place.setdefault(place, {})[axis_text(line.axes[path]) if path in line.axes else ""] = line
    made = []
    for own in by_place.values():
        one, other = (own.get(value) for value in values)
        some = next(iter(own.values()))
        if some.axes and one is None and other is None:
            continue  # points of other values alone
        name, point = _named(some, rows, path)
        why = "" if one and other else _why_not(some, info, path, values, one)
        made.append((Contrast(name, one, other, why), point))
    return made


def _named(line: Line, rows: str, path: str) -> tuple[str, tuple[str, ...]]:
    """What names a line's row, and what names its table."""
    rest = {name: value for name, value in line.axes.items() if name != path}
    if rows == "arm":
        return line.label, tuple(point_texts(rest))
    name = axis_text(rest[rows]) if rows in rest else line.label
    return name, (line.label, *point_texts(rest, without=rows))


def _why_not(some: Line, info: ReportInfo, path: str, values: tuple[str, str], one: Line | None) -> str:
    gone = values[1] if one else values[0]
    if not some.axes:
        return "; ".join(dict.fromkeys(reason for _, reason in some.missing)) or "not run"
    wanted = next((value for value in info.axes[path] if axis_text(value) == gone), gone)
    return f"{path} {gone}: {info.left_out(some.arm, {**some.axes, path: wanted}) or 'no such point'}"


def _of_pairs(
    every: Sequence[Line], info: ReportInfo, wanted: Sequence[tuple[str, str]], rows: str
) -> list[Group] | str:
    found: dict[tuple[str, ...], list[Contrast]] = {}
    for a, b in wanted:
        for one, other in same_points(every, a, b):
            label = f"{one.label} − {other.label}"
            rest = dict(one.axes)
            name = label if rows == "arm" else axis_text(rest.get(rows))
            point = point_texts(rest, without=rows)
            key = tuple(point if rows == "arm" else [label, *point])
            found.setdefault(key, []).append(Contrast(name, one, other))
    if not found:
        return "No effect: none of the arms has a line."
    return [
        Group("_".join(["pairs", *key]), "", "A − B", ("A", "B"), ", ".join(key), rows, tuple(contrasts))
        for key, contrasts in found.items()
    ]
