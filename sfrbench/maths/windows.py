"""Where the windows of a sliding-window prediction lie. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod


def window_starts(side: int, patch: int, stride: int | None, spread: bool = False) -> list[int]:
    """Starts along one axis of ``side`` >= ``patch`` voxels; the last window ends at the border.

    Each begins ``stride`` after the one before, but for the last (UA-MT's ``test_single_case``); ``spread``:
    as many, evenly (nnU-Net's ``compute_steps_for_sliding_window``). Without a stride: as few windows as
    cover the axis, spread evenly (ours); no gap is then longer than the patch.
    """
    room = side - patch
    if stride is None:
        last = -(-side // patch) - 1
        return [index * room // max(last, 1) for index in range(last + 1)]
    count = -(-room // stride) + 1
    if spread:
        return [round(index * (room / max(count - 1, 1))) for index in range(count)]
    return [min(i * stride, room) for i in range(count)]


def window_count(shape: Sequence[int], patch: Sequence[int], stride: Sequence[int] | None) -> int:
    """How many windows cover a volume; a side shorter than the patch is padded to it."""
    axes = zip(shape, patch, (None,) * len(patch) if stride is None else stride, strict=True)
    return prod(len(window_starts(max(side, window), window, step)) for side, window, step in axes)
