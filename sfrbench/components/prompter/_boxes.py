"""Boxes around a mask, and their noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from sfrbench.components.base_prompts import Box, Voxel

if TYPE_CHECKING:
    from sfrbench.components.base_prompts import Mask

#: From the first and last voxel of a side and the number of voxels of the volume's to others in their place.
Noise = Callable[[int, int, int], tuple[int, int]]


def slice_boxes(mask: Mask) -> list[Box]:
    """The tight box of every slice that has a voxel of the mask, in the slices' order."""
    return [slice_box(mask, int(z)) for z in np.flatnonzero(mask.any(axis=(0, 1)))]


def slice_box(mask: Mask, z: int) -> Box:
    """The tight box of one slice, which has a voxel of the mask."""
    box = Box.around(mask[:, :, z : z + 1])
    return Box((*box.low[:2], z), (*box.high[:2], z))


def both_ways(rng: np.random.Generator, share: float, largest: int) -> Noise:
    """SAM 2's: each end moves by up to ``share`` of the side, and not by more than ``largest`` voxels, in or
    out, evenly; within the volume. Rounding to whole voxels is ours."""

    def moved(low: int, high: int, count: int) -> tuple[int, int]:
        most = min(share * (high - low), largest)
        ends = np.array([low, high]) + most * (2 * rng.random(2) - 1)
        first, last = np.clip(np.rint(ends), 0, count - 1)
        return int(first), int(last)

    return moved


def outward(rng: np.random.Generator, largest: int) -> Noise:
    """MedSAM's: each end moves out by 0 to ``largest`` voxels, evenly, within the volume."""

    def moved(low: int, high: int, count: int) -> tuple[int, int]:
        before, after = rng.integers(0, largest, 2, endpoint=True)
        return max(low - int(before), 0), min(high + int(after), count - 1)

    return moved


def jittered(box: Box, shape: Voxel, noise: Noise, axes: tuple[int, ...]) -> Box:
    """A box whose ends along ``axes`` are moved by ``noise``."""
    low, high = list(box.low), list(box.high)
    for axis in axes:
        low[axis], high[axis] = noise(low[axis], high[axis], shape[axis])
    return Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))
