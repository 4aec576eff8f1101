"""NIfTI files as they come: headers that say two things, damage, and values that are no classes."""

from __future__ import annotations

import gzip
import re
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from sfrbench.components.dataset.decathlon import Decathlon
from sfrbench.components.dataset.la import LeftAtrium
from sfrbench.errors import DataError
from tests.support.data_writers import (
    LA_FOLDER,
    image_of,
    volume,
    write_decathlon,
    write_la,
    write_la_case,
    write_la_scan,
    write_lists,
    write_nifti,
)


def _read(root: Path, case: str) -> Any:
    return Decathlon(test_cases=1).read_case(root, case)


Change = Callable[[bytearray], None]


def _headers(
    root: Path, change: Change, folders: Sequence[str] = ("imagesTr", "labelsTr"), case: str = "*"
) -> Path:
    """Headers changed in place, as no library would write them."""
    for folder in folders:
        for path in sorted((root / folder).glob("*.nii.gz")):
            raw = bytearray(gzip.decompress(path.read_bytes()))
            change(raw)
            path.write_bytes(gzip.compress(bytes(raw)))
    return root


def _put(offset: int, kind: str, *values: float) -> Change:
    return lambda raw: struct.pack_into(f"<{len(values)}{kind}", raw, offset, *values)


UNITS = {"metre": (1, 1e-3), "mm": (2, 1.0), "micron": (3, 1e3), "unknown": (0, 1.0)}


@pytest.mark.parametrize("unit", UNITS)
def test_lengths_are_in_mm_whatever_the_headers_unit(tmp_path: Path, unit: str) -> None:
    code, per_mm = UNITS[unit]
    affine = np.diag([0.5, 0.75, 2.0, 1.0])
    affine[:3, 3] = [-30, 20, 10]
    stored = affine.copy()
    stored[:3] *= per_mm
    root = _headers(
        write_decathlon(tmp_path, affine=stored, classes=2), lambda raw: raw.__setitem__(123, code)
    )
    case = _read(root, "c1")
    assert case.spacing == pytest.approx((0.5, 0.75, 2.0), rel=1e-6)
    np.testing.assert_allclose(case.affine, affine, rtol=1e-6)
    assert case.source["spacing"] == pytest.approx([0.5, 0.75, 2.0], rel=1e-6)
    notes = case.source["notes"]
    assert notes == (
        [] if per_mm == 1 else [f"the header's unit is the {unit}; voxels are 0.5 x 0.75 x 2 mm"]
    )


def test_a_unit_that_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    for code, name in ((1, "1000 x 1000 x 1000"), (3, "0.001 x 0.001 x 0.001")):
        root = _headers(
            write_decathlon(tmp_path / name, classes=2), lambda raw, c=code: raw.__setitem__(123, c)
        )
        with pytest.raises(DataError, match=f"voxels would be {name} mm"):
            _read(root, "c1")
    root = _headers(write_decathlon(tmp_path / "code", classes=2), _put(123, "B", 5))
    assert _read(root, "c1").source["notes"] == ["the header's unit of length (5) is not known; taken as mm"]
    micron = write_decathlon(tmp_path / "one", affine=np.diag([500.0, 500, 500, 1]), classes=2)
    _headers(micron, _put(123, "B", 3), ["imagesTr"])
    # the label in mm, the image in micron
    with pytest.raises(DataError, match=r"500 x 500 x 500 mm; the image RAS, 0\.5 x 0\.5 x 0\.5 mm"):
        _read(micron, "c1")


