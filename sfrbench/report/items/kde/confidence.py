"""What confidence is worth in SFR+: C of every unlabelled case against the Dice of its label, by round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sfrbench.maths.stats import Array
from sfrbench.report.items.kde.density import density
from sfrbench.report.items.rounds.table import (
    Lines,
    Quality,
    RoundRow,
    known_dice,
    quality_of,
    rows_of,
    spearman,
)
from sfrbench.report.render import captions, style
from sfrbench.report.render.parts import Figure
from sfrbench.results import dead
from sfrbench.results.axes import point_texts
from sfrbench.results.subsets import before_round

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    from sfrbench.report.facts.info import ReportInfo

#: Confident cases and the others: label, colour, marker, filled, dashes.
_KINDS: tuple[tuple[str, str, str, bool, Any], ...] = (
    ("confident: update SAM", style.COLOURS[0], "o", True, "-"),
    ("others", style.COLOURS[1], "s", False, (0, (4, 1.6))),
)
_ACROSS = 2
_CAPTION = "Every unlabelled case of all seeds: C as the threshold sees it, and the Dice of its label."


@dataclass(frozen=True)
class _Cloud:
    """All seeds of one round: C, Dice (%) and whether confident, each (n,); rank correlation of each seed."""

    name: str
    c: Array
    dice: Array
    confident: np.ndarray
    thresholds: list[float]
    rhos: list[float]


def confidence_figure(
    frame: pd.DataFrame, info: ReportInfo, name: str, folder: Path
) -> tuple[Figure | None, list[RoundRow]]:
    """One panel for each arm, point and round, with the densities of C above and of Dice to the right.

    The label is the segmenter's, which updates SAM where C is high enough. None where no round is scored.
    """
    every = rows_of(info)
    quality = quality_of(frame, every)
    pairs = [(row, _cloud(row, quality)) for row in every]
    rows = [row for row, cloud in pairs if cloud.c.size]
    clouds = [cloud for _, cloud in pairs if cloud.c.size]
    if not clouds:
        return None, []
    down = -(-len(clouds) // _ACROSS)
    across = min(_ACROSS, len(clouds))
    limits = _limits(clouds)
    with style.canvas(3.7 * across, 0.4 + 3.2 * down, captions.foot(info)) as figure:
        grid = figure.add_gridspec(
            2 * down, 2 * across, height_ratios=[1, 4] * down, width_ratios=[4, 1] * across
        )
        for index, cloud in enumerate(clouds):
            y, x = 2 * (index // across), 2 * (index % across)
            main = figure.add_subplot(grid[y + 1, x])
            top = figure.add_subplot(grid[y, x], sharex=main)
            right = figure.add_subplot(grid[y + 1, x + 1], sharey=main)
            _scatter(main, cloud, limits)
            _margin(top, cloud.c, cloud.confident, limits[0], upright=True)
            _margin(right, cloud.dice, cloud.confident, limits[1], upright=False)
            top.set_title(cloud.name, fontsize=9)
        _legend(figure)
        files = style.save(figure, folder, name)
    known = Lines(frame, info)
    own = [(cloud.name, known.at(before_round(row.number), row.arm, row.axes)) for row, cloud in pairs]
    never = dead.sentence((told, line.dead) for told, line in own if line is not None)
    title, notes = "Confidence against true quality.", (*_notes(clouds), *never)
    return Figure(name, title, _CAPTION, tuple(files), (), notes=notes), rows


def _cloud(row: RoundRow, quality: Quality) -> _Cloud:
    dice = [known_dice(one, quality) for one in row.rounds]
    pairs = list(zip(row.rounds, dice, strict=True))
    rhos = [spearman(one, known) for one, known in pairs]
    points = point_texts(row.axes)
    return _Cloud(
        ", ".join([row.label, *points, f"round {row.number}"]),
        np.array([one.confidence[case] for one, known in pairs for case in known]),
        np.array([value for known in dice for value in known.values()]),
        np.array([case in one.confident for one, known in pairs for case in known], dtype=bool),
        [one.threshold for one in row.rounds if np.isfinite(one.threshold)],
        [rho for rho in rhos if rho is not None],
    )


def _limits(clouds: Sequence[_Cloud]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Of C and of Dice, the same in all panels."""
    found = []
    for values in (np.concatenate([cloud.c for cloud in clouds]), np.concatenate([c.dice for c in clouds])):
        low, high = float(values.min()), float(values.max())
        margin = 0.06 * (high - low) or 0.01 * max(abs(high), 1.0)
        found.append((low - margin, high + margin))
    return found[0], found[1]


def _scatter(axes: Axes, cloud: _Cloud, limits: tuple[tuple[float, float], tuple[float, float]]) -> None:
    for (_, colour, marker, filled, _), here in zip(_KINDS, (cloud.confident, ~cloud.confident), strict=True):
        face = colour if filled else "none"
        axes.plot(cloud.c[here], cloud.dice[here], marker, color=colour, markerfacecolor=face, markersize=4.2)
    for threshold in cloud.thresholds:
        axes.axvline(threshold, color="#555555", linewidth=0.9, linestyle=(0, (1, 1.2)))
    axes.set_xlim(*limits[0])
    axes.set_ylim(*limits[1])
    axes.set_xlabel("confidence C")
    axes.set_ylabel("Dice of the label (%)")


def _margin(
    axes: Axes, values: Array, confident: np.ndarray, limits: tuple[float, float], *, upright: bool
) -> None:
    grid = np.linspace(*limits, 200)
    width = limits[1] - limits[0]
    for (_, colour, _, _, dashes), here in zip(_KINDS, (confident, ~confident), strict=True):
        share = (values[here] - limits[0]) * 100 / width  # ``density`` takes percent
        curve = density(share, (grid - limits[0]) * 100 / width)
        if curve is not None:
            curve = curve * here.mean()
            axes.plot(
                *((grid, curve) if upright else (curve, grid)), color=colour, linestyle=dashes, linewidth=1.5
            )
    axes.set_axis_off()


def _legend(figure: Canvas) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            color=colour,
            marker=marker,
            markerfacecolor=colour if filled else "none",
            linestyle=dashes,
        )
        for _, colour, marker, filled, dashes in _KINDS
    ]
    handles.append(Line2D([], [], color="#555555", linewidth=0.9, linestyle=(0, (1, 1.2))))
    labels = [kind[0] for kind in _KINDS] + ["threshold"]
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8.5)


def _notes(clouds: Sequence[_Cloud]) -> tuple[str, ...]:
    told = []
    for cloud in clouds:
        rho = f"{np.mean(cloud.rhos):.2f}" if cloud.rhos else style.DASH
        seeds = f" ± {np.std(cloud.rhos, ddof=1):.2f}" if len(cloud.rhos) > 1 else ""
        told.append(f"{cloud.name}: ρ {rho}{seeds} ({captions.seeds_text(len(cloud.rhos))})")
    return (
        f"Spearman's rank correlation over cases, mean over seeds: {'; '.join(told)}.",
        "Dice: mean over classes, of the segmenter's label against the truth, which evaluation alone opens.",
        "Curves: densities, each as high as its group is large (Gaussian kernel, Scott's bandwidth).",
    )
