"""Checks and preprocessing that all datasets share. Every fault names case, file and remedy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfrbench.components.base import Case
from sfrbench.components.dataset._grid import Step, Volume, scaled
from sfrbench.components.dataset._names import is_case_id, odd_character
from sfrbench.errors import DataError, Problem

#: How far stored class numbers may lie from integers: what a file's scaling leaves, such as 255 * (1 / 255).
_ROUNDED = 0.01
#: Levels of an 8-bit picture: with fewer between its darkest and brightest voxel an image has lost contrast.
_LEVELS = 256
_LARGE = 1e15  # of an image; beyond, its variance overflows
#: Sides of a voxel, mm, that scanners make: micro-CT goes down to some 0.005, and no slice is 100 thick.
#: Metres or microns that are taken for mm lie outside of it.
PLAUSIBLE = (0.005, 100.0)


@dataclass(frozen=True)
class Place:
    """A file of a case, for messages."""

    case: str
    file: Path

    def error(self, what: str, hint: str) -> DataError:
        """The error to raise: ``case ID, FILE  what`` and the remedy."""
        return DataError(what, where=f"case {self.case}, {self.file}", hint=hint)


@dataclass(frozen=True)
class Geometry:
    """The raw grid: spacing in mm along the raw axes; ``axes[i]`` is (prepared axis, sign) of raw axis i."""

    spacing: tuple[float, float, float]
    affine: NDArray[np.float64] | None = None
    axes: tuple[tuple[int, int], ...] | None = None  # none: nothing is turned
    orientation: str | None = None  # such as "LPS"; none where the source does not say
    notes: tuple[str, ...] = field(default=())


def check_lists(lists: dict[str, tuple[Path, list[str]]], files: Mapping[str, str] | None = None) -> None:
    """Case ids of train and test: none empty, no id twice, no id that is a path. All faults at once.

    ``lists`` maps the list's name to its file and ids, ``files`` an id that no list names to its own file.
    """
    problems: list[Problem] = []
    first: dict[str, str] = {}
    for name, (file, ids) in lists.items():
        if not ids:
            problems.append(Problem(str(file), f"the {name} list is empty", "name one case per line"))
        for number, case in enumerate(ids, 1):
            where = (files or {}).get(case, f"{file}, entry {number}")
            if not is_case_id(case):
                hint = "an id is a plain name: letters, digits, spaces, '_', '-', '.', '+', and no folders"
                problems.append(Problem(where, f"{case!r} is not a case id{odd_character(case)}", hint))
            elif case in first:
                if first[case] == name:
                    places, hint = f"in the {name} list", "keep one of them"
                else:
                    places = f"in the {first[case]} list and in the {name} list"
                    hint = "training and test cases must be different"
                problems.append(Problem(where, f"case '{case}' stands twice, {places}", hint))
            else:
                first[case] = name
    if problems:
        raise DataError.of(problems)


def check_two_files(image: Place, label: Place) -> None:
    """Raises where an image is its own label, through links too."""
    if image.file.exists() and label.file.exists() and image.file.samefile(label.file):
        raise label.error("the label is the same file as the image", "bring the label map of the case")


def checked_image(array: NDArray[Any], place: Place) -> NDArray[np.float32]:
    """The image as contiguous float32 (X, Y, Z), all finite and not constant."""
    if array.ndim != 3:
        hint = "give one 3D volume per case; channels and time points go into files of their own"
        raise place.error(f"the image has {array.ndim} dimensions, shape {array.shape}, not 3", hint)
    if array.size == 0:
        raise place.error(f"the image is empty, shape {array.shape}", "export the case again")
    if array.dtype.kind not in "fiub":
        raise place.error(f"the image has values of type {array.dtype}", "save real numbers, one per voxel")
    with np.errstate(over="ignore"):
        image = np.ascontiguousarray(array, dtype=np.float32)
    bad = ~np.isfinite(image)
    if bad.any():
        at = tuple(int(i[0]) for i in np.nonzero(bad))
        hint = "replace NaN and infinite values (by the background value) and save the volume again"
        raise place.error(f"the image has {int(bad.sum())} NaN or infinite voxels, the first at {at}", hint)
    low, high = float(image.min()), float(image.max())
    if image.dtype != array.dtype and coarse(low, high):
        _check_rounding(array, image, place)
    if low == high:
        hint = "export the case again, or take it off the list"
        raise place.error(f"the image is constant, every voxel is {low:g}", hint)
    if max(-low, high) > _LARGE or high - low < 1 / _LARGE:
        hint = "their squares do not fit into 32-bit numbers; is the scaling in the header (scl_slope) right?"
        raise place.error(f"the image has values from {low:g} to {high:g}", hint)
    return image


def coarse(low: Any, high: Any) -> bool:
    """Whether an image (or one of several) between these values has fewer than ``_LEVELS`` steps of float32,
    so that it may have lost contrast where it was stored more finely."""
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    step = np.spacing(np.maximum(np.abs(low), np.abs(high)).astype(np.float32)).astype(np.float64)
    return bool(np.any(high - low < _LEVELS * step))


def _check_rounding(array: NDArray[Any], image: NDArray[np.float32], place: Place) -> None:
    """Raises where float32 moves a voxel by more than half of a level."""
    low = array.min()
    above = (array - low).astype(np.float64)  # exact for integers of any size
    span, moved = float(above.max()), np.abs(above - (image.astype(np.float64) - float(low)))
    if span and float(moved.max()) * 2 * _LEVELS > span:
        what = f"the image's values span {span:.6g} above {float(low):.10g}, too little for 32-bit numbers"
        hint = (
            "their step there is so large that contrast is lost; subtract the smallest value from all voxels"
        )
        raise place.error(what, hint)


def checked_label(
    array: NDArray[Any], shape: Sequence[int], classes: Sequence[str], place: Place
) -> NDArray[np.uint8]:
    """The label map as contiguous uint8 with values 0 … K-1 and the image's shape."""
    if tuple(array.shape) != tuple(shape):
        hint = "image and label must lie on the same voxel grid; resample the label (nearest) onto the image"
        if sorted(array.shape) == sorted(shape):
            hint = "its axes seem to stand in another order, and its header does not say so: export it anew"
        raise place.error(f"the label has shape {tuple(array.shape)}, the image {tuple(shape)}", hint)
    if array.dtype.kind not in "fiub":
        raise place.error(f"the label has values of type {array.dtype}", "save class numbers as integers")
    # counting bytes is much faster than the sort in np.unique
    values = np.flatnonzero(np.bincount(array.ravel())) if array.dtype == np.uint8 else np.unique(array)
    if array.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            odd = values[~(np.abs(values - np.rint(values)) <= _ROUNDED)]
        if odd.size:
            hint = "class numbers must be integers; was the label resampled with an order above 0 (nearest)?"
            what = f"the label has values that are not integers, such as {float(odd[0]):.10g}"
            raise place.error(what, hint)
        array, values = np.rint(array), np.unique(np.rint(values))
    strange = [v for v in values.tolist() if not 0 <= v < len(classes)]
    if strange:
        names = ", ".join(f"{number} {name}" for number, name in enumerate(classes))
        voxels = int(np.isin(array, strange).sum())
        shown = ", ".join(f"{v:.10g}" for v in strange[:8]) + (", …" if len(strange) > 8 else "")
        raise place.error(
            f"the label has values outside the classes: {shown} ({voxels} voxels)",
            f"the classes are {names}; map the values to these numbers",
        )
    return np.ascontiguousarray(array, dtype=np.uint8)


