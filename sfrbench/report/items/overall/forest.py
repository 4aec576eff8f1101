"""The forest plot: what each method gains or loses, with its interval, and the mean over all as a diamond."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sfrbench.maths.metric_names import METRICS
from sfrbench.report.items.overall.results import Results
from sfrbench.report.items.overall.table import HARMS, caption, incomplete, rules, title
from sfrbench.report.render import captions, style
from sfrbench.report.render.parts import Figure
from sfrbench.results.lines import header, subset_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sfrbench.maths.stats import Interval
    from sfrbench.report.facts.info import ReportInfo

#: Colour and sign of a row by where its whole interval lies; what is on no side is grey.
_LOOKS = {"better": ("#0072B2", "o"), "worse": ("#D55E00", "X"), "": ("#777777", "s")}
_INK = "#222222"


def forest(frame: pd.DataFrame, info: ReportInfo, results: Results, name: str, folder: Path) -> Figure:
    """A row for each method, in the order of the table; what has no number has a dagger in its place."""
    subset, larger = subset_of(frame), METRICS[results.metric].larger
    labels = ["\n".join(textwrap.wrap(row.contrast.name, 34)) or row.contrast.name for row in results.rows]
    tall = sum(1 + 0.55 * label.count("\n") for label in labels)
    with style.canvas(7.0, 1.75 + 0.27 * (tall + 1.5), captions.foot(info)) as figure:
        axes = figure.add_subplot()
        axes.axvline(0, color=_INK, linewidth=1.0)
        for place, row in enumerate(results.rows):
            if row.result is None:
                _aside(axes, place, "† no result", color="#a00000")
            else:
                _row(axes, place, row.result.difference, *_LOOKS[row.verdict(larger)])
        _mean(axes, len(results.rows), results)
        _dress(
            axes, [*labels, results.name], header(frame[frame["subset"] == subset], results.metric), larger
        )
        files = style.save(figure, folder, name)
    lines = tuple(row.contrast for row in results.rows)
    return Figure(name, title(results), caption(results, subset), tuple(files), lines, notes=_notes(results))


def _row(axes: Axes, place: int, gap: Interval, colour: str, sign: str) -> None:
    if gap.low is not None and gap.high is not None:
        axes.plot([gap.low, gap.high], [place, place], color=colour, linewidth=2.0, solid_capstyle="butt")
    axes.plot(
        [gap.mean], [place], sign, color=colour, markersize=7, markeredgecolor="white", markeredgewidth=0.6
    )
    _told(axes, place, gap)


def _mean(axes: Axes, place: int, results: Results) -> None:
    """The diamond of the mean over the rows, as wide as its interval; hollow without one."""
    from matplotlib.patches import Polygon

    axes.axhline(place - 0.5, color="#999999", linewidth=0.8)
    if results.whole is None:
        _aside(axes, place, "† no mean over them", color="#a00000")
        return
    gap = results.whole.effect
    if gap.low is not None and gap.high is not None:
        corners = [(gap.low, place), (gap.mean, place - 0.32), (gap.high, place), (gap.mean, place + 0.32)]
        axes.add_patch(Polygon(corners, closed=True, facecolor=_INK, edgecolor=_INK, zorder=3))
    else:
        axes.plot([gap.mean], [place], "D", markersize=8, markerfacecolor="none", markeredgecolor=_INK)
    _told(axes, place, gap, weight="bold")


def _told(axes: Axes, place: int, gap: Interval, weight: str = "normal") -> None:
    """Difference and interval as text."""
    text = f"{style.signed(gap.mean)}  ({style.span(gap.low, gap.high)})"
    _aside(axes, place, text, fontweight=weight)


def _aside(axes: Axes, place: int, text: str, **look: Any) -> None:
    """Text right of the plot."""
    where = (1.02, place)
    axes.annotate(
        text,
        where,
        xycoords=("axes fraction", "data"),
        va="center",
        fontsize=8.5,
        annotation_clip=False,
        **look,
    )


def _dress(axes: Axes, labels: list[str], head: str, larger: bool) -> None:
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_yticks(range(len(labels)), labels)
    axes.get_yticklabels()[-1].set_fontweight("bold")
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.margins(x=0.06)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -0.04 * (high - low)), max(high, 0.04 * (high - low)))
    towards = "better →" if larger else "← better"
    axes.set_xlabel(f"Difference in {head.rstrip(' ↑↓')}, {towards}")


def _notes(results: Results) -> tuple[str, ...]:
    """What signs mean, what is missing, and the rules of the table."""
    larger = METRICS[results.metric].larger
    harmed = [row.contrast.name for row in results.rows if row.verdict(larger) == "worse"]
    said = [
        "Round: the whole 95 % interval is on the better side; cross: on the worse side; square: on neither. "
        "Diamond: the mean over all, as wide as its interval."
    ]
    if harmed:
        said.append(f"{HARMS[0].upper()}{HARMS[1:]}: {', '.join(harmed)}.")
    gone = [f"† {row.contrast.name}: {'; '.join(row.notes)}." for row in results.rows if row.result is None]
    part = [f"{results.name}: {text}." for text in incomplete(results)]
    return (*said, *gone, *part, *rules(results))
