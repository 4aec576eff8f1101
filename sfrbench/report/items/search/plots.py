"""Figures of a search: history, importance, slices, contours; drawn from the trials."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfrbench.maths.metric_names import METRICS
from sfrbench.report.render import style
from sfrbench.report.render.parts import Figure
from sfrbench.results.axes import axis_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    from sfrbench.plan.study import Study, Trial
    from sfrbench.spec.model import Range

_PANELS = 4  # fields in one row of slices, and pairs of contours
_BLUE, _RED = style.COLOURS[0], style.COLOURS[1]


def figures(study: Study, foot: str, name: Callable[[str], str], folder: Path) -> list[Figure]:
    """Every figure that the complete trials can carry; there must be one such trial."""
    draw = _Drawing(study, foot, folder)
    made = [draw.save(name("search_history"), "Search history.", _HISTORY, (7.0, 3.6), _history)]
    if study.importances:
        size = (7.0, 1.2 + 0.42 * len(study.importances))
        made.append(draw.save(name("search_importance"), "Importance.", _IMPORTANCE, size, _importance))
    if len(study.of("complete")) < 2:
        return made
    shown = min(len(study.space), _PANELS)
    made.append(draw.save(name("search_slices"), "Slices.", _SLICES, (max(2.6 * shown, 4.4), 3.2), _slices))
    if len(study.space) > 1:
        size = (max(3.9 * len(_pairs(study)), 5.0), 3.6)
        made.append(draw.save(name("search_contours"), "Contours.", _CONTOURS, size, _contours))
    return made


#: Captions, each with its notes.
_HISTORY = ("Points: complete trials; line: the best so far; crosses: pruned or failed, without a value.",)
_IMPORTANCE = (
    "Share of each field in the variation among good trials.",
    "PED-ANOVA (Watanabe et al. 2023); with few trials a rough guide.",
)
_SLICES = ("The metric against each field, the other fields as the trials had them; the darker, the later.",)
_CONTOURS = (
    "Linear interpolation between complete trials (points); the ring is the best one.",
    "It says little where there are few trials. Fields without an order stand in a row, without "
    "interpolation.",
)


class _Drawing:
    """Draws and saves figures of one study."""

    def __init__(self, study: Study, foot: str, folder: Path) -> None:
        self.study, self.foot, self.folder = study, foot, folder

    def save(
        self,
        name: str,
        title: str,
        said: tuple[str, ...],
        size: tuple[float, float],
        draw: Callable[[Canvas, Study], None],
    ) -> Figure:
        with style.canvas(*size, self.foot) as figure:
            draw(figure, self.study)
            files = style.save(figure, self.folder, name)
        caption, *notes = said
        return Figure(name, title, caption, tuple(files), (), notes=tuple(notes))


def _label(study: Study) -> str:
    return f"validation {METRICS[study.metric].label} ({study.unit})"


def _done(study: Study) -> list[Trial]:
    return [trial for trial in study.of("complete") if trial.value is not None]


def _value(trial: Trial) -> float:
    return math.nan if trial.value is None else trial.value


def _history(figure: Canvas, study: Study) -> None:
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_subplot()
    done = sorted(_done(study), key=lambda trial: trial.number)
    numbers = [trial.number for trial in done]
    axes.plot(numbers, [_value(trial) for trial in done], "o", color=_BLUE, markersize=5, alpha=0.75)
    better = max if study.larger else min
    best = list(itertools.accumulate((_value(trial) for trial in done), better))
    axes.step(numbers, best, where="post", color=_RED, linewidth=1.8)
    lost = [trial.number for trial in study.of("pruned", "failed")]
    axes.plot(
        lost, [0.03] * len(lost), "x", color="#777777", transform=axes.get_xaxis_transform(), clip_on=False
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("trial")
    axes.set_ylabel(_label(study))


def _importance(figure: Canvas, study: Study) -> None:
    axes = figure.add_subplot()
    pairs = sorted(study.importances.items(), key=lambda pair: pair[1])
    bars = axes.barh([path for path, _ in pairs], [share for _, share in pairs], color=_BLUE, height=0.6)
    axes.bar_label(bars, [f"{share:.2f}" for _, share in pairs], padding=4)
    axes.set_xlim(0, 1.08 * max(share for _, share in pairs) or 1)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("importance")


def _most_important(study: Study, count: int) -> list[str]:
    return sorted(study.space, key=lambda path: -study.importances.get(path, 0))[:count]


def _slices(figure: Canvas, study: Study) -> None:
    paths = _most_important(study, _PANELS)
    panels: Sequence[Axes] = figure.subplots(1, len(paths), sharey=True, squeeze=False)[0]
    done = _done(study)
    for axes, path in zip(panels, paths, strict=True):
        places = [_place(study.space[path], trial.values[path]) for trial in done]
        colours = [trial.number for trial in done]
        axes.scatter(
            places, [_value(trial) for trial in done], c=colours, cmap="Blues", vmin=-len(done) / 2,
            s=26, edgecolors="#444444", linewidths=0.5,
        )  # fmt: skip
        _scale(axes, "x", study.space[path])
        axes.set_xlabel(path)
    panels[0].set_ylabel(_label(study))


def _pairs(study: Study) -> list[tuple[str, str]]:
    return list(itertools.combinations(_most_important(study, 3), 2))


def _contours(figure: Canvas, study: Study) -> None:
    pairs = _pairs(study)
    panels: Sequence[Axes] = figure.subplots(1, len(pairs), squeeze=False)[0]
    done = _done(study)
    values = [_value(trial) for trial in done]
    best, points = study.best, None
    for axes, (x, y) in zip(panels, pairs, strict=True):
        across = [_place(study.space[x], trial.values[x]) for trial in done]
        up = [_place(study.space[y], trial.values[y]) for trial in done]
        low, high = min(values), max(values)
        _surface(axes, study.space[x], study.space[y], across, up, values)
        points = axes.scatter(
            across, up, c=values, cmap="viridis", vmin=low, vmax=high, s=24, edgecolors="white"
        )
        if best is not None:
            place = (_place(study.space[x], best.values[x]), _place(study.space[y], best.values[y]))
            axes.plot(*place, "o", markersize=13, markerfacecolor="none", markeredgecolor=_RED)
        _scale(axes, "x", study.space[x])
        _scale(axes, "y", study.space[y])
        axes.set_xlabel(x)
        axes.set_ylabel(y)
    figure.colorbar(points, ax=list(panels), label=_label(study))  # type: ignore[arg-type]


def _surface(
    axes: Axes, x: Range, y: Range, across: Sequence[float], up: Sequence[float], values: Sequence[float]
) -> None:
    """Filled contours over a triangulation, where the points span an area; distances as they are shown."""
    import numpy as np
    from matplotlib.tri import Triangulation

    if not (_ordered(x) and _ordered(y)):
        return
    flat = np.array([[_unit(x, a), _unit(y, b)] for a, b in zip(across, up, strict=True)])
    distinct = np.unique(flat, axis=0)
    if (
        len(distinct) < 4
        or np.linalg.matrix_rank(distinct - distinct[0], tol=1e-6) < 2
        or min(values) == max(values)
    ):
        return
    _, first = np.unique(flat, axis=0, return_index=True)
    triangles = Triangulation(flat[first, 0], flat[first, 1]).triangles
    spots = np.array(across)[first], np.array(up)[first]
    axes.tricontourf(
        Triangulation(*spots, triangles), np.array(values)[first], 12, cmap="viridis",
        vmin=min(values), vmax=max(values),
    )  # fmt: skip


def _place(searched: Range, value: Any) -> float:
    """Where a value stands on its axis: a choice without an order at its index."""
    if searched.choices and not _ordered(searched):
        return float([axis_text(choice) for choice in searched.choices].index(axis_text(value)))
    return float(value)


def _ordered(searched: Range) -> bool:
    return all(
        isinstance(choice, int | float) and not isinstance(choice, bool) for choice in searched.choices
    )


def _unit(searched: Range, place: float) -> float:
    """A place between 0 and 1, as long as the axis shows it."""
    if searched.choices:
        ends = [_place(searched, choice) for choice in searched.choices]
        return (place - min(ends)) / (max(ends) - min(ends))
    if searched.log:
        return math.log(place / searched.low) / math.log(searched.high / searched.low)
    return (place - searched.low) / (searched.high - searched.low)


def _scale(axes: Axes, which: str, searched: Range) -> None:
    """The whole searched range, with room for the points at its ends."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis = axes.xaxis if which == "x" else axes.yaxis
    ends = [_place(searched, choice) for choice in searched.choices] or [searched.low, searched.high]
    low, high = min(ends), max(ends)
    if searched.log:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
        room = (high / low) ** 0.05
        low, high = low / room, high * room
    else:
        low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    if searched.choices and not _ordered(searched):
        axis.set_ticks(range(len(searched.choices)), [axis_text(choice) for choice in searched.choices])
