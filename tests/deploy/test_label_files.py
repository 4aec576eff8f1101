"""Label maps as files: other libraries read grid, voxels, names and colours back."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
import pytest

from sfrbench.deploy.label_files import write_labels
from sfrbench.deploy.label_map import LabelMap
from sfrbench.errors import DataError
from sfrbench.results.label_table import colour, table_text
from tests.support.data_writers import organs, write_dicom, write_nifti

CLASSES = ("background", "spleen", 'left\n"lobe" <&', "nowhere", "Edema")
AFFINE = np.array([[-0.8, 0, 0, 90.0], [0, -0.7, 0, 40.0], [0, 0, 2.5, -30.0], [0, 0, 0, 1]])
#: Axes swapped, one turned round, anisotropic, oblique.
ODD = np.array([[0.1, 0, 2.0, -30], [-1.5, 0.2, 0, 12], [0, 3.0, 0, 7], [0, 0, 0, 1]])


def labels(image: Path, affine: np.ndarray = ODD, shape: tuple[int, ...] = (20, 18, 16)) -> LabelMap:
    """Boxes of classes 1, 2 and 4; class 3 is nowhere."""
    values = np.zeros(shape, np.uint8)
    values[3:7, 2:9, 4:6], values[10:13, 5:6, 7:12], values[19, 17, 15] = 1, 2, 4
    return LabelMap(values, affine, CLASSES, image, "sfr_mt seed 0 of mine")


def test_nifti_has_names_and_colours_in_its_header_and_the_same_voxels(tmp_path: Path) -> None:
    image = write_nifti(tmp_path / "i.nii.gz", np.zeros((20, 18, 16), np.int16), ODD)
    wanted = labels(image)
    write_labels(wanted, tmp_path / "o.nii.gz")
    made = nib.load(tmp_path / "o.nii.gz")
    np.testing.assert_array_equal(np.asarray(made.dataobj), wanted.values)
    np.testing.assert_array_equal(made.affine, nib.load(image).affine)
    assert made.header.get_intent()[0] == "label"
    (extension,) = made.header.extensions
    assert extension.get_code() == 30
    volume = ElementTree.fromstring(extension.content).find("VolumeInformation")
    assert volume is not None
    assert volume.findtext("VolumeType") == "Label"
    rows = list(volume.iter("Label"))
    assert [row.text for row in rows] == ["background", "spleen", 'left "lobe" <&', "nowhere", "Edema"]
    assert [row.get("Key") for row in rows] == ["0", "1", "2", "3", "4"]
    shown = [round(255 * float(rows[1].attrib[part])) for part in ("Red", "Green", "Blue")]
    assert tuple(shown) == colour(1) == (0xF0, 0xE4, 0x42)
    assert [row.get("Alpha") for row in rows] == ["0", "1", "1", "1", "1"]


def test_nrrd_has_the_grid_and_the_fields_of_a_segmentation_of_slicer(tmp_path: Path) -> None:
    nrrd = pytest.importorskip("nrrd", reason="pynrrd, the extra 'nrrd', is not installed")
    wanted = labels(tmp_path / "i.nii.gz")
    write_labels(wanted, tmp_path / "o.seg.nrrd")
    values, header = nrrd.read(str(tmp_path / "o.seg.nrrd"), index_order="F")
    np.testing.assert_array_equal(values, wanted.values)
    assert values.dtype == np.uint8
    lps = np.diag([-1, -1, 1, 1]) @ ODD
    assert header["space"] == "left-posterior-superior"
    np.testing.assert_array_equal(header["space directions"].T, lps[:3, :3])
    np.testing.assert_array_equal(header["space origin"], lps[:3, 3])
    names = [header[f"Segment{number}_Name"] for number in range(4)]
    assert names == ["spleen", 'left "lobe" <&', "nowhere", "Edema"]
    assert [header[f"Segment{number}_LabelValue"] for number in range(4)] == ["1", "2", "3", "4"]
    assert header["Segment0_Extent"] == "3 6 2 8 4 5"
    assert header["Segment2_Extent"] == "0 -1 0 -1 0 -1"
    shown = [round(255 * float(part)) for part in header["Segment3_Color"].split()]
    assert tuple(shown) == colour(4)
    assert "Segment4_Name" not in header


def test_a_segmentation_of_a_series_names_slices_and_codes_that_exist(tmp_path: Path) -> None:
    hd = pytest.importorskip("highdicom", reason="highdicom, the extra 'dicom', is not installed")
    files = write_dicom(tmp_path / "s", organs()[0], AFFINE)
    wanted = labels(tmp_path / "s", AFFINE)
    write_labels(wanted, tmp_path / "o.dcm")
    made = hd.seg.segread(tmp_path / "o.dcm")
    assert made.Modality == "SEG"
    assert made.number_of_segments == 4
    assert sorted(made.segment_numbers) == [1, 2, 3, 4]
    known = [made.get_segment_description(number) for number in (1, 2, 3, 4)]
    assert [each.segment_label for each in known] == ["spleen", 'left "lobe" <&', "nowhere", "Edema"]
    assert [each.segmented_property_type.meaning for each in known] == ["Spleen", "Tissue", "Tissue", "Edema"]
    assert known[0].segmented_property_type.value == "78961009"  # SNOMED CT
    assert known[0].segmented_property_category.meaning == "Anatomical Structure"
    assert known[3].segmented_property_category.meaning == "Morphologically Abnormal Structure"
    uids = [f"1.2.3.{number + 1}" for number in range(len(files))]
    frames = made.get_pixels_by_source_instance(uids, combine_segments=True)
    np.testing.assert_array_equal(frames.transpose(2, 1, 0), wanted.values)
    volume = made.get_volume(combine_segments=True)  # where it lies, from the file alone
    geometry = np.diag([-1, -1, 1, 1]) @ volume.affine
    inside = np.argwhere(volume.array == 2)
    spots = (geometry @ np.c_[inside, np.ones(len(inside))].T).T
    ours = (AFFINE @ np.c_[np.argwhere(wanted.values == 2), np.ones(len(inside))].T).T
    np.testing.assert_allclose(np.sort(spots, axis=0), np.sort(ours, axis=0), atol=1e-4)


def test_a_label_map_without_any_class_is_a_segmentation_too(tmp_path: Path) -> None:
    hd = pytest.importorskip("highdicom", reason="highdicom, the extra 'dicom', is not installed")
    write_dicom(tmp_path / "s", organs()[0], AFFINE)
    empty = LabelMap(np.zeros((20, 18, 16), np.uint8), AFFINE, CLASSES, tmp_path / "s", "mt")
    write_labels(empty, tmp_path / "o.dcm")
    made = hd.seg.segread(tmp_path / "o.dcm")
    assert made.number_of_segments == 4
    assert not made.pixel_array.any()


def test_a_series_whose_slices_cannot_be_named_is_refused(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom", reason="pydicom, the extra 'dicom', is not installed")
    pytest.importorskip("highdicom", reason="highdicom, the extra 'dicom', is not installed")
    file = write_dicom(tmp_path / "s", organs()[0], AFFINE)[3]
    data = pydicom.dcmread(file)
    del data.FrameOfReferenceUID
    data.save_as(file)
    with pytest.raises(DataError, match="lack FrameOfReferenceUID") as caught:
        write_labels(labels(tmp_path / "s", AFFINE), tmp_path / "o.dcm")
    assert "*.nii.gz" in caught.value.problems[0].hint
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_full_disk_is_one_message_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s").mkdir()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(nib, "save", full)
    with pytest.raises(DataError) as caught:
        write_labels(labels(tmp_path / "s", AFFINE), tmp_path / "o.nii.gz")
    (problem,) = caught.value.problems
    assert problem.where == str(tmp_path / "o.nii.gz")
    assert problem.what == "the labels cannot be written: No space left on device"
    assert problem.hint.startswith("free some space")
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_series_in_nifti_keeps_the_scanners_grid(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    write_labels(labels(tmp_path / "s", AFFINE), tmp_path / "o.nii.gz")
    made = nib.load(tmp_path / "o.nii.gz")
    np.testing.assert_allclose(made.affine, AFFINE, atol=1e-6)
    assert [int(made.header[name]) for name in ("sform_code", "qform_code")] == [1, 1]
    assert made.header.get_xyzt_units()[0] == "mm"


def test_tables_of_classes_as_slicer_and_itk_snap_read_them() -> None:
    slicer = [line.split() for line in table_text(CLASSES, ".ctbl").splitlines() if line[0] != "#"]
    assert slicer[0] == ["0", "background", "0", "0", "0", "0"]
    assert slicer[2] == ["2", 'left_"lobe"_<&', "86", "180", "233", "255"]
    snap = [line.split(maxsplit=7) for line in table_text(CLASSES, ".label").splitlines() if line[0] != "#"]
    assert snap[0] == ["0", "0", "0", "0", "0", "0", "0", '"background"']
    assert snap[2] == ["2", "86", "180", "233", "1", "1", "1", "\"left 'lobe' <&\""]
    assert len({colour(number) for number in range(22)}) == 22
