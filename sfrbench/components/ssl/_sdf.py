"""Signed distance maps of label volumes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt


def signed_distances(labels: NDArray[np.integer[Any]], classes: int, absent: float) -> NDArray[np.float32]:
    """(B, X, Y, Z) labels to (B, K - 1, X, Y, Z), one map per foreground class, -1 to 1.

    Euclidean distance in voxels to the other side, negative inside, each side divided by its own maximum;
    0 on the boundary, which is every inner voxel with a neighbour (of 6) outside. Where a patch has no voxel
    of a class the map is ``absent``, where it has no other -``absent``.
    """
    maps = np.empty((labels.shape[0], classes - 1, *labels.shape[1:]), np.float32)
    for case, volume in enumerate(labels):
        for k in range(1, classes):
            maps[case, k - 1] = _signed_distance(volume == k, absent)
    return maps


def _signed_distance(inside: NDArray[np.bool_], absent: float) -> NDArray[np.floating[Any]] | float:
    if not inside.any():
        return absent
    if inside.all():
        return -absent
    within, without = distance_transform_edt(inside), distance_transform_edt(~inside)
    signed: NDArray[np.floating[Any]] = without / without.max() - within / within.max()
    signed[within == 1] = 0  # the boundary: one step to the outside
    return signed
