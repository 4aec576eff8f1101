"""Reading a NIfTI file and its geometry, for every dataset in that format."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import nibabel as nib
import numpy as np
from nibabel import imageglobals
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from sfrbench.components.base import Case
from sfrbench.components.dataset._checks import (
    Place,
    check_two_files,
    checked_image,
    checked_label,
    coarse,
)
from sfrbench.components.dataset._finish import finish
from sfrbench.components.dataset._nifti_header import checked_header
from sfrbench.components.dataset.geometry import Geometry, Step
from sfrbench.errors import first_line

_READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    MemoryError,
    OverflowError,
    zlib.error,
    HeaderDataError,
)
_AGAIN = "copy or export the file again"
_GZIP = b"\x1f\x8b"
#: The one remedy that is right whichever header is: a header that is copied may mirror or move the label.
_RESAMPLE = (
    "resample the label (nearest) onto the image, by the two headers; where the label's is wrong, export the "
    "label anew (copying the image's header would mirror or move a label whose voxels run another way)"
)
_UNSAID = "export it anew with its orientation and voxel size, from what it was made of"


class Read(NamedTuple):
    """What a file holds: scaled values, the affine in mm, notes on the header, and whether its orientation is
    a guess, as the header says none."""

    values: NDArray[Any]
    affine: NDArray[np.float64]
    notes: tuple[str, ...]
    guessed: bool = False


def read_nifti(place: Place, *, as_stored: bool) -> Read:
    """Values (as float32, or finer where that may be too coarse) and the header. The file is read to its last
    byte, so that the checksum of a compressed one is compared. Raises ``DataError``."""
    if not place.file.is_file():
        raise place.error("the file is missing", "restore the file, or take the case off the list")
    try:
        with _opened(place) as stream, _quiet(), np.errstate(all="ignore"):
            size, packed = place.file.stat().st_size, isinstance(stream, gzip.GzipFile)
            header = checked_header(stream, size, place, packed=packed)
            image: Any = header.reads.from_stream(header.stream)
            values = np.asarray(image.dataobj) if as_stored else _numbers(image)
            affine = np.asarray(image.affine, dtype=np.float64)
            notes = (*header.notes, *_rest(header.stream))
    except _READ_ERRORS as error:
        raise place.error(f"the file cannot be read as NIfTI: {_said(error)}", _AGAIN) from error
    affine[:3] *= header.unit
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) <= 1e-6 * float(np.prod(sizes)):
        raise place.error("the affine in the header is singular or not finite", "set qform or sform anew")
    return Read(np.asarray(values), affine, notes, header.guessed)


def read_scan(place: Place) -> Read:
    """The values of a NIfTI file, or of the DICOM series in a folder."""
    if not place.file.is_dir():
        return read_nifti(place, as_stored=False)
    from sfrbench.components.dataset._dicom import read_series

    return Read(*read_series(place))


def _numbers(image: Any) -> NDArray[Any]:
    values: NDArray[Any] = image.get_fdata(dtype=np.float32, caching="unchanged")
    axes = tuple(range(min(values.ndim, 3)))  # each channel on its own
    if not values.size or not coarse(values.min(axis=axes), values.max(axis=axes)):
        return values
    exact = np.asarray(image.dataobj)
    return exact if exact.dtype.kind in "iu" else image.get_fdata(dtype=np.float64, caching="unchanged")


def _rest(stream: IO[bytes]) -> tuple[str, ...]:
    """Reads to the end, which compares a checksum; a note where more bytes lie there than voxels."""
    count = 0
    while part := stream.read(1 << 22):
        count += len(part)
    return (f"{count} bytes follow the voxels: are sizes and type in the header right?",) if count else ()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the lines that nibabel prints when it mends a header: what matters of it is in our notes."""
    logger = imageglobals.logger
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _opened(place: Place) -> IO[bytes]:
    """The file, unpacked as its name says; raises where the name is wrong about that."""
    named = place.file.suffix.lower() == ".gz"
    with place.file.open("rb") as stream:
        start = stream.read(348)
    if start[:2] == _GZIP and not named:
        raise place.error("the file is compressed, and its name does not say so", "let its name end with .gz")
    if named and start[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c", b"\x1c\x02\0\0", b"\0\0\x02\x1c"):
        hint = "let its name end with .nii, or compress it with gzip"
        raise place.error("the file is not compressed, and its name says so", hint)
    return cast("IO[bytes]", gzip.open(place.file, "rb") if named else place.file.open("rb"))


def _said(error: Exception) -> str:
    """What went wrong in the words of a sentence, not of the library that raised it."""
    text = first_line(error, None)
    if isinstance(error, EOFError):
        return "it ends too early"
    if isinstance(error, gzip.BadGzipFile):
        if "Not a gzipped" in text:
            return "it is not compressed by gzip, or something follows what is"
        return "it is damaged, its checksum is not that of its contents"
    if isinstance(error, zlib.error):
        return "its compressed part is damaged"
    if isinstance(error, MemoryError):
        return "it does not fit into this machine's memory"
    if text.startswith("Expected") and "bytes" in text:
        return "it is too short for the voxels of its header"
    return text


def onto_image(
    label: Read, image: Read, place: Place, remedy: str = _RESAMPLE
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """The values of a label (X, Y, Z) with their axes permuted and reversed to run as the image's, and notes.

    Raises where the axes are no permutation or reversal of each other (``remedy`` says how to mend), where
    they are one and the voxels then lie elsewhere, and where one of the two headers says nothing of its axes.
    Of axes that run alike a shift alone is noted.
    """
    values, affine, wanted = label.values, label.affine, image.affine
    if values.ndim != 3:
        return values, ()  # what is wrong with it is said with its shape
    size, way = np.linalg.norm(wanted[:3, :3], axis=0), way_between(affine, wanted)
    alike = np.array_equal(way, np.eye(3))
    fits = np.abs(affine[:3, :3] @ way - wanted[:3, :3]).max() <= 0.02 * float(size.max())
    if (label.guessed or image.guessed) and not (alike and fits):
        silent = "label" if label.guessed else "image"
        what = f"the header of the {silent} does not say how its axes run (neither qform nor sform is set)"
        raise place.error(f"{what}, and as they are guessed, label and image differ", _UNSAID)
    if not fits:
        raise place.error(other_grid(affine, wanted), _RESAMPLE)
    order = [int(axis) for axis in np.argmax(np.abs(way), axis=0)]
    reversed_ = tuple(axis for axis in range(3) if way[order[axis], axis] < 0)
    first = [values.shape[axis] - 1 if way[axis].sum() < 0 else 0 for axis in range(3)]
    shift = float(np.abs((affine @ [*first, 1] - wanted[:, 3])[:3]).max())
    far = shift > 0.5 * float(size.min())
    said = f"the label's origin lies {shift:.1f} mm from the image's"
    if alike:
        return values, (f"{said}; voxels are taken as they stand",) if far else ()
    turned = f"turned from {letters(affine)} to the image's {letters(wanted)}"
    if far:
        raise place.error(f"{turned}, {said}", remedy)
    return np.flip(np.transpose(values, order), reversed_), (f"the label was {turned}",)


def way_between(label: NDArray[np.float64], image: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 3 x 3 matrix of -1, 0 and 1 that comes closest to leading from the image's axes to the label's; the
    identity where none is close."""
    steps = np.linalg.solve(label[:3, :3], image[:3, :3])
    way = np.where(np.abs(steps) > 0.5, np.sign(steps), 0.0)
    return way if (np.abs(way).sum(axis=0) == 1).all() and (np.abs(way).sum(axis=1) == 1).all() else np.eye(3)


def other_grid(label: NDArray[np.float64], image: NDArray[np.float64]) -> str:
    """In which way two grids differ that no turn makes one."""
    sizes = [np.linalg.norm(affine[:3, :3], axis=0) for affine in (label, image)]
    shown = [
        f"{letters(affine)}, {' x '.join(f'{step:.4g}' for step in size)} mm"
        for affine, size in zip((label, image), sizes, strict=True)
    ]
    if shown[0] != shown[1]:
        return f"the label lies on another grid than the image: {shown[0]}; the image {shown[1]}"
    course = [affine[:3, :3] / size for affine, size in zip((label, image), sizes, strict=True)]
    angle = np.degrees(np.arccos(np.clip((course[0] * course[1]).sum(axis=0), -1, 1))).max()
    return f"the label lies on another grid than the image: its axes are turned by {angle:.1f} degrees"


def geometry_of(affine: NDArray[np.float64], notes: tuple[str, ...], towards: str = "RAS") -> Geometry:
    """Spacing, orientation and the way to the closest grid of an orientation."""
    known: Any = nib.orientations
    way = known.ornt_transform(known.io_orientation(affine), known.axcodes2ornt(towards))
    axes = tuple((int(axis), int(sign)) for axis, sign in way)
    x, y, z = (float(step) for step in np.linalg.norm(affine[:3, :3], axis=0))
    return Geometry((x, y, z), affine, axes, letters(affine), notes)


def letters(affine: Any) -> str:
    """The orientation of a grid: "RAS" where x, y, z run to the right, the front and the top."""
    known: Any = nib.orientations
    return "".join(map(str, known.aff2axcodes(np.asarray(affine))))


def kept_order(like: Mapping[str, Any], default: str) -> str:
    """The orientation of volumes that are prepared in the order of their files; ``default`` where those
    have no affine."""
    return default if like.get("affine") is None else letters(like["affine"])


def read_alone(
    file: Path,
    *,
    towards: str = "RAS",
    downsample: int,
    min_depth: int | None,
    steps: Sequence[Step] = (),
    rescale: bool = True,
) -> Case:
    """An image without a label (NIfTI, or the folder of a DICOM series), in any orientation, prepared as
    ``finish`` prepares cases."""
    place = Place(file.name.removesuffix(".gz").removesuffix(".nii"), file)
    array, affine, notes, _ = read_scan(place)
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    return finish(
        checked_image(array, place),
        None,
        geometry_of(affine, notes, towards),
        classes=1,
        downsample=downsample,
        min_depth=min_depth,
        place=place,
        files={"file": str(file)},
        steps=steps,
        rescale=rescale,
    )


def read_pair(
    image_place: Place, label_place: Place, classes: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.uint8], Geometry]:
    """Image and label of a case, checked, on one grid, with the way to RAS."""
    check_two_files(image_place, label_place)
    image, label = read_nifti(image_place, as_stored=False), read_nifti(label_place, as_stored=True)
    values = checked_image(image.values, image_place)
    upright, moved = onto_image(label, image, label_place)
    notes = (*both_notes(image.notes, label.notes), *moved)
    checked = checked_label(upright, values.shape, classes, label_place)
    return values, checked, geometry_of(image.affine, notes)


def both_notes(image: Sequence[str], label: Sequence[str]) -> tuple[str, ...]:
    """Notes on the header of an image and on that of its label, each said once."""
    return (*image, *(f"label: {note}" for note in label if note not in image))
