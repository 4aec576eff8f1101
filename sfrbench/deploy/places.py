"""What ``predict`` reads and writes, checked before anything is computed. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from sfrbench.components._extras import require
from sfrbench.errors import InputError
from sfrbench.results.label_table import TABLES

IMAGES = (".nii.gz", ".nii")
OUTPUTS = (*IMAGES, ".seg.nrrd", ".dcm")
_KINDS = "*.nii.gz or *.nii, *.seg.nrrd (3D Slicer), *.dcm (DICOM-SEG)"


def check_predict(image: Path, out: Path, table: Path | None, overwrite: bool) -> None:
    """Raises ``InputError`` for a name or place that cannot be, ``NotReadyError`` for a missing package."""
    _check_image(image)
    if not out.name.endswith(OUTPUTS) or out.name in OUTPUTS:  # an ending alone is none to those who write
        raise InputError("this is not the name of a label map", where=str(out), hint=_KINDS)
    _check_output(out, image, overwrite)
    if table is not None:
        if table.suffix not in TABLES:
            kinds = ", ".join(f"*{ending} ({viewer})" for ending, viewer in TABLES.items())
            raise InputError("this is not the name of a table of classes", where=str(table), hint=kinds)
        _check_output(table, image, overwrite)
    if out.suffix == ".nrrd":
        require("writing NRRD", "nrrd", {"pynrrd": (1, 0)})
    if out.suffix == ".dcm":
        if not image.is_dir():
            what = "DICOM-SEG names the slices that it is of, and the image is no DICOM series"
            raise InputError(
                what, where=str(out), hint="name *.nii.gz or *.seg.nrrd, or give the series' folder"
            )
        require("writing DICOM-SEG", "dicom", {"highdicom": (0, 26)})


def _check_image(image: Path) -> None:
    if not image.exists():
        raise InputError(
            "no such file or folder", where=str(image), hint="the image stands before the output"
        )
    if not image.is_dir() and not image.name.endswith(IMAGES):
        hint = "give *.nii.gz, *.nii, or the folder of a DICOM series"
        raise InputError("this is not the name of a NIfTI file", where=str(image), hint=hint)


def _check_output(out: Path, image: Path, overwrite: bool) -> None:
    if not out.parent.is_dir():
        raise InputError("the folder does not exist", where=str(out.parent), hint="make it first")
    if out.is_dir():
        raise InputError("this is a folder", where=str(out), hint="name a file")
    if out.exists() and out.samefile(image):
        raise InputError("the labels would replace the image", where=str(out), hint="name another file")
    if image.is_dir() and image.resolve() in out.resolve().parents:
        what = "the file would lie among the slices of the series"
        raise InputError(what, where=str(out), hint="name a file outside of the series' folder")
    if out.exists() and not overwrite:
        raise InputError("the file exists", where=str(out), hint="--overwrite replaces it")
