"""Labels stored along other axes than their image: turned where the headers fit, refused elsewhere."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from sfrbench.components.dataset.btcv import Btcv
from sfrbench.components.dataset.decathlon import Decathlon
from sfrbench.components.dataset.la import LeftAtrium
from sfrbench.errors import DataError
from tests.support.data_writers import (
    LA_FOLDER,
    organs,
    volume,
    write_decathlon,
    write_la_scan,
    write_lists,
    write_nifti,
    write_nrrd,
)

#: An oblique grid of three different steps.
COS, SIN = np.cos(0.4), np.sin(0.4)
OBLIQUE = np.array(
    [[0.8 * COS, -1.1 * SIN, 0, 7.0], [0.8 * SIN, 1.1 * COS, 0, -4.0], [0, 0, 2.5, 30.0], [0, 0, 0, 1]]
)
#: About half way between two axes, where the closest orientation of a grid is a matter of rounding.
DIAGONAL = np.array([[1, -1, 0, 0], [1, 1, 0, 0], [0, 0, 1.0, 0], [0, 0, 0, 1]]) * [0.7, 0.7, 1, 1]
#: All 48 ways in which axes are permuted and reversed.
WAYS = [
    np.array([[axis, sign] for axis, sign in zip(order, signs, strict=True)])
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def _stored(label: np.ndarray, affine: np.ndarray, way: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same voxels at the same places along other axes, by nibabel."""
    turned = nib.Nifti1Image(label, affine).as_reoriented(way)
    return np.asarray(turned.dataobj), turned.affine


@pytest.mark.parametrize("affine", [OBLIQUE, DIAGONAL, np.diag([-0.5, -0.75, 2.0, 1])], ids=("o", "d", "lps"))
def test_a_label_along_any_axes_is_brought_to_its_images(tmp_path: Path, affine: np.ndarray) -> None:
    root = write_decathlon(tmp_path, affine=affine, classes=3)
    right = Decathlon(test_cases=1).read_case(root, "c2")
    label = volume(seed=1, classes=3)[1]
    for way in WAYS[1:]:
        write_nifti(root / "labelsTr" / "c2.nii.gz", *_stored(label, affine, way))
        read = Decathlon(test_cases=1).read_case(root, "c2")
        np.testing.assert_array_equal(read.label, right.label)
        np.testing.assert_array_equal(read.image, right.image)
        assert read.source["axes"] == right.source["axes"]  # predictions go back to the image's grid
        (note,) = read.source["notes"]
        assert note.startswith("the label was turned from ")
    assert right.source["notes"] == []


def test_thick_slices_do_not_hide_a_reversed_fine_axis(tmp_path: Path) -> None:
    affine = np.diag([0.03, 0.03, 4.0, 1])
    root = write_decathlon(tmp_path, affine=affine, classes=2)
    label = volume(seed=1)[1]
    write_nifti(root / "labelsTr" / "c2.nii.gz", *_stored(label, affine, WAYS[4]))
    np.testing.assert_array_equal(Decathlon().read_case(root, "c2").label, label)


def test_btcv_turns_labels_as_well(tmp_path: Path) -> None:
    image, label = organs()
    affine = np.diag([1.5, 1.5, 2.0, 1])
    write_nifti(tmp_path / "img0001.nii.gz", image, affine)
    write_nifti(tmp_path / "label0001.nii.gz", label, affine)
    write_lists(tmp_path, ["0001"], ["0002"])
    right = Btcv().read_case(tmp_path, "0001")
    write_nifti(tmp_path / "label0001.nii.gz", *_stored(label, affine, WAYS[13]))
    read = Btcv().read_case(tmp_path, "0001")
    np.testing.assert_array_equal(read.label, right.label)
    assert "turned" in read.source["notes"][0]


