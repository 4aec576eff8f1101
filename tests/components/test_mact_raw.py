"""MACT as it is downloaded: Pancreas-CT in DICOM or NIfTI, BTCV in NIfTI, labels of Zenodo 1169361."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfrbench.components.base import Case
from sfrbench.components.dataset._checks import Place
from sfrbench.components.dataset._dicom import read_series
from sfrbench.components.dataset._splits import MACT
from sfrbench.components.dataset.btcv import Btcv
from sfrbench.components.dataset.mact import Mact
from sfrbench.errors import DataError, NotReadyError
from sfrbench.machine.datacheck import check
from tests.support.data_writers import (
    MACT_IDS,
    organs,
    write_dicom,
    write_h5,
    write_lists,
    write_mact_raw,
    write_nifti,
)

pydicom = pytest.importorskip("pydicom", reason="pydicom, the extra 'dicom', is not installed")

AXIAL = np.array([[-0.8, 0, 0, 90.0], [0, -0.7, 0, 40.0], [0, 0, 2.5, -30.0], [0, 0, 0, 1]])  # as CTs lie
CASE = "PANCREAS_0002"
LABEL = "label_tciapancreasct_multiorgan/label_tcia_multiorgan/label0002.nii.gz"
SERIES = f"Pancreas-CT/{CASE}/11-24-2015/CT"


def _read(root: Path, **fields: object) -> Case:
    write_lists(root, [CASE], ["img0061"])
    return Mact(spacing=None, clip=None, **fields).read_case(root, CASE)


def test_a_series_is_ordered_by_position_and_rescaled(tmp_path: Path) -> None:
    image, _ = organs()
    write_dicom(tmp_path / "s", image, AXIAL, slope=2.0, intercept=-1000.0)
    (tmp_path / "s" / "LICENSE").write_text("not a slice")
    values, affine, notes = read_series(Place("c", tmp_path / "s"))
    np.testing.assert_array_equal(values, 2 * np.rint((image + 1000) / 2) - 1000)
    np.testing.assert_allclose(affine, AXIAL, atol=1e-5)
    assert notes == ()


def test_dicom_and_nifti_give_the_same_case(tmp_path: Path) -> None:
    image, label = write_mact_raw(tmp_path / "d", CASE, AXIAL, dicom=True)
    write_mact_raw(tmp_path / "n", CASE, AXIAL)
    one, two = (_read(tmp_path / name) for name in "dn")
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.label, label[::-1, ::-1])
    np.testing.assert_array_equal(one.label, two.label)
    np.testing.assert_allclose(one.affine, two.affine, atol=1e-5)
    upright = image[::-1, ::-1].astype(np.float32)
    np.testing.assert_allclose(one.image, (upright - upright.mean()) / upright.std(), atol=1e-5)
    assert one.source["file"] == f"Pancreas-CT/{CASE}"


def test_resampling_and_window_are_those_of_btcv(tmp_path: Path) -> None:
    write_mact_raw(tmp_path, CASE, AXIAL, dicom=True)
    write_lists(tmp_path, [CASE], ["img0061"])
    window = {"clip": (-50, 60)}
    case = Mact(**window).read_case(tmp_path, CASE)
    assert case.image.shape == (11, 8, 20)
    assert case.spacing == pytest.approx((20 * 0.8 / 11, 18 * 0.7 / 8, 2.0))
    image, label = organs(classes=9)
    write_nifti(tmp_path / "img0001.nii.gz", image, AXIAL)
    write_nifti(tmp_path / "label0001.nii.gz", label, AXIAL)
    write_lists(tmp_path, ["0001"], ["0002"])
    plain = Btcv(**window).read_case(tmp_path, "0001")
    np.testing.assert_array_equal(case.image, plain.image)
    np.testing.assert_array_equal(case.label, plain.label)
    assert {"spacing", "image_order", "label_order", "clip", "tcia_flip"}.isdisjoint(Mact().key_settings())
    assert Mact(clip=(-200, 300)).key_settings()["clip"] == [-200, 300]


def test_labels_that_run_another_way_are_turned_by_their_header(tmp_path: Path) -> None:
    _, label = write_mact_raw(tmp_path, CASE, AXIAL, dicom=True)
    right = _read(tmp_path)
    reversed_y, affine = MACT_IDS[label][:, ::-1], AXIAL @ np.diag([1.0, -1, 1, 1])
    affine[:3, 3] = AXIAL[:3] @ [0, label.shape[1] - 1, 0, 1]
    write_nifti(tmp_path / LABEL, reversed_y, affine)
    turned = _read(tmp_path)
    np.testing.assert_array_equal(turned.label, right.label)
    assert turned.source["notes"] == ["the label was turned from LAS to the image's LPS"]
    # an origin that does not go with the axes: which of the two is right is for the user to say
    write_nifti(tmp_path / LABEL, reversed_y, AXIAL @ np.diag([1.0, -1, 1, 1]))
    with pytest.raises(DataError, match=r"turned from LAS.* origin lies 11\.9 mm") as caught:
        _read(tmp_path)
    assert "tcia_flip" in caught.value.problems[0].hint
    np.testing.assert_array_equal(_read(tmp_path, tcia_flip="y").label, right.label)
    # a header that says nothing of it: organs lie on air, which is said
    image = np.where(label > 0, 50, -900).astype(np.int16)
    write_dicom(tmp_path / SERIES, image, AXIAL)
    write_nifti(tmp_path / LABEL, reversed_y, AXIAL)
    assert "organ voxels are air" in _read(tmp_path).source["notes"][0]
    assert _read(tmp_path, tcia_flip="y").source["notes"] == []
    with pytest.raises(ValueError, match="tcia_flip"):
        Mact(tcia_flip="yx")


def _bare(file: Path) -> None:
    """Without the 128 bytes and the mark that DICOM begins with."""
    file.write_bytes(file.read_bytes()[132:])


def _without_meta(file: Path) -> None:
    """As the oldest exports are: neither the mark nor the group that says how the rest is written."""
    data = pydicom.dcmread(file)
    del data.file_meta
    data.save_as(file, implicit_vr=True, little_endian=True, enforce_file_format=False)


@pytest.mark.parametrize("ending", [".dcm", "", ".17", ".ima"])
@pytest.mark.parametrize("strip", [_bare, _without_meta])
def test_slices_without_the_usual_start_are_read(
    tmp_path: Path, strip: Callable[[Path], None], ending: str
) -> None:
    image, _ = organs()
    files = write_dicom(tmp_path / "s", image, AXIAL)
    for place, file in enumerate(files):
        renamed = file.rename(file.with_suffix(ending))
        if place in (0, 7, len(files) - 1):  # also at both ends, where no gap would tell
            strip(renamed)
    values, _, notes = read_series(Place("c", tmp_path / "s"))
    np.testing.assert_array_equal(values, image)
    assert notes == ()


LOST: dict[str, bytes] = {
    "empty": b"",
    "zeros": bytes(3000),
    "another format": b"\x89PNG\r\n\x1a\n\0\0" + bytes(200),
}


@pytest.mark.parametrize("ending", ["", ".dcm", ".17"])
@pytest.mark.parametrize("name", LOST)
def test_a_slice_that_was_lost_at_the_end_of_the_stack_is_told(
    tmp_path: Path, name: str, ending: str
) -> None:
    files = [file.rename(file.with_suffix(ending)) for file in write_dicom(tmp_path, organs()[0], AXIAL)]
    files[-1].write_bytes(LOST[name])
    with pytest.raises(DataError, match="the file is no DICOM") as caught:
        read_series(Place("c", tmp_path))
    assert caught.value.problems[0].where.endswith(str(files[-1]))


@pytest.mark.parametrize("left", [140, 200, 340, 500])  # before the kind, in the file's meta, behind the kind
def test_a_slice_at_the_end_whose_header_was_cut_short_is_told(tmp_path: Path, left: int) -> None:
    file = write_dicom(tmp_path, organs()[0], AXIAL)[-1]
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(DataError, match=r"the header lacks .*Rows") as caught:
        read_series(Place("c", tmp_path))
    assert caught.value.problems[0].where.endswith(str(file))


def test_an_image_without_a_size_is_no_other_file(tmp_path: Path) -> None:
    file = write_dicom(tmp_path, organs()[0], AXIAL)[-1]
    data = pydicom.dcmread(file)
    del data.Rows
    data.save_as(file)
    with pytest.raises(DataError, match="the header lacks Rows"):
        read_series(Place("c", tmp_path))


RESCALES: dict[str, tuple[dict[str, Any], str]] = {
    "neither": ({"RescaleSlope": None, "RescaleIntercept": None}, "has no RescaleSlope, and 15 others have"),
    "no slope": ({"RescaleSlope": None}, "has no RescaleSlope, and 15 others have"),
    "no intercept": ({"RescaleIntercept": None}, "has no RescaleIntercept, and 15 others have"),
    "empty": ({"RescaleIntercept": ""}, "has no RescaleIntercept, and 15 others have"),
    "slope of 0": ({"RescaleSlope": 0}, "is not a sound number"),
}


def _rescaled(file: Path, changes: Mapping[str, Any]) -> None:
    data = pydicom.dcmread(file)
    for name, value in changes.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    data.save_as(file)


@pytest.mark.parametrize("name", RESCALES)
def test_a_slice_without_a_rescale_of_its_own_is_refused(tmp_path: Path, name: str) -> None:
    changes, what = RESCALES[name]
    files = write_dicom(tmp_path, organs()[0], AXIAL)
    _rescaled(files[5], changes)
    with pytest.raises(DataError, match=what) as caught:
        read_series(Place("c", tmp_path))
    assert caught.value.problems[0].where.endswith(str(files[5]))


@pytest.mark.parametrize("gone", [[], ["ImagePositionPatient"]])  # enhanced CT says it frame by frame
def test_a_file_of_many_frames_is_refused(tmp_path: Path, gone: list[str]) -> None:
    files = write_dicom(tmp_path, organs()[0], AXIAL)
    _rescaled(files[5], {"NumberOfFrames": 30, **dict.fromkeys(gone)})
    with pytest.raises(DataError, match="the file holds 30 slices") as caught:
        read_series(Place("c", tmp_path))
    assert "dcm2niix" in caught.value.problems[0].hint


def test_each_slice_is_rescaled_by_itself_and_none_at_all_is_told(tmp_path: Path) -> None:
    image, _ = organs()
    files = write_dicom(tmp_path, image, AXIAL)
    _rescaled(files[5], {"RescaleSlope": 2, "RescaleIntercept": -1000})
    values, _, notes = read_series(Place("c", tmp_path))
    np.testing.assert_array_equal(values[..., 5], 2 * (image[..., 5] + 1024) - 1000)
    np.testing.assert_array_equal(values[..., 6], image[..., 6])
    assert notes == ()
    for file in files:
        _rescaled(file, {"RescaleSlope": None, "RescaleIntercept": None})
    values, _, notes = read_series(Place("c", tmp_path))
    assert notes == ("no slice has RescaleSlope: the stored values are taken for HU",)
    np.testing.assert_array_equal(values[..., 6], image[..., 6] + 1024)


def _slices(root: Path) -> list[Path]:
    return write_dicom(root / SERIES, organs(classes=9)[0], AXIAL)


def _remove(root: Path) -> None:
    for file in _slices(root)[6:8]:
        file.unlink()


def _twice(root: Path) -> None:
    file = _slices(root)[3]
    file.with_name("copy.dcm").write_bytes(file.read_bytes())


def _cut(root: Path) -> None:
    file = _slices(root)[3]
    file.write_bytes(file.read_bytes()[:-200])


def _headless(root: Path) -> None:
    _slices(root)[3].write_bytes(b"no DICOM")


def _other_size(root: Path) -> None:
    _slices(root)
    write_dicom(root / SERIES / "scout", organs((9, 9, 2), classes=1)[0], AXIAL)


def _two_series(root: Path) -> None:
    _slices(root)
    write_dicom(root / SERIES / "again", organs(classes=9)[0], AXIAL, series="1.2.4")


def _short_label(root: Path) -> None:
    write_nifti(root / LABEL, MACT_IDS[organs(classes=9)[1][..., 1:]], AXIAL)


def _number_20(root: Path) -> None:
    write_nifti(root / LABEL, np.where(organs(classes=9)[1] == 8, 20, 0).astype(np.uint8), AXIAL)


FAULTS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "missing": (_remove, SERIES.rpartition("/11")[0], r"2 slices are missing between 0000\d\d.dcm and"),
    "twice": (_twice, "", r"lies where (copy|0000\d\d).dcm lies, at -22.50 mm"),
    "truncated": (_cut, ".dcm", "cannot be read as DICOM"),
    "no DICOM": (_headless, ".dcm", "the file is no DICOM"),
    "another size": (_other_size, ".dcm", "size or direction is not that of"),
    "two series": (_two_series, CASE, r"holds 2 series: 1.2.\d \(16 slices\)"),
    "label shorter": (_short_label, LABEL, r"label has shape \(20, 18, 15\), the image \(20, 18, 16\)"),
    "unknown number": (_number_20, LABEL, "outside the classes: 20"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_broken_series(name: str, tmp_path: Path) -> None:
    write_mact_raw(tmp_path, CASE, AXIAL, dicom=True)
    spoil, where, what = FAULTS[name]
    spoil(tmp_path)
    with pytest.raises(DataError, match=what) as caught:
        _read(tmp_path)
    (problem,) = caught.value.problems
    assert problem.where.startswith(f"case {CASE}, {tmp_path}")
    assert problem.where.endswith(where)
    assert problem.hint


def test_missing_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mact_raw(tmp_path, CASE, AXIAL, dicom=True)
    write_lists(tmp_path, [CASE, "PANCREAS_0003", "0007"], ["img0061"])
    reports = {report.case: report for report in check(Mact(), tmp_path)}
    assert reports[CASE].sound
    assert "missing" in reports["PANCREAS_0003"].faults[0].what
    assert "missing" in reports["0007"].faults[0].what
    assert "RawData/Training/img/img0061" in reports["img0061"].faults[0].where
    # every slice goes into the fingerprint
    assert len(Mact().source_files(tmp_path)) == 2 + 16 + 1
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(NotReadyError, match="pydicom") as caught:
        Mact().read_case(tmp_path, CASE)
    assert "sfrbench[dicom]" in caught.value.problems[0].hint


def _labels(root: Path, tcia: range, btcv: range) -> None:
    for folder, numbers in (("label_tcia_multiorgan", tcia), ("label_btcv_multiorgan", btcv)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            (root / folder / f"label{number:04d}.nii.gz").touch()


def test_the_shipped_split_counts_the_published_labels(tmp_path: Path) -> None:
    _labels(tmp_path, range(2, 45), range(1, 48))
    train, test = Mact().case_lists(tmp_path)
    names = [f"PANCREAS_{number:04d}" for number in range(2, 45)] + [f"img{n:04d}" for n in range(1, 48)]
    numbered = [names[int(number) - 1] for number in (*MACT.train, *MACT.test)]
    assert [*train, *test] == [case for case in numbered if case != "PANCREAS_0025"]
    (tmp_path / "Pancreas-CT" / "PANCREAS_0025").mkdir(parents=True)
    assert [len(ids) for ids in Mact().case_lists(tmp_path)] == [70, 20]
    write_h5(tmp_path / "MACT_h5" / "0001.h5", *organs(classes=9))
    assert Mact().case_lists(tmp_path)[0] == list(MACT.train)  # h5 files come first
    assert "PANCREAS_0002" in Mact(layout="raw").case_lists(tmp_path)[0]
    (tmp_path / "label_btcv_multiorgan" / "label0001.nii.gz").unlink()
    with pytest.raises(DataError, match="43 cases of Pancreas-CT and 46 of BTCV"):
        Mact(layout="raw").case_lists(tmp_path)
