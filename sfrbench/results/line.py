"""One line of a table or a figure: an arm at a point of the axes, and its numbers.

Per-case values become a number in one place, ``Line.stat``: mean over cases per class, unweighted mean
over classes, mean over seeds, and a standard deviation (n - 1) over seeds or over cases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from sfrbench.maths.metric_names import flatters
from sfrbench.maths.stats import Array, case_means, grand_mean
from sfrbench.results.axes import axis_texts, point_texts
from sfrbench.results.dead import Dead, find

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
    def results(self) -> tuple[int, ...]:
        """The seeds that have a result of their own; of several that stand on the same evaluate node, as
        where nothing is drawn at random or another tool made the label maps, the first."""
        return _first_of(self._nodes)

    @cached_property
    def _nodes(self) -> Mapping[int, tuple[str, ...]]:
        """The evaluate nodes of each seed."""
        pairs = self.frame[["seed", "key"]].drop_duplicates().groupby("seed")["key"]
        return {int(str(seed)): tuple(sorted(map(str, keys))) for seed, keys in pairs}

    @property
    def is_one(self) -> bool:
        """Whether it is one result, shown for several seeds."""
        return len(self.results) == 1 < len(self.seeds)

    @cached_property
    def cases(self) -> tuple[str, ...]:
        return tuple(sorted(self.frame["case"].unique()))

    @cached_property
    def flattered(self) -> Mapping[str, pd.DataFrame]:
        """By metric, the rows with empty predictions that make it look better than it is, of each result."""
        own = self.frame[self.frame["empty_pred"].astype(bool) & ~self.frame["empty_gt"].astype(bool)]
        own = own[own["seed"].isin(self.results)]
        flat = [flatters(*each) for each in zip(own["metric"], own["value"].astype(float), strict=True)]
        found = own[np.array(flat, dtype=bool)].groupby("metric", sort=False, observed=True)
        return {str(metric): rows for metric, rows in found}

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
        """Scores (S, C, K) of one metric for these of the line's cases and seeds. Default: all cases, and
        every seed with a result of its own."""
        shape = (len(self.seeds), len(self.cases), len(self.classes))
        whole = self._cubes.get(metric, np.full(shape, np.nan))
        if cases is not None:
            known = {case: index for index, case in enumerate(self.cases)}
            whole = whole[:, [known[case] for case in cases]]
        return whole[[self.seeds.index(seed) for seed in (self.results if seeds is None else seeds)]]

    def common(self, other: Line) -> tuple[list[int], list[str]]:
        """Seeds and cases that both lines have. Of seeds where neither has a new result, the first: one
        result against three is three differences, one against one is a single one."""
        known = set(other.cases)
        both = {seed: (self._nodes[seed], other._nodes[seed]) for seed in self.seeds if seed in other.seeds}
        return list(_first_of(both)), [case for case in self.cases if case in known]

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
        return find(self.frame, self.results)

    def empty(self) -> int:
        """Predicted classes that are empty although the truth is not, over cases, classes and results."""
        return self._count(self.frame["empty_pred"] & ~self.frame["empty_gt"])

    def not_scored(self, metrics: Iterable[str]) -> int:
        """Values (seed, case, class) that the protocol leaves out in one of ``metrics`` at least."""
        return self._count(self.frame["value"].isna() & self.frame["metric"].isin(list(metrics)))

    def _count(self, rows: pd.Series[bool]) -> int:
        own = self.frame.loc[rows & self.frame["seed"].isin(self.results), ["seed", "case", "class"]]
        return len(own.drop_duplicates())


def _first_of(known: Mapping[int, Any]) -> tuple[int, ...]:
    """The first of the seeds that have the same."""
    first: dict[Any, int] = {}
    for seed, what in known.items():
        first.setdefault(what, seed)
    return tuple(sorted(first.values()))


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