def zscore(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """(image - mean) / std over the whole volume, as SFR does at load (methods: LA, train and test)."""
    scaled: NDArray[np.float32] = (image - np.mean(image)) / np.std(image)
    return scaled


def turn(array: NDArray[Any], axes: Sequence[tuple[int, int]]) -> NDArray[Any]:
    """Flip and permute raw axes into prepared ones; ``volumes.restore`` is the inverse."""
    flipped = np.flip(array, tuple(raw for raw, (_, sign) in enumerate(axes) if sign < 0))
    order = sorted(range(3), key=lambda raw: axes[raw][0])
    return np.ascontiguousarray(np.transpose(flipped, order))


def _blocks(array: NDArray[Any], factor: int) -> NDArray[Any]:
    """(X, Y, Z) to (X/f, f, Y/f, f, Z/f, f); the far edges are repeated up to a multiple of the factor."""
    padded = np.pad(array, [(0, -size % factor) for size in array.shape], mode="edge")
    x, y, z = (size // factor for size in padded.shape)
    return padded.reshape(x, factor, y, factor, z, factor)


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


def finish(
    image: NDArray[np.float32],
    label: NDArray[np.uint8] | None,
    geometry: Geometry,
    *,
    classes: int,
    downsample: int,
    place: Place,
    files: dict[str, str],
    steps: Sequence[Step] = (),
    rescale: bool = True,
) -> Case:
    """Turn a checked case, take the dataset's ``steps``, shrink, z-score (with ``rescale``), and keep what
    leads back to the raw grid. An image alone gets a label of 0."""
    notes = list(geometry.notes)
    if label is None:
        label = np.zeros(image.shape, dtype=np.uint8)
    elif not label.any():
        notes.append("the label has no foreground voxel")
    notes += _implausible(geometry.spacing)
    source = {
        **files,
        "shape": [int(n) for n in image.shape],
        "spacing": [float(step) for step in geometry.spacing],
        "affine": None if geometry.affine is None else geometry.affine.tolist(),
        "axes": None if geometry.axes is None else [list(pair) for pair in geometry.axes],
        "orientation": geometry.orientation,
        "downsample": downsample,
        "intensity": [float(image.min()), float(image.max())],
        "notes": notes,
    }
    volume = _upright(image, label, geometry)
    digest = hashlib.sha256(np.ascontiguousarray(volume.image).data).hexdigest()
    for step in steps:
        volume = step(volume)
        if volume.image.size == 0:
            raise place.error("cropping leaves nothing of the image", "is this the right file of the case?")
        if volume.image.min() == volume.image.max():
            hint = "see which intensities the case has; dataset.clip or dataset.tail may cut all of them off"
            raise place.error("the image is constant once cropped and clipped", hint)
    if downsample > 1:
        volume = _shrunk(volume, downsample, classes)
        if volume.image.min() == volume.image.max():
            what = f"the image is constant once downsampled by {downsample}"
            raise place.error(what, "lower dataset.downsample")
    return Case(
        image=zscore(volume.image) if rescale else volume.image,
        label=volume.label,
        spacing=volume.spacing,
        affine=None if volume.affine is None else volume.affine.tolist(),
        source={**source, **volume.source},
        zscored=rescale,
        digest=digest,
    )


def _implausible(spacing: Sequence[float]) -> list[str]:
    """A note on sides of a voxel that no scanner makes."""
    if all(PLAUSIBLE[0] <= step <= PLAUSIBLE[1] for step in spacing):
        return []
    shown = " x ".join(f"{step:g}" for step in spacing)
    return [f"voxels of {shown} mm are implausible: is the spacing in mm? Distances and volumes count on it"]


def _upright(image: NDArray[np.float32], label: NDArray[np.uint8], geometry: Geometry) -> Volume:
    """The volume with its axes turned as ``geometry`` says."""
    spacing, affine = list(geometry.spacing), geometry.affine
    if geometry.axes is not None:
        if affine is not None:
            affine = affine @ _turned(geometry.axes, image.shape)
        image, label = turn(image, geometry.axes), turn(label, geometry.axes)
        for raw, (axis, _) in enumerate(geometry.axes):
            spacing[axis] = geometry.spacing[raw]
    return Volume(image, label, (float(spacing[0]), float(spacing[1]), float(spacing[2])), affine)


def _shrunk(volume: Volume, factor: int, classes: int) -> Volume:
    """Blocks of ``factor``³ voxels become one voxel each; the outer faces stay where they are."""
    x, y, z = (factor * step for step in volume.spacing)
    return replace(
        volume,
        image=shrink_image(volume.image, factor),
        label=shrink_label(volume.label, factor, classes),
        spacing=(x, y, z),
        affine=scaled(volume.affine, (factor, factor, factor)),
    )


def _turned(axes: Sequence[tuple[int, int]], shape: Sequence[int]) -> NDArray[np.float64]:
    """4x4 map from prepared voxel indices to raw voxel indices."""
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1.0
    for raw, (axis, sign) in enumerate(axes):
        matrix[raw, axis] = sign
        matrix[raw, 3] = 0.0 if sign > 0 else shape[raw] - 1
    return matrix
