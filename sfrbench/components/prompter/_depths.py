"""How deep the voxels of a set lie in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sfrbench.components.base_prompts import Voxel
from sfrbench.maths.boxes import box_of
from sfrbench.maths.distances import squared_distances

if TYPE_CHECKING:
    from sfrbench.components.base_prompts import Mask

Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Depths:
    """Distances to the nearest voxel outside of a set, in the box around it; 0 outside of the set."""

    low: Voxel  # the box's first voxel
    values: NDArray[np.float64]

    @property
    def greatest(self) -> float:
        """0 where the set is empty."""
        return float(self.values.max(initial=0.0))

    def at(self, flat: int) -> Voxel:
        """The voxel of the volume that stands at a place of ``values``, counted in scan order."""
        places = np.unravel_index(flat, self.values.shape)
        x, y, z = (int(place) + low for place, low in zip(places, self.low, strict=True))
        return x, y, z

    def without(self, voxels: tuple[Voxel, ...]) -> Depths:
        """These, with 0 at some voxels."""
        values = self.values.copy()
        for voxel in voxels:
            place = tuple(at - low for at, low in zip(voxel, self.low, strict=True))
            if all(0 <= at < side for at, side in zip(place, values.shape, strict=True)):
                values[place] = 0
        return Depths(self.low, values)


def depths(mask: Mask, spacing: Spacing, flat: bool) -> Depths:
    """Of a mask (X, Y, Z), in the unit of ``spacing``; everything beyond the volume's border is outside.

    ``flat``: within the slice (X, Y, 1), which has nothing above and below.
    """
    box = box_of(mask)
    if box is None:
        return Depths((0, 0, 0), np.zeros((0, 0, 0)))
    around = 0 if flat else 1
    outside = np.pad(~mask[box], ((1, 1), (1, 1), (around, around)), constant_values=True)
    values = _distances(outside, spacing[:2] if flat else spacing)[1:-1, 1:-1]
    x, y, z = (int(part.start) for part in box)
    return Depths((x, y, z), values if flat else values[:, :, 1:-1])


def _distances(to: Mask, spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """The distance of every voxel to the nearest of ``to``. With equal sides they are whole numbers under a
    root, so that equal ones are equal to the bit."""
    found: NDArray[np.float64]
    if len(set(spacing)) == 1:
        found = np.sqrt(squared_distances(to), dtype=np.float64) * spacing[0]
        return found
    from scipy import ndimage

    found = ndimage.distance_transform_edt(~to, sampling=(*spacing, 1.0)[:3])
    return found
