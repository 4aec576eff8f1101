"""Two runs of one experiment against each other: numbers on what both have, and what makes them differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sfrbench.compare.sides import ArmPoint, Side, title
from sfrbench.compare.work import work_of
from sfrbench.errors import InputError, did_you_mean
from sfrbench.files.units import counted
from sfrbench.maths import stats
from sfrbench.maths.metric_names import METRICS
from sfrbench.report.render.style import verdict
from sfrbench.results import dead
from sfrbench.results.lines import Line
from sfrbench.results.measures import bounds_of, flattery


@dataclass(frozen=True)
class MetricRow:
    """One metric of one arm; the difference is A − B. ``note`` says why there is none, or what is odd."""

    arm: str
    point: str
    metric: str
    unit: str
    a: float | None = None
    b: float | None = None
    difference: stats.Interval | None = None
    p: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """``only`` lists the cells that one side has; ``work`` says of each arm whether its work is the same."""

    sides: tuple[Side, Side]
    subset: str
    rows: Sequence[MetricRow]
    only: tuple[Sequence[str], Sequence[str]]
    work: Mapping[str, str]


def compare(a: Side, b: Side, metrics: Sequence[str], subset: str | None = None) -> Comparison:
    """Every arm that both have, on the cases, classes and seeds that both have."""
    known = [set(side.frame["subset"]) for side in (a, b)]
    if subset is None:
        subset = "test" if all("test" in names for names in known) else "val"
    rows: list[MetricRow] = []
    work: dict[str, str] = {}
    for point in [point for point in a.points if point in b.points]:
        ours = [side.points[point] for side in (a, b)]
        parts = [frame[frame["subset"] == subset] for frame in ours]
        if any(part.empty for part in parts):
            continue
        rows += [_row(point, metric, parts) for metric in metrics]
        work[title(point)] = work_of(a, b, *parts)
    if not rows:
        hint = (
            f"A has {a.what or 'nothing'}, B has {b.what or 'nothing'}; subsets: {sorted(set.union(*known))}"
        )
        raise InputError(f"no arm has scores of subset '{subset}' on both sides", hint=hint)
    cells = [_cells(side, subset) for side in (a, b)]
    only = (sorted(cells[0] - cells[1]), sorted(cells[1] - cells[0]))
    return Comparison((a, b), subset, rows, only, work)


def _cells(side: Side, subset: str) -> set[str]:
    return {
        f"{title(point)}, seed {seed}"
        for point, rows in side.points.items()
        for seed in rows.loc[rows["subset"] == subset, "seed"].unique()
    }


def _row(point: ArmPoint, metric: str, whole: Sequence[pd.DataFrame]) -> MetricRow:
    parts = [part[part["metric"] == metric] for part in whole]
    units = ["/".join(sorted(part["unit"].unique())) for part in parts]
    text = ", ".join(f"{path} {value}" for path, value in point[1])
    shared = [_shared(parts, column) for column in ("case", "class", "seed")]
    cases, classes, seeds = shared
    if not all(shared):
        return MetricRow(point[0], text, metric, units[0], note="no case, class or seed in common")
    common = [
        part[part["case"].isin(cases) & part["class"].isin(classes) & part["seed"].isin(seeds)]
        for part in parts
    ]
    lines = [Line(point[0], point[0], {}, (), part, tuple(classes)) for part in common]
    seeds, _ = lines[0].common(lines[1])
    cubes = [line.cube(metric, cases, seeds) for line in lines]
    cubes = [np.where(np.isnan(cubes[0] + cubes[1]), np.nan, cube) for cube in cubes]  # scored in both
    means = [stats.grand_mean(cube) for cube in cubes]
    if units[0] != units[1]:
        why = f"A in {units[0]}, B in {units[1]}: no difference"
        return MetricRow(point[0], text, metric, "/".join(units), means[0], means[1], note=why)
    gap, p = stats.difference(cubes[0], cubes[1], bounds_of(metric))
    said = [_left(parts, shared), f"no interval: {gap.why}" if gap.why else ""]
    said += [
        f"{side}: {flat}" for side, line in zip("AB", lines, strict=True) if (flat := flattery(line, metric))
    ]
    lost = [dead.find(part[part["class"].isin(classes)], seeds, cases) for part in whole]  # by Dice, too
    said += [dead.note(found, side) for side, found in zip("AB", lost, strict=True)]
    note = ", ".join(text for text in said if text)
    return MetricRow(point[0], text, metric, units[0], means[0], means[1], gap, p, note)


def _shared(parts: Sequence[pd.DataFrame], column: str) -> list[Any]:
    return sorted(set(parts[0][column]) & set(parts[1][column]))


def _left(parts: Sequence[pd.DataFrame], shared: Sequence[Sequence[Any]]) -> str:
    """What one side has and the other has not."""
    said = []
    names = {"case": "cases", "class": "classes", "seed": "seeds"}
    for (column, several), kept in zip(names.items(), shared, strict=True):
        for side, part in zip("AB", parts, strict=True):
            count = part[column].nunique() - len(kept)
            said += [f"{counted(count, column, several)} only in {side}"] if count else []
    return ", ".join(said)


def data(comparison: Comparison) -> list[dict[str, Any]]:
    """The CSV: one row for each arm and metric, numbers in full."""
    found = []
    for row in comparison.rows:
        gap = row.difference
        name = ", ".join(part for part in (row.arm, row.point) if part)
        found.append(
            {
                "arm": row.arm, "point": row.point, "subset": comparison.subset, "metric": row.metric,
                "unit": row.unit, "a": row.a, "b": row.b,
                "difference": gap.mean if gap else None,
                "verdict": verdict(gap.mean if gap else None, METRICS[row.metric].larger),
                "low": gap.low if gap else None, "high": gap.high if gap else None, "p": row.p,
                "n": gap.cases if gap else 0, "seeds": gap.seeds if gap else 0,
                "work": comparison.work[name], "note": row.note,
            }
        )  # fmt: skip
    return found


def known_metric(name: str) -> str:
    """``name``, or ``InputError`` with the metrics that there are."""
    if name not in METRICS:
        raise InputError(f"no metric '{name}'", hint=did_you_mean(name, METRICS))
    return name
