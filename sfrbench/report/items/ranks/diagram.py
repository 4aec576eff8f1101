"""The critical-difference diagram: mean ranks on a line, bars over methods that no test tells apart."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sfrbench.report.items.ranks.ranking import Ranking
from sfrbench.report.items.ranks.table import caption, rules
from sfrbench.report.render import captions, style
from sfrbench.report.render.parts import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sfrbench.report.facts.info import ReportInfo

_INK, _BAR = "#222222", "#0072B2"
_BAR_STEP, _ROW = 0.28, 0.62  # in units of the axis of heights


def rank_diagram(
    info: ReportInfo, ranking: Ranking, title: str, subset: str, name: str, folder: Path
) -> Figure:
    """Best on the left; a method's line runs down to its name on the nearer side."""
    ranks, cliques = ranking.mean_ranks, ranking.cliques()
    labels = ["\n".join(textwrap.wrap(label, 28)) or label for label in ranking.names]
    left = -(-len(ranks) // 2)
    top = 0.45 + _BAR_STEP * len(cliques)  # where the names begin
    tall = max(label.count("\n") for label in labels)
    row = _ROW * (1 + 0.55 * tall)
    depth = top + row * left
    with style.canvas(7.0, 0.95 + 0.42 * depth, captions.foot(info)) as figure:
        axes = figure.add_subplot()
        low, high = _ends(ranks)
        _scale(axes, low, high)
        for place, (rank, label) in enumerate(zip(ranks, labels, strict=True)):
            on_left = place < left
            order = place if on_left else len(ranks) - 1 - place
            _name(axes, rank, label, top + row * order, (low, high), on_left)
        for index, (first, last) in enumerate(cliques):
            height = -0.3 - _BAR_STEP * index
            axes.plot(
                [ranks[first], ranks[last]], [height] * 2, color=_BAR, linewidth=5, solid_capstyle="butt"
            )
        axes.set_ylim(-depth, 0.75)
        files = style.save(figure, folder, name)
    joined = "Bars join methods of which no two are told apart at 0.05." if cliques else "All are told apart."
    alone = ranking.without_bar()
    if alone:
        more = f"; and {len(alone) - 6} more" if len(alone) > 6 else ""
        listed = f"{'; '.join(alone[:6])}{more}"
        joined += f" Not told apart either, though one between them is: {listed}."
    every = tuple(line for own in ranking.lines for line in own)
    told = (joined, *rules(ranking))
    return Figure(name, title, caption(ranking, subset), tuple(files), every, notes=told)


def _ends(ranks: Sequence[float]) -> tuple[int, int]:
    return math.floor(min(ranks)), max(math.ceil(max(ranks)), math.floor(min(ranks)) + 1)


def _scale(axes: Axes, low: int, high: int) -> None:
    """The line of ranks at height 0, ticks and numbers above it."""
    axes.set_axis_off()
    room = 0.62 * (high - low)
    axes.set_xlim(low - room, high + room)
    axes.plot([low, high], [0, 0], color=_INK, linewidth=1.4)
    step = max(1, -(-(high - low) // 12))  # so many ranks for each number
    for half in range(2 * low, 2 * high + 1):
        numbered = half % 2 == 0 and (half // 2 - low) % step == 0
        if half % 2 == 0 or step == 1:
            axes.plot([half / 2] * 2, [0, 0.16 if numbered else 0.09], color=_INK, linewidth=1.2)
        if numbered:
            axes.text(half / 2, 0.24, str(half // 2), ha="center", va="bottom", fontsize=9.5)
    axes.text(
        low - 0.03 * (high - low), 0.06, "better", ha="right", va="bottom", fontsize=8.5, color="#555555"
    )
    axes.text(
        high + 0.03 * (high - low), 0.06, "mean rank", ha="left", va="bottom", fontsize=8.5, color="#555555"
    )


def _name(axes: Axes, rank: float, label: str, depth: float, ends: tuple[int, int], on_left: bool) -> None:
    width = ends[1] - ends[0]
    side = ends[0] - 0.04 * width if on_left else ends[1] + 0.04 * width
    axes.plot([rank, rank, side], [0, -depth, -depth], color=_INK, linewidth=1.0)
    axes.plot([rank], [0], "o", color=_INK, markersize=4.5)
    place = side + (-0.015 if on_left else 0.015) * width
    text = f"{label}  {style.number(rank)}" if on_left else f"{style.number(rank)}  {label}"
    axes.text(place, -depth, text, ha="right" if on_left else "left", va="center", fontsize=9)
