"""Label maps of a DICOM series as DICOM-SEG (highdicom, the extra ``dicom``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sfrbench.components.dataset._checks import Place
from sfrbench.components.dataset._dicom import quiet, series_files
from sfrbench.deploy.label_map import LabelMap
from sfrbench.errors import DataError, first_line
from sfrbench.results.label_table import colour, plain
from sfrbench.version import __version__

#: What DICOM-SEG takes from the slices: must be there, and may be empty.
_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_EMPTY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
)
#: Lists of codes that DICOM has for what is segmented (CID), and the category of each list.
_KNOWN = (
    ("cid7192", "AnatomicalStructure"),
    ("cid7191", "Tissue"),
    ("cid7194", "MorphologicallyAbnormalStructure"),
)
_LONGEST = 64  # characters of a short text in DICOM


def write_segmentation(labels: LabelMap, file: Path) -> None:
    """Write a binary segmentation: a segment for each class but the background, and a frame for each slice
    that it is in, which names that slice of the series. Raises ``DataError`` where slices cannot be named."""
    import highdicom as hd

    sources = _sources(labels.image, float(np.linalg.norm(labels.affine[:3, 2])))
    frames = np.ascontiguousarray(labels.values.transpose(2, 1, 0))  # slices, rows, columns
    try:
        with quiet():
            made = hd.seg.Segmentation(
                source_images=sources,
                pixel_array=frames,
                segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=[
                    _described(number, name, labels.made_by)
                    for number, name in enumerate(labels.classes[1:], 1)
                ],
                series_instance_uid=hd.UID(),
                series_number=100,
                sop_instance_uid=hd.UID(),
                instance_number=1,
                manufacturer="sfrbench",
                manufacturer_model_name="sfrbench",
                software_versions=__version__,
                device_serial_number="0",
                content_label="SEGMENTATION",
                content_description=labels.made_by[:_LONGEST],
                series_description=labels.made_by[:_LONGEST],
                omit_empty_frames=bool(labels.values.any()),
            )
    except (ValueError, TypeError, AttributeError) as error:
        hint = "name the output *.nii.gz or *.seg.nrrd, which need less of the series"
        what = f"no DICOM-SEG can be made of this series: {first_line(error, 200)}"
        raise DataError(what, where=str(labels.image), hint=hint) from error
    made.save_as(file)


def _sources(folder: Path, between: float) -> list[Any]:
    """The headers of the slices, which lie ``between`` mm apart, in the order in which they are stacked."""
    import pydicom

    place = Place(folder.name, folder)
    with quiet():
        found = [pydicom.dcmread(file, stop_before_pixels=True, force=True) for file in series_files(place)]
    for data in found:
        lacking = [name for name in _NEEDED if not data.get(name)]
        if lacking:
            what = f"the slices lack {', '.join(lacking)}, by which DICOM-SEG names them"
            raise place.error(what, "name the output *.nii.gz or *.seg.nrrd")
        for name in _EMPTY:
            if name not in data:
                setattr(data, name, None)
        if not data.get("SliceThickness"):
            data.SliceThickness = between
    return found


def _described(number: int, name: str, made_by: str) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    category, kind = _codes(name)
    segment = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=plain(name)[:_LONGEST],
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=made_by[:_LONGEST], version=__version__, family=codes.DCM.ArtificialIntelligence
        ),
        display_color=hd.color.CIELabColor.from_rgb(*colour(number)),
    )
    segment.SegmentDescription = plain(name)
    return segment


def _codes(name: str) -> tuple[Any, Any]:
    """Category and type of a class: from DICOM's own lists where one has the name, else plain tissue."""
    from pydicom.sr.codedict import codes

    wanted = plain(name).replace("_", " ").casefold()
    for listed, category in _KNOWN:
        group = getattr(codes, listed)
        for key in group.dir():
            code = getattr(group, key)
            if code.meaning.casefold() == wanted:
                return getattr(codes.cid7150, category), code
    return codes.SCT.Tissue, codes.SCT.Tissue
