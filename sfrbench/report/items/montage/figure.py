"""Slices of the best, median and worst case with contours of truth, pseudo-label and prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sfrbench.files.units import counted
from sfrbench.maths.stats import class_means
from sfrbench.report.items.montage import viewer
from sfrbench.report.render import captions, marks, overlays, style
from sfrbench.report.render.parts import Figure
from sfrbench.results.lines import Line, lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sfrbench.report.facts.info import ReportInfo
    from sfrbench.report.facts.volumes import MontageCase

COLUMNS = 6


@dataclass(frozen=True)
class _Panel:
    """What is drawn: a slice (X, Y) of each array, or the reason why there is nothing."""

    volumes: MontageCase | None = None
    image: NDArray[Any] | None = None
    maps: Mapping[str, NDArray[Any]] | None = None
    aspect: float = 1.0
    reason: str = ""
    marks: marks.Marks = field(default_factory=marks.Marks)  # what the user said on this slice

    def told(self, dice: float | None) -> str:
        """What stands below it."""
        said = 0 if self.volumes is None else sum(one.count for one in self.volumes.said)
        prompts = f"\n{self.marks.count} of {counted(said, 'prompt')} here" if said else ""
        return f"{_score(dice)}{prompts}"


def montage_figure(
    frame: pd.DataFrame, info: ReportInfo, count: int, subset: str, name: str, folder: Path
) -> Figure | None:
    """Rows are cases by the Dice of the last line that has one, columns are lines; None without volumes."""
    shown = lines(frame, info.grid, subset)
    ranked = _ranked(shown)
    if info.montage is None or ranked is None:
        return None
    by, cases = ranked
    columns = spread(shown, COLUMNS, by)
    rows = _pick(cases, count)
    scores = [_dice(line) for line in columns]
    grid = [[_panel(info, line, case, subset) for line in columns] for _, case in rows]
    names = [wrap(line.short(shown), 20) for line in columns]
    ranks = [f"{rank}\n{wrap(case, 18)}" for rank, case in rows]
    turned = len(columns) < len(rows)  # few lines: cases side by side, to fill the width
    across, down = (ranks, names) if turned else (names, ranks)
    windows = [_window(row) for row in grid]
    tall = [max(window.tall for window in windows)] if turned else [window.tall for window in windows]
    tall = tall * len(down) if turned else tall
    size = (max(0.9 + 1.8 * len(across), 5.0), 0.95 + sum(1.8 * ratio + 0.3 for ratio in tall))
    with style.canvas(*size, captions.foot(info)) as figure:
        axes = figure.subplots(len(down), len(across), squeeze=False, gridspec_kw={"height_ratios": tall})
        for (row, column), frame_of in np.ndenumerate(axes):
            case, line = (column, row) if turned else (row, column)
            _draw(frame_of, grid[case][line], windows[case], scores[line].get(rows[case][1]))
            if row == 0:
                frame_of.set_title(across[column], fontsize=9)
            if column == 0:
                frame_of.set_ylabel(down[row], fontsize=8.5)
        signs = marks.handles([panel.marks for row in grid for panel in row])
        overlays.legend(figure, [panel.maps or {} for row in grid for panel in row], signs)
        files = style.save(figure, folder, name)
    slices = viewer.slices(rows, _all_slices(grid, rows, columns, shown, scores))
    there = {rank for rank, _ in rows}
    named = captions.listed(word for word in ("best", "median", "worst") if word in there).capitalize()
    caption = f"{named} of the {captions.subset_text(subset)} by the Dice of {by.name}."
    notes = (*_notes(by, shown, columns), *_of_prompts(grid, columns, info))
    return Figure(name, "Slices.", caption, tuple(files), tuple(columns), slices, notes)


def _all_slices(
    grid: Sequence[Sequence[_Panel]],
    rows: Sequence[tuple[str, str]],
    columns: Sequence[Line],
    shown: Sequence[Line],
    scores: Sequence[Mapping[str, float]],
) -> list[list[viewer.Panel]]:
    """The same cases and lines for the viewer."""
    return [
        [
            viewer.Panel(line.short(shown), _score(dice.get(case)), panel.volumes, panel.reason)
            for panel, line, dice in zip(row, columns, scores, strict=True)
        ]
        for row, (_, case) in zip(grid, rows, strict=True)
    ]


def _score(dice: float | None) -> str:
    return style.DASH if dice is None else f"Dice {style.number(dice)}"


def _dice(line: Line) -> dict[str, float]:
    """Dice in percent of each case at the line's first seed, mean over classes."""
    if not line.seeds:
        return {}
    values = class_means(line.cube("dice", seeds=line.seeds[:1]))[0]
    return {case: float(v) for case, v in zip(line.cases, values, strict=True) if not np.isnan(v)}


def _ranked(shown: Sequence[Line]) -> tuple[Line, list[str]] | None:
    """The last line with a Dice, and its cases from best to worst."""
    for line in reversed(shown):
        dice = _dice(line)
        if dice:
            return line, sorted(dice, key=lambda case: (-dice[case], case))
    return None


