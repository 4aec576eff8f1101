"""From the tidy frame to what tables and figures show: one line for each arm at each point of the axes.

Per-case values become a number in one place, ``Line.stat``: mean over cases per class, unweighted mean
over classes, mean over seeds, and a standard deviation (n - 1) over seeds or over cases. A line whose cells
are missing stays, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sfrbench.errors import InputError
from sfrbench.maths.metric_names import METRICS
from sfrbench.maths.stats import Array, case_means, grand_mean
from sfrbench.results.axes import axis_text, axis_texts, point_texts
from sfrbench.results.dead import Dead, find
from sfrbench.results.subsets import UNLABELLED

if TYPE_CHECKING:
    from sfrbench.results.grid import Grid, Missing

Point = tuple[str, ...]
Over = Literal["seeds", "cases"]


@dataclass(frozen=True)
class Stat:
    """``mean`` over seeds; ``std`` (n - 1) over ``n`` seeds or cases, none for fewer than two."""

    mean: float | None
    std: float | None
    n: int


@dataclass(frozen=True)
class Line:
    """One arm at one point of the axes, all seeds. ``frame`` holds its rows of one subset.

    ``classes`` are those of the line's own dataset, or all of the report's where the line has no rows.
    """

    arm: str
    label: str
    axes: Mapping[str, Any]
    point: Point
    frame: pd.DataFrame = field(repr=False)
    classes: tuple[str, ...]
    missing: tuple[tuple[int, str], ...] = ()  # seed, reason

    @property
    def name(self) -> str:
        """The label with its point, where there are axes."""
        return ", ".join([self.label, *point_texts(self.axes)])

    def short(self, among: Sequence[Line]) -> str:
        """The name without the label, if the axes alone distinguish the lines of ``among``."""
        if self.axes and all(line.arm == self.arm and line.axes for line in among):
            return ", ".join(point_texts(self.axes))
        return self.name

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        return tuple(int(seed) for seed in sorted(self.frame["seed"].unique()))

    @cached_property
    def cases(self) -> tuple[str, ...]:
        return tuple(sorted(self.frame["case"].unique()))

    @cached_property
    def cells(self) -> Mapping[int, str]:
        """Cell id of each seed."""
        pairs = self.frame[["seed", "cell"]].drop_duplicates()
        return {int(seed): str(cell) for seed, cell in zip(pairs["seed"], pairs["cell"], strict=True)}

    def behind(self) -> dict[str, Any]:
        """What the line stands on: the numbers of one line share its cells and evaluate nodes.

        ``match`` says which rows of the table's CSV those are: column -> text.
        """
        return {
            "row": self.name,
            "arm": self.arm,
            "match": {"arm": self.arm, **axis_texts(self.axes)},
            "axes": {path: _plain(value) for path, value in self.axes.items()},
            "cells": {str(seed): cell for seed, cell in self.cells.items()},
            "evaluate": list(self.keys),
            "cases": len(self.cases),
            "missing": {str(seed): reason for seed, reason in self.missing},
        }

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(sorted(str(key) for key in self.frame["key"].unique()))

    @cached_property
    def _cubes(self) -> Mapping[str, Array]:
        """Scores (S, C, K) of each metric, all seeds and cases; NaN where not scored."""
        levels = (("seed", self.seeds), ("case", self.cases), ("class", self.classes))
        place = [
            self.frame[column].map({name: index for index, name in enumerate(names)}).to_numpy(dtype=int)
            for column, names in levels
        ]
        values, metrics = self.frame["value"].to_numpy(dtype=float), self.frame["metric"].to_numpy()
        cubes = {}
        for metric in pd.unique(metrics):
            own = metrics == metric
            cubes[str(metric)] = np.full([len(names) for _, names in levels], np.nan)
            cubes[str(metric)][tuple(column[own] for column in place)] = values[own]
        return cubes

    def cube(
        self, metric: str, cases: Sequence[str] | None = None, seeds: Sequence[int] | None = None
    ) -> Array:
        """Scores (S, C, K) of one metric for these of the line's cases and seeds (default: all)."""
        shape = (len(self.seeds), len(self.cases), len(self.classes))
        whole = self._cubes.get(metric, np.full(shape, np.nan))
        if cases is not None:
            known = {case: index for index, case in enumerate(self.cases)}
            whole = whole[:, [known[case] for case in cases]]
        return whole if seeds is None else whole[[self.seeds.index(seed) for seed in seeds]]

    def common(self, other: Line) -> tuple[list[int], list[str]]:
        """Seeds and cases that both lines have."""
        known = set(other.cases)
        return [seed for seed in self.seeds if seed in other.seeds], [
            case for case in self.cases if case in known
        ]

    def of_class(self, metric: str, cls: str | None, **which: Any) -> Array:
        """``cube`` of one class (S, C, 1), or (none) of all."""
        values = self.cube(metric, **which)
        return values if cls is None else values[:, :, [self.classes.index(cls)]]

    def stat(self, metric: str, cls: str | None = None, over: Over = "seeds") -> Stat:
        """The number of one metric: of one class, or of the mean over classes if ``cls`` is None."""
        if cls is not None and cls not in self.classes:
            return Stat(None, None, 0)
        values = self.of_class(metric, cls)
        per_seed = np.array([grand_mean(values[index : index + 1]) for index in range(len(values))])
        known = per_seed[~np.isnan(per_seed)]
        if not known.size:
            return Stat(None, None, 0)
        spread = case_means(values) if over == "cases" else per_seed
        spread = spread[~np.isnan(spread)]
        std = float(np.std(spread, ddof=1)) if spread.size > 1 else None
        return Stat(float(np.mean(known)), std, int(spread.size))

    @cached_property
    def dead(self) -> tuple[Dead, ...]:
        """Its classes that are never found in a seed."""
        return find(self.frame)

    def empty(self) -> int:
        """Predicted classes that are empty although the truth is not, over cases, classes and seeds."""
        return self._count(self.frame["empty_pred"] & ~self.frame["empty_gt"])

    def not_scored(self, metrics: Iterable[str]) -> int:
        """Values (seed, case, class) that the protocol leaves out in one of ``metrics`` at least."""
        return self._count(self.frame["value"].isna() & self.frame["metric"].isin(list(metrics)))

    def _count(self, rows: pd.Series[bool]) -> int:
        return len(self.frame.loc[rows, ["seed", "case", "class"]].drop_duplicates())


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def lines(frame: pd.DataFrame, grid: Grid, subset: str) -> list[Line]:
    """Every line of a subset, in the order of arms and axis values.

    Raises ``InputError`` where two rows claim the same cell, case, class and metric.
    """
    paths = [path for path in grid.axes if path in frame.columns]
    part = frame[frame["subset"] == subset]
    classes = tuple(str(name) for name in part["class"].unique())
    rows = _by_point(part, paths, grid)
    values: dict[tuple[str, Point], Mapping[str, Any]] = {
        (arm, point): {path: group[path].iloc[0] for path in grid.paths(arm, paths)}
        for (arm, point), group in rows.items()
    }
    unscored = grid.unscored if subset == UNLABELLED else ()
    lost = _missing([*unscored, *grid.missing], paths, grid)  # what is missing has the last word
    for arm, point, axes in lost.points:
        values.setdefault((arm, point), axes)
    for arm, _ in grid.arms:
        if not any(known == arm for known, _ in values):
            values[arm, ()] = {}
    labelling = {*grid.pseudo_arms, *(entry.arm for entry in grid.unscored)}
    found = []
    for (arm, point), axes in values.items():
        if subset == UNLABELLED and (arm, point) not in rows and arm not in labelling:
            continue
        own = rows.get((arm, point), part.iloc[:0])
        have = {int(seed) for seed in own["seed"].unique()}
        unknown = ("" if point else grid.left_out(arm)) or "not run"
        gone = tuple(
            (seed, lost.reasons.get((arm, point, seed), unknown)) for seed in grid.seeds if seed not in have
        )
        label = dict(grid.arms).get(arm, arm)
        known = set(own["class"].unique())
        own_classes = tuple(name for name in classes if name in known) or classes
        found.append(Line(arm, label, axes, point, own, own_classes, gone))
    return sorted(found, key=lambda line: _order(line, grid, paths))


