"""Reading a CT series in DICOM, one file per slice (pydicom, the extra ``dicom``)."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfrbench.components.dataset._checks import Place
from sfrbench.errors import NotReadyError

_TAGS = (
    "SeriesInstanceUID",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
)
_AGAIN = "copy or download the series again"


@dataclass(frozen=True)
class _Slice:
    """What the header of one file says; mm, in DICOM's space (left, posterior, superior)."""

    place: Place
    series: str
    shape: tuple[int, int]  # columns, rows
    position: NDArray[np.float64]  # of the first pixel's centre
    steps: NDArray[np.float64]  # (2, 3): from one column to the next, from one row to the next

    @property
    def along(self) -> float:
        """Where the slice lies along its normal."""
        return float(self.position @ _normal(self))


def read_series(place: Place) -> tuple[NDArray[np.float32], NDArray[np.float64], tuple[str, ...]]:
    """Rescaled values (columns, rows, slices), the 4x4 affine to RAS in mm, and notes.

    ``place`` is the folder, searched with all folders below. Slices are ordered by their position along the
    normal, whatever their names and numbers. Raises ``DataError``: several series, slices of different size
    or direction, two at one place, one that is missing between two others, unreadable files.
    """
    if not place.file.is_dir():
        raise place.error("the folder of the series is missing", "restore it, or take the case off its list")
    pydicom = _library(place)
    files = sorted(path for path in place.file.rglob("*") if path.is_file() and path.name[0] != ".")
    found = [_header(pydicom, Place(place.case, file)) for file in files]
    slices = sorted((each for each in found if each is not None), key=lambda each: each.along)
    notes = _checked(slices, place)
    first, last = slices[0], slices[-1]
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = first.steps
    affine[:3, 2] = (last.position - first.position) / (len(slices) - 1)
    affine[:3, 3] = first.position
    values = np.empty((*first.shape, len(slices)), dtype=np.float32)
    for number, each in enumerate(slices):
        values[:, :, number] = _pixels(pydicom, each).T
    return values, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, notes


def _library(place: Place) -> Any:
    try:
        import pydicom
    except ImportError as error:
        hint = "pip install 'sfrbench[dicom]', or convert the series to NIfTI"
        what = "reading DICOM needs the package pydicom"
        raise NotReadyError(what, where=str(place.file), hint=hint) from error
    return pydicom


def _header(pydicom: Any, place: Place) -> _Slice | None:
    """The header of a file; none for files that are no DICOM or no image."""
    with place.file.open("rb") as stream:
        if stream.read(132)[128:] != b"DICM":
            if place.file.suffix.lower() == ".dcm":
                raise place.error("the file is no DICOM", _AGAIN)
            return None
    try:
        header = pydicom.dcmread(place.file, stop_before_pixels=True, specific_tags=list(_TAGS))
        if "Rows" not in header:
            return None
        lacking = [name for name in _TAGS if name not in header and name != "NumberOfFrames"]
        if lacking:
            raise place.error(f"the header lacks {', '.join(lacking)}", "is this a slice of a CT series?")
        across, down = np.asarray(header.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
        between_rows, between_columns = (float(step) for step in header.PixelSpacing)
        found = _Slice(
            place,
            str(header.SeriesInstanceUID),
            (int(header.Columns), int(header.Rows)),
            np.asarray(header.ImagePositionPatient, dtype=np.float64).reshape(3),
            np.stack([across * between_columns, down * between_rows]),
        )
        frames = int(header.get("NumberOfFrames") or 1)
    except _ERRORS as error:
        raise _unreadable(place, error) from error
    if frames != 1:
        raise place.error(f"the file holds {frames} slices", "convert the series to NIfTI, e.g. by dcm2niix")
    size = float(np.prod(np.linalg.norm(found.steps, axis=1)))
    if not (np.isfinite(found.position).all() and np.isfinite(size) and size > 0):
        raise place.error("position, direction or pixel spacing are not sound numbers", _AGAIN)
    return found


def _checked(slices: Sequence[_Slice], place: Place) -> tuple[str, ...]:
    """Notes on ordered slices; raises where they are not one gapless stack."""
    series = Counter(each.series for each in slices)
    if len(series) > 1:
        shown = ", ".join(f"{uid} ({count} slices)" for uid, count in series.most_common(4))
        raise place.error(f"the folder holds {len(series)} series: {shown}", "leave one series per case")
    if len(slices) < 2:
        raise place.error(f"the folder holds {len(slices)} slices", _AGAIN)
    for each in slices[1:]:
        if each.shape != slices[0].shape or not np.allclose(each.steps, slices[0].steps, atol=1e-3):
            hint = "leave one series per case, and no localiser"
            raise each.place.error(f"size or direction is not that of {slices[0].place.file.name}", hint)
    gaps = np.diff([each.along for each in slices])
    usual = float(np.median(gaps))
    for before, after, gap in zip(slices, slices[1:], gaps.tolist(), strict=False):
        if gap < max(0.01 * usual, 1e-3):
            what = f"the slice lies where {before.place.file.name} lies, at {before.along:.2f} mm"
            raise after.place.error(what, "delete one of the two files")
        if gap > 1.5 * usual:
            missing = max(round(gap / usual) - 1, 1)
            between = f"{before.place.file.name} and {after.place.file.name}"
            what = f"{missing} slices are missing between {between}, which lie {gap:.2f} mm apart"
            raise place.error(what, _AGAIN)
    notes = []
    if np.abs(gaps - usual).max() > 0.02 * usual:
        notes.append(f"slices lie {gaps.min():.2f} to {gaps.max():.2f} mm apart; taken as even")
    course = slices[-1].position - slices[0].position
    slip = float(np.linalg.norm(course - course @ _normal(slices[0]) * _normal(slices[0])))
    if slip > 1.0:
        notes.append(f"the stack leans by {slip:.1f} mm over its height (a tilted gantry)")
    return tuple(notes)


def _normal(each: _Slice) -> NDArray[np.float64]:
    normal = np.cross(each.steps[0], each.steps[1])
    unit: NDArray[np.float64] = normal / np.linalg.norm(normal)
    return unit


def _pixels(pydicom: Any, each: _Slice) -> NDArray[np.float32]:
    """The rescaled values (rows, columns) of one slice; HU for CT."""
    try:
        data = pydicom.dcmread(each.place.file)
        stored = np.asarray(data.pixel_array)
        slope, intercept = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
    except _ERRORS as error:
        raise _unreadable(each.place, error) from error
    if stored.shape != each.shape[::-1]:
        raise each.place.error(f"the pixels have shape {stored.shape}, not {each.shape[::-1]}", _AGAIN)
    return (stored * slope + intercept).astype(np.float32)


def _unreadable(place: Place, error: Exception) -> Exception:
    text = (str(error).splitlines() or [type(error).__name__])[0][:120]
    return place.error(f"the file cannot be read as DICOM: {text}", f"{_AGAIN}, or convert it to NIfTI")


_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    struct.error,
)
