"""Cases of dataset/newpart, as they come from a folder of NIfTI files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from sfrbench.catalog.cards import Catalog
from sfrbench.components.base import Dataset
from sfrbench.errors import DataError

CARD = Catalog.read([Path(__file__).parent / "registry"]).card("dataset", "newpart")


def made() -> Dataset:
    dataset = CARD.component({})
    assert isinstance(dataset, Dataset)
    return dataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five cases of 20 x 16 x 12 voxels of 1 x 1 x 2 mm, whose first axis runs to the left."""
    nifti: Any = nibabel.Nifti1Image
    affine = np.diag([-1.0, 1.0, 2.0, 1.0])
    for number in range(5):
        image = np.random.default_rng(number).normal(100, 20, (20, 16, 12)).astype(np.float32)
        label = np.zeros((20, 16, 12), np.uint8)
        label[2:5, 4:8, 3:9] = 1
        for folder, values in (("images", image), ("labels", label)):
            file = tmp_path / folder / f"case{number}.nii.gz"
            file.parent.mkdir(exist_ok=True)
            nibabel.save(nifti(values, affine), file)
    return tmp_path


def test_the_last_cases_test(root: Path) -> None:
    assert made().case_lists(root) == (["case0", "case1", "case2"], ["case3", "case4"])


def test_a_case_is_turned_and_scaled(root: Path) -> None:
    case = made().read_case(root, "case1")
    assert case.spacing == (1.0, 1.0, 2.0)
    np.testing.assert_allclose([np.mean(case.image), np.std(case.image)], [0, 1], atol=1e-4)
    places = np.argwhere(case.label)
    assert places.min(0).tolist() == [15, 4, 3]  # the first axis runs to the right now
    assert places.max(0).tolist() == [17, 7, 8]


def test_a_label_that_is_missing_is_named(root: Path) -> None:
    (root / "labels" / "case0.nii.gz").unlink()
    with pytest.raises(DataError, match=r"case0.*labels"):
        made().read_case(root, "case0")


def test_an_image_alone_is_prepared_in_the_same_way(root: Path) -> None:
    case = made().read_case(root, "case2")
    alone = made().read_image(root / "images" / "case2.nii.gz", case.source)
    np.testing.assert_array_equal(alone.image, case.image)
