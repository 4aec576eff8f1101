"""The canvases of cells, as SAM is given them, with the label maps that they show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfrbench.engine.volumes import EVALUATE, Volumes
from sfrbench.report.facts.info import Canvas
from sfrbench.run.experiment import Experiment


def canvases_of(experiment: Experiment) -> Callable[[str], Sequence[Canvas]]:
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
            shown = {kind: through(volume, voxels) for kind, volume in maps.items()}
            image = np.load(artefact.path(f"images/{number}.npy"), allow_pickle=False)
            made.append(Canvas(case, role, entry["canvas"], entry["canvases"], image, shown))
        return made

    return of


def through(volume: NDArray[Any], voxels: NDArray[np.int32]) -> NDArray[Any]:
    """A label map as a canvas shows it: 0 where a pixel shows no voxel."""
    return np.where(voxels < 0, 0, np.ravel(volume)[np.maximum(voxels, 0)])
