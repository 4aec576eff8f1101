"""Stitched canvases as SAM sees them, with contours of truth and prediction (Figs. 3 to 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sfrbench.engine.volumes import EVALUATE, Volumes
from sfrbench.report import captions, overlays, style
from sfrbench.report.curves import Figure
from sfrbench.report.info import Canvas
from sfrbench.report.montage import spread, wrap
from sfrbench.report.results import Line, lines, subset_of
from sfrbench.run.experiment import Experiment

if TYPE_CHECKING:
    from sfrbench.report.info import ReportInfo

ROWS = 6
_CAPTION = "The patch in the middle of a volume as SAM is given it."


def collect(experiment: Experiment) -> Callable[[str], Sequence[Canvas]]:
    """Gives the canvases of a cell, none where its node has not run.

    Label maps are looked up in the cell's volumes: the truth, and the prediction where SAM itself predicts.
    """
    cells, store = {cell.id: cell for cell in experiment.plan.cells}, experiment.store

    def of(cell_id: str) -> list[Canvas]:
        nodes = cells[cell_id].nodes
        if "canvases" not in nodes or not store.has(*nodes["canvases"]):
            return []
        artefact, volumes = store.get(*nodes["canvases"]), Volumes(store.get(*nodes["prepare"]))
        by_sam = "predict" in nodes and "retrain" not in nodes and store.has(*nodes["predict"])
        predicted = store.get(*nodes["predict"]) if by_sam else None
        made = []
        for number, entry in enumerate(artefact.read_json("index.json")["canvases"]):
            case, role = str(entry["case"]), str(entry["role"])
            voxels = np.load(artefact.path(f"voxels/{number}.npy"), allow_pickle=False)
            maps = {"truth": volumes.labels([case], f"{EVALUATE}: picture")[case]}
            if predicted is not None and role != "train":
                maps["prediction"] = np.load(predicted.path(f"labels/{case}.npy"), allow_pickle=False)
            shown = {kind: _through(volume, voxels) for kind, volume in maps.items()}
            image = np.load(artefact.path(f"images/{number}.npy"), allow_pickle=False)
            made.append(Canvas(case, role, entry["canvas"], entry["canvases"], image, shown))
        return made

    return of


def _through(volume: NDArray[Any], voxels: NDArray[np.int32]) -> NDArray[Any]:
    """A label map as a canvas shows it: 0 where a pixel shows no voxel."""
    return np.where(voxels < 0, 0, np.ravel(volume)[np.maximum(voxels, 0)])


def canvases_figure(
    frame: pd.DataFrame, info: ReportInfo, item: Mapping[str, Any], name: str, folder: Path
) -> Figure | None:
    """One row for each line that has canvases at its first seed, one column for each canvas; or none."""
    if info.canvases is None:
        return None
    every = [line for line in lines(frame, info, subset_of(frame, item)) if line.seeds]
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
