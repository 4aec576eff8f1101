"""The geometry of a volume from its raw grid to the prepared one, each step beside its inverse.

    raw   turn      crop        resample       shrink     deepen       prepared
    raw   unturned  uncropped   unresampled    unshrunk   own_slices   prepared

Steps come in this order, each at most once; they take a ``Volume`` and give a new one. What the way back
needs stands in the ``source`` of a case: ``shape`` and ``axes`` (the raw grid and how it was turned), ``box``
(the cropped range per axis), ``resampled`` (the new shape), ``downsample`` (the factor), ``depth`` (slices
before ``deepen``). By it ``restore`` brings label maps back, with any values and of any type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sfrbench.components.dataset._interpolation import coarse_axis, nearest, resized, resized_label

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
Axes = Sequence[tuple[int, int]]
_DEPTH = "depth"  # in ``source``


@dataclass(frozen=True)
class Geometry:
    """The raw grid: spacing in mm along the raw axes; ``axes[i]`` is (prepared axis, sign) of raw axis i."""

    spacing: tuple[float, float, float]
    affine: NDArray[np.float64] | None = None
    axes: tuple[tuple[int, int], ...] | None = None  # none: nothing is turned
    orientation: str | None = None  # such as "LPS"; none where the source does not say
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Volume:
    """A case on its way: ``image`` float32 and ``label`` uint8, both (X, Y, Z)."""

    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    spacing: tuple[float, float, float]  # mm along x, y, z
    affine: NDArray[np.float64] | None
    source: dict[str, Any] = field(default_factory=dict)


Step = Callable[[Volume], Volume]


class Grid(Protocol):
    """A prepared grid, and the way to it."""

    @property
    def shape(self) -> tuple[int, int, int]: ...
    @property
    def spacing(self) -> tuple[float, float, float]: ...
    @property
    def source(self) -> Mapping[str, Any]: ...


def restore(label: NDArray[Any], grid: Grid) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Put a label map (X, Y, Z) of a prepared grid back on the raw grid of its case.

    Undoes, in this order, interpolation along z (by the nearest slice), downsampling (each voxel becomes its
    block; padding is cut off), resampling (nearest), cropping (0 outside) and the turn to the prepared axes.
    Returns the array in the raw shape, with ``label``'s dtype, and the raw 4x4 affine in mm (a plain scaling
    by the spacing without one).
    """
    if label.shape != tuple(grid.shape):
        raise ValueError(f"label has shape {label.shape}, the prepared grid is {tuple(grid.shape)}")
    source = grid.source
    axes = source.get("axes") or [[0, 1], [1, 1], [2, 1]]
    turned = turned_shape(source.get("shape", grid.shape), axes)
    box = source.get("box") or [[0, size] for size in turned]
    cropped = [high - low for low, high in box]
    full = own_slices(label, grid)
    full = unshrunk(full, int(source.get("downsample", 1)), source.get("resampled") or cropped)
    full = unresampled(full, cropped)
    full = uncropped(full, box, turned)
    full = unturned(full, axes)
    affine = source.get("affine")
    if affine is None:
        affine = np.diag([*source.get("spacing", grid.spacing), 1.0])
    return np.ascontiguousarray(full), np.asarray(affine, dtype=np.float64)


def turn(image: NDArray[np.float32], label: NDArray[np.uint8], geometry: Geometry) -> Volume:
    """The raw image and label as a volume whose axes run as ``geometry`` says."""
    spacing, affine = list(geometry.spacing), geometry.affine
    if geometry.axes is not None:
        if affine is not None:
            affine = affine @ _to_raw(geometry.axes, image.shape)
        image, label = turned(image, geometry.axes), turned(label, geometry.axes)
        for raw, (axis, _) in enumerate(geometry.axes):
            spacing[axis] = geometry.spacing[raw]
    return Volume(image, label, (float(spacing[0]), float(spacing[1]), float(spacing[2])), affine)


def turned(array: NDArray[Any], axes: Axes) -> NDArray[Any]:
    """Flip and permute raw axes into prepared ones."""
    flipped = np.flip(array, tuple(raw for raw, (_, sign) in enumerate(axes) if sign < 0))
    order = sorted(range(3), key=lambda raw: axes[raw][0])
    return np.ascontiguousarray(np.transpose(flipped, order))


def unturned(array: NDArray[Any], axes: Axes) -> NDArray[Any]:
    """The inverse of ``turned``."""
    full = np.transpose(array, [axis for axis, _ in axes])
    return np.flip(full, tuple(raw for raw, (_, sign) in enumerate(axes) if sign < 0))


def turned_shape(raw: Sequence[int], axes: Axes) -> list[int]:
    """The raw shape in the order of the prepared axes."""
    shape = [0, 0, 0]
    for size, (axis, _) in zip(raw, axes, strict=True):
        shape[axis] = int(size)
    return shape


def _to_raw(axes: Axes, shape: Sequence[int]) -> NDArray[np.float64]:
    """4x4 map from turned voxel indices to raw voxel indices."""
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1.0
    for raw, (axis, sign) in enumerate(axes):
        matrix[raw, axis] = sign
        matrix[raw, 3] = 0.0 if sign > 0 else shape[raw] - 1
    return matrix


