"""The figure of features: densities of labelled and unlabelled cases, one panel for each arm and point."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sfrbench.files.atomic import atomic_file
from sfrbench.files.sheets import guarded
from sfrbench.maths.gaps import OVERLAP, RELATIVE, Array, bandwidth, group_sample
from sfrbench.report.items.features.gaps import Gap
from sfrbench.report.items.features.tables import spread_text
from sfrbench.report.render import captions, style
from sfrbench.report.render.parts import Figure
from sfrbench.results.axes import axis_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    from sfrbench.report.facts.info import ReportInfo

GROUPS = ("labelled", "unlabelled")
_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.6)))
_TAIL = 0.5  # percent of the voxels beyond each end of the axis, at most

Drawn = list[list[tuple[str, Array]]]  # of one seed: group, then (case, values)


def features_figure(info: ReportInfo, gaps: Sequence[Gap], name: str, folder: Path) -> Figure:
    """One panel for each line; the voxels that it shows stand in ``<name>.csv``."""
    drawn = [[draw(gap, index) for index in range(len(gap.members))] for gap in gaps]
    scaled = [
        [_scaled(gap, index, one) for index, one in enumerate(seeds)]
        for gap, seeds in zip(gaps, drawn, strict=True)
    ]
    low, high = _limits(scaled)
    grid = np.linspace(low, high, 400)
    across = len({gap.arm for gap in gaps})
    across = across if len(gaps) % across == 0 and across <= 3 else min(len(gaps), 2)
    down = -(-len(gaps) // across)
    order = sorted(range(len(gaps)), key=lambda index: _point(gaps, index))
    with style.canvas(7.4, 0.9 + 2.1 * down, captions.foot(info)) as figure:
        panels = figure.subplots(down, across, sharex=True, squeeze=False).ravel()
        for axes in panels[len(gaps) :]:
            axes.set_axis_off()
        for axes, index in zip(panels, order, strict=False):
            _panel(axes, gaps[index], scaled[index], grid)
        for axes in panels[: len(gaps)][-across:]:
            axes.set_xlabel("mean feature, pooled standard deviations", fontsize=9)
            axes.tick_params(labelbottom=True)
        _legend(figure)
        files = style.save(figure, folder, name)
    table = folder / f"{name}.csv"
    _write(table, info, gaps, drawn)
    title, notes = "Features of labelled and unlabelled cases.", _notes(gaps)
    return Figure(name, title, _caption(gaps), (*files, table), (), notes=notes)


def draw(gap: Gap, index: int) -> Drawn:
    """The voxels of one seed that the figure shows, as many of each group; no voxels if a group has none."""
    size = gap.size(index)
    if not size:
        return [[], []]
    pairs = [
        (group, group_sample(group, size, np.random.default_rng(side)))
        for side, group in enumerate(gap.samples[index])
    ]
    return [[(group[at].name, values) for at, values in taken] for group, taken in pairs]


def density(sample: Array, grid: Array) -> Array | None:
    """Gaussian kernel density on ``grid``, half of Scott's bandwidth; None for equal or too few values."""
    if sample.size < 3 or not float(np.std(sample)) > 0:
        return None
    from scipy.stats import gaussian_kde

    return np.asarray(gaussian_kde(sample, bw_method=bandwidth(sample.size, 1.0))(grid))


def _scaled(gap: Gap, index: int, drawn: Drawn) -> list[Array]:
    """The values of both groups in pooled standard deviations from the mean; empty where there are none."""
    groups = gap.groups[index]
    if groups is None or not groups.spread > 0:
        return [np.empty(0), np.empty(0)]
    values = [np.concatenate([values for _, values in group]) for group in drawn]
    return [(each - groups.centre) / groups.spread for each in values]


