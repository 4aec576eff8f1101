"""From each raw layout to the prepared grid and back, on grids that lie in any way in space."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sfrbench.components.base import Case, Dataset
from sfrbench.components.dataset.abdomenct1k import AbdomenCt1k
from sfrbench.components.dataset.brats19 import Brats19
from sfrbench.components.dataset.btcv import Btcv
from sfrbench.components.dataset.decathlon import Decathlon
from sfrbench.components.dataset.geometry import restore
from sfrbench.components.dataset.la import LeftAtrium
from sfrbench.components.dataset.mact import Mact
from sfrbench.engine.volumes import CaseInfo
from sfrbench.stages.prepare.case import deep_enough
from tests.support.data_writers import (
    organs,
    volume,
    write_abdomen_case,
    write_brats_raw,
    write_btcv_raw,
    write_decathlon,
    write_la_raw,
    write_lists,
    write_mact_raw,
)


def _grid(*columns: tuple[float, float, float]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.array(columns).T
    affine[:3, 3] = (12.0, -34.5, 56.25)
    return affine


_TILT = np.deg2rad(20)
GRIDS = {
    "RAS": _grid((0.8, 0, 0), (0, 0.9, 0), (0, 0, 2.5)),
    "LPS": _grid((-0.8, 0, 0), (0, -0.9, 0), (0, 0, 2.5)),
    "x reversed": _grid((-0.8, 0, 0), (0, 0.9, 0), (0, 0, 2.5)),
    "y reversed": _grid((0.8, 0, 0), (0, -0.9, 0), (0, 0, 2.5)),
    "z reversed": _grid((0.8, 0, 0), (0, 0.9, 0), (0, 0, -2.5)),
    "sagittal": _grid((0, 0.9, 0), (0, 0, -1.1), (2.0, 0, 0)),
    "oblique": _grid(
        (-0.8 * np.cos(_TILT), 0.8 * np.sin(_TILT), 0),
        (-0.9 * np.sin(_TILT), -0.9 * np.cos(_TILT), 0),
        (0, 0, 2.5),
    ),
}

#: A dataset, a case, its raw label (with our numbers), and whether the image's grid is the label's.
Made = tuple[Dataset, str, np.ndarray, bool]


def _la(root: Path, affine: np.ndarray) -> Made:
    pytest.importorskip("nrrd", reason="pynrrd, the extra 'nrrd', is not installed")
    label = write_la_raw(root, affine)
    return LeftAtrium(least=1, margin=(2, 4)), "A1", label, True


def _brats(root: Path, affine: np.ndarray) -> Made:
    image, label = organs(classes=5)
    label[label == 3] = 0  # a number that BraTS does not use
    image[:3], image[:, -2:], image[..., 0] = 0, 0, 0  # a border that is cropped
    label[:3], label[:, -2:], label[..., 0] = 0, 0, 0
    write_brats_raw(root, image, label, affine)
    return Brats19(), "BraTS19_A_1", (label > 0).astype(np.uint8), True


def _btcv(root: Path, affine: np.ndarray) -> Made:
    label = write_btcv_raw(root, affine)
    return Btcv(spacing=None), "0001", label, True


def _btcv_resampled(root: Path, affine: np.ndarray) -> Made:
    _, case, label, same = _btcv(root, affine)
    return Btcv(spacing=(0.7, 0.7, 0.7)), case, label, same  # finer than raw: nothing is lost


def _mact_nifti(root: Path, affine: np.ndarray) -> Made:
    _, label = write_mact_raw(root, "img0061", affine)
    write_lists(root, ["img0061"], ["img0062"])
    return Mact(spacing=None), "img0061", label, True


def _mact_dicom(root: Path, affine: np.ndarray) -> Made:
    pytest.importorskip("pydicom", reason="pydicom, the extra 'dicom', is not installed")
    _, label = write_mact_raw(root, "PANCREAS_0002", affine, dicom=True)
    write_lists(root, ["PANCREAS_0002"], ["PANCREAS_0003"])
    return Mact(spacing=None), "PANCREAS_0002", label, False  # slices are ordered by their position


def _abdomen(root: Path, affine: np.ndarray) -> Made:
    _, label = write_abdomen_case(root, "Case_00001", affine)
    write_lists(root, ["Case_00001"], ["Case_00002"])
    return AbdomenCt1k(), "Case_00001", label, True


def _decathlon(root: Path, affine: np.ndarray) -> Made:
    write_decathlon(root, affine=affine)
    return Decathlon(), "c1", volume(seed=0, classes=3)[1], True


LAYOUTS: dict[str, Callable[[Path, np.ndarray], Made]] = {
    "la nrrd": _la,
    "brats19": _brats,
    "btcv": _btcv,
    "btcv resampled": _btcv_resampled,
    "mact nifti": _mact_nifti,
    "mact dicom": _mact_dicom,
    "abdomenct1k": _abdomen,
    "decathlon": _decathlon,
}


def _back(case: Case) -> tuple[np.ndarray, np.ndarray]:
    source = json.loads(json.dumps(case.source))  # as it comes back from index.json
    return restore(case.label, CaseInfo(case.label.shape, case.spacing, case.affine, (0.0, 1.0), source))


def _agree(one: np.ndarray, affine: np.ndarray, label: np.ndarray, label_affine: np.ndarray) -> None:
    """Two label maps say the same wherever a voxel's centre of the first is not on a face of the second's."""
    places = np.vstack([np.indices(one.shape).reshape(3, -1), np.ones(one.size)])
    there = (np.linalg.inv(label_affine) @ affine @ places)[:3]
    nearest = np.rint(there).astype(int)
    sure = np.abs(there - nearest).max(axis=0) < 0.49
    assert sure.mean() > 0.8
    np.testing.assert_array_equal(label[tuple(nearest[:, sure])], one.ravel()[sure])


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_label_comes_back_to_its_grid(layout: str, grid: str, tmp_path: Path) -> None:
    affine = GRIDS[grid]
    dataset, name, label, same_grid = LAYOUTS[layout](tmp_path, affine)
    case = dataset.read_case(tmp_path, name)
    deep = dataset.model_copy(update={"min_depth": 64}).read_case(tmp_path, name)
    assert deep.image.shape[2] == 64 > case.image.shape[2]
    for each in (case, deep, deep_enough(case, 64)):
        back, back_affine = _back(each)
        if same_grid:
            np.testing.assert_array_equal(back, label)
            np.testing.assert_allclose(back_affine, affine, atol=1e-4)
        _agree(back, back_affine, label, affine)
    _agree(case.label, np.asarray(case.affine), label, affine)  # the prepared grid lies where it says
