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

_VOXELS = 10_000  # of each case, evenly spaced among its organ voxels


@dataclass(frozen=True)
class OrganStats:
    """HU: 0.5 and 99.5 percentile, mean and standard deviation within the organs; mm: median spacing."""

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
    values, spacings = [], []
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
    pooled = np.concatenate(values).astype(np.float64) if values else np.zeros(0)
    if pooled.size == 0 or pooled.min() == pooled.max():
        hint = "see 'sfrbench data check', or set dataset.clip, mean, std and spacing by hand"
        what = "the training cases have no organ voxels from which to take statistics"
        raise DataError(what, where=str(root), hint=hint)
    low, high = np.percentile(pooled, (0.5, 99.5))
    x, y, z = (float(step) for step in np.median(spacings, axis=0))
    return OrganStats(float(low), float(high), float(pooled.mean()), float(pooled.std()), (x, y, z))
