"""Intensities within the organs and the usual spacing of a set of CTs: nnU-Net's dataset fingerprint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from sfrbench.components.dataset._checks import Place
from sfrbench.components.dataset._nifti import read_pair
from sfrbench.errors import DataError

_VOXELS = 10_000  # of each case, evenly spaced among its organ voxels; nnU-Net draws at random
_COARSE = 3  # nnU-Net's ANISO_THRESHOLD


@dataclass(frozen=True)
class OrganStats:
    """HU: 0.5 and 99.5 percentile, mean and standard deviation within the organs; mm: the usual spacing."""

    low: float
    high: float
    mean: float
    std: float
    spacing: tuple[float, float, float]  # along x, y, z of the RAS grid


def organ_stats(root: Path, files: Sequence[tuple[Path, Path]], classes: Sequence[str]) -> OrganStats:
    """Statistics over these images and labels; remembered while the process lives and the files stay.

    One case is in memory at a time. Cases that cannot be read are left out: ``prepare`` fails for them on its
    own. Raises ``DataError`` where no case is left or the organs hold one value.
    """
    there = [pair for pair in files if all(file.is_file() for file in pair)]
    stamps = tuple(file.stat().st_mtime_ns for pair in there for file in pair)
    return _measured(root, tuple(there), stamps, tuple(classes))


@lru_cache(maxsize=8)
def _measured(
    root: Path, files: tuple[tuple[Path, Path], ...], stamps: tuple[int, ...], classes: tuple[str, ...]
) -> OrganStats:
    values, spacings, shapes = [], [], []
    for image_file, label_file in files:
        case = label_file.name.split(".")[0]
        try:
            image, label, geometry = read_pair(Place(case, image_file), Place(case, label_file), classes)
        except DataError:
            continue
        inside = image[label > 0]
        values.append(inside[:: max(inside.size // _VOXELS, 1)])
        axes = [axis for axis, _ in geometry.axes or ((0, 1), (1, 1), (2, 1))]
        spacings.append([geometry.spacing[axes.index(axis)] for axis in range(3)])
        shapes.append([image.shape[axes.index(axis)] for axis in range(3)])
    pooled = np.concatenate(values).astype(np.float64) if values else np.zeros(0)
    if pooled.size == 0 or pooled.min() == pooled.max():
        hint = "see 'sfrbench data check', or set dataset.clip, mean, std and spacing by hand"
        what = "the training cases have no organ voxels from which to take statistics"
        raise DataError(what, where=str(root), hint=hint)
    low, high = np.percentile(pooled, (0.5, 99.5))
    spacing = target_spacing(spacings, shapes)
    return OrganStats(float(low), float(high), float(pooled.mean()), float(pooled.std()), spacing)


def target_spacing(
    spacings: Sequence[Sequence[float]], shapes: Sequence[Sequence[int]]
) -> tuple[float, float, float]:
    """nnU-Net's spacing for a set of volumes, from theirs in mm and their sizes in voxels: the median.

    Where that is on one axis more than three times that of the others, and the median volume has more than
    three times fewer voxels along it, the axis takes the 10th percentile of its spacings instead, but never
    less than the others' (and then 1e-5 more). Source: ``determine_fullres_target_spacing`` in nnU-Net, whose
    sizes are those of the box of voxels that are not 0; of CTs, whose air is not 0, that is the volume.
    """
    median = [float(step) for step in np.median(spacings, axis=0)]
    size = np.median(shapes, axis=0)
    worst = int(np.argmax(median))
    others = [axis for axis in range(3) if axis != worst]
    finer = max(median[axis] for axis in others)
    if median[worst] > _COARSE * finer and size[worst] * _COARSE < min(size[axis] for axis in others):
        tenth = float(np.percentile([steps[worst] for steps in spacings], 10))
        median[worst] = finer + 1e-5 if tenth < finer else tenth
    return median[0], median[1], median[2]
