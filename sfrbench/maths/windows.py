"""Where the windows of a sliding-window prediction lie. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod


def window_starts(side: int, patch: int, stride: int) -> list[int]:
    """Starts along one axis of ``side`` >= ``patch`` voxels; the last window ends at the border."""
    count = -(-(side - patch) // stride) + 1
    return [min(i * stride, side - patch) for i in range(count)]


def window_count(shape: Sequence[int], patch: Sequence[int], stride: Sequence[int]) -> int:
    """How many windows cover a volume; a side shorter than the patch is padded to it."""
    axes = zip(shape, patch, stride, strict=True)
    return prod(len(window_starts(max(side, window), window, step)) for side, window, step in axes)
