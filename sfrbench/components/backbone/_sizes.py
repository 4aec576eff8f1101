"""Which patches a network of five levels can take. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from sfrbench.components.base import Component, Dataset
from sfrbench.errors import InputError

#: Four halvings.
DIVISOR = 16


def check_sides(network: str, sides: Sequence[int]) -> None:
    """Raises ``InputError`` where a side cannot be halved four times."""
    if any(side % DIVISOR for side in sides):
        raise InputError(
            f"{network} cannot take a patch of {list(sides)} voxels: a side is no multiple of {DIVISOR}",
            where="dataset.patch",
            hint=f"nearest that fits: {[max(DIVISOR, round(side / DIVISOR) * DIVISOR) for side in sides]}",
        )


def single_voxel(cell: Mapping[str, Component]) -> bool:
    """Whether the bottleneck is one voxel, over which instance norm has no variance."""
    dataset = cell.get("dataset")
    return isinstance(dataset, Dataset) and prod(dataset.patch) <= DIVISOR**3
