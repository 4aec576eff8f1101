"""Where voxels begin in a file, and values that float32 cannot tell apart. The truth is what was written."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest

from sfrbench.components.dataset._checks import Place, checked_image
from sfrbench.components.dataset._nifti import read_nifti
from sfrbench.errors import DataError
from tests.support.data_writers import volume

IMAGE = volume()[0]


def _file(path: Path, kind: int, order: str, offset: float, tail: bytes = b"") -> Place:
    made = nib.Nifti1Image if kind == 1 else nib.Nifti2Image
    header = made.header_class(endianness=order)
    raw = bytearray(made(IMAGE, np.diag([1.0, 2.0, 3.0, 1.0]), header=header).to_bytes())
    if kind == 1:
        struct.pack_into(f"{order}f", raw, 108, offset)
    else:
        struct.pack_into(f"{order}q", raw, 168, int(offset))
    content = bytes(raw) + tail
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    return Place("c", path)


@pytest.mark.parametrize("kind", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_an_offset_of_0_is_the_end_of_the_header(tmp_path: Path, kind: int, order: str, name: str) -> None:
    place = _file(tmp_path / name, kind, order, 0)
    for as_stored in (False, True):
        values, affine, notes, _ = read_nifti(place, as_stored=as_stored)
        np.testing.assert_array_equal(values, IMAGE)
        assert np.array_equal(affine, np.diag([1.0, 2.0, 3.0, 1.0]))
        assert notes == (
            f"vox_offset in the header is 0; the voxels are taken from byte {352 if kind == 1 else 544}, "
            "and fill the file",
        )
    # with more bytes it is a guess
    with pytest.raises(DataError, match="does not say where the voxels begin: vox_offset is 0"):
        read_nifti(_file(tmp_path / name, kind, order, 0, bytes(16)), as_stored=False)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("offset", [1, 348, 351, -5, -352, float("nan"), float("inf"), float("-inf")])
def test_voxels_do_not_begin_within_the_header(tmp_path: Path, name: str, offset: float) -> None:
    with pytest.raises(DataError, match=r"voxels cannot begin at byte .*, as vox_offset says"):
        read_nifti(_file(tmp_path / name, 1, "<", offset), as_stored=False)


@pytest.mark.parametrize("offset", [353, 400, 1e9, 1e30])
def test_voxels_that_would_end_behind_the_file(tmp_path: Path, offset: float) -> None:
    with pytest.raises(DataError, match=r"too short for \d+ bytes of voxels from byte .*vox_offset"):
        read_nifti(_file(tmp_path / "a.nii", 1, "<", offset), as_stored=False)
    with pytest.raises(DataError, match="too short"):
        read_nifti(_file(tmp_path / "a.nii.gz", 1, "<", offset), as_stored=False)


def test_a_part_of_a_byte_is_dropped_as_the_standard_says(tmp_path: Path) -> None:
    np.testing.assert_array_equal(
        read_nifti(_file(tmp_path / "a.nii", 1, "<", 352.5), as_stored=False)[0], IMAGE
    )


def _read(path: Path, values: np.ndarray, **header: Any) -> np.ndarray:
    image = nib.Nifti1Image(values, np.eye(4), dtype=values.dtype)
    image.header.set_slope_inter(header.get("slope", 1), header.get("inter", 0))
    raw = bytearray(image.to_bytes())
    struct.pack_into("<2f", raw, 112, header.get("slope", 1), header.get("inter", 0))
    path.write_bytes(gzip.compress(bytes(raw), 1))
    place = Place("c", path)
    return checked_image(read_nifti(place, as_stored=False)[0], place)


def _steps(span: int, offset: int, kind: str) -> np.ndarray:
    return (offset + np.arange(60).reshape(5, 4, 3) * span // 59).astype(kind)


@pytest.mark.parametrize("kind", ["i4", "i8", "u8", "f8"])
@pytest.mark.parametrize(("offset", "step"), [(10**8, 8), (2**25, 4), (2**30, 128)])
def test_contrast_that_float32_loses_is_refused(tmp_path: Path, kind: str, offset: int, step: int) -> None:
    assert np.spacing(np.float32(offset)) == step
    for span in (1, 59, 250 * step):
        with pytest.raises(DataError, match=f"values span {span} above {offset}, too little for 32-bit"):
            _read(tmp_path / "a.nii.gz", _steps(span, offset, kind))
    # as many levels as an 8-bit picture: the nearest float32, as ever
    fine = _steps(300 * step, offset, kind)
    np.testing.assert_array_equal(_read(tmp_path / "a.nii.gz", fine), fine.astype(np.float32))
    # few levels, and float32 has them all
    exact = (offset + step * np.arange(60).reshape(5, 4, 3)).astype(kind)
    np.testing.assert_array_equal(_read(tmp_path / "a.nii.gz", exact), exact.astype(np.float32))


def test_integers_that_float64_cannot_hold_are_not_called_constant(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="values span 59 above"):
        _read(tmp_path / "a.nii.gz", _steps(59, 2**60, "i8"))


def test_the_intercept_of_a_header_counts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too little for 32-bit numbers"):
        _read(tmp_path / "a.nii.gz", _steps(59, 0, "i2"), inter=1e8)
    assert _read(tmp_path / "a.nii.gz", _steps(59, 0, "i2"), inter=1024).max() == 1083


def test_each_channel_counts_for_itself(tmp_path: Path) -> None:
    both = np.stack([_steps(59, 10**8, "i8"), _steps(59, 0, "i8")], axis=-1)
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(both, np.eye(4), dtype="int64"), path)
    values, place = read_nifti(Place("c", path), as_stored=False)[0], Place("c", path)
    assert checked_image(values[..., 1], place).max() == 59
    with pytest.raises(DataError, match="too little for 32-bit"):
        checked_image(values[..., 0], place)


def test_values_of_h5_files_too(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"] = _steps(59, 10**8, "f8")
        with pytest.raises(DataError, match="too little for 32-bit"):
            checked_image(file["image"][()], Place("c", tmp_path / "a.h5"))


@pytest.mark.parametrize("kind", ["u1", "i2", "i4", "f4", "f8"])
def test_sound_values_are_the_nearest_float32(tmp_path: Path, kind: str) -> None:
    values = (100 * np.abs(IMAGE) % 250).astype(kind)
    read = _read(tmp_path / "a.nii.gz", values)
    assert read.dtype == np.float32
    assert read.tobytes() == values.astype(np.float32).tobytes()


def test_a_constant_image_is_called_constant(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the image is constant"):
        _read(tmp_path / "a.nii.gz", np.full((5, 4, 3), 100000000.3))
