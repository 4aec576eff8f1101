"""Checks that all datasets share. Every fault names case, file and remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfrbench.components.dataset._names import is_case_id, odd_character
from sfrbench.errors import DataError, Problem

#: How far stored class numbers may lie from integers: what a file's scaling leaves, such as 255 * (1 / 255).
ROUNDED = 0.01
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


def check_lists(lists: dict[str, tuple[Path, list[str]]], files: Mapping[str, str] | None = None) -> None:
    """Checks the case ids of train and test: lists not empty, no id twice, none a path. All faults at once.

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
            odd = values[~(np.abs(values - np.rint(values)) <= ROUNDED)]
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


def implausible(spacing: Sequence[float]) -> list[str]:
    """A note on sides of a voxel that no scanner makes."""
    if all(PLAUSIBLE[0] <= step <= PLAUSIBLE[1] for step in spacing):
        return []
    shown = " x ".join(f"{step:g}" for step in spacing)
    return [f"voxels of {shown} mm are implausible: is the spacing in mm? Distances and volumes count on it"]
