"""Label maps of other tools: turned by their headers, renumbered, and prepared as the case's own label."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from sfrbench.components.base import Case, Dataset
from sfrbench.components.dataset._checks import Place
from sfrbench.components.dataset._given_labels import as_prepared, class_numbers, on_raw_grid, read_given
from sfrbench.components.dataset.abdomenct1k import AbdomenCt1k
from sfrbench.components.dataset.brats19 import Brats19
from sfrbench.components.dataset.btcv import Btcv
from sfrbench.components.dataset.decathlon import Decathlon
from sfrbench.components.dataset.la import LeftAtrium
from sfrbench.engine.volumes import CaseInfo
from sfrbench.errors import DataError
from tests.support.data_writers import (
    organs,
    volume,
    write_abdomen_case,
    write_brats_raw,
    write_btcv_raw,
    write_decathlon,
    write_la_raw,
    write_lists,
    write_nifti,
)

_TILT = np.deg2rad(20)
#: Voxel sides of 0.8, 0.9 and 2.5 mm, along other axes than right, front and top, and turned a little.
AFFINES = {
    "LPS": np.diag([-0.8, -0.9, 2.5, 1.0]),
    "sagittal": np.array([[0, 0, 0.8, 3], [0.9, 0, 0, -7], [0, -2.5, 0, 40], [0, 0, 0, 1.0]]),
    "oblique": np.array(
        [
            [-0.8 * np.cos(_TILT), -0.9 * np.sin(_TILT), 0, 12],
            [0.8 * np.sin(_TILT), -0.9 * np.cos(_TILT), 0, -34.5],
            [0, 0, 2.5, 56.25],
            [0, 0, 0, 1.0],
        ]
    ),
}
CLASSES = ("background", "one", "two")


def _decathlon(root: Path, affine: np.ndarray) -> tuple[Dataset, str, np.ndarray]:
    write_decathlon(root, affine=affine)
    return Decathlon(downsample=2), "c1", volume(seed=0, classes=3)[1]


def _abdomen(root: Path, affine: np.ndarray) -> tuple[Dataset, str, np.ndarray]:
    _, label = write_abdomen_case(root, "Case_00001", affine)
    write_lists(root, ["Case_00001"], ["Case_00002"])
    return AbdomenCt1k(spacing=(1.1, 1.3, 3.4), label_order=1, separate=2.0), "Case_00001", label


def _btcv(root: Path, affine: np.ndarray) -> tuple[Dataset, str, np.ndarray]:
    label = write_btcv_raw(root, affine)
    return Btcv(spacing=(1.2, 1.2, 2.0), label_order=1), "0001", label


def _brats(root: Path, affine: np.ndarray) -> tuple[Dataset, str, np.ndarray]:
    image, label = organs(classes=2)
    image[:3], image[:, -2:] = 0, 0  # a border that is cropped
    label[:3], label[:, -2:] = 0, 0
    write_brats_raw(root, image, label, affine)
    return Brats19(), "BraTS19_A_1", label


def _la(root: Path, affine: np.ndarray) -> tuple[Dataset, str, np.ndarray]:
    pytest.importorskip("nrrd", reason="pynrrd, the extra 'nrrd', is not installed")
    label = write_la_raw(root, affine)
    return LeftAtrium(least=1, margin=(2, 4), downsample=2), "A1", label


LAYOUTS = {
    "decathlon": _decathlon,
    "abdomenct1k": _abdomen,
    "btcv": _btcv,
    "brats19": _brats,
    "la nrrd": _la,
}


def info_of(case: Case) -> CaseInfo:
    source = json.loads(json.dumps(case.source))  # as it comes back from index.json
    return CaseInfo(case.label.shape, case.spacing, case.affine, (0.0, 1.0), source)


def turned(image: nib.Nifti1Image, towards: str) -> nib.Nifti1Image:
    """The same label map with its voxels in another order, by nibabel."""
    way = nib.orientations.ornt_transform(
        nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(towards)
    )
    return image.as_reoriented(way)


@pytest.mark.parametrize("grid", AFFINES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_truth_of_another_tool_is_the_truth(layout: str, grid: str, tmp_path: Path) -> None:
    affine = AFFINES[grid]
    dataset, name, label = LAYOUTS[layout](tmp_path, affine)
    file = tmp_path / "given.nii.gz"
    for least in (None, 48):
        deep = dataset.model_copy(update={"min_depth": least})
        case = deep.read_case(tmp_path, name)
        info, place = info_of(case), Place(name, file)
        raw = np.asarray(info.source["affine"])
        for towards in ("RAS", "PIR", "LAI"):
            nib.save(turned(nib.Nifti1Image(label, affine), towards), file)
            values, moved = on_raw_grid(read_given(place), info.source["shape"], raw, place)
            np.testing.assert_array_equal(values, label)
            assert moved == ("".join(nib.aff2axcodes(affine)) != towards)
        numbers = class_numbers(values, None, None, [""] * (int(label.max()) + 1), place)
        made, outside = as_prepared(numbers, info, int(label.max()) + 1, deep)
        np.testing.assert_array_equal(made, case.label)
        assert (made.dtype, outside) == (np.uint8, 0)


def test_what_is_cropped_away_is_counted() -> None:
    source = {"shape": [6, 5, 4], "box": [[1, 6], [0, 5], [0, 3]], "axes": None}
    info = CaseInfo((5, 5, 3), (1.0, 1.0, 1.0), None, (0.0, 1.0), source)
    label = np.zeros((6, 5, 4), np.uint8)
    label[0, 0, 0], label[3, 3, 3], label[2, 2, 2] = 1, 2, 1
    made, outside = as_prepared(label, info, 3, Decathlon())
    assert outside == 2
    assert made.sum() == made[1, 2, 2] == 1


def _given(tmp_path: Path, values: np.ndarray, affine: np.ndarray | None) -> Place:
    return Place("c1", write_nifti(tmp_path / "c1.nii.gz", values, affine))


RAW = np.diag([1.0, 1.0, 2.0, 1.0])
SHAPE = (20, 18, 16)


def _moved(by: float) -> np.ndarray:
    affine = RAW.copy()
    affine[0, 3] += by
    return affine


def _turned_by(degrees: float) -> np.ndarray:
    angle, affine = np.deg2rad(degrees), RAW.copy()
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return affine


@pytest.mark.parametrize(
    ("affine", "shape", "said"),
    [
        (np.diag([1.0, 1.0, 1.0, 1.0]), SHAPE, "another grid than the image: RAS, 1 x 1 x 1 mm"),
        (_turned_by(3), SHAPE, "its axes are turned by 3.0 degrees"),
        (_moved(0.4), SHAPE, "its voxels lie up to 0.4 mm from those"),
        (np.diag([-1.0, 1.0, 2.0, 1.0]), SHAPE, "its voxels lie up to 19 mm from those"),
        (RAW, (20, 18, 15), "it has 20 x 18 x 15 voxels, the case's image 20 x 18 x 16"),
    ],
)
def test_other_grids_are_refused(
    affine: np.ndarray, shape: tuple[int, ...], said: str, tmp_path: Path
) -> None:
    place = _given(tmp_path, np.zeros(shape, np.uint8), affine)
    with pytest.raises(DataError) as caught:
        on_raw_grid(read_given(place), SHAPE, RAW, place)
    assert said in str(caught.value)
    assert f"case c1, {place.file}" in str(caught.value)


def test_what_headers_round_is_the_same_grid(tmp_path: Path) -> None:
    place = _given(tmp_path, np.ones(SHAPE, np.uint8), _moved(0.05))
    assert on_raw_grid(read_given(place), SHAPE, RAW, place)[0].all()


def test_a_header_that_says_nothing_is_refused_where_the_data_have_one(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros(SHAPE, np.uint8), None)
    nib.save(image, tmp_path / "c1.nii.gz")
    place = Place("c1", tmp_path / "c1.nii.gz")
    with pytest.raises(DataError, match="does not say how its axes run"):
        on_raw_grid(read_given(place), SHAPE, RAW, place)
    assert on_raw_grid(read_given(place), SHAPE, None, place)[0].shape == SHAPE


def test_without_an_affine_the_array_must_be_the_same(tmp_path: Path) -> None:
    place = _given(tmp_path, np.zeros(SHAPE[::-1], np.uint8), RAW)
    with pytest.raises(DataError, match="it has 16 x 18 x 20 voxels, the case's image 20 x 18 x 16"):
        on_raw_grid(read_given(place), SHAPE, None, place)


def test_a_stack_of_probabilities_is_no_label_map(tmp_path: Path) -> None:
    place = _given(tmp_path, np.zeros((4, 4, 4, 3), np.float32), None)
    with pytest.raises(DataError, match="has 4 dimensions"):
        read_given(place)
    assert read_given(_given(tmp_path, np.zeros((4, 4, 4, 1), np.uint8), None)).values.shape == (4, 4, 4)


PLACE = Place("c1", Path("nn/c1.nii.gz"))


@pytest.mark.parametrize("kind", ["uint8", "int16", "float32", "float64"])
def test_values_become_classes(kind: str) -> None:
    values = np.array([[[0, 3, 4, 7]]], dtype=kind)
    made = class_numbers(values, {3: 1, 4: 2, 7: 0}, None, CLASSES, PLACE)
    assert made.tolist() == [[[0, 1, 2, 0]]]
    assert made.dtype == np.uint8
    assert class_numbers(values, {3: 1}, 0, CLASSES, PLACE).tolist() == [[[0, 1, 0, 0]]]
    assert class_numbers(values, {0: 2, 3: 1}, 0, CLASSES, PLACE).tolist() == [[[2, 1, 0, 0]]]


def test_values_that_are_no_classes_are_refused() -> None:
    values = np.array([[[0, 1, 5, 5, 300]]], dtype=np.int16)
    with pytest.raises(DataError) as caught:
        class_numbers(values, None, None, CLASSES, PLACE)
    said = str(caught.value)
    assert "case c1, nn/c1.nii.gz  it holds values that are no classes: 5, 300 (3 voxels)" in said
    assert "the classes are 0 background, 1 one, 2 two" in said
    assert "labels: {5: 1, other: 0}" in said
    with pytest.raises(DataError, match="'labels' does not name: 1"):  # named classes are the whole of them
        class_numbers(values, {5: 1, 300: 2}, None, CLASSES, PLACE)


@pytest.mark.parametrize("value", [0.37, np.nan, np.inf])
def test_probabilities_are_refused(value: float) -> None:
    values = np.array([[[0, 1, value]]], dtype=np.float32)
    with pytest.raises(DataError, match="no integers, such as"):
        class_numbers(values, None, 0, CLASSES, PLACE)
