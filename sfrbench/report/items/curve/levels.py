"""Arms that have no point on the axis of a curve: a line across it, and where the curves reach it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sfrbench.maths.stats import Interval
from sfrbench.report.render import style
from sfrbench.results.axes import axis_texts

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_DASHES: tuple[Any, ...] = ((0, (7, 2, 1.5, 2)), (0, (12, 3)), (0, (3, 1.5, 1, 1.5, 1, 1.5)), (0, (2, 2)))

#: Levels that have a band; those of more would hide each other and the curves.
BANDS = 3


@dataclass(frozen=True)
class Level:
    """The number of an arm that does not change along the axis."""

    label: str
    axes: Mapping[str, Any]
    point: Interval
    flattered: bool = False


@dataclass(frozen=True)
class Path:
    """A curve as (value of the axis, mean) from left to right; points without a number are left out."""

    label: str
    axes: Mapping[str, Any]  # but for the axis of the curve
    points: Sequence[tuple[str, float]]


def draw(axes: Axes, level: Level, index: int, *, band: bool) -> None:
    """A line across the whole axis, with ``band`` its interval, in the ``index``-th look of all curves and
    levels."""
    colour, dashes = style.COLOURS[index % len(style.COLOURS)], _DASHES[index % len(_DASHES)]
    label = f"{level.label}: {style.number(level.point.mean)}"
    axes.axhline(level.point.mean, color=colour, linestyle=dashes, linewidth=1.8, label=label)
    if band and level.point.low is not None and level.point.high is not None:
        axes.axhspan(level.point.low, level.point.high, color=colour, alpha=0.1, linewidth=0)


def bare(levels: Sequence[Level]) -> list[str]:
    """A sentence that says that levels have no band, where they have none."""
    return ["Lines across without their intervals, which would hide each other."] * (len(levels) > BANDS)


def reached(paths: Sequence[Path], levels: Sequence[Level], x: str, larger: bool) -> list[str]:
    """A sentence for each curve and level at the same point of all other axes that both have."""
    said = []
    for level in levels:
        for path in paths:
            if path.points and not level.flattered and _comparable(path.axes, level.axes):
                said.append(_sentence(path, level, x, larger))
    return said


def _comparable(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    mine, theirs = axis_texts(one), axis_texts(other)
    return all(mine[path] == theirs[path] for path in mine.keys() & theirs.keys())


def _sentence(path: Path, level: Level, x: str, larger: bool) -> str:
    mean = level.point.mean
    what = f"the level of {level.label} ({style.number(mean)})"
    at = next((text for text, value in path.points if (value >= mean if larger else value <= mean)), None)
    if at is None:
        return f"{path.label} does not reach {what} up to {x} {path.points[-1][0]}."
    first = ", the first that is scored" if at == path.points[0][0] else ""
    return f"{path.label} reaches {what} at {x} {at}{first}, by the means."
