"""An image without its label is prepared as the volumes were that a network was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from sfrbench.components.base import Dataset
from sfrbench.components.dataset._nifti import geometry_of
from sfrbench.components.dataset.abdomenct1k import AbdomenCt1k
from sfrbench.components.dataset.brats19 import Brats19
from sfrbench.components.dataset.btcv import Btcv
from sfrbench.components.dataset.decathlon import Decathlon
from sfrbench.components.dataset.geometry import restore
from sfrbench.components.dataset.la import LeftAtrium
from sfrbench.components.dataset.mact import Mact
from sfrbench.components.dataset.phantom import Phantom
from sfrbench.engine.volumes import case_info
from sfrbench.errors import DataError, InputError
from sfrbench.stages.prepare.case import entry_of
from tests.support.data_writers import (
    organs,
    write_abdomen_case,
    write_brats_nifti,
    write_decathlon,
    write_la_scan,
    write_lists,
    write_nifti,
)

OBLIQUE = np.array([[-2.0, 0.02, 0, 10], [0, 0, 1.5, -4], [0, 3.0, 0, 7], [0, 0, 0, 1]])


def decathlon(root: Path) -> tuple[Dataset, Path, str]:
    write_decathlon(root, affine=OBLIQUE)
    return Decathlon(downsample=2), root / "imagesTr" / "c3.nii.gz", "c3"


def brats(root: Path) -> tuple[Dataset, Path, str]:
    write_brats_nifti(root, "A")
    write_lists(root, ["A"], ["B"], ".txt")
    return Brats19(), root / "HGG" / "A" / "A_flair.nii.gz", "A"


def btcv(root: Path) -> tuple[Dataset, Path, str]:
    image, label = organs()
    write_nifti(root / "img" / "img0006.nii.gz", image, OBLIQUE)
    write_nifti(root / "label" / "label0006.nii.gz", label, OBLIQUE)
    return Btcv(), root / "img" / "img0006.nii.gz", "0006"


def abdomen(root: Path) -> tuple[Dataset, Path, str]:
    for number, case in enumerate(("Case_00001", "Case_00002")):
        write_abdomen_case(root, case, OBLIQUE, seed=number)
    write_lists(root, ["Case_00001"], ["Case_00002"])
    image = root / "AbdomenCT-1K-ImagePart1" / "Case_00002_0000.nii.gz"
    return AbdomenCt1k(), image, "Case_00002"


@pytest.mark.parametrize("least", [None, 48])
@pytest.mark.parametrize("written", [decathlon, brats, btcv, abdomen])
def test_an_image_alone_equals_the_prepared_case(written: Any, least: int | None, tmp_path: Path) -> None:
    """To the bit; and the same image stored in another orientation gives the same volume."""
    dataset, file, case = written(tmp_path)
    dataset = dataset.model_copy(update={"min_depth": least})
    known = dataset.read_case(tmp_path, case)
    like = json.loads(json.dumps(known.source))  # as it lies in an index
    assert dataset.caveat(like) == ""
    assert known.image.shape[2] == (least or known.image.shape[2])
    turned = nib.load(file).as_reoriented(np.array([[1, -1], [2, 1], [0, -1]]))
    nib.save(turned, tmp_path / "turned.nii.gz")
    for image in (file, tmp_path / "turned.nii.gz"):
        alone = dataset.read_image(image, like)
        assert np.array_equal(alone.image, known.image)
        assert alone.spacing == known.spacing
        np.testing.assert_allclose(alone.affine, known.affine, atol=1e-5)
        assert not alone.label.any()
        marks = np.arange(alone.image.size).reshape(alone.image.shape)  # every voxel goes back to its place
        back, affine = restore(marks, case_info(entry_of(alone)))
        assert back.shape == nib.load(image).shape
        np.testing.assert_allclose(affine, nib.load(image).affine, atol=1e-5)


def test_an_atrium_alone_is_taken_whole_and_says_so(tmp_path: Path) -> None:
    pytest.importorskip("nrrd", reason="pynrrd (extra 'nrrd') is not installed")
    image, _ = write_la_scan(tmp_path, "A")
    write_lists(tmp_path, ["A"], ["B"])
    dataset = LeftAtrium(least=20, margin=(2, 3))
    known = dataset.read_case(tmp_path, "A")
    file = write_nifti(
        tmp_path / "ras.nii.gz", image[::-1, ::-1].astype(np.float32), np.diag([0.625] * 3 + [1])
    )
    alone = dataset.read_image(file, known.source)
    whole = image.astype(np.float32)
    np.testing.assert_allclose(alone.image, (whole - whole.mean()) / whole.std(), atol=1e-5)
    assert known.image.size < alone.image.size
    assert "cropped around the left atrium" in dataset.caveat(known.source)
    assert "LPS" not in dataset.caveat(known.source)
    assert "taken as in the challenge (LPS)" in dataset.caveat({"affine": None})


def test_what_cannot_be_prepared_is_refused(tmp_path: Path) -> None:
    flat = write_nifti(tmp_path / "flat.nii.gz", np.zeros((8, 8), np.float32))
    with pytest.raises(DataError, match="2 dimensions"):
        Phantom().read_image(flat, {})
    series = write_nifti(tmp_path / "series.nii.gz", np.random.rand(8, 8, 8, 2).astype(np.float32))
    with pytest.raises(DataError, match="4 dimensions"):
        Decathlon().read_image(series, {})
    single = write_nifti(tmp_path / "single.nii.gz", np.random.rand(8, 9, 7, 1).astype(np.float32))
    assert Decathlon().read_image(single, {}).image.shape == (8, 9, 7)
    with pytest.raises(InputError, match="Dataset does not say"):
        Dataset().read_image(single, {})


def test_files_of_others_are_said_to_be_so() -> None:
    for dataset in (Btcv(), Mact()):
        assert "MagicNet" in dataset.caveat({"file": "h5/0001.h5"})
        assert dataset.caveat({"file": "img0001.nii.gz"}) == ""


@pytest.mark.parametrize("towards", ["RAS", "LPS", "PIR"])
def test_any_orientation_can_be_asked_for(towards: str) -> None:
    way = geometry_of(OBLIQUE, (), towards).axes
    there = nib.orientations.apply_orientation(np.zeros((2, 3, 4)), way)
    affine = OBLIQUE @ nib.orientations.inv_ornt_aff(way, (2, 3, 4))
    assert "".join(nib.aff2axcodes(affine)) == towards
    assert there.shape == tuple(np.array((2, 3, 4))[np.argsort([axis for axis, _ in way])])
