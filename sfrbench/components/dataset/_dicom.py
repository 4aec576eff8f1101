"""Reading a CT series in DICOM, one file per slice (pydicom, the extra ``dicom``)."""

from __future__ import annotations

import struct
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfrbench.components.dataset._checks import Place, coarse
from sfrbench.errors import NotReadyError, first_line
from sfrbench.files.units import counted

_TAGS = (
    "SeriesInstanceUID",
    "Rows",
    "Columns",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
)
_RESCALE = ("RescaleSlope", "RescaleIntercept")
_MORE = ("NumberOfFrames", "Modality", "SOPClassUID", *_RESCALE)
#: Images of CT, enhanced CT, MR and PET.
_IMAGES = tuple(f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2", "2.1", "4", "128"))
_AGAIN = "copy or download the series again"


@dataclass(frozen=True)
class _Slice:
    """What the header of one file says; mm, in DICOM's space (left, posterior, superior)."""

    place: Place
    series: str
    shape: tuple[int, int]  # columns, rows
    position: NDArray[np.float64]  # of the first pixel's centre
    steps: NDArray[np.float64]  # (2, 3): from one column to the next, from one row to the next
    rescale: tuple[float | None, float | None]  # slope and intercept, where it says them
    modality: str

    @property
    def along(self) -> float:
        """Where the slice lies along its normal."""
        return float(self.position @ _normal(self))


def read_series(place: Place) -> tuple[NDArray[Any], NDArray[np.float64], tuple[str, ...]]:
    """Rescaled values (columns, rows, slices), the 4x4 affine to RAS in mm, and notes.

    Values are float32, or float64 where that may be too coarse.
    ``place`` is the folder, searched with all folders below. Slices are ordered by their position along the
    normal, whatever their names and numbers. Raises ``DataError``: several series, slices of different size
    or direction, two at one place, one that is missing between two others, unreadable files.
    """
    pydicom = _library(place)
    with quiet():
        return _series(pydicom, place)


def series_files(place: Place) -> list[Path]:
    """The files of a series, in the order in which ``read_series`` stacks them; raises what it does."""
    pydicom = _library(place)
    with quiet():
        return [each.place.file for each in _stack(pydicom, place)[0]]


@contextmanager
def quiet() -> Iterator[None]:
    """Without pydicom's warnings, slice by slice, on values that no part of this reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _stack(pydicom: Any, place: Place) -> tuple[list[_Slice], tuple[str, ...]]:
    files = sorted(path for path in place.file.rglob("*") if path.is_file() and path.name[0] != ".")
    found = [_header(pydicom, Place(place.case, file)) for file in files]
    slices = sorted((each for each in found if each is not None), key=lambda each: each.along)
    return slices, _checked(slices, place)


def _series(pydicom: Any, place: Place) -> tuple[NDArray[Any], NDArray[np.float64], tuple[str, ...]]:
    slices, notes = _stack(pydicom, place)
    first, last = slices[0], slices[-1]
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = first.steps
    affine[:3, 2] = (last.position - first.position) / (len(slices) - 1)
    affine[:3, 3] = first.position
    values = _stacked(pydicom, slices, np.float32)
    if coarse(values.min(), values.max()):
        values = _stacked(pydicom, slices, np.float64)
    return values, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, notes


def _stacked(pydicom: Any, slices: Sequence[_Slice], kind: type[np.floating[Any]]) -> NDArray[Any]:
    values = np.empty((*slices[0].shape, len(slices)), dtype=kind)
    for number, each in enumerate(slices):
        values[:, :, number] = _pixels(pydicom, each).T
    return values


def _library(place: Place) -> Any:
    if not place.file.is_dir():
        raise place.error("the folder of the series is missing", "restore it, or take the case off its list")
    try:
        import pydicom
    except ImportError as error:
        hint = "pip install 'sfrbench[dicom]', or convert the series to NIfTI"
        what = "reading DICOM needs the package pydicom"
        raise NotReadyError(what, where=str(place.file), hint=hint) from error
    return pydicom


def _header(pydicom: Any, place: Place) -> _Slice | None:
    """The header of a file; None for files that are no DICOM or no image. Files without the preamble (old
    exports) are slices like the others."""
    if not _is_dicom(place):
        return None
    try:
        tags = [*_TAGS, *_MORE]
        header = pydicom.dcmread(place.file, stop_before_pixels=True, specific_tags=tags, force=True)
        kind = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID")
        if "Rows" not in header and kind is not None and str(kind) not in _IMAGES:
            return None  # without a kind it was cut short
        frames = int(header.get("NumberOfFrames") or 1)
        if frames != 1:
            hint = "convert the series to NIfTI, e.g. by dcm2niix, or take the file out of the folder"
            raise place.error(f"the file holds {counted(frames, 'slice')}", hint)
        lacking = [name for name in _TAGS if name not in header]
        if lacking:
            raise place.error(
                f"the header lacks {', '.join(lacking)}", f"is this a slice of a CT series? If so, {_AGAIN}"
            )
        across, down = np.asarray(header.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
        between_rows, between_columns = (float(step) for step in header.PixelSpacing)
        slice_ = _Slice(
            place,
            str(header.SeriesInstanceUID),
            (int(header.Columns), int(header.Rows)),
            np.asarray(header.ImagePositionPatient, dtype=np.float64).reshape(3),
            np.stack([across * between_columns, down * between_rows]),
            _rescale(header),
            str(header.get("Modality")),
        )
    except _ERRORS as error:
        raise _unreadable(place, error) from error
    size = float(np.prod(np.linalg.norm(slice_.steps, axis=1)))
    if not (np.isfinite(slice_.position).all() and np.isfinite(size) and size > 0):
        raise place.error("position, direction or pixel spacing are not sound numbers", _AGAIN)
    if slice_.rescale[0] == 0 or not np.isfinite([value or 0.0 for value in slice_.rescale]).all():
        raise place.error("RescaleSlope or RescaleIntercept is not a sound number", _AGAIN)
    return slice_


def _rescale(header: Any) -> tuple[float | None, float | None]:
    slope, intercept = (header.get(name) for name in _RESCALE)
    return None if slope is None else float(slope), None if intercept is None else float(intercept)


def _is_dicom(place: Place) -> bool:
    """Whether a file is DICOM. What has a slice's name (``.dcm``, or a number or nothing behind the last dot)
    and is neither DICOM nor text is a slice that was lost on the way, and an error."""
    with place.file.open("rb") as stream:
        start = stream.read(132)
    if start[128:] == b"DICM" or start[:2] in (b"\x02\0", b"\x08\0"):
        return True
    ending = place.file.suffix.lower()
    named = ending in (".dcm", ".ima", ".dicom")
    text = bool(start) and not any(byte < 9 or 13 < byte < 32 for byte in start)
    if named or ((not ending or ending[1:].isdigit()) and not text):
        raise place.error("the file is no DICOM", f"{_AGAIN}, or take the file out of the folder")
    return False


def _checked(slices: Sequence[_Slice], place: Place) -> tuple[str, ...]:
    """Notes on ordered slices; raises where they are not one gapless stack."""
    series = Counter(each.series for each in slices)
    if len(series) > 1:
        shown = ", ".join(f"{uid} ({counted(count, 'slice')})" for uid, count in series.most_common(4))
        raise place.error(f"the folder holds {len(series)} series: {shown}", "leave one series in the folder")
    if len(slices) < 2:
        raise place.error(f"the folder holds {counted(len(slices), 'slice')}", _AGAIN)
    for each in slices[1:]:
        if each.shape != slices[0].shape or not np.allclose(each.steps, slices[0].steps, atol=1e-3):
            hint = "leave one series in the folder, and no localiser"
            raise each.place.error(f"size or direction is not that of {slices[0].place.file.name}", hint)
    gaps = np.diff([each.along for each in slices])
    usual = float(np.median(gaps))
    for before, after, gap in zip(slices, slices[1:], gaps.tolist(), strict=False):
        if gap < max(0.01 * usual, 1e-3):
            what = f"the slice lies where {before.place.file.name} lies, at {before.along:.2f} mm"
            raise after.place.error(what, "delete one of the two files")
        if gap > 1.5 * usual:
            missing = max(round(gap / usual) - 1, 1)
            what = (
                f"{counted(missing, 'slice is', 'slices are')} missing between {before.place.file.name} and "
                f"{after.place.file.name}, which lie {gap:.2f} mm apart"
            )
            raise place.error(what, _AGAIN)
    notes = _rescale_notes(slices)
    if np.abs(gaps - usual).max() > 0.02 * usual:
        notes.append(f"slices lie {gaps.min():.2f} to {gaps.max():.2f} mm apart; taken as even")
    course = slices[-1].position - slices[0].position
    slip = float(np.linalg.norm(course - course @ _normal(slices[0]) * _normal(slices[0])))
    if slip > 1.0:
        notes.append(f"the stack leans by {slip:.1f} mm over its height (a tilted gantry)")
    return tuple(notes)


def _rescale_notes(slices: Sequence[_Slice]) -> list[str]:
    """Notes on the way from stored values to HU; raises where some slices say it and others do not."""
    for place, name in enumerate(_RESCALE):
        without = [each for each in slices if each.rescale[place] is None]
        if without and len(without) < len(slices):
            what = f"the slice has no {name}, and {len(slices) - len(without)} others have"
            raise without[0].place.error(what, _AGAIN)
        if without and without[0].modality == "CT":
            return [f"no slice has {name}: the stored values are taken for HU"]
    return []


def _normal(each: _Slice) -> NDArray[np.float64]:
    normal = np.cross(each.steps[0], each.steps[1])
    unit: NDArray[np.float64] = normal / np.linalg.norm(normal)
    return unit


def _pixels(pydicom: Any, each: _Slice) -> NDArray[Any]:
    """The rescaled values (rows, columns) of one slice; HU for CT."""
    try:
        data = pydicom.dcmread(each.place.file, force=True)
        if "TransferSyntaxUID" not in data.file_meta:  # a file without the part that says so
            implicit, little = data.original_encoding
            known = pydicom.uid.ImplicitVRLittleEndian if implicit else pydicom.uid.ExplicitVRLittleEndian
            data.file_meta.TransferSyntaxUID = known if little else pydicom.uid.ExplicitVRBigEndian
        stored = np.asarray(data.pixel_array)
    except _ERRORS as error:
        raise _unreadable(each.place, error) from error
    if stored.shape != each.shape[::-1]:
        raise each.place.error(f"the pixels have shape {stored.shape}, not {each.shape[::-1]}", _AGAIN)
    slope, intercept = each.rescale
    scaled = stored * (1.0 if slope is None else slope) + (0.0 if intercept is None else intercept)
    return np.asarray(scaled)


def _unreadable(place: Place, error: Exception) -> Exception:
    text = first_line(error).rstrip(" :")
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
