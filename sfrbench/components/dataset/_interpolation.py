"""Values of a volume on another grid between the same outer faces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def nearest(old: int, new: int) -> NDArray[np.int64]:
    """For each new voxel the old one that holds its centre."""
    return (2 * np.arange(new) + 1) * old // (2 * new)


def coarse_axis(spacings: Sequence[Sequence[float]], limit: float) -> int | None:
    """The axis that is more than ``limit`` times coarser than the finest, if it is the only one so coarse."""
    for spacing in spacings:
        if max(spacing) > limit * min(spacing):
            axes = [axis for axis, step in enumerate(spacing) if step == max(spacing)]
            return axes[0] if len(axes) == 1 else None
    return None


def resized(array: NDArray[np.float32], shape: Sequence[int], orders: Sequence[int]) -> NDArray[np.float32]:
    """Resample by splines of the given order along one axis after another, shrinking axes first to save
    memory."""
    from scipy.ndimage import zoom

    for axis in sorted(range(3), key=lambda axis: shape[axis] / array.shape[axis]):
        old, new = array.shape[axis], shape[axis]
        if old == new:
            continue
        if orders[axis] == 0:
            array = np.take(array, nearest(old, new), axis)
            continue
        # a spline is linear in the values: its matrix is the image of the unit vectors
        options: dict[str, Any] = {"order": orders[axis], "mode": "nearest", "grid_mode": True}
        unit = [zoom(row, new / old, **options) for row in np.eye(old)]
        weights = np.stack(unit, axis=1).astype(np.float32)  # (new, old)
        array = np.moveaxis(np.tensordot(weights, array, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(array, dtype=np.float32)


def resized_label(label: NDArray[np.uint8], shape: Sequence[int], orders: Sequence[int]) -> NDArray[np.uint8]:
    if not any(orders):
        for axis in range(3):
            label = np.take(label, nearest(label.shape[axis], shape[axis]), axis)
        return label
    result = np.zeros(tuple(shape), dtype=np.uint8)
    for number in np.flatnonzero(np.bincount(label.ravel())[1:]) + 1:
        share = resized((label == number).astype(np.float32), shape, orders)
        result[share >= 0.5] = number
    return result