def _limits(scaled: Sequence[Sequence[Sequence[Array]]]) -> tuple[float, float]:
    every = np.concatenate([np.empty(0), *(one for seeds in scaled for pair in seeds for one in pair)])
    if not every.size:
        return -1.0, 1.0
    low, high = np.percentile(every, (_TAIL, 100 - _TAIL))
    return float(low) - 0.4, float(high) + 0.4


def _point(gaps: Sequence[Gap], index: int) -> tuple[int, int]:
    """The row and column of a line: points below one another in their order, arms side by side."""
    points = list(dict.fromkeys(tuple(map(axis_text, gap.axes.values())) for gap in gaps))
    return points.index(tuple(map(axis_text, gaps[index].axes.values()))), index


def _panel(axes: Axes, gap: Gap, scaled: Sequence[Sequence[Array]], grid: Array) -> None:
    """Thin lines are seeds, the thick one is their mean."""
    for side in range(len(GROUPS)):
        colour, dashes = style.COLOURS[side], _DASHES[side]
        curves = [curve for pair in scaled if (curve := density(pair[side], grid)) is not None]
        if not curves:
            continue
        mean = np.mean(curves, axis=0)
        for curve in curves if len(curves) > 1 else ():
            axes.plot(grid, curve, color=colour, linestyle=dashes, linewidth=0.7, alpha=0.55)
        axes.plot(grid, mean, color=colour, linestyle=dashes, linewidth=2.0)
        axes.fill_between(grid, mean, color=colour, alpha=0.1, linewidth=0)
    observed = gap.observed
    told = f"W1 / sd {spread_text(observed[:, RELATIVE])}\noverlap {spread_text(observed[:, OVERLAP])}"
    axes.text(0.985, 0.95, told, transform=axes.transAxes, ha="right", va="top", fontsize=8)
    axes.set_title(f"{gap.name} †" if gap.unseen else gap.name, fontsize=9)
    axes.set_xlim(grid[0], grid[-1])
    axes.set_ylim(bottom=0)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)


def _legend(figure: Canvas) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=style.COLOURS[side], linestyle=_DASHES[side], linewidth=2.0)
        for side in range(len(GROUPS))
    ]
    figure.legend(handles, GROUPS, loc="outside lower center", ncols=2, fontsize=8.5, handlelength=2.8)


def _caption(gaps: Sequence[Gap]) -> str:
    return f"Density of the mean feature of {gaps[0].of} voxels that are predicted correctly."


def _notes(gaps: Sequence[Gap]) -> tuple[str, ...]:
    sizes = {gap.size(index) for gap in gaps for index in range(len(gap.members))} - {0}
    count = " to ".join(str(size) for size in sorted({min(sizes, default=0), max(sizes, default=0)}))
    thin = "" if max(len(gap.members) for gap in gaps) < 2 else "Thin: single seeds; thick: their mean. "
    return (
        f"{count} voxels of each group and seed, drawn from all such voxels of its cases; Gaussian kernel, "
        "half of Scott's bandwidth.",
        f"{thin}Each network's features are centred and divided by their pooled standard deviation. At most "
        f"{_TAIL:g} % of the voxels lie beyond each end of the axis.",
        *(f"† {gap.name}: {gap.unseen}." for gap in gaps if gap.unseen),
    )


def _write(path: Path, info: ReportInfo, gaps: Sequence[Gap], drawn: Sequence[Sequence[Drawn]]) -> None:
    """Every voxel that the figure shows, with its case, before scaling."""
    with atomic_file(path) as file, file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["arm", *info.axes, "seed", "group", "case", "feature", "profile"])
        for gap, seeds in zip(gaps, drawn, strict=True):
            names = [guarded(gap.arm), *(axis_text(gap.axes[path]) for path in info.axes)]
            for one, pair in zip(gap.members, seeds, strict=True):
                for group, cases in zip(GROUPS, pair, strict=True):
                    for case, values in cases:
                        rows = (
                            [*names, one.seed, group, guarded(case), f"{v:.7g}", info.profile] for v in values
                        )
                        writer.writerows(rows)