@dataclass(frozen=True)
class _Missing:
    points: list[tuple[str, Point, Mapping[str, Any]]]
    reasons: Mapping[tuple[str, Point, int], str]


def _missing(entries: Sequence[Missing], paths: Sequence[str], grid: Grid) -> _Missing:
    points: list[tuple[str, Point, Mapping[str, Any]]] = []
    reasons = {}
    for entry in entries:
        axes = {path: entry.axes.get(path) for path in grid.paths(entry.arm, paths)}
        point = tuple(map(axis_text, axes.values()))
        points.append((entry.arm, point, axes))
        reasons[entry.arm, point, entry.seed] = entry.reason
    return _Missing(points, reasons)


def _by_point(part: pd.DataFrame, paths: Sequence[str], grid: Grid) -> dict[tuple[str, Point], pd.DataFrame]:
    """The rows of each arm and point. Axes are written as texts once for each cell, not for each row."""
    cell = part.groupby(["arm", "cell"], sort=False).ngroup().to_numpy()
    numbers: dict[tuple[str, Point], int] = {}
    firsts = part.iloc[np.unique(cell, return_index=True)[1]]
    arms = firsts["arm"].astype(str)
    columns = {path: firsts[path].map(axis_text).tolist() for path in paths}
    keys = [
        (arm, tuple(columns[path][row] for path in grid.paths(arm, paths))) for row, arm in enumerate(arms)
    ]
    of_cell = np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=int)
    number = of_cell[cell]
    _check_once(part, number)
    return {key: part[number == index] for key, index in numbers.items()}


