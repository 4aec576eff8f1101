"""Exact Euclidean distances in volumes, faster than by looking for the nearest voxel itself."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfrbench.maths.boxes import Box, box_of

#: Bytes of the rows that are worked on at once: they stay in a processor's second cache.
BLOCK = 1 << 18


def squared_distances(to: NDArray[np.bool_]) -> NDArray[np.integer[Any]]:
    """The squared distance, in voxels, of every voxel to the nearest one of ``to`` (X, Y, Z), which has some.

    Whole numbers, and so exact: their roots are those of ``scipy.ndimage.distance_transform_edt(~to)`` to the
    bit. Axis by axis: d(x) = min over x' of d(x') + (x - x')^2. Only lines through the box of ``to`` have
    anything to give, and the axes are taken in the order in which these are fewest.
    """
    box = box_of(to)
    if box is None:
        raise ValueError("there is no voxel to measure from")
    order = min(permutations(range(3)), key=lambda axes: _work(to.shape, box, axes))
    (_, b, c), sides = order, [to.shape[axis] for axis in order]
    far = sum((side - 1) ** 2 for side in to.shape) + 1  # farther than any two voxels are
    dtype = np.uint16 if far + 2 * max(to.shape) ** 2 < 1 << 16 else np.int32  # also while sums are made
    lines = to.transpose(order)[:, box[b], box[c]]
    rows = _along_first(np.ascontiguousarray(lines), far, dtype)
    rows = np.ascontiguousarray(rows.swapaxes(0, 1))  # (b, a, c)
    rows = _nearest(rows.reshape(len(rows), -1), box[b].start, sides[1]).reshape(sides[1], sides[0], -1)
    rows = np.ascontiguousarray(rows.transpose(2, 0, 1))  # (c, b, a)
    rows = _nearest(rows.reshape(len(rows), -1), box[c].start, sides[2])
    return rows.reshape(sides[::-1]).transpose(2, 1, 0).transpose(np.argsort(order))


def _work(shape: tuple[int, ...], box: Box, order: tuple[int, ...]) -> int:
    """Sums that the second and the third axis take."""
    a, b, c = (shape[axis] for axis in order)
    _, from_b, from_c = (int(box[axis].stop - box[axis].start) for axis in order)
    return b * from_b * a * from_c + c * from_c * a * b


def _along_first(mask: NDArray[np.bool_], far: int, dtype: Any) -> NDArray[Any]:
    """Squared distances along the first axis; ``far`` in lines without a voxel."""
    steps = np.where(mask, 0, len(mask)).astype(dtype)
    for place in range(1, len(steps)):
        np.minimum(steps[place], steps[place - 1] + 1, out=steps[place])
    for place in range(len(steps) - 2, -1, -1):
        np.minimum(steps[place], steps[place + 1] + 1, out=steps[place])
    none = steps >= len(mask)
    squares: NDArray[Any] = steps * steps
    squares[none] = far
    return squares


def _nearest(rows: NDArray[Any], first: int, count: int) -> NDArray[Any]:
    """min over j of ``rows[j] + (i - first - j)^2`` for i < ``count``; rows (J, N) to (count, N)."""
    squares = (np.arange(count)[:, None] - np.arange(first, first + len(rows))) ** 2
    out = np.empty((count, rows.shape[1]), rows.dtype)
    step = max(BLOCK // (count * rows.itemsize), 64)
    for begin in range(0, rows.shape[1], step):
        here = slice(begin, begin + step)
        out[:, here] = _least(np.ascontiguousarray(rows[:, here]), squares)
    return out


def _least(rows: NDArray[Any], squares: NDArray[Any]) -> NDArray[Any]:
    """``out[i]`` = min over j of ``rows[j] + squares[i, j]``; all j with the same i - j at once.

    Where the least sum of a pair i, j is above the greatest one of i and another j, it has nothing to give.
    """
    bound = (rows.max(1).astype(int) + squares).min(1)
    i, j = np.nonzero(rows.min(1).astype(int) + squares <= bound[:, None])
    order = np.argsort(i - j, kind="stable")
    i, j = i[order], j[order]
    (ends,) = np.nonzero(np.diff(i - j, append=len(squares)))
    starts = np.concatenate([[0], ends[:-1] + 1])
    added = squares[i, j].astype(rows.dtype)[starts]
    out = np.full((len(squares), rows.shape[1]), np.iinfo(rows.dtype).max, rows.dtype)
    spare = np.empty_like(rows)
    for square, low, from_, to in zip(added, i[starts], j[starts], j[ends] + 1, strict=True):
        sums = np.add(rows[from_:to], square, out=spare[from_:to])
        into = out[low : low + len(sums)]
        np.minimum(into, sums, out=into)
    return out
