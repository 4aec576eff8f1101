"""predict: a user's image through a finished cell's model, and the label map back on the image's grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfrbench.components.dataset.geometry import restore
from sfrbench.deploy.cell import Finished
from sfrbench.deploy.label_map import LabelMap
from sfrbench.engine.arithmetic import arithmetic
from sfrbench.engine.inference import windows
from sfrbench.engine.volumes import CaseInfo, case_info
from sfrbench.stages.predict.run import predictor
from sfrbench.stages.prepare.case import deep_enough, entry_of

_SPACING = 1.25  # spacing beyond the training cases' by this factor is said


@dataclass(frozen=True)
class Prepared:
    """A user's image on the grid of the network."""

    file: Path  # as it was given: NIfTI, or the folder of a DICOM series
    image: NDArray[np.float32]  # (X, Y, Z), normalised
    info: CaseInfo
    notes: tuple[str, ...]  # where it is not what the network was trained on
    windows: int


def prepare_image(cell: Finished, file: Path) -> Prepared:
    """An image on the grid and with the normalisation of the cell's dataset. Raises ``DataError``."""
    data = cell.dataset
    case = deep_enough(data.read_image(file, cell.like), data.min_depth)
    info = case_info(entry_of(case))
    notes = [data.caveat(cell.like), *case.source.get("notes", ()), *_unlike(cell, info.spacing)]
    count = len(windows(info.shape, cell.settings.patch, cell.settings.window_stride))
    image = np.asarray(case.image, dtype=np.float32)
    return Prepared(file, image, info, tuple(note for note in notes if note), count)


def spacings(cell: Finished) -> tuple[Sequence[float], Sequence[float]]:
    """The least and the largest voxel size of the training cases, mm along x, y, z."""
    known = np.array([cell.volumes.case(case).spacing for case in cell.volumes.train])
    return known.min(axis=0).tolist(), known.max(axis=0).tolist()


def _unlike(cell: Finished, spacing: Sequence[float]) -> list[str]:
    low, high = spacings(cell)
    sizes = zip(low, spacing, high, strict=True)
    if all(least / _SPACING <= step <= most * _SPACING for least, step, most in sizes):
        return []
    have, known = _mm(spacing), _mm(low) if low == high else f"{_mm(low)} to {_mm(high)}"
    return [f"voxels of {have} mm, and the network was trained on {known} mm: resample the image first"]


def _mm(sizes: Sequence[float]) -> str:
    return " x ".join(f"{size:.3g}" for size in sizes)


def predict_image(cell: Finished, prepared: Prepared, device: str) -> LabelMap:
    """The label map on the grid of the image's file; windows by the protocol's stride."""
    settled = cell.settled(device)
    predict = predictor(cell.context(device, settled), len(cell.volumes.classes))
    with arithmetic(tf32=settled.tf32):
        label = predict(prepared.image, prepared.info.range)
    raw, affine = restore(label, prepared.info)
    made_by = f"{cell.cell.title} of {cell.experiment.plan.spec.name}"
    return LabelMap(raw, affine, cell.volumes.classes, prepared.file, made_by)


def volumes_of(labels: LabelMap, prepared: Prepared) -> dict[str, float]:
    """Millilitres of each class of a label map on the image's own grid."""
    counts = np.bincount(labels.values.ravel(), minlength=len(labels.classes))
    voxel = float(np.prod(prepared.info.source.get("spacing", prepared.info.spacing))) / 1000
    return {name: float(count) * voxel for name, count in zip(labels.classes, counts, strict=True)}
