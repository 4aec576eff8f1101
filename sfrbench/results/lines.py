"""From the tidy frame to what tables and figures show: one line for each arm at each point of the axes.

A line whose cells are missing stays, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sfrbench.errors import InputError
from sfrbench.maths.metric_names import METRICS
from sfrbench.results.axes import axis_text
from sfrbench.results.line import Line, Over, Point, Stat
from sfrbench.results.subsets import UNLABELLED

if TYPE_CHECKING:
    from sfrbench.results.grid import Grid, Missing

__all__ = ["Line", "Over", "Point", "Stat", "header", "lines", "subset_of", "unit_of"]


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
