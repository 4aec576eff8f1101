"""Which patches a network can take, and what it can give. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from sfrbench.components.backbone._multiples import MULTIPLES
from sfrbench.components.base_data import Dataset
from sfrbench.components.core import LACKING, Component, Part

#: All that a method may ask for.
ALL: frozenset[Part] = frozenset(LACKING)


def single_voxel(cell: Mapping[str, Component], multiples: Sequence[int] = MULTIPLES) -> bool:
    """Whether the bottleneck is one voxel, over which instance norm has no variance."""
    dataset = cell.get("dataset")
    return isinstance(dataset, Dataset) and prod(dataset.patch) <= prod(multiples)
