"""Densities of per-case scores, one for each arm, with every case as a tick below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sfrbench.maths.metric_names import METRICS
from sfrbench.maths.stats import Array, class_means
from sfrbench.report.render import captions, style
from sfrbench.report.render.parts import Figure
from sfrbench.results import dead
from sfrbench.results.lines import Line, header, lines, subset_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sfrbench.report.facts.info import ReportInfo

PER_PANEL = 6
_LEAST_SPREAD = 1e-3  # percent points; below it a kernel density is a spike without meaning
_NOTES = (
    "A case's value is its mean over classes; it counts once for each seed.",
    "Gaussian kernel, Scott's bandwidth, cut at 0 and 100; without spread the ticks stand alone.",
)


def kde_figure(frame: pd.DataFrame, info: ReportInfo, metric: str, name: str, folder: Path) -> Figure:
    """Per-case values (mean over classes, each seed counted) of a metric in percent."""
    subset = subset_of(frame)
    shown = lines(frame, info.grid, subset)
    samples = [_sample(line, metric) for line in shown]
    count = max(1, -(-len(shown) // PER_PANEL))
    grid = np.linspace(_lowest(samples), 100, 400)
    curves = [density(sample, grid) for sample in samples]
    top = max((float(curve.max()) for curve in curves if curve is not None), default=1.0)
    names = [line.short(shown) for line in shown]
    with style.canvas(7.0, 0.9 + 3.2 * count, captions.foot(info)) as figure:
        panels = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
        size = -(-len(shown) // count) if shown else 1
        for index, axes in enumerate(panels):
            part = slice(index * size, (index + 1) * size)
            _panel(axes, shown[part], curves[part], samples[part], grid, top, names[part])
        panels[-1].set_xlabel(header(frame[frame["subset"] == subset], metric).rstrip(" ↑↓") + " of a case")
        files = style.save(figure, folder, name)
    head = METRICS[metric].label
    said = f"Density of the {head} of single {captions.subset_text(subset)}, each case a tick below."
    never = dead.sentence((line.short(shown), line.dead) for line in shown)
    notes = (*_NOTES, *never)
    return Figure(name, f"{head} per case.", said, tuple(files), tuple(shown), notes=notes)


def _sample(line: Line, metric: str) -> Array:
    values = class_means(line.cube(metric)).ravel() if line.seeds else np.empty(0)
    return np.asarray(values[~np.isnan(values)])


def density(sample: Array, grid: Array) -> Array | None:
    """Kernel density on ``grid``; None if the sample is too small or does not spread."""
    if sample.size < 3 or float(np.std(sample)) < _LEAST_SPREAD:
        return None
    from scipy.stats import gaussian_kde

    return np.asarray(gaussian_kde(sample)(grid))


def _lowest(samples: Sequence[Array]) -> float:
    known = [float(sample.min()) for sample in samples if sample.size]
    return max(0.0, 10.0 * math.floor((min(known, default=0.0) - 8) / 10))


def _panel(
    axes: Axes,
    shown: Sequence[Line],
    curves: Sequence[Array | None],
    samples: Sequence[Array],
    grid: Array,
    top: float,
    names: Sequence[str],
) -> None:
    step = 0.055 * top
    for index, (line, sample, curve) in enumerate(zip(shown, samples, curves, strict=True)):
        colour = style.COLOURS[index % len(style.COLOURS)]
        dashes = style.LINES[index % len(style.LINES)]
        base = -step * (index + 1)
        axes.plot(sample, np.full(sample.size, base), "|", color=colour, markersize=6, markeredgewidth=1.1)
        label = _label(names[index], line, sample, curve)
        if curve is None:
            axes.plot(
                [],
                [],
                "|" if sample.size else " ",
                color=colour,
                markersize=8,
                markeredgewidth=1.5,
                label=label,
            )
            continue
        axes.plot(grid, curve, color=colour, linestyle=dashes, linewidth=1.9, label=label)
        axes.fill_between(grid, curve, color=colour, alpha=0.07, linewidth=0)
    axes.axhline(0, color="#999999", linewidth=0.8)
    axes.set_xlim(grid[0], grid[-1])
    axes.set_ylim(-step * (len(shown) + 1), top * 1.08)
    axes.set_yticks([])
    axes.set_ylabel("density")
    axes.grid(visible=False, axis="y")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8.5)


def _label(name: str, line: Line, sample: Array, curve: Array | None) -> str:
    if not sample.size:
        reasons = dict.fromkeys(reason for _, reason in line.missing)
        return f"{_wrap(name)}\n{style.DASH} {_wrap('; '.join(reasons) or 'not scored')}"
    label = f"{_wrap(name)}\nn {sample.size}, median {style.number(float(np.median(sample)))}"
    return label if curve is not None else f"{label}\n(no spread: ticks only)"


def _wrap(text: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, 26)) or text