def crop(volume: Volume, box: Box) -> Volume:
    """The part of a volume in ``box``, (first, end) along each axis."""
    cut = tuple(slice(low, high) for low, high in box)
    affine = volume.affine
    if affine is not None:
        affine = affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [low for low, _ in box]
    return replace(
        volume,
        image=np.ascontiguousarray(volume.image[cut]),
        label=np.ascontiguousarray(volume.label[cut]),
        affine=affine,
        source={**volume.source, "box": [list(pair) for pair in box]},
    )


def uncropped(label: NDArray[Any], box: Sequence[Sequence[int]], shape: Sequence[int]) -> NDArray[Any]:
    """The inverse of ``crop``: on ``shape`` voxels, 0 outside of the box."""
    if label.shape == tuple(shape):
        return label
    full = np.zeros(tuple(shape), dtype=label.dtype)
    full[tuple(slice(low, high) for low, high in box)] = label
    return full


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
    coarse = None if separate is None else coarse_axis((volume.spacing, spacing), separate)
    orders = [[0 if axis == coarse else order for axis in range(3)] for order in (image_order, label_order)]
    return _regridded(volume, shape, orders[0], orders[1], {"resampled": [int(n) for n in shape]})


def unresampled(label: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """The way back from ``resample``: for each of ``shape`` voxels the value of the one that holds its
    centre."""
    for axis, size in enumerate(shape):
        if label.shape[axis] != size:
            label = np.take(label, nearest(label.shape[axis], size), axis)
    return label


def shrink(volume: Volume, factor: int, classes: int) -> Volume:
    """Blocks of ``factor``³ voxels become one voxel each; the outer faces stay where they are."""
    x, y, z = (factor * step for step in volume.spacing)
    return replace(
        volume,
        image=shrink_image(volume.image, factor),
        label=shrink_label(volume.label, factor, classes),
        spacing=(x, y, z),
        affine=_scaled(volume.affine, (factor, factor, factor)),
    )


def shrink_image(image: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Mean of each block of ``factor``³ voxels."""
    small: NDArray[np.float32] = _blocks(image, factor).mean(axis=(1, 3, 5), dtype=np.float32)
    return small


def shrink_label(label: NDArray[np.uint8], factor: int, classes: int) -> NDArray[np.uint8]:
    """The most frequent class of each block; of equally frequent ones the lowest."""
    blocks = _blocks(label, factor)
    best = np.zeros(blocks.shape[::2], dtype=np.uint8)
    most = (blocks == 0).sum(axis=(1, 3, 5), dtype=np.int32)
    for number in range(1, classes):
        count = (blocks == number).sum(axis=(1, 3, 5), dtype=np.int32)
        best[count > most] = number
        most = np.maximum(most, count)
    return best


def unshrunk(label: NDArray[Any], factor: int, shape: Sequence[int]) -> NDArray[Any]:
    """The way back from ``shrink``: each voxel becomes its block; what lies beyond ``shape`` is cut off."""
    for axis in range(3):
        label = np.repeat(label, factor, axis=axis)
    return label[tuple(slice(0, size) for size in shape)]


def _blocks(array: NDArray[Any], factor: int) -> NDArray[Any]:
    """(X, Y, Z) to (X/f, f, Y/f, f, Z/f, f); the far edges are repeated up to a multiple of the factor."""
    padded = np.pad(array, [(0, -size % factor) for size in array.shape], mode="edge")
    x, y, z = (size // factor for size in padded.shape)
    return padded.reshape(x, factor, y, factor, z, factor)


def deepen(volume: Volume, least: int | None) -> Volume:
    """A volume with ``least`` slices instead of fewer and the same outer faces: image linear along z, label
    nearest; as it is where it has as many (none: always)."""
    x, y, depth = volume.image.shape
    if least is None or depth >= least:
        return volume
    return _regridded(volume, (x, y, least), [1, 1, 1], [0, 0, 0], {_DEPTH: depth})


def own_slices(label: NDArray[Any], grid: Grid) -> NDArray[Any]:
    """The way back from ``deepen``: of a label map (X, Y, Z) of the prepared grid, as many slices as the case
    had before, each the nearest; all where none were made.

    The label that was interpolated there comes back as it was.
    """
    depth = label.shape[2]
    old = int(grid.source.get(_DEPTH, depth))
    return label if old == depth else label[..., nearest(depth, old)]


def own_spacing(grid: Grid) -> tuple[float, float, float]:
    """The spacing of ``own_slices``, mm along x, y, z."""
    x, y, z = grid.spacing
    return x, y, z * grid.shape[2] / int(grid.source.get(_DEPTH, grid.shape[2]))


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
        image=resized(volume.image, shape, image_orders),
        label=resized_label(volume.label, shape, label_orders),
        spacing=(x, y, z),
        affine=_scaled(volume.affine, factors),
        source={**volume.source, **note},
    )


def _scaled(affine: NDArray[np.float64] | None, factors: Sequence[float]) -> NDArray[np.float64] | None:
    """The affine of a grid whose voxels are ``factors`` old voxels wide, with the first outer faces kept."""
    if affine is None:
        return None
    inner = np.diag([*factors, 1.0])
    inner[:3, 3] = (np.asarray(factors) - 1) / 2
    result: NDArray[np.float64] = affine @ inner
    return result
