"""Predicted label maps as NIfTI files on the raw grid: orientation, spacing and affine as they came."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from sfrbench.components.dataset.geometry import restore
from sfrbench.engine.predictions import label_map
from sfrbench.engine.volumes import Volumes
from sfrbench.files.atomic import atomic_file
from sfrbench.plan.graph import Link
from sfrbench.results.label_table import add_names
from sfrbench.results.predicted import result_role, rounds_scored
from sfrbench.run.experiment import Experiment


def write_labels(experiment: Experiment, out: Path) -> int:
    """Write ``<out>/<arm and axes>/seed<n>/<case>.nii.gz`` for every prediction in the store.

    Label maps are uint8 on the grid of the case's raw file, with the classes' names in the header; of a
    prompted model those after the round that is scored. Returns how many were written.
    """
    import nibabel

    store, count = experiment.store, 0
    opened: dict[Link, Volumes] = {}
    for cell in experiment.plan.cells:
        link, after = cell.nodes.get(result_role(cell)), rounds_scored(cell)
        if link is None or not store.has(*link):
            continue
        source = cell.nodes["prepare"]
        if source not in opened:
            opened[source] = Volumes(store.get(*source))
        prediction = store.get(*link)
        point = "".join(f",{path}={value}" for path, value in cell.axes.items())
        folder = out / _safe(cell.arm + point) / f"seed{cell.seed}"
        for case in prediction.read_json("index.json")["cases"]:
            classes = opened[source].classes
            label = label_map(prediction, case, len(classes), after)
            array, affine = restore(label, opened[source].case(case))
            image = nibabel.Nifti1Image(array, affine)  # type: ignore[no-untyped-call]
            add_names(image, classes)
            with atomic_file(folder / f"{_safe(case)}.nii.gz") as file:
                nibabel.save(image, file)
            count += 1
    return count


def _safe(name: str) -> str:
    """A file name that no other name has: what may not stand in it is written as %20."""
    kept = "".join(each if each.isalnum() or each in "._-,=" else quote(each, safe="") for each in name)
    return f"%2E{kept[1:]}" if kept.startswith(".") else kept