def _check_once(part: pd.DataFrame, number: NDArray[np.int_]) -> None:
    places = part[["seed", "case", "class", "metric"]].assign(point=number)
    twice = part[places.duplicated().to_numpy()]
    if len(twice):
        row = twice.iloc[0]
        what = f"two values of {row['metric']} for arm {row['arm']}, seed {row['seed']}, class {row['class']}"
        raise InputError(what, where=f"case {row['case']}", hint="each row of the frame must be of one cell")


def _order(line: Line, grid: Grid, paths: Sequence[str]) -> tuple[int, ...]:
    arms = [name for name, _ in grid.arms]
    first = arms.index(line.arm) if line.arm in arms else len(arms)
    rest = []
    for path in paths:
        text = axis_text(line.axes[path]) if path in line.axes else ""
        known = [axis_text(value) for value in grid.axes[path]]
        rest.append(known.index(text) if text in known else len(known))
    return (first, *rest)


def subset_of(frame: pd.DataFrame) -> str:
    """The subset that items show: the test cases where there are any, else the validation cases."""
    known = set(frame["subset"].unique())
    return "val" if "val" in known and "test" not in known else "test"


def unit_of(frame: pd.DataFrame, metric: str) -> str:
    """The unit of a metric; several are joined by a slash, and then its values are not comparable."""
    units = sorted(str(unit) for unit in frame.loc[frame["metric"] == metric, "unit"].dropna().unique())
    if not units:
        return "%" if METRICS[metric].larger else ""
    return "/".join(units)


def header(frame: pd.DataFrame, metric: str) -> str:
    """``Dice (%) ↑``."""
    name, larger = METRICS[metric].label, METRICS[metric].larger
    unit = unit_of(frame, metric)
    return f"{name} ({unit}) {'↑' if larger else '↓'}" if unit else f"{name} {'↑' if larger else '↓'}"
