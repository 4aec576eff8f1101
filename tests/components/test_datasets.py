"""What the dataset components read and make."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest

from sfrbench.components.dataset.decathlon import Decathlon
from sfrbench.components.dataset.geometry import restore
from sfrbench.components.dataset.la import LeftAtrium
from sfrbench.components.dataset.phantom import Phantom
from sfrbench.engine.volumes import CaseInfo
from sfrbench.errors import DataError, NotReadyError
from tests.support.data_writers import (
    la_file,
    volume,
    write_decathlon,
    write_la,
    write_nifti,
    write_nnunet,
)

LPS = np.array([[-0.5, 0, 0, 90.0], [0, -0.75, 0, 40.0], [0, 0, 2.0, -30.0], [0, 0, 0, 1]])


def _info(case: object) -> CaseInfo:
    return CaseInfo(case.label.shape, case.spacing, case.affine, (0.0, 1.0), case.source)  # type: ignore[attr-defined]


def test_la_keeps_the_order_of_the_lists(tmp_path: Path) -> None:
    write_la(tmp_path, ["Z9", "A1", "M5"], ["T2", "S1"])
    (tmp_path / "train.list").write_bytes("\ufeffZ9\r\nA1,extra\r\n\r\nM5".encode())
    dataset = LeftAtrium()
    assert dataset.case_lists(tmp_path) == (["Z9", "A1", "M5"], ["T2", "S1"])
    assert len(dataset.source_files(tmp_path)) == 2 + 5


def test_la_image_is_zscored_whole(tmp_path: Path) -> None:
    write_la(tmp_path)
    case = LeftAtrium().read_case(tmp_path, "B2")
    raw = volume(seed=1)
    np.testing.assert_array_equal(case.image, (raw[0] - np.mean(raw[0])) / np.std(raw[0]))
    np.testing.assert_array_equal(case.label, raw[1])
    assert (case.image.dtype, case.label.dtype, case.spacing) == (np.float32, np.uint8, (0.625,) * 3)
    half = LeftAtrium(downsample=2).read_case(tmp_path, "B2")
    assert half.image.shape == (10, 9, 8)
    assert half.spacing == (1.25,) * 3
    assert abs(float(half.image.mean())) < 1e-5
    back, affine = restore(half.label, _info(half))
    assert back.shape == raw[1].shape
    np.testing.assert_array_equal(np.diag(affine), [0.625, 0.625, 0.625, 1])


def test_decathlon_turns_to_ras_and_back(tmp_path: Path) -> None:
    write_decathlon(tmp_path, affine=LPS)
    case = Decathlon().read_case(tmp_path, "c1")
    image, label = volume(seed=0, classes=3)
    np.testing.assert_array_equal(case.label, label[::-1, ::-1])
    reference = nib.as_closest_canonical(nib.load(tmp_path / "labelsTr" / "c1.nii.gz"))
    np.testing.assert_array_equal(case.label, np.asarray(reference.dataobj))
    np.testing.assert_allclose(case.affine, reference.affine)
    np.testing.assert_allclose(case.image, (image[::-1, ::-1] - image.mean()) / image.std(), atol=1e-5)
    assert case.spacing == (0.5, 0.75, 2.0)
    assert case.source["orientation"] == "LPS"
    back, affine = restore(case.label, _info(case))
    np.testing.assert_array_equal(back, label)
    np.testing.assert_allclose(affine, LPS)


def test_decathlon_permuted_axes_agree_with_nibabel(tmp_path: Path) -> None:
    turned = np.array([[0, 0, 2.0, 5], [-1.0, 0, 0, 3], [0, 1.5, 0, 1], [0, 0, 0, 1]])
    write_decathlon(tmp_path, affine=turned)
    case = Decathlon().read_case(tmp_path, "c2")
    reference = nib.as_closest_canonical(nib.load(tmp_path / "labelsTr" / "c2.nii.gz"))
    np.testing.assert_array_equal(case.label, np.asarray(reference.dataobj))
    np.testing.assert_allclose(case.affine, reference.affine)
    half = Decathlon(downsample=2).read_case(tmp_path, "c2")
    assert half.spacing == tuple(2 * step for step in case.spacing)
    # the centre of the first block of 2 voxels is half a voxel inside
    np.testing.assert_allclose(
        np.asarray(half.affine) @ [0, 0, 0, 1], np.asarray(case.affine) @ [0.5, 0.5, 0.5, 1]
    )


def test_decathlon_split_is_by_hash_and_does_not_depend_on_the_list_order(tmp_path: Path) -> None:
    cases = [f"case_{i:03d}" for i in range(10)]
    write_decathlon(tmp_path / "a", cases, classes=2)
    write_decathlon(tmp_path / "b", cases[::-1], classes=2)
    lists = Decathlon(test_cases=3).case_lists(tmp_path / "a")
    assert lists == Decathlon(test_cases=3).case_lists(tmp_path / "b")
    assert [len(part) for part in lists] == [7, 3]
    assert sorted(lists[0] + lists[1]) == cases
    # fixed once and for all: the same on every machine
    assert lists[1] == ["case_001", "case_004", "case_002"]
    assert Decathlon(test_cases=3, split_seed=1).case_lists(tmp_path / "a") != lists
    assert [len(part) for part in Decathlon().case_lists(tmp_path / "a")] == [8, 2]


def test_decathlon_takes_labels_ts_where_it_is_there(tmp_path: Path) -> None:
    write_decathlon(tmp_path, classes=2)
    for case in ("x1", "x2"):
        image, label = volume(seed=9)
        write_nifti(tmp_path / "imagesTs" / f"{case}.nii.gz", image)
        write_nifti(tmp_path / "labelsTs" / f"{case}.nii.gz", label)
    train, test = Decathlon().case_lists(tmp_path)
    assert (sorted(train), test) == (["c1", "c2", "c3", "c4", "c5"], ["x1", "x2"])
    assert Decathlon().read_case(tmp_path, "x1").source["file"] == "imagesTs/x1.nii.gz"
    assert len(Decathlon().source_files(tmp_path)) == 1 + 2 * 7
    assert not set(Decathlon(test_cases=1).case_lists(tmp_path)[1]) & {"x1", "x2"}


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_nnunet_naming(tmp_path: Path, ending: str) -> None:
    write_nnunet(tmp_path, ending=ending)
    dataset = Decathlon(channel=1)
    assert dataset.class_names(tmp_path) == ("background", "liver")
    assert sorted(itertools.chain(*dataset.case_lists(tmp_path))) == ["n1", "n2", "n3", "n4", "n5"]
    first, second = (Decathlon(channel=c).read_case(tmp_path, "n1") for c in (0, 1))
    assert first.source["file"] == f"imagesTr/n1_0000{ending}"
    assert second.source["file"] == f"imagesTr/n1_0001{ending}"
    assert not np.array_equal(first.image, second.image)


def test_decathlon_picks_a_channel_of_a_4d_image(tmp_path: Path) -> None:
    write_decathlon(tmp_path, classes=2, modality={"0": "T2", "1": "ADC"})
    image, _ = volume(seed=3)
    write_nifti(tmp_path / "imagesTr" / "c1.nii.gz", np.stack([image, image**2], -1))
    case = Decathlon(channel=1).read_case(tmp_path, "c1")
    np.testing.assert_allclose(case.image, (image**2 - (image**2).mean()) / (image**2).std(), atol=1e-4)


def _write_splits(root: Path, folds: object) -> None:
    (root / "splits_final.json").write_text(json.dumps(folds), encoding="utf-8")


def test_a_fold_of_nnunet_is_the_split(tmp_path: Path) -> None:
    write_nnunet(tmp_path)
    image, label = volume(seed=9)
    write_nifti(tmp_path / "imagesTs" / "x1_0000.nii.gz", image)
    write_nifti(tmp_path / "labelsTs" / "x1.nii.gz", label)
    first, second = {"train": ["n1", "n2"], "val": ["n3"]}, {"train": ["n3", "n5", "n4"], "val": ["n1"]}
    _write_splits(tmp_path, [first, second])
    train, test = Decathlon(fold=1).case_lists(tmp_path)
    assert test == ["n1"]
    order = Decathlon().case_lists(tmp_path)[0]  # the hash's; without a fold labelsTs is the test set
    assert train == [case for case in order if case in ("n3", "n4", "n5")]
    assert Decathlon(fold=0).case_lists(tmp_path)[1] == ["n3"]
    assert Decathlon().case_lists(tmp_path)[1] == ["x1"]
    names = [path.name for path in Decathlon(fold=1, channel=1).source_files(tmp_path)]
    assert names[:2] == ["dataset.json", "splits_final.json"]
    assert len(names) == 2 + 2 * 4
    assert Decathlon(fold=1).read_case(tmp_path, "n1").source["file"] == "imagesTr/n1_0000.nii.gz"
    assert "fold" not in Decathlon().key_settings()
    with pytest.raises(ValueError, match="exclude each other"):
        Decathlon(fold=0, test_cases=2)


FOLD = {"train": ["n3"], "val": ["n4"]}
SPLITS: dict[str, tuple[object, str]] = {
    "no such fold": ([FOLD], "no fold 1: the file holds 1"),
    "an empty fold": ([{}, {"train": ["n1", "n2"], "val": ["n2"]}], "not folds"),
    "a leak": ([FOLD, {"train": ["n1", "n2"], "val": ["n2"]}], "'n2' stands twice"),
    "other data": ([FOLD, {"train": ["m1"], "val": ["n2"]}], "training cases: m1"),
    "a mapping": (FOLD, "not folds of nnU-Net"),
    "numbers": ([{"train": [1], "val": [2]}] * 2, "not folds of nnU-Net"),
}


@pytest.mark.parametrize("name", SPLITS)
def test_broken_folds(tmp_path: Path, name: str) -> None:
    write_nnunet(tmp_path)
    with pytest.raises(DataError, match="is missing"):
        Decathlon(fold=1).case_lists(tmp_path)
    folds, what = SPLITS[name]
    _write_splits(tmp_path, folds)
    with pytest.raises(DataError, match=what) as caught:
        Decathlon(fold=1).case_lists(tmp_path)
    assert "splits_final.json" in caught.value.problems[0].where


def test_phantom_is_the_same_each_time_and_differs_by_case() -> None:
    dataset = Phantom(shape=(32, 32, 16))
    one, again, other = (dataset.read_case(None, case) for case in ("p000001", "p000001", "p000002"))
    np.testing.assert_array_equal(one.image, again.image)
    np.testing.assert_array_equal(one.label, again.label)
    assert not np.array_equal(one.label, other.label)
    longer = Phantom(shape=(32, 32, 16), train_cases=50)
    np.testing.assert_array_equal(longer.read_case(None, "p000001").image, one.image)
    assert longer.case_lists(None)[1] == dataset.case_lists(None)[1]
    assert not np.array_equal(Phantom(shape=(32, 32, 16), seed=1).read_case(None, "p000001").image, one.image)


@pytest.mark.parametrize("organs", [1, 2, 3, 6])
def test_phantom_holds_every_class(organs: int) -> None:
    dataset = Phantom(organs=organs)
    for case in dataset.case_lists(None)[0][:4]:
        label = dataset.read_case(None, case).label
        share = np.bincount(label.ravel(), minlength=organs + 1) / label.size
        assert len(share) == organs + 1
        assert share[0] > 0.8
        assert share[1:].min() > 0.0002


@pytest.mark.parametrize("shape", [(16, 16, 16), (32, 32, 16), (40, 24, 17)])
def test_phantom_of_any_shape(shape: tuple[int, int, int]) -> None:
    case = Phantom(shape=shape).read_case(None, "p000000")
    assert case.image.shape == case.label.shape == shape
    assert case.label.any()
    assert np.isfinite(case.image).all()


def test_phantom_cannot_be_segmented_by_a_threshold() -> None:
    """The best threshold of each case, chosen with its truth, stays far from the organ."""
    dataset, best = Phantom(), []
    for case in dataset.case_lists(None)[0][:12]:
        read = dataset.read_case(None, case)
        truth = read.label > 0
        dice = []
        for level in np.percentile(read.image, np.linspace(70, 99, 30)):
            guess = read.image > level
            dice.append(2 * (guess & truth).sum() / (guess.sum() + truth.sum()))
        best.append(max(dice))
    assert 0.2 < np.mean(best) < 0.7


def test_phantom_is_fast() -> None:
    dataset = Phantom()
    dataset.read_case(None, "p000000")
    began = time.perf_counter()
    for case in ("p000001", "p000002", "p000003"):
        dataset.read_case(None, case)
    assert (time.perf_counter() - began) / 3 < 0.3


@pytest.mark.parametrize("field", [{"shape": (8, 32, 32)}, {"contrast": (0.5, 0.2)}, {"organs": 0}])
def test_phantom_bounds(field: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(field))):
        Phantom(**field)


def test_components_import_nothing_heavy() -> None:
    code = (
        "import sys, sfrbench.components.dataset.la, sfrbench.components.dataset.decathlon,"
        " sfrbench.components.dataset.phantom, sfrbench.places.locations, sfrbench.machine.datacheck\n"
        "print([m for m in ('numpy', 'torch', 'h5py', 'nibabel', 'scipy') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("dataset", [LeftAtrium(), Decathlon()])
def test_no_folder_is_not_ready(dataset: LeftAtrium | Decathlon) -> None:
    with pytest.raises(NotReadyError, match="--data"):
        dataset.case_lists(None)


def _real(shelf: Path, name: str) -> Path:
    if not (shelf / name).is_dir():
        pytest.skip(f"no real data at {shelf / name}")
    return shelf / name


def test_real_la_equals_a_plain_read(shared_data: Path) -> None:
    root = _real(shared_data, "la")
    train, test = LeftAtrium().case_lists(root)
    assert train[0] == "06SR5RBREL16DQ6M8LWS"
    assert train[15] == "5BHTH9RHH3PQT913I59W"
    for case in (train[0], test[-1]):
        with h5py.File(la_file(root, case)) as file:
            image, label = file["image"][:], file["label"][:]
        read = LeftAtrium().read_case(root, case)
        assert read.image.tobytes() == ((image - np.mean(image)) / np.std(image)).tobytes()
        np.testing.assert_array_equal(read.label, label)
        half = LeftAtrium(downsample=2).read_case(root, case)
        back, _ = restore(half.label, _info(half))
        assert back.shape == label.shape
        assert 2 * (back & label).sum() / (back.sum() + label.sum()) > 0.95


def test_real_hippocampus(shared_data: Path) -> None:
    root = _real(shared_data, "Task04_Hippocampus")
    dataset = Decathlon(test_cases=20)
    train, test = dataset.case_lists(root)
    assert (len(test), dataset.class_names(root)) == (20, ("background", "Anterior", "Posterior"))
    case = dataset.read_case(root, test[0])
    path = root / "labelsTr" / f"{test[0]}.nii.gz"
    np.testing.assert_array_equal(restore(case.label, _info(case))[0], np.asarray(nib.load(path).dataobj))
    assert len(train) + 20 == len(list((root / "labelsTr").glob("*.nii.gz")))
