"""Reading a NIfTI file and its geometry, for every dataset in that format."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from sfrbench.components.dataset._checks import Geometry, Place, checked_image, checked_label

_READ_ERRORS = (OSError, EOFError, ValueError, TypeError, zlib.error, ImageFileError, HeaderDataError)


def read_nifti(place: Place, *, as_stored: bool) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Scaled values and affine; the header's spacing is checked as it stands, before nibabel mends it."""
    if not place.file.is_file():
        raise place.error("the file is missing", "restore the file, or take the case off the list")
    try:
        image: Any = nib.load(place.file)
        with ImageOpener(str(place.file)) as stream:
            zooms = type(image.header).from_fileobj(stream, check=False).get_zooms()
        affine = np.asarray(image.affine, dtype=np.float64)
        spacing = [float(step) for step in zooms[:3]]
        sizes = np.linalg.norm(affine[:3, :3], axis=0)
        values = np.asarray(image.dataobj) if as_stored else image.get_fdata(dtype=np.float32)
    except _READ_ERRORS as error:
        text = (str(error).splitlines() or [type(error).__name__])[0]
        what = f"the file cannot be read as NIfTI: {text}"
        raise place.error(what, "copy or export the file again") from error
    if not (np.isfinite(spacing).all() and min(spacing) > 0):
        shown = ", ".join(f"{step:g}" for step in spacing)
        raise place.error(f"the spacing in the header is ({shown}) mm", "set pixdim to the true voxel size")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) <= 1e-6 * float(np.prod(sizes)):
        raise place.error("the affine in the header is singular or not finite", "set qform or sform anew")
    return np.asarray(values), affine


def same_grid(image: NDArray[np.float64], label: NDArray[np.float64], place: Place) -> tuple[str, ...]:
    """Notes; raises where label and image are turned or scaled differently (a shift alone is noted)."""
    size = np.linalg.norm(image[:3, :3], axis=0)
    if np.abs(image[:3, :3] - label[:3, :3]).max() > 0.02 * float(size.max()):
        hint = "both must have the same orientation and spacing; copy the image's header to the label"
        raise place.error("the label's affine has other axes than the image's", hint)
    shift = float(np.abs(image[:3, 3] - label[:3, 3]).max())
    if shift > 0.5 * float(size.min()):
        return (f"the label's origin lies {shift:.1f} mm from the image's; voxels are taken as they stand",)
    return ()


def onto_axes(
    label: NDArray[Any], affine: NDArray[np.float64], wanted: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[np.float64], str]:
    """A label with its axes permuted and reversed to run as those of the affine ``wanted``, its own affine
    then, and what was done in words (empty: nothing)."""
    space = nib.orientations
    have, want = space.io_orientation(affine), space.io_orientation(wanted)  # type: ignore[no-untyped-call]
    turn = space.ornt_transform(have, want)  # type: ignore[no-untyped-call]
    if label.ndim != 3 or np.array_equal(turn, [[0, 1], [1, 1], [2, 1]]):
        return label, affine, ""
    names = ["".join(space.ornt2axcodes(each)) for each in (have, want)]  # type: ignore[no-untyped-call]
    turned = space.apply_orientation(label, turn)  # type: ignore[no-untyped-call]
    moved = affine @ space.inv_ornt_aff(turn, label.shape)  # type: ignore[no-untyped-call]
    return turned, moved, f"the label was turned from {names[0]} to the image's {names[1]}"


def geometry_of(affine: NDArray[np.float64], notes: tuple[str, ...]) -> Geometry:
    """Spacing, orientation and the way to the closest RAS grid."""
    axes = tuple((int(axis), int(sign)) for axis, sign in nib.orientations.io_orientation(affine))  # type: ignore[no-untyped-call]
    x, y, z = (float(step) for step in np.linalg.norm(affine[:3, :3], axis=0))
    letters = nib.orientations.aff2axcodes(affine)  # type: ignore[no-untyped-call]
    return Geometry((x, y, z), affine, axes, "".join(map(str, letters)), notes)


def read_pair(
    image_place: Place, label_place: Place, classes: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.uint8], Geometry]:
    """Image and label of a case, checked, on one grid, with the way to RAS."""
    array, affine = read_nifti(image_place, as_stored=False)
    image = checked_image(array, image_place)
    raw_label, label_affine = read_nifti(label_place, as_stored=True)
    label = checked_label(raw_label, image.shape, classes, label_place)
    return image, label, geometry_of(affine, same_grid(affine, label_affine, label_place))