def _tilted(degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn


OTHER: dict[str, tuple[np.ndarray, str]] = {
    "spacing": (np.diag([1, 1, 3.0, 1]), r"another grid .*: RAS, 1 x 1 x 3 mm; the image RAS, 1 x 1 x 1 mm"),
    "tilted": (_tilted(12), r"another grid .*turned by 12\.0 degrees"),
    "reversed, elsewhere": (np.diag([-1.0, 1, 1, 1]), r"turned from LAS .* origin lies 19\.0 mm"),
    "reversed and finer": (np.diag([-0.5, 1.0, 1, 1]), r"another grid .*LAS, 0\.5 x 1 x 1 mm"),
}


@pytest.mark.parametrize("name", OTHER)
def test_another_grid_is_refused_with_the_one_safe_remedy(tmp_path: Path, name: str) -> None:
    root = write_decathlon(tmp_path, classes=2)
    affine, said = OTHER[name]
    write_nifti(root / "labelsTr" / "c2.nii.gz", volume(seed=1)[1], affine)
    with pytest.raises(DataError, match=said) as caught:
        Decathlon().read_case(root, "c2")
    hint = caught.value.problems[0].hint
    assert hint.startswith("resample the label (nearest) onto the image")
    assert "copying the image's header would mirror or move" in hint


@pytest.mark.parametrize("silent", ["image", "label"])
def test_no_label_is_turned_on_a_guess(tmp_path: Path, silent: str) -> None:
    """Without qform and sform nibabel takes LAS about the middle: a header that says so is no match."""
    root = write_decathlon(tmp_path, classes=2)
    image, label = volume(seed=1)
    guess = nib.Nifti1Image(label, None)
    affine = guess.header.get_best_affine()
    assert nib.aff2axcodes(affine) == ("L", "A", "S")
    turned, moved = _stored(image if silent == "label" else label, affine, WAYS[4])
    files = {"image": root / "imagesTr" / "c2.nii.gz", "label": root / "labelsTr" / "c2.nii.gz"}
    write_nifti(files["label" if silent == "image" else "image"], turned, moved)
    nib.save(nib.Nifti1Image(image if silent == "image" else label, None), files[silent])
    with pytest.raises(DataError, match=f"header of the {silent} does not say how its axes run") as caught:
        Decathlon().read_case(root, "c2")
    assert "export it anew" in caught.value.problems[0].hint


def test_two_headers_that_say_nothing_are_alike(tmp_path: Path) -> None:
    root = write_decathlon(tmp_path, classes=2)
    image, label = volume(seed=1)
    for folder, values in (("imagesTr", image), ("labelsTr", label)):
        nib.save(nib.Nifti1Image(values, None), root / folder / "c2.nii.gz")
    case = Decathlon().read_case(root, "c2")
    assert case.label.sum() == label.sum()
    assert "left and right are a guess" in case.source["notes"][0]


def test_axes_in_another_order_under_the_images_header_are_told_as_such(tmp_path: Path) -> None:
    root = write_decathlon(tmp_path, classes=2)
    write_nifti(root / "labelsTr" / "c2.nii.gz", volume(seed=1)[1].transpose(2, 0, 1))
    with pytest.raises(DataError, match=r"shape \(16, 20, 18\), the image \(20, 18, 16\)") as caught:
        Decathlon().read_case(root, "c2")
    assert "another order" in caught.value.problems[0].hint


def test_the_challenges_label_that_runs_another_way_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("nrrd", reason="pynrrd, the extra 'nrrd', is not installed")
    _, label = write_la_scan(tmp_path, "A1")
    write_lists(tmp_path, ["A1"], ["B2"])
    LeftAtrium().read_case(tmp_path, "A1")
    directions: Any = np.diag([-0.625, 0.625, 0.625])
    write_nrrd(tmp_path / LA_FOLDER / "A1" / "laendo.nrrd", label[::-1], **{"space directions": directions})
    with pytest.raises(DataError, match="label's axes run RPS, the image's LPS"):
        LeftAtrium().read_case(tmp_path, "A1")


@pytest.mark.parametrize("step", [0.001, 0.0049, 101.0])
def test_a_voxel_that_no_scanner_makes_is_told(tmp_path: Path, step: float) -> None:
    root = write_decathlon(tmp_path, affine=np.diag([1, step, 1.0, 1]), classes=2)
    (note,) = Decathlon().read_case(root, "c1").source["notes"]
    assert note.startswith(f"voxels of 1 x {step:g} x 1 mm are implausible")


@pytest.mark.parametrize("step", [0.006, 100.0])
def test_fine_and_coarse_voxels_are_sound(tmp_path: Path, step: float) -> None:
    root = write_decathlon(tmp_path, affine=np.diag([step, step, step, 1]), classes=2)
    assert Decathlon().read_case(root, "c1").source["notes"] == []
