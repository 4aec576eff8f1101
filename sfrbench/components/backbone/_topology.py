"""nnU-Net's plan of a network: how its stages shrink a patch, and with which kernels. Imports nothing heavy.

Source: ``get_pool_and_conv_props`` in nnU-Net's ``experiment_planners/network_topology.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

Triple = tuple[int, int, int]

#: Voxels that a side of the bottleneck has at least; a single axis is halved only while it keeps more.
_LEAST = 4
#: Axes are alike while their voxels differ by less than this.
_ALIKE = 2


class Topology(NamedTuple):
    """One entry for each stage, the finest first, whose stride is (1, 1, 1)."""

    strides: tuple[Triple, ...]
    kernels: tuple[Triple, ...]

    @property
    def multiples(self) -> Triple:
        """What the sides of a patch must be multiples of: the strides multiplied, axis by axis."""
        x, y, z = (prod(steps) for steps in zip(*self.strides, strict=True))
        return x, y, z


def planned(patch: Sequence[int], voxel: Sequence[float]) -> Topology:
    """The stages for a patch (voxels) of such voxels (mm; their ratios decide).

    Axes are halved while 8 voxels are left, those with the smallest voxels first, until these are as large as
    the others' (within a factor of 2); one axis alone while 12 are left. A kernel is 1 along an axis whose
    voxels are still twice the smallest or more, then 3 for good; in the bottleneck it is 3 all over.
    """
    sizes, steps = list(patch), [float(step) for step in voxel]
    kernel = [1, 1, 1]
    strides: list[Triple] = [(1, 1, 1)]
    kernels: list[Triple] = []
    while True:
        open_axes = [axis for axis in range(3) if sizes[axis] >= 2 * _LEAST]
        finest = min((steps[axis] for axis in open_axes), default=0.0)
        halved = [axis for axis in open_axes if steps[axis] < _ALIKE * finest]
        if not halved or (len(halved) == 1 and sizes[halved[0]] < 3 * _LEAST):
            return Topology(tuple(strides), (*kernels, (3, 3, 3)))
        kernel = [3 if steps[a] < _ALIKE * min(steps) else kernel[a] for a in range(3)]
        kernels.append((kernel[0], kernel[1], kernel[2]))
        x, y, z = (2 if axis in halved else 1 for axis in range(3))
        strides.append((x, y, z))
        for axis in halved:
            sizes[axis], steps[axis] = -(-sizes[axis] // 2), 2 * steps[axis]


#: Convolutions, or residual blocks, of the encoder's stages, finest first; the last number goes on.
_PLAIN, _RESIDUAL = (2,), (1, 3, 4, 6)


def counts(residual: bool, stages: int) -> list[int]:
    """Convolutions or residual blocks of each stage of the encoder."""
    known = _RESIDUAL if residual else _PLAIN
    return [known[min(stage, len(known) - 1)] for stage in range(stages)]
