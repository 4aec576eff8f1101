"""The part of a volume that a mask fills."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Box = tuple[slice, ...]


def box_of(mask: NDArray[np.bool_], margin: int = 0) -> Box | None:
    """The smallest box with all voxels of a mask, and up to ``margin`` more at each side where the volume has
    them; none where there is no voxel."""
    box = []
    for axis, side in enumerate(mask.shape):
        found = np.flatnonzero(mask.any(tuple(other for other in range(mask.ndim) if other != axis)))
        if not len(found):
            return None
        box.append(slice(max(int(found[0]) - margin, 0), min(int(found[-1]) + 1 + margin, side)))
    return tuple(box)
