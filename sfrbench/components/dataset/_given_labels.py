"""A label map that another tool made of a case: read, brought to the raw grid by the two headers, its values
made classes, and prepared as the case's own label was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sfrbench.components.dataset._checks import ROUNDED, Place
from sfrbench.components.dataset._interpolation import coarse_axis, nearest, resized_label
from sfrbench.components.dataset.geometry import Grid, shrink_label, turned

if TYPE_CHECKING:
    from sfrbench.components.base import Dataset

_NEAREST = "bring it to the grid of the case's image, each voxel the nearest one, with the image's header"
#: How far a voxel may lie from its place, in parts of the smallest side of a voxel: what headers round.
_OFF = 0.1
#: From here on sides or courses of axes are others, in parts of the largest side of a voxel.
_OTHER = 0.02
#: The eight corners of a unit cube, in columns.
_CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=np.float64).T


@dataclass(frozen=True)
class Given:
    """Values (X, Y, Z) as stored, and the affine of their grid in mm; none where the file says nothing of how
    its axes run."""

    values: NDArray[Any]
    affine: NDArray[np.float64] | None


def read_given(place: Place) -> Given:
    """A label map in NIfTI or NRRD. Raises ``DataError`` for what is none."""
    if place.file.name.endswith(".nrrd"):
        from sfrbench.components.dataset._nrrd import read_nrrd

        values, geometry = read_nrrd(place)
        affine = geometry.affine
    else:
        from sfrbench.components.dataset._nifti import read_nifti

        values, known, _, guessed = read_nifti(place, as_stored=True)
        affine = None if guessed else known
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.ndim != 3:
        hint = "give one label map (X, Y, Z) per case: the number of its class in each voxel"
        raise place.error(f"the file has {values.ndim} dimensions, shape {values.shape}, not 3", hint)
    return Given(values, affine)


def on_raw_grid(
    given: Given, shape: Sequence[int], affine: NDArray[np.float64] | None, place: Place
) -> tuple[NDArray[Any], bool]:
    """The values on the raw grid of the case, and whether axes were permuted or reversed for that.

    Where the data have no affine (h5 files), voxels are taken as they stand. Raises ``DataError`` where no
    permutation and reversal of axes makes the two grids one.
    """
    if affine is None:
        if given.values.shape != tuple(shape):
            hint = "the data do not say how their axes run, so the array must be that of the case's image"
            raise place.error(_other_shape(given.values.shape, shape), hint)
        return given.values, False
    if given.affine is None:
        raise place.error("its header does not say how its axes run", _NEAREST)
    from sfrbench.components.dataset._nifti import letters, other_grid, way_between

    way = way_between(given.affine, affine)
    sides, drift = np.linalg.norm(affine[:3, :3], axis=0), given.affine[:3, :3] @ way - affine[:3, :3]
    if np.abs(drift).max() > _OTHER * float(sides.max()):
        raise place.error(other_grid(given.affine, affine), _NEAREST)
    axes = [(int(np.argmax(np.abs(row))), int(row.sum())) for row in way]
    values = turned(given.values, axes)
    if values.shape != tuple(shape):
        raise place.error(_other_shape(values.shape, shape), _NEAREST)
    first = [size - 1 if sign < 0 else 0 for size, (_, sign) in zip(given.values.shape, axes, strict=True)]
    start = (given.affine @ [*first, 1] - affine[:, 3])[:3]
    corners = start[:, None] + drift @ (_CORNERS * (np.asarray(shape) - 1)[:, None])
    off = float(np.linalg.norm(corners, axis=0).max())
    if off > _OFF * float(sides.min()):
        raise place.error(f"its voxels lie up to {off:.3g} mm from those of the case's image", _NEAREST)
    return values, letters(given.affine) != letters(affine)


def _other_shape(shape: Sequence[int], wanted: Sequence[int]) -> str:
    has, needs = (" x ".join(map(str, sides)) for sides in (shape, wanted))
    return f"it has {has} voxels, the case's image {needs}"


def class_numbers(
    values: NDArray[Any],
    labels: Mapping[int, int] | None,
    other: int | None,
    classes: Sequence[str],
    place: Place,
) -> NDArray[np.uint8]:
    """Class numbers, uint8: values by ``labels``, 0 the background where they do not name it, and ``other``
    for the rest; without ``labels`` values are class numbers. Raises ``DataError`` for values that are no
    integers, and for those that are no class."""
    if values.dtype.kind not in "fiub":
        raise place.error(f"it holds values of type {values.dtype}", "save class numbers as integers")
    narrow = values.dtype == np.uint8  # counting bytes is much faster than a sort
    stored = np.flatnonzero(np.bincount(values.ravel())) if narrow else np.unique(values)
    whole = np.rint(stored.astype(np.float64))
    with np.errstate(invalid="ignore"):
        odd = ~(np.abs(stored - whole) <= ROUNDED)
    if odd.any():
        what = f"it holds values that are no integers, such as {float(stored[odd][0]):.6g}"
        hint = "a label map is needed (the number of a class in each voxel), no probabilities"
        raise place.error(what, hint)
    known = {number: number for number in range(len(classes))} if labels is None else {0: 0, **labels}
    strange = [number for number in dict.fromkeys(whole.tolist()) if number not in known]
    if strange and other is None:
        count = int(np.isin(np.rint(values), strange).sum())
        shown = ", ".join(f"{number:g}" for number in strange[:8]) + (", …" if len(strange) > 8 else "")
        names = ", ".join(f"{number} {name}" for number, name in enumerate(classes))
        lacks = "are no classes" if labels is None else "'labels' does not name"
        what = f"it holds values that {lacks}: {shown} ({count} voxels)"
        hint = f"the classes are {names}; say what they are, as in labels: {{{strange[0]:g}: 1, other: 0}}"
        raise place.error(what, hint)
    numbers = np.array([known.get(number, other) for number in whole.tolist()], dtype=np.uint8)
    if narrow:
        table = np.zeros(256, dtype=np.uint8)
        table[stored] = numbers
        made: NDArray[np.uint8] = table[values]
    else:
        made = numbers[np.searchsorted(stored, values)]
    return made


def as_prepared(
    label: NDArray[np.uint8], grid: Grid, classes: int, dataset: Dataset
) -> tuple[NDArray[np.uint8], int]:
    """A label map of the raw grid on the prepared one, made as the case's own label was, and how many of its
    foreground voxels lay outside of the part that was kept. The inverse of ``restore``."""
    source = grid.source
    axes = source.get("axes") or [[0, 1], [1, 1], [2, 1]]
    full = turned(label, axes)
    foreground = int(np.count_nonzero(full))
    if source.get("box"):
        full = full[tuple(slice(low, high) for low, high in source["box"])]
    outside = foreground - int(np.count_nonzero(full))
    if source.get("resampled"):
        full = resized_label(full, source["resampled"], _orders(source, dataset))
    if source.get("downsample", 1) > 1:
        full = shrink_label(full, int(source["downsample"]), classes)
    if "depth" in source:
        full = full[..., nearest(full.shape[2], grid.shape[2])]
    if full.shape != tuple(grid.shape):
        raise ValueError(f"the label became {full.shape}, the prepared grid is {tuple(grid.shape)}")
    return np.ascontiguousarray(full), outside


def _orders(source: Mapping[str, Any], dataset: Dataset) -> list[int]:
    """The order of interpolation of labels along x, y, z, by the dataset's fields."""
    order, separate = getattr(dataset, "label_order", 0), getattr(dataset, "separate", None)
    wanted = source.get("statistics", {}).get("spacing") or getattr(dataset, "spacing", None)
    if order == 0 or wanted is None:
        return [0, 0, 0]
    axes = source.get("axes") or [[0, 1], [1, 1], [2, 1]]
    have = [0.0, 0.0, 0.0]
    for step, (axis, _) in zip(source["spacing"], axes, strict=True):
        have[axis] = step
    coarse = None if separate is None else coarse_axis((have, wanted), separate)
    return [0 if axis == coarse else order for axis in range(3)]
