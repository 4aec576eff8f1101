"""Where SAM-Med3D's cube lies in a volume: resampling by spacing, crop, normalisation, and the way back.

The rules are torchio's as of the releases that its authors used (0.18 to 0.20): the new grid begins at the
low edge of the old one and has as many voxels as are needed to cover it, images are interpolated linearly,
voxels beyond the volume are 0, a cube is centred on a box as ``CropOrPad`` does it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfrbench.components.base_prompts import Box, Voxel

Floats = NDArray[np.float64]
Image = NDArray[np.float32]
#: What stands where the model does not look.
OUTSIDE = np.float32(-100.0)


@dataclass(frozen=True)
class Axis:
    """One axis of a volume of ``size`` voxels, and its resampled grid: ``ratio`` old voxels for a new one."""

    size: int
    ratio: float
    flipped: bool = False

    @property
    def resampled(self) -> int:
        """Voxels of the new grid."""
        return 1 if self.size == 1 else math.ceil(round(self.size / self.ratio, 9))

    @property
    def sources(self) -> Floats:
        """The place (new,) of each new voxel along the old axis, in old voxels."""
        if self.size == 1:
            return np.zeros(1)
        places = (np.arange(self.resampled, dtype=np.float64) + 0.5) * self.ratio - 0.5
        return places[::-1] if self.flipped else places

    @property
    def places(self) -> NDArray[np.intp]:
        """The new voxel (old,) that is nearest to each old one."""
        within = np.floor((np.arange(self.size) + 0.5) / self.ratio).clip(0, self.resampled - 1)
        nearest: NDArray[np.intp] = within.astype(np.intp)
        return self.resampled - 1 - nearest if self.flipped else nearest

    def extent(self, low: int, high: int) -> tuple[int, int]:
        """First and last new voxel whose nearest old one is in [low, high]; of a thin object that lies
        between two, the new voxel that is nearest."""
        nearest = np.floor(self.sources + 0.5)
        held = np.flatnonzero((nearest >= low) & (nearest <= high))
        if held.size:
            return int(held[0]), int(held[-1])
        place = int(self.places[(low + high) // 2])
        return place, place


@dataclass(frozen=True)
class Grid:
    """A volume's three axes."""

    axes: tuple[Axis, Axis, Axis]

    @classmethod
    def of(
        cls,
        shape: tuple[int, ...],
        spacing: tuple[float, float, float],
        step: float,
        flip: tuple[bool, bool, bool],
    ) -> Grid:
        """The grid of a volume of ``shape`` with ``spacing`` in mm, resampled to ``step`` mm."""
        x, y, z = (Axis(*one) for one in zip(shape, (step / mm for mm in spacing), flip, strict=True))
        return cls((x, y, z))

    def resample(self, image: Image) -> Image:
        """An image (X, Y, Z) on the new grid, linearly; 0 where a new voxel's middle is beyond the volume."""
        for number, axis in enumerate(self.axes):
            places = axis.sources
            within = (places >= -0.5) & (places < axis.size - 0.5)
            places = places.clip(0, axis.size - 1)
            below = np.floor(places).astype(np.intp)
            shape = [-1 if other == number else 1 for other in range(3)]
            share = (places - below).astype(np.float32).reshape(shape)
            low = image.take(below, number)
            high = image.take((below + 1).clip(max=axis.size - 1), number)
            image = np.where(within.reshape(shape), low + (high - low) * share, np.float32(0))
        return image

    def place(self, voxel: Voxel) -> Voxel:
        """The new voxel that is nearest to an old one."""
        x, y, z = (int(axis.places[at]) for axis, at in zip(self.axes, voxel, strict=True))
        return x, y, z

    def begin(self, box: Box, side: int) -> Voxel:
        """First new voxel of the cube of ``side`` voxels (even) around a box of old ones; may be negative."""
        x, y, z = (
            sum(axis.extent(low, high), 1) // 2 - side // 2
            for axis, low, high in zip(self.axes, box.low, box.high, strict=True)
        )
        return x, y, z

    def back(self, cube: Image, begin: Voxel) -> Image:
        """A cube that begins at ``begin`` on the old grid, by nearest voxels; ``OUTSIDE`` beyond it."""
        side = len(cube)
        picks, within = [], []
        for axis, first in zip(self.axes, begin, strict=True):
            places = axis.places - first
            within.append((places >= 0) & (places < side))
            picks.append(places.clip(0, side - 1))
        volume: Image = cube[np.ix_(*picks)]
        x, y, z = within
        volume[~(x[:, None, None] & y[:, None] & z)] = OUTSIDE
        return volume


def crop(image: Image, begin: Voxel, side: int) -> Image:
    """The cube of ``side`` voxels that begins at ``begin``, 0 beyond the image."""
    cube = np.zeros((side,) * 3, np.float32)
    spans = [(max(first, 0), min(first + side, size)) for first, size in zip(begin, image.shape, strict=True)]
    if all(low < high for low, high in spans):
        there = tuple(
            slice(low - first, high - first) for (low, high), first in zip(spans, begin, strict=True)
        )
        cube[there] = image[tuple(slice(low, high) for low, high in spans)]
    return cube


def normalised(cube: Image) -> Image:
    """(cube - mean) / standard deviation, both over the voxels above 0; a cube without contrast, at which the
    released code stops, is only shifted."""
    inside = cube[cube > 0].astype(np.float64)
    if not inside.size:
        return cube
    spread = inside.std(ddof=1) if inside.size > 1 else 0.0
    scaled: Image = ((cube - inside.mean()) / (spread or 1.0)).astype(np.float32)
    return scaled
