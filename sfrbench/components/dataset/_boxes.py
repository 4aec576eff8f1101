"""Which part of a volume a dataset keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfrbench.components.dataset.geometry import Box


def nonzero_box(image: NDArray[Any]) -> Box:
    """Bounding box of the voxels that are not zero, without its last plane along each axis.

    SSL4MIS's preparation of BraTS takes the largest index as an exclusive end; so does this, so that volumes
    agree with the files that are passed around. An image without such voxels has an empty box.
    """
    box = [_extent(image != 0, axis) for axis in range(3)]
    return tuple((low, max(high - 1, low)) for low, high in box)  # type: ignore[return-value]


def around(label: NDArray[np.uint8], least: int, margins: Sequence[int]) -> Box:
    """UA-MT's crop of the left atrium: the label's box, enlarged along x and y and whole along z.

    ``margins`` are the voxels added before and after x, before and after y; half of what the extent falls
    short of ``least`` is added besides. The end is exclusive at the last labelled voxel plus its margin.
    """
    sides = []
    for axis in range(2):
        low, high = _extent(label > 0, axis)
        last, size = high - 1, label.shape[axis]
        short = max(least - (last - low), 0) // 2
        before, after = margins[2 * axis : 2 * axis + 2]
        sides.append((max(low - before - short, 0), min(last + after + short, size)))
    return sides[0], sides[1], (0, label.shape[2])


def _extent(mask: NDArray[np.bool_], axis: int) -> tuple[int, int]:
    """First index and exclusive end of a mask along an axis; (0, 0) for an empty one."""
    hits = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
    return (int(hits[0]), int(hits[-1]) + 1) if hits.size else (0, 0)