def _pick(cases: Sequence[str], count: int) -> list[tuple[str, str]]:
    """(rank in words, case), evenly from best to worst."""
    last = len(cases) - 1
    places = np.unique(np.linspace(0, last, min(count, len(cases))).round().astype(int)).tolist()
    names = {last // 2: "median", (last + 1) // 2: "median", last: "worst", 0: "best"}
    return [(names.get(place, f"{place + 1} of {len(cases)}"), cases[place]) for place in places]


def spread(shown: Sequence[Line], most: int, keep: Line | None = None) -> list[Line]:
    """At most ``most`` lines, evenly chosen, ``keep`` always among them."""
    if len(shown) <= most:
        return list(shown)
    places = {round(place) for place in np.linspace(0, len(shown) - 1, most).tolist()}
    if keep is not None and shown.index(keep) not in places:
        places = {*sorted(places)[:-1], shown.index(keep)}
    return [shown[place] for place in sorted(places)]


def _panel(info: ReportInfo, line: Line, case: str, subset: str) -> _Panel:
    if not line.seeds:
        return _Panel(reason="; ".join(dict.fromkeys(reason for _, reason in line.missing)))
    assert info.montage is not None
    volumes = info.montage(line.cells[line.seeds[0]], case, subset)
    if volumes is None:
        return _Panel(reason="no prediction kept")
    truth = volumes.truth()
    getters = {"pseudo-label": volumes.pseudo, "prediction": volumes.prediction}
    maps = {"truth": truth} | {kind: get() for kind, get in getters.items() if get is not None}
    areas = np.count_nonzero(truth, axis=(0, 1))
    z = int(areas.argmax()) if areas.any() else truth.shape[2] // 2
    slices = {kind: np.asarray(volume[:, :, z]) for kind, volume in maps.items()}
    aspect = volumes.spacing[1] / volumes.spacing[0]
    said = marks.on_slice(volumes.said, z)
    return _Panel(volumes, np.asarray(volumes.image()[:, :, z]), slices, aspect, marks=said)


@dataclass(frozen=True)
class _Window:
    """The part of a slice that is shown; ``tall`` is its height over its width as displayed."""

    part: tuple[slice, slice] = (slice(None), slice(None))
    tall: float = 1.0


def _window(row: Sequence[_Panel]) -> _Window:
    """What the panels of one case show: all contours of all of them, with a margin."""
    masks = [mask != 0 for panel in row for mask in (panel.maps or {}).values()]
    masks += [panel.marks.mask(panel.image.shape) for panel in row if panel.image is not None]
    aspect = next((panel.aspect for panel in row if panel.maps), 1.0)
    if not masks:
        return _Window()
    if not any(mask.any() for mask in masks) or len({mask.shape for mask in masks}) > 1:
        return _Window(tall=aspect * masks[0].shape[1] / masks[0].shape[0])
    union = np.logical_or.reduce(masks)
    box = []
    for axis in (0, 1):
        places = np.flatnonzero(union.any(axis=1 - axis))
        low, high = int(places[0]), int(places[-1]) + 1
        margin = max(6, (high - low) // 3)
        box.append((low - margin, high + margin))
    side = max(high - low for low, high in box)  # square, so that rows have one look
    parts = []
    for (low, high), length in zip(box, union.shape, strict=True):
        start = max(0, min((low + high - side) // 2, length - side))
        parts.append(slice(start, min(length, start + side)))
    width, height = (part.stop - part.start for part in parts)
    return _Window((parts[0], parts[1]), aspect * height / width)


def _draw(axes: Axes, panel: _Panel, window: _Window, dice: float | None) -> None:
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    if panel.image is None or panel.maps is None:
        axes.set_facecolor("#eeeeee")
        axes.set_box_aspect(window.tall)
        text = f"{style.DASH}\n{wrap(panel.reason, 20)}"
        axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=7.5, transform=axes.transAxes)
        return
    image = panel.image[window.part].T
    low, high = np.percentile(image, (1, 99))
    axes.imshow(image, cmap="gray", origin="lower", vmin=low, vmax=max(high, low + 1e-6), aspect=panel.aspect)
    overlays.draw(axes, {kind: labels[window.part].T for kind, labels in panel.maps.items()}, panel.aspect)
    marks.draw(axes, panel.marks, (window.part[0].start or 0, window.part[1].start or 0))
    axes.set_xlabel(panel.told(dice), fontsize=8.5, labelpad=2)


def _of_prompts(grid: Sequence[Sequence[_Panel]], columns: Sequence[Line], info: ReportInfo) -> list[str]:
    """What the signs of prompts are, and which pictures are not those that were scored."""
    said = []
    if any(panel.volumes is not None and panel.volumes.said for row in grid for panel in row):
        said.append("Prompts: those on the slice, of all rounds up to the one that is scored.")
    best = {one.cell for one in info.prompted if one.best}
    names = [line.name for line in columns if best & set(line.cells.values())]
    if names:
        said.append(f"{', '.join(names)}: shown after the last of its rounds, scored after the best.")
    return said


def _notes(by: Line, shown: Sequence[Line], columns: Sequence[Line]) -> tuple[str, ...]:
    said = [
        f"The slice with the largest true area; seed {by.seeds[0]}. Dice of the whole volume, mean over "
        "classes, in percent.",
        f"{overlays.TOLD} Contrast: 1st to 99th percentile of the part shown.",
    ]
    if len(columns) < len(shown):
        said.append(f"{len(columns)} of {len(shown)} lines are shown; the tables hold all.")
    return tuple(said)


def wrap(text: str, width: int) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width)[:4]) or text
