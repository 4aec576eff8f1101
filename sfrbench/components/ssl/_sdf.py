"""Signed distance maps of label volumes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfrbench.maths.boxes import box_of
from sfrbench.maths.distances import squared_distances


def signed_distances(labels: NDArray[np.integer[Any]], classes: int, absent: float) -> NDArray[np.float32]:
    """(B, X, Y, Z) labels to (B, K - 1, X, Y, Z), one map per foreground class, -1 to 1.

    Euclidean distance in voxels to the other side, negative inside, each side divided by its own maximum;
    0 on the boundary, which is every inner voxel with a neighbour (of 6) outside. Where a patch has no voxel
    of a class the map is ``absent``, where it has no other -``absent``.
    """
    maps = np.empty((labels.shape[0], classes - 1, *labels.shape[1:]), np.float32)
    for case, volume in enumerate(labels):
        for k in range(1, classes):
            _signed_distance(volume == k, absent, maps[case, k - 1])
    return maps


def _signed_distance(inside: NDArray[np.bool_], absent: float, into: NDArray[np.float32]) -> None:
    box = box_of(inside, margin=1)
    if box is None or inside.all():
        into[...] = absent if box is None else -absent
        return
    into[...] = _shares(squared_distances(inside))
    # what is nearest to an inner voxel lies at most one voxel outside of the box of all inner ones
    depth = _shares(squared_distances(~inside[box]), from_=2)  # not the boundary: one step to the outside
    into[box] -= depth


def _shares(squares: NDArray[np.integer[Any]], from_: int = 1) -> NDArray[np.float32]:
    """Roots as shares of the greatest, looked up; 0 below ``from_``."""
    greatest = int(squares.max())
    table = (np.sqrt(np.arange(greatest + 1)) / np.sqrt(greatest)).astype(np.float32)
    table[:from_] = 0
    shares: NDArray[np.float32] = table[squares]
    return shares
