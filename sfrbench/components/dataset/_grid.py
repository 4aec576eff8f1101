"""Steps between a checked raw volume and a prepared one: cropping, resampling, clipping, standardising.

Each step takes a ``Volume`` and gives a new one. Steps that change the grid note in ``source`` what
``volumes.restore`` needs to go back: ``box`` (cropped range per axis), ``resampled`` (new shape), ``depth``
(slices before ``deepened``). They come in this order, and each at most once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Volume:
    """A case on its way: ``image`` float32 and ``label`` uint8, both (X, Y, Z)."""

    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    spacing: tuple[float, float, float]  # mm along x, y, z
    affine: NDArray[np.float64] | None
    source: dict[str, Any] = field(default_factory=dict)


Step = Callable[[Volume], Volume]


def scaled(affine: NDArray[np.float64] | None, factors: Sequence[float]) -> NDArray[np.float64] | None:
    """The affine of a grid whose voxels are ``factors`` old voxels wide, with the first outer faces kept."""
    if affine is None:
        return None
    inner = np.diag([*factors, 1.0])
    inner[:3, 3] = (np.asarray(factors) - 1) / 2
    result: NDArray[np.float64] = affine @ inner
    return result


def crop(volume: Volume, box: Box) -> Volume:
    """The part of a volume in ``box``, (first, end) along each axis."""
    cut = tuple(slice(low, high) for low, high in box)
    affine = volume.affine
    if affine is not None:
        affine = affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [low for low, _ in box]
    source = {**volume.source, "box": [list(pair) for pair in box]}
    image, label = volume.image[cut], volume.label[cut]
    return replace(
        volume,
        image=np.ascontiguousarray(image),
        label=np.ascontiguousarray(label),
        affine=affine,
        source=source,
    )


def nonzero_box(image: NDArray[Any]) -> Box:
    """Bounding box of the voxels that are not zero, without its last plane along each axis.

    SSL4MIS's preparation of BraTS takes the largest index as an exclusive end; so does this, so that volumes
    agree with the files that are passed around. An image without such voxels has an empty box.
    """
    box = [_extent(image != 0, axis) for axis in range(3)]
    return tuple((low, max(high - 1, low)) for low, high in box)  # type: ignore[return-value]


def around(label: NDArray[np.uint8], least: int, margins: Sequence[int]) -> Box:
    """UA-MT's crop of the left atrium: the label's box, enlarged along x and y and whole along z.

    ``margins`` are the voxels added before and after x, before and after y; half of what the extent falls
    short of ``least`` is added besides. The end is exclusive at the last labelled voxel plus its margin.
    """
    sides = []
    for axis in range(2):
        low, high = _extent(label > 0, axis)
        last, size = high - 1, label.shape[axis]
        short = max(least - (last - low), 0) // 2
        before, after = margins[2 * axis : 2 * axis + 2]
        sides.append((max(low - before - short, 0), min(last + after + short, size)))
    return sides[0], sides[1], (0, label.shape[2])


def _extent(mask: NDArray[np.bool_], axis: int) -> tuple[int, int]:
    """First index and exclusive end of a mask along an axis; (0, 0) for an empty one."""
    hits = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
    return (int(hits[0]), int(hits[-1]) + 1) if hits.size else (0, 0)


def clip(volume: Volume, low: float, high: float) -> Volume:
    """The image cut off below ``low`` and above ``high``."""
    return replace(volume, image=np.clip(volume.image, np.float32(low), np.float32(high)))


def tail(image: NDArray[np.float32], share: float) -> float:
    """The intensity at which the cumulative histogram reaches ``share``, as in SSL4MIS (scikit-image's).

    Whole numbers have one bin each, so that it is the least of them with that share at or below it; others
    have 256 bins, of which it is the centre.
    """
    if np.array_equal(image, np.rint(image)):
        values, counts = np.unique(image, return_counts=True)
    else:
        counts, edges = np.histogram(image, bins=256)
        values = (edges[:-1] + edges[1:]) / 2
    reached = np.cumsum(counts) / image.size >= share
    return float(values[int(np.argmax(reached)) if reached.any() else -1])


def standardise(volume: Volume, mean: float, std: float) -> Volume:
    """(image - mean) / std."""
    return replace(volume, image=(volume.image - np.float32(mean)) / np.float32(std))


def resample(
    volume: Volume,
    spacing: Sequence[float],
    *,
    image_order: int,
    label_order: int,
    separate: float | None = None,
) -> Volume:
    """Image and label on a grid with (nearly) this spacing in mm and the same outer faces.

    The shape is rounded and the spacing follows from it. ``image_order`` is that of the spline; a
    ``label_order`` of 0 takes the nearest voxel, 1 interpolates each class and takes the one with at least
    half (of two, the higher; of none, background). Where the coarsest axis, before or after, is more than
    ``separate`` times coarser than the finest, the nearest slice is taken along it (nnU-Net).
    """
    shape = [
        max(round(n * have / want), 1)
        for n, have, want in zip(volume.image.shape, volume.spacing, spacing, strict=True)
    ]
    coarse = None if separate is None else _coarse_axis((volume.spacing, spacing), separate)
    orders = [[0 if axis == coarse else order for axis in range(3)] for order in (image_order, label_order)]
    return _regridded(volume, shape, orders[0], orders[1], {"resampled": [int(n) for n in shape]})


def deepened(volume: Volume, depth: int) -> Volume:
    """A volume with ``depth`` slices instead of fewer and the same outer faces: image linear along z, label
    nearest."""
    x, y, old = volume.image.shape
    return _regridded(volume, (x, y, depth), [1, 1, 1], [0, 0, 0], {"depth": old})


def _regridded(
    volume: Volume,
    shape: Sequence[int],
    image_orders: Sequence[int],
    label_orders: Sequence[int],
    note: dict[str, Any],
) -> Volume:
    """The volume on ``shape`` voxels between the same outer faces; orders of interpolation along x, y, z."""
    factors = [n / m for n, m in zip(volume.image.shape, shape, strict=True)]
    x, y, z = (step * factor for step, factor in zip(volume.spacing, factors, strict=True))
    return replace(
        volume,
        image=_resized(volume.image, shape, image_orders),
        label=_resized_label(volume.label, shape, label_orders),
        spacing=(x, y, z),
        affine=scaled(volume.affine, factors),
        source={**volume.source, **note},
    )


def _coarse_axis(spacings: Sequence[Sequence[float]], limit: float) -> int | None:
    """The axis that is more than ``limit`` times coarser than the finest, if it is the only one so coarse."""
    for spacing in spacings:
        if max(spacing) > limit * min(spacing):
            axes = [axis for axis, step in enumerate(spacing) if step == max(spacing)]
            return axes[0] if len(axes) == 1 else None
    return None


def _nearest(old: int, new: int) -> NDArray[np.int64]:
    """For each new voxel the old one that holds its centre."""
    return (2 * np.arange(new) + 1) * old // (2 * new)


def _resized(array: NDArray[np.float32], shape: Sequence[int], orders: Sequence[int]) -> NDArray[np.float32]:
    """Splines of the given order along each axis in turn; shrinking axes first, which saves memory."""
    from scipy.ndimage import zoom

    for axis in sorted(range(3), key=lambda axis: shape[axis] / array.shape[axis]):
        old, new = array.shape[axis], shape[axis]
        if old == new:
            continue
        if orders[axis] == 0:
            array = np.take(array, _nearest(old, new), axis)
            continue
        # a spline is linear in the values: its matrix is the image of the unit vectors
        options: dict[str, Any] = {"order": orders[axis], "mode": "nearest", "grid_mode": True}
        unit = [zoom(row, new / old, **options) for row in np.eye(old)]
        weights = np.stack(unit, axis=1).astype(np.float32)  # (new, old)
        array = np.moveaxis(np.tensordot(weights, array, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(array, dtype=np.float32)


def _resized_label(
    label: NDArray[np.uint8], shape: Sequence[int], orders: Sequence[int]
) -> NDArray[np.uint8]:
    if not any(orders):
        for axis in range(3):
            label = np.take(label, _nearest(label.shape[axis], shape[axis]), axis)
        return label
    result = np.zeros(tuple(shape), dtype=np.uint8)
    for number in np.flatnonzero(np.bincount(label.ravel())[1:]) + 1:
        share = _resized((label == number).astype(np.float32), shape, orders)
        result[share >= 0.5] = number
    return result
