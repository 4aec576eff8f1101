"""Dice as Medical SAM 2 reports it: a mean over slices, of thresholds on logits.

By its released code (``func_3d/function.py``, ``func_3d/utils.py``): per slice and object
(2 |P and T| + 1e-4) / (|P| + |T| + 1e-4), so that empty against empty is 1; a mean over thresholds, slices
and objects; objects are those that the scored slices show. It is no Dice of a volume: slices without an organ
that are rightly left empty raise it.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

EPS = 1e-4


def scored_slices(truth: NDArray[Any], which: Literal["labelled", "first_quarter"]) -> slice:
    """The slices (last axis) that are scored, from a label map (X, Y, Z): from the first to the last that
    holds any class, or of these n the first int(n / 4), one at least. None at all where none holds any."""
    found = np.flatnonzero(truth.any(axis=(0, 1)))
    if not found.size:
        return slice(0, 0)
    first, count = int(found[0]), int(found[-1]) - int(found[0]) + 1
    return slice(first, first + (max(count // 4, 1) if which == "first_quarter" else count))


def slice_mean(passed: NDArray[np.uint8] | None, truth: NDArray[np.bool_], thresholds: int) -> float:
    """The mean Dice, a share, of one object over slices (last axis) and thresholds.

    ``passed`` is how many of the ascending thresholds each voxel's logit is above; none: nothing was
    predicted. NaN for an object that these slices do not show.
    """
    if not truth.any():
        return math.nan
    if passed is None:
        passed = np.zeros(truth.shape, np.uint8)
    there = truth.sum(axis=(0, 1), dtype=np.int64)
    values = []
    for number in range(thresholds):
        predicted = passed > number
        common = (predicted & truth).sum(axis=(0, 1), dtype=np.int64)
        values.append((2 * common + EPS) / (predicted.sum(axis=(0, 1), dtype=np.int64) + there + EPS))
    return float(np.mean(values))
