"""A metric against the values of an axis, with an interval band (Fig. 9)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sfrbench.maths.metric_names import METRICS
from sfrbench.maths.stats import Interval, mean_interval
from sfrbench.report.items.curve import levels
from sfrbench.report.render import captions, style
from sfrbench.report.render.parts import Figure
from sfrbench.results import dead
from sfrbench.results.axes import axis_text, point_texts
from sfrbench.results.lines import Line, header, lines, subset_of
from sfrbench.results.measures import bounds_of, flattery

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sfrbench.report.facts.info import ReportInfo

#: Entries of a legend that find room between the curves; more stand below them.
WITHIN = 4


@dataclass(frozen=True)
class _Curve:
    label: str
    places: list[float]  # on the x axis
    points: list[Interval | None]
    texts: list[str]
    flattered: list[bool]  # by empty predictions that count as best or are left out
    axes: Mapping[str, Any]  # but for that of the curve

    @property
    def known(self) -> list[tuple[str, float]]:
        """(value, mean) of the points that can be compared."""
        return [
            (text, point.mean)
            for text, point, flat in zip(self.texts, self.points, self.flattered, strict=True)
            if point is not None and not flat
        ]


def curve_figure(frame: pd.DataFrame, info: ReportInfo, x: str, y: str, name: str, folder: Path) -> Figure:
    """One curve for each arm (and each value of the other axes); a line across for one without the axis."""
    subset = subset_of(frame)
    shown = lines(frame, info.grid, subset)
    values = list(info.axes.get(x, ()))
    where = _places(values)
    across = [line for line in shown if _is_level(line, x, info)]
    along = [line for line in shown if not _is_level(line, x, info)]
    curves, lost = _curves(along, x, y, values, where, info)
    found = {line.name: _point(line, y) for line in across}
    level_of = [
        levels.Level(line.name, line.axes, point, bool(flattery(line, y)))
        for line in across
        if (point := found[line.name][0]) is not None
    ]
    entries = len(curves) + len(level_of)
    below = math.ceil(entries / 2) if entries > WITHIN else 0  # rows of the legend
    with style.canvas(7.0, 4.2 + 0.21 * below, captions.foot(info)) as figure:
        axes = figure.add_subplot()
        for index, curve in enumerate(curves):
            _draw(axes, curve, index)
        for index, level in enumerate(level_of, start=len(curves)):
            levels.draw(axes, level, index, band=len(level_of) <= levels.BANDS)
        _limits(axes, where)
        best = _best(axes, curves, METRICS[y].larger)
        _lost(axes, lost, dict(zip(map(axis_text, values), where, strict=True)))
        _dress(axes, values, where, x, header(frame[frame["subset"] == subset], y))
        if below:
            figure.legend(loc="outside lower center", ncols=2, fontsize=8.5, handlelength=3.4)
        elif entries > 1:
            axes.legend(loc="best", fontsize=8.5)
        files = style.save(figure, folder, name)
    never = dead.sentence((line.name, line.dead) for line in shown)
    paths = [levels.Path(curve.label, curve.axes, curve.known) for curve in curves]
    notes = (
        *levels.bare(level_of),
        *levels.reached(paths, level_of, x, METRICS[y].larger),
        *_notes(curves, lost, best),
        *(f"{name}: no line, {reason}." for name, (_, reason) in found.items() if reason),
        *never,
    )
    title = f"{METRICS[y].label} against {x}."
    return Figure(name, title, _caption(curves, subset), tuple(files), tuple(shown), notes=notes)


def _is_level(line: Line, x: str, info: ReportInfo) -> bool:
    return x in info.without.get(line.arm, ())


def _places(values: Sequence[Any]) -> list[float]:
    """Where values stand: numbers at themselves, anything else in a row."""
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return [float(value) for value in values]
    return [float(index) for index in range(len(values))]


def _curves(
    shown: Sequence[Line],
    x: str,
    y: str,
    values: Sequence[Any],
    where: Sequence[float],
    info: ReportInfo,
) -> tuple[list[_Curve], list[tuple[str, str]]]:
    """The curves, and (value, reason) of every point that has no number."""
    texts = [axis_text(value) for value in values]
    groups: dict[str, dict[str, Line]] = {}  # label, value of x
    for line in shown:
        rest = point_texts(line.axes, without=x)
        groups.setdefault(", ".join([line.label, *rest]), {})[axis_text(line.axes.get(x))] = line
    curves, lost = [], []
    for label, by_value in groups.items():
        points: list[Interval | None] = []
        some = next(iter(by_value.values()))
        arm, rest_axes = some.arm, {path: value for path, value in some.axes.items() if path != x}
        for value, text in zip(values, texts, strict=True):
            point, reason = _point(by_value.get(text), y)
            reason = reason or ("" if point else info.left_out(arm, {x: value}) or "left out")
            points.append(point)
            if point is None:
                lost.append((text, f"{label}: {reason}"))
        known = [by_value.get(text) for text in texts]
        flat = [one is not None and bool(flattery(one, y)) for one in known]
        order = sorted(range(len(values)), key=lambda index: where[index])
        places = [where[index] for index in order]
        sorted_texts, sorted_flat = [texts[i] for i in order], [flat[i] for i in order]
        sorted_points = [points[i] for i in order]
        curves.append(_Curve(label, places, sorted_points, sorted_texts, sorted_flat, rest_axes))
    return curves, lost


def _point(line: Line | None, metric: str) -> tuple[Interval | None, str]:
    """The number of one point, or why there is none (empty where there is no line)."""
    if line is None:
        return None, ""
    point = mean_interval(line.cube(metric), bounds_of(metric)) if line.seeds else None
    if point is not None and not math.isnan(point.mean):
        return point, ""
    return None, "; ".join(dict.fromkeys(reason for _, reason in line.missing)) or "not scored"


def _draw(axes: Axes, curve: _Curve, index: int) -> None:
    colour = style.COLOURS[index % len(style.COLOURS)]
    nan = math.nan
    axes.plot(
        curve.places,
        [point.mean if point else nan for point in curve.points],
        color=colour,
        marker=style.MARKERS[index % len(style.MARKERS)],
        linestyle=style.LINES[index % len(style.LINES)],
        linewidth=1.8,
        markersize=6,
        label=curve.label,
    )
    low = [point.low if point and point.low is not None else nan for point in curve.points]
    high = [point.high if point and point.high is not None else nan for point in curve.points]
    axes.fill_between(curve.places, low, high, color=colour, alpha=0.16, linewidth=0)


def _limits(axes: Axes, where: Sequence[float]) -> None:
    """The whole axis, values without a number included."""
    low, high = min(where, default=0.0), max(where, default=1.0)
    if low > 0 and high / low > 50:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.25, high * 1.25)
        return
    margin = 0.05 * (high - low) or 0.5
    axes.set_xlim(low - margin, high + margin)


def _best(axes: Axes, curves: Sequence[_Curve], larger: bool) -> str:
    """Ring and label the best point of all curves; returns its label, empty for fewer than two points.

    A point that empty predictions flatter is not in the running."""
    from matplotlib.patheffects import Normal, Stroke

    points = [
        (point.mean, place, text)
        for curve in curves
        for place, point, text, flat in zip(
            curve.places, curve.points, curve.texts, curve.flattered, strict=True
        )
        if point is not None and not flat
    ]
    if len(points) < 2:
        return ""
    mean, place, text = (max if larger else min)(points, key=lambda entry: entry[0])
    axes.plot([place], [mean], "o", markersize=13, markerfacecolor="none", markeredgecolor="#222222")
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.1 * (high - low), high + 0.12 * (high - low))
    across = axes.transAxes.inverted().transform(axes.transData.transform((place, mean)))[0]
    side = "left" if across < 0.2 else ("right" if across > 0.8 else "center")
    label = f"best: {text} ({style.number(mean)})"
    axes.annotate(
        label,
        (place, mean),
        xytext=(0, 11 if larger else -20),
        textcoords="offset points",
        ha=side,
        fontsize=9,
        fontweight="bold",
        path_effects=[Stroke(linewidth=3, foreground="white"), Normal()],
    )
    return label


def _lost(axes: Axes, lost: Sequence[tuple[str, str]], where: Mapping[str, float]) -> None:
    """A dagger on the axis where there is no number."""
    for text in dict.fromkeys(text for text, _ in lost):
        place = (where[text], 0.02)
        axes.annotate(
            "†", place, xycoords=("data", "axes fraction"), ha="center", fontsize=11, color="#a00000"
        )


def _dress(axes: Axes, values: Sequence[Any], where: Sequence[float], x: str, y: str) -> None:
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    pairs = sorted(zip(where, map(axis_text, values), strict=True))
    axes.xaxis.set_major_locator(FixedLocator([place for place, _ in pairs]))
    axes.xaxis.set_major_formatter(FixedFormatter([text for _, text in pairs]))
    axes.xaxis.set_minor_locator(NullLocator())
    if max((len(text) for _, text in pairs), default=0) > 8:
        axes.tick_params(axis="x", rotation=20)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _caption(curves: Sequence[_Curve], subset: str) -> str:
    points = [point for curve in curves for point in curve.points if point is not None]
    seeds, cases = {point.seeds for point in points}, {point.cases for point in points}
    over = "one seed" if seeds == {1} else f"{_range(seeds)} seeds"
    return f"Mean over {captions.subset_text(subset)} (n = {_range(cases)}), classes and {over}."


def _notes(curves: Sequence[_Curve], lost: Sequence[tuple[str, str]], best: str) -> tuple[str, ...]:
    points = [point for curve in curves for point in curve.points if point is not None]
    covers = " / ".join(dict.fromkeys(point.covers for point in points if not point.why))
    bare: dict[str, dict[str, None]] = {}  # reason, values of the axis
    flat: dict[str, None] = {}
    for curve in curves:
        for text, point, is_flat in zip(curve.texts, curve.points, curve.flattered, strict=True):
            if point is not None and point.why:
                bare.setdefault(point.why, {})[text] = None
            if is_flat:
                flat[text] = None
    said = [f"Band: 95 % interval over {covers}, within the range of the metric."] if covers else []
    said += [f"No band at {', '.join(texts)}: {why}." for why, texts in bare.items()]
    if flat:
        said.append(f"Not compared for best, flattered by empty predictions: {', '.join(flat)}.")
    said += [f"{best[0].upper()}{best[1:]}."] if best else []
    return (*said, *(f"† {text}: no result, {reason}." for text, reason in lost))


def _range(numbers: set[int]) -> str:
    if not numbers:
        return "0"
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low}–{high}"
