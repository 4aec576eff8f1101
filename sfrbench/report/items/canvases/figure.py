"""Stitched canvases as SAM sees them, with contours of truth and prediction (Figs. 3 to 5)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sfrbench.report.facts.info import Canvas
from sfrbench.report.items.montage.figure import spread, wrap
from sfrbench.report.render import captions, overlays, style
from sfrbench.report.render.parts import Figure
from sfrbench.results.lines import Line, lines, subset_of

if TYPE_CHECKING:
    from sfrbench.report.facts.info import ReportInfo

ROWS = 6
_CAPTION = "The patch in the middle of a volume as SAM is given it."


def canvases_figure(frame: pd.DataFrame, info: ReportInfo, name: str, folder: Path) -> Figure | None:
    """One row for each line that has canvases at its first seed, one column for each canvas; or none."""
    if info.canvases is None:
        return None
    every = [line for line in lines(frame, info.grid, subset_of(frame)) if line.seeds]
    known = {id(line): info.canvases(line.cells[line.seeds[0]]) for line in every}
    shown = spread([line for line in every if known[id(line)]], ROWS)
    if not shown:
        return None
    rows = [known[id(line)] for line in shown]
    across = max(len(row) for row in rows)
    side = min(3.0, 9.5 / across)
    with style.canvas(0.7 + side * across, 0.9 + (side + 0.3) * len(rows), captions.foot(info)) as figure:
        axes = figure.subplots(len(rows), across, squeeze=False)
        for (row, column), place in np.ndenumerate(axes):
            place.set(xticks=[], yticks=[])
            place.grid(visible=False)
            place.spines[:].set_visible(False)
            if column == 0:
                place.set_ylabel(wrap(shown[row].short(every), 26), fontsize=9)
            if column < len(rows[row]):
                _draw(place, rows[row][column])
        overlays.legend(figure, [canvas.maps for row in rows for canvas in row])
        files = style.save(figure, folder, name)
    notes = _notes(rows, shown, every)
    return Figure(name, "Canvases.", _CAPTION, tuple(files), tuple(shown), notes=notes)


def _draw(axes: Any, canvas: Canvas) -> None:
    upright = canvas.image.transpose(1, 2, 0)[::-1]  # row 0 at the bottom, as overlays are drawn
    if upright.shape[2] == 1:
        axes.imshow(upright[:, :, 0], cmap="gray", vmin=0, vmax=255, origin="lower")
    else:
        axes.imshow(upright, origin="lower")
    overlays.draw(axes, {kind: labels[::-1] for kind, labels in canvas.maps.items()}, width=0.8)
    role = {"train": "training", "val": "validation"}.get(canvas.role, canvas.role)
    which = f", canvas {canvas.number + 1} of {canvas.count}" if canvas.count > 1 else ""
    axes.set_title(f"{role}{which}\n{wrap(canvas.case, 30)}", fontsize=8.5)


def _notes(rows: Sequence[Sequence[Canvas]], shown: Sequence[Line], every: Sequence[Line]) -> tuple[str, ...]:
    said = [
        "Training: the first labelled case, a quarter of the training done, the crop not augmented. Then the "
        "first scored cases on canvases of inference. Of several canvases of a patch: the middle one."
    ]
    if any("prediction" in canvas.maps for row in rows for canvas in row):
        said.append(f"Predictions are SAM's own (first seed), averaged over windows. {overlays.TOLD}")
    if len(shown) < len(every):
        said.append(f"{len(shown)} of {len(every)} lines are shown.")
    return tuple(said)