QFORM, SFORM, QUATERN, QOFFSET, PIXDIM = 252, 254, 256, 268, 80
FORMS: dict[str, tuple[Change, str]] = {
    "pixdim": (
        _put(PIXDIM, "f", 0.866, 0.866, 0.796),
        r"pixdim says 0\.866 x 0\.866 x 0\.796 mm, the sform 1 x 1 x 1 mm",
    ),
    "qform turned": (
        lambda raw: (_put(QFORM, "h", 1)(raw), _put(QUATERN, "f", 0, 0, 1)(raw)),
        r"turn the volume the axes differently \(LPS, RAS\); the sform is taken",
    ),
    "qform elsewhere": (
        lambda raw: (_put(QFORM, "h", 1)(raw), _put(QOFFSET, "f", 9, 0, 0)(raw)),
        "origins of qform and sform lie 9 mm apart",
    ),
    "qform is no rotation": (
        lambda raw: (_put(QFORM, "h", 1)(raw), _put(QUATERN, "f", 5, 5, 5)(raw)),
        "the qform in the header is no rotation; the sform is taken",
    ),
    "no form": (_put(SFORM, "h", 0), "neither qform nor sform is set.*taken as LAS"),
    "an unknown code": (_put(QFORM, "h", 99), "qform_code 99 is not known"),
    "bytes behind": (lambda raw: raw.extend(b"\0" * 40), "40 bytes follow the voxels"),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_header_that_says_two_things_has_a_note(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    change, what = FORMS[name]
    plain = write_decathlon(tmp_path / "plain", classes=2)
    root = _headers(write_decathlon(tmp_path / "odd", classes=2), change)
    assert _read(plain, "c1").source["notes"] == []
    case = _read(root, "c1")
    (note,) = case.source["notes"]  # said once, though both files have it
    assert re.search(what, note), note
    assert case.spacing == (1.0, 1.0, 1.0)
    assert name == "no form" or image_of(case) == 0
    assert capfd.readouterr().err == ""


def test_a_label_alone_with_an_odd_header_is_told_as_such(tmp_path: Path) -> None:
    root = _headers(write_decathlon(tmp_path, classes=2), FORMS["pixdim"][0], ["labelsTr"])
    (note,) = _read(root, "c1").source["notes"]
    assert note.startswith("label: pixdim says")


def test_the_size_in_a_header_is_held_against_the_file(tmp_path: Path) -> None:
    root = _headers(write_decathlon(tmp_path, classes=2), _put(42, "h", 30000, 30000, 30000), ["imagesTr"])
    with pytest.raises(DataError, match="too short for the 30000 x 30000 x 30000 voxels"):
        _read(root, "c1")


def _in_place(root: Path, change: Callable[[bytes], bytes], folder: str) -> Path:
    path = root / folder / "c2.nii.gz"
    path.write_bytes(change(path.read_bytes()))
    return root


def _flipped(packed: bytes) -> bytes:
    """A voxel changed, in blocks that are stored as they are: only the checksum tells."""
    raw = bytearray(gzip.compress(gzip.decompress(packed), 0))
    raw[len(raw) // 2] ^= 0x10
    return bytes(raw)


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a voxel changed": (_flipped, "its checksum is not that of its contents"),
    "the checksum changed": (
        lambda raw: raw[:-8] + b"\1\2\3\4" + raw[-4:],
        "its checksum is not that of its contents",
    ),
    "the length changed": (lambda raw: raw[:-1] + b"\x77", "is damaged"),
    "without its end": (lambda raw: raw[:-8], "it ends too early"),
    "something follows": (lambda raw: raw + b"junk", "something follows"),
    "not compressed": (gzip.decompress, "the file is not compressed, and its name says so"),
}


@pytest.mark.parametrize("folder", ["imagesTr", "labelsTr"])
@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_refused(tmp_path: Path, name: str, folder: str) -> None:
    change, what = DAMAGE[name]
    root = _in_place(write_decathlon(tmp_path, classes=2), change, folder)
    with pytest.raises(DataError, match=what) as caught:
        _read(root, "c2")
    assert str(root / folder / "c2.nii.gz") in caught.value.problems[0].where
    assert caught.value.problems[0].hint
    _read(root, "c1")


def test_a_compressed_file_whose_name_does_not_say_so(tmp_path: Path) -> None:
    root = write_decathlon(tmp_path, classes=2, training=None)
    (root / "imagesTr" / "c2.nii.gz").rename(root / "imagesTr" / "c2.nii")
    with pytest.raises(DataError, match="the file is compressed, and its name does not say so"):
        _read(root, "c2")


def test_several_parts_of_gzip_are_one_file(tmp_path: Path) -> None:
    def twice(packed: bytes) -> bytes:
        raw = gzip.decompress(packed)
        return gzip.compress(raw[:1000]) + gzip.compress(raw[1000:])

    root = _in_place(write_decathlon(tmp_path, classes=2), twice, "imagesTr")
    assert image_of(_read(root, "c2")) == 1


def test_a_damaged_nrrd_is_one_message(tmp_path: Path) -> None:
    pytest.importorskip("nrrd", reason="pynrrd, the extra 'nrrd', is not installed")
    for case in ("A1", "B2"):
        write_la_scan(tmp_path, case)
    write_lists(tmp_path, ["A1"], ["B2"])
    path = tmp_path / LA_FOLDER / "A1" / "lgemri.nrrd"
    raw = bytearray(path.read_bytes())
    raw[-6] ^= 1
    path.write_bytes(bytes(raw))
    with pytest.raises(DataError, match="cannot be read as NRRD"):
        LeftAtrium(least=16).read_case(tmp_path, "A1")


def _colours(*names: str) -> np.ndarray:
    return np.zeros((20, 18, 16), dtype=[(name, "u1") for name in names])


KINDS: dict[str, tuple[np.ndarray, str]] = {
    "complex": (volume()[0] + 1j * volume(seed=1)[0].astype(np.complex64), "the file holds complex numbers"),
    "complex, long": (volume()[0].astype(np.complex128), "the file holds complex numbers"),
    "RGB": (_colours("R", "G", "B"), r"colours \(RGB\), not one number per voxel"),
    "RGBA": (_colours("R", "G", "B", "A"), r"colours \(RGB\), not one number per voxel"),
    "too large": (volume()[0].astype(np.float64) * 1e25, "the image has values from"),
    "too small": (volume()[0].astype(np.float64) * 1e-25, "the image has values from"),
}


@pytest.mark.parametrize("name", KINDS)
def test_what_is_no_number_per_voxel_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    values, what = KINDS[name]
    root = write_decathlon(tmp_path, classes=2)
    write_nifti(root / "imagesTr" / "c2.nii.gz", values)
    with pytest.raises(DataError, match=what) as caught:
        _read(root, "c2")
    assert "dtype" not in str(caught.value).lower()
    if not name.startswith("too"):
        write_nifti(root / "labelsTr" / "c1.nii.gz", values)
        with pytest.raises(DataError, match=what):
            _read(root, "c1")


def test_a_complex_image_of_another_format_is_refused(tmp_path: Path) -> None:
    root = write_la(tmp_path)
    image, label = volume()
    write_la_case(root, "B2", image=image.astype(np.complex64), label=label)
    with pytest.raises(DataError, match="values of type complex64"):
        LeftAtrium().read_case(root, "B2")


def test_a_surface_of_cifti_is_refused_in_a_sentence(tmp_path: Path) -> None:
    import nibabel.cifti2 as cifti

    root = write_decathlon(tmp_path, classes=2, training=None)
    (root / "imagesTr" / "c2.nii.gz").unlink()
    brain = cifti.BrainModelAxis.from_mask(np.ones((2, 2, 2), bool), affine=np.eye(4))
    values = np.random.default_rng(0).random((2, 8), dtype=np.float32)
    made = cifti.Cifti2Image(values, (cifti.ScalarAxis(["a", "b"]), brain))
    made.to_filename(tmp_path / "x.dscalar.nii")
    (tmp_path / "x.dscalar.nii").rename(root / "imagesTr" / "c2.nii")
    with pytest.raises(DataError, match="this is a CIFTI file"):
        _read(root, "c2")


@pytest.mark.parametrize("number", [1, 2])
def test_nifti_2_and_big_endian_files_are_read(tmp_path: Path, number: int) -> None:
    root = write_decathlon(tmp_path, classes=2)
    image, label = volume(seed=7)
    if number == 2:
        nib.save(nib.Nifti2Image(image, np.eye(4)), root / "imagesTr" / "c2.nii.gz")
    else:
        header = nib.Nifti1Header(endianness=">")
        nib.save(nib.Nifti1Image(image, np.eye(4), header), root / "imagesTr" / "c2.nii.gz")
    write_nifti(root / "labelsTr" / "c2.nii.gz", label)
    assert image_of(_read(root, "c2")) == 7


def _stored(values: np.ndarray, slope: float) -> Callable[[Path], None]:
    """Whole numbers with a scaling in the header."""

    def write(path: Path) -> None:
        write_nifti(path, values)
        raw = bytearray(gzip.decompress(path.read_bytes()))
        struct.pack_into("<2f", raw, 112, slope, 0.0)
        path.write_bytes(gzip.compress(bytes(raw)))

    return write


def _plain(values: np.ndarray) -> Callable[[Path], object]:
    return lambda path: write_nifti(path, values)


TRUTH = volume(classes=3)[1].astype(np.int64)
ALMOST: dict[str, Callable[[Path], object]] = {
    "0, 100 and 200 with 1/100": _stored((TRUTH * 100).astype(np.uint8), 1 / 100),
    "a little less": _plain(TRUTH * np.float64(0.9999999986)),
    "a little more": _plain(TRUTH * np.float64(1.0000000116)),
    "in 32 bits": _plain((TRUTH * 1.0000002).astype(np.float32)),
    "16 bits over the range": _stored(np.rint(TRUTH * 32767 / 2).astype(np.int16), 2 / 32767),
    "8 bits over the range": _stored(np.rint(TRUTH * 255 / 2).astype(np.uint8), 2 / 255),
    "whole, in 64 bits": _plain(TRUTH.astype(np.float64)),
}


@pytest.mark.parametrize("name", ALMOST)
def test_labels_that_are_almost_whole_numbers_are_these(tmp_path: Path, name: str) -> None:
    root = write_decathlon(tmp_path, classes=3)
    ALMOST[name](root / "labelsTr" / "c1.nii.gz")
    np.testing.assert_array_equal(_read(root, "c1").label, TRUTH)


def test_masks_of_255_with_a_slope_are_classes(tmp_path: Path) -> None:
    root = write_decathlon(tmp_path, classes=2)
    mask = volume(classes=2)[1]
    _stored(mask * 255, 1 / 255)(root / "labelsTr" / "c1.nii.gz")
    np.testing.assert_array_equal(_read(root, "c1").label, mask)


@pytest.mark.parametrize(
    ("value", "shown"), [(1.02, "1.02"), (0.25, "0.25"), (1.4999999, "1.4999999"), (np.inf, "inf")]
)
def test_labels_between_whole_numbers_are_refused_with_their_digits(
    tmp_path: Path, value: float, shown: str
) -> None:
    root = write_decathlon(tmp_path, classes=2)
    label = volume(classes=2)[1].astype(np.float64)
    label[0, 0, 0] = value
    write_nifti(root / "labelsTr" / "c1.nii.gz", label)
    with pytest.raises(
        DataError, match=f"not integers, such as {shown}$".replace(".", r"\.").replace("$", r"\n")
    ):
        _read(root, "c1")
