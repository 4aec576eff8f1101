"""BraTS19, BTCV, MACT: what is read from each layout, the shipped splits, the way back to the raw grid."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from sfrbench.components.base import Case, Dataset
from sfrbench.components.dataset import _splits
from sfrbench.components.dataset._intensity import tail
from sfrbench.components.dataset.brats19 import Brats19
from sfrbench.components.dataset.btcv import Btcv
from sfrbench.components.dataset.geometry import restore
from sfrbench.components.dataset.mact import Mact
from sfrbench.engine.context import StageContext
from sfrbench.engine.volumes import CaseInfo, Volumes
from sfrbench.errors import DataError, NotReadyError
from sfrbench.machine.datacheck import check
from sfrbench.stages.prepare import run as prepare
from sfrbench.store.store import Store
from tests.support.data_writers import organs, write_brats_nifti, write_h5, write_lists, write_nifti

B1, B2 = "BraTS19_2013_8_1", "BraTS19_CBICA_ASA_1"
OBLIQUE = np.array([[0.9, 0.1, 0, 4], [-0.1, 0.9, 0, -7], [0, 0, 3.0, 11], [0, 0, 0, 1]])
LPS = np.diag([-0.8, -0.8, 3.0, 1.0])
PERMUTED = np.array([[0, 0, 2.5, 5], [-0.9, 0, 0, 3], [0, 1.2, 0, 1], [0, 0, 0, 1]])


def _back(case: Case) -> tuple[np.ndarray, np.ndarray]:
    source = json.loads(json.dumps(case.source))  # as it comes back from index.json
    return restore(case.label, CaseInfo(case.label.shape, case.spacing, case.affine, (0.0, 1.0), source))


def _zscored(image: np.ndarray) -> np.ndarray:
    image = image.astype(np.float32)
    return (image - image.mean()) / image.std()


def test_shipped_splits() -> None:
    sizes = {
        name: (len(split.train), len(split.val), len(split.test))
        for name, split in vars(_splits).items()
        if isinstance(split, _splits.Split)
    }
    assert sizes == {"LA": (80, 0, 20), "BRATS19": (250, 25, 60), "BTCV": (18, 0, 12), "MACT": (70, 0, 20)}
    for split in (_splits.LA, _splits.BRATS19, _splits.BTCV, _splits.MACT):
        ids = [*split.train, *split.val, *split.test]
        assert len(set(ids)) == len(ids)
    assert _splits.LA.train[15] == "5BHTH9RHH3PQT913I59W"
    assert _splits.BTCV.train[:7] == ("0006", "0039", "0021", "0005", "0007", "0031", "0040")
    assert sorted(_splits.MACT.train + _splits.MACT.test) == [f"{i:04d}" for i in range(1, 91)]
    assert sorted(_splits.ABDOMENCT1K) == [f"Case_{i:05d}" for i in range(1, 1063)]


def test_brats_h5_is_swapped_and_zscored(tmp_path: Path) -> None:
    image, label = organs((9, 11, 13), classes=2)  # z, y, x
    for case in (B1, B2):
        write_h5(tmp_path / "data" / f"{case}.h5", image.astype(np.float32), label)
    write_lists(tmp_path, [f"{B1},extra"], [B2], ".txt")
    dataset = Brats19()
    assert dataset.case_lists(tmp_path) == ([B1], [B2])
    assert len(dataset.source_files(tmp_path)) == 4
    case = dataset.read_case(tmp_path, B1)
    np.testing.assert_allclose(case.image, _zscored(image).transpose(2, 1, 0), atol=1e-5)
    np.testing.assert_array_equal(case.label, label.transpose(2, 1, 0))
    np.testing.assert_array_equal(_back(case)[0], label)
    stored = Brats19(norm="nonzero").read_case(tmp_path, B1)
    np.testing.assert_array_equal(stored.image, image.astype(np.float32).transpose(2, 1, 0))


def _ssl4mis(image: np.ndarray) -> tuple[np.ndarray, tuple[slice, ...]]:
    """The published preparation, written plainly."""
    hits = np.nonzero(image)
    box = tuple(slice(int(axis.min()), int(axis.max())) for axis in hits)
    cut = image[box].astype(np.float32)
    share = np.bincount(image[box].ravel()).cumsum() / cut.size  # scikit-image: a bin for each integer
    top = np.flatnonzero(share >= 0.999)[0]
    cut = np.clip(cut, cut.min(), np.float32(top))
    inside = cut[cut > 0]
    return (cut - inside.mean()) / inside.std(), box


def test_brats_nifti_is_prepared_as_ssl4mis_does(tmp_path: Path) -> None:
    image, label = write_brats_nifti(tmp_path, B1, "HGG")
    write_brats_nifti(tmp_path, B2, "LGG", seed=1)
    write_lists(tmp_path, [B1], [B2], ".txt")
    wanted, box = _ssl4mis(image)
    case = Brats19(norm="nonzero").read_case(tmp_path, B1)
    np.testing.assert_allclose(case.image, wanted, atol=1e-4)
    np.testing.assert_array_equal(case.label, label[box] > 0)
    again = Brats19().read_case(tmp_path, B1)
    np.testing.assert_allclose(again.image, _zscored(wanted), atol=1e-4)
    back, affine = _back(again)
    np.testing.assert_array_equal(back, label > 0)
    np.testing.assert_array_equal(affine, np.diag([-1.0, -1, 1, 1]))
    # the first voxel of the crop lies where it lay in the raw file
    first = [part.start for part in box]
    np.testing.assert_allclose(np.asarray(again.affine)[:, 3], affine @ [*first, 1.0])
    assert Brats19(crop=False).read_case(tmp_path, B1).image.shape == image.shape
    assert Brats19().read_case(tmp_path, B2).source["file"] == f"LGG/{B2}/{B2}_flair.nii.gz"


@pytest.mark.parametrize(
    ("share", "whole", "halves"),
    # SSL4MIS's MedicalImageDeal(image, share).valid_img.max(), run on int16, and on half of it as float32
    [(0.5, 24, 11.893555), (0.9, 288, 144.08105), (0.95, 337, 168.86621), (0.99, 385, 192.8252),
     (0.999, 403, 201.08691)],
)  # fmt: skip
def test_the_tail_of_whole_numbers_is_one_of_them(share: float, whole: int, halves: float) -> None:
    n = np.arange(20 * 30 * 40)
    image = (((7 * n * n + 3 * n) % 449) ** 3 // 200_000 - 20).reshape(20, 30, 40)
    assert (image.min(), image.max(), len(np.unique(image))) == (-20, 403, 152)
    assert tail(image.astype(np.float32), share) == whole
    assert tail((image * 0.5).astype(np.float32), share) == pytest.approx(halves, rel=1e-6)


def test_brats_validation_cases_follow_the_training_cases(tmp_path: Path) -> None:
    write_brats_nifti(tmp_path, B1)
    assert [len(part) for part in Brats19().case_lists(tmp_path)] == [250, 60]
    train, test = Brats19(use_val=True).case_lists(tmp_path)
    assert (len(train), train[-1], len(test)) == (275, "BraTS19_CBICA_ABO_1", 60)
    write_lists(tmp_path, [B1], [B2], ".txt")
    with pytest.raises(DataError, match=r"val\.txt"):
        Brats19(use_val=True).case_lists(tmp_path)
    (tmp_path / "val.txt").write_text("V1\n")
    assert Brats19(use_val=True).case_lists(tmp_path) == ([B1, "V1"], [B2])


def _write_btcv(root: Path, case: str, affine: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    image, label = organs(seed=seed)
    folder = root / "RawData" / "Training"
    write_nifti(folder / "img" / f"img{case}.nii.gz", image, affine)
    write_nifti(folder / "label" / f"label{case}.nii.gz", label, affine)
    return image, label


def test_btcv_h5(tmp_path: Path) -> None:
    image, label = organs()
    write_h5(tmp_path / "btcv_h5" / "0006.h5", image.astype(np.float32), label)
    _write_btcv(tmp_path, "0006", LPS)  # h5 files are read where both are there
    case = Btcv().read_case(tmp_path, "0006")
    np.testing.assert_allclose(case.image, _zscored(image), atol=1e-5)
    np.testing.assert_array_equal(_back(case)[0], label)
    assert case.spacing == (1.5, 1.5, 2.0)
    assert Btcv(layout="nifti").read_case(tmp_path, "0006").source["orientation"] == "LPS"
    reports = {report.case: report for report in check(Btcv(), tmp_path)}
    assert reports["0006"].sound
    assert list(reports["0006"].volumes) == list(Btcv.names)
    assert "missing" in reports["0039"].faults[0].what
    assert len(Btcv().source_files(tmp_path)) == 1


@pytest.mark.parametrize("affine", [LPS, OBLIQUE, PERMUTED, np.diag([1.5, 1.5, 2.0, 1.0])])
def test_btcv_nifti_comes_back_to_its_grid(tmp_path: Path, affine: np.ndarray) -> None:
    image, label = _write_btcv(tmp_path, "0006", affine)
    fine = Btcv(spacing=(0.4, 0.4, 1.0)).read_case(tmp_path, "0006")  # finer than raw: nothing is lost
    back, back_affine = _back(fine)
    np.testing.assert_array_equal(back, label)
    np.testing.assert_allclose(back_affine, affine, atol=1e-6)
    case = Btcv().read_case(tmp_path, "0006")
    upright = nib.as_closest_canonical(nib.Nifti1Image(image, affine))
    have = np.linalg.norm(upright.affine[:3, :3], axis=0)
    assert case.image.shape == tuple(np.rint(np.array(upright.shape) * have / (1.5, 1.5, 2.0)).astype(int))
    np.testing.assert_allclose(np.linalg.norm(np.asarray(case.affine)[:3, :3], axis=0), case.spacing)
    # outer faces stay: both grids have the same centre in space
    centres = [
        np.asarray(matrix) @ [*((np.array(shape) - 1) / 2), 1.0]
        for matrix, shape in ((upright.affine, upright.shape), (case.affine, case.image.shape))
    ]
    np.testing.assert_allclose(*centres, atol=1e-6)
    assert _back(case)[0].shape == label.shape


def test_btcv_window_and_fields(tmp_path: Path) -> None:
    image, _ = _write_btcv(tmp_path, "0006", np.diag([1.5, 1.5, 2.0, 1.0]))
    case = Btcv().read_case(tmp_path, "0006")
    np.testing.assert_allclose(case.image, _zscored(np.clip(image, -125, 275)), atol=1e-4)
    plain = Btcv(clip=None, spacing=None).read_case(tmp_path, "0006")
    np.testing.assert_allclose(plain.image, _zscored(image), atol=1e-4)
    with pytest.raises(DataError, match="constant once cropped and clipped"):
        Btcv(clip=(5000, 6000)).read_case(tmp_path, "0006")
    for wrong in ({"clip": (3, 3)}, {"spacing": (0, 1, 1)}, {"label_order": 3}, {"clip": (-1e9, 0)}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Btcv(**wrong)


def test_mact_takes_either_numbering(tmp_path: Path) -> None:
    image, label = organs(classes=9)
    case = _splits.MACT.train[0]
    published = np.array([0, 1, 3, 4, 5, 6, 7, 11, 14], np.uint8)[label]
    published[0, 0, 0] = 2  # the right kidney is not among the eight
    write_h5(tmp_path / "MACT_h5" / f"{case}.h5", image.astype(np.float32), published)
    with pytest.raises(DataError, match="outside the classes: 11, 14"):
        Mact().read_case(tmp_path, case)
    read = Mact(label_ids=(1, 3, 4, 5, 6, 7, 11, 14)).read_case(tmp_path, case)
    np.testing.assert_array_equal(read.label, label)
    np.testing.assert_allclose(read.image, _zscored(image), atol=1e-5)
    with pytest.raises(ValueError, match="eight different"):
        Mact(label_ids=(1, 2))


@pytest.mark.parametrize("dataset", [Brats19(), Btcv(), Mact()])
def test_a_wrong_folder_says_what_is_wanted(tmp_path: Path, dataset: Dataset) -> None:
    with pytest.raises(DataError, match="no file of any") as caught:
        dataset.source_files(tmp_path)
    assert "wanted" in caught.value.problems[0].hint
    with pytest.raises(NotReadyError, match="--data"):
        dataset.case_lists(None)
    (tmp_path / "train.list").write_text("A\n")
    with pytest.raises(DataError, match="list file is missing"):
        dataset.case_lists(tmp_path)


def test_they_import_nothing_heavy() -> None:
    code = (
        "import sys, sfrbench.components.dataset.brats19, sfrbench.components.dataset.btcv,"
        " sfrbench.components.dataset.mact\n"
        "print([m for m in ('numpy', 'torch', 'h5py', 'nibabel', 'scipy', 'nrrd') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def _brats(root: Path) -> Dataset:
    for seed, case in enumerate((B1, B2)):
        write_brats_nifti(root, case, seed=seed)
    write_lists(root, [B1], [B2])
    return Brats19(min_depth=20)


def _btcv(root: Path) -> Dataset:
    for seed, case in enumerate(("0006", "0008")):
        _write_btcv(root, case, PERMUTED, seed)
    write_lists(root, ["0006"], ["0008"])
    return Btcv(spacing=(0.9, 1.1, 0.7), downsample=2, min_depth=40)


def _mact(root: Path) -> Dataset:
    for case in ("0001", "0002"):
        image, label = organs(classes=9, seed=int(case))
        write_h5(root / "MACT_h5" / f"{case}.h5", image.astype(np.float32), label)
    write_lists(root, ["0001"], ["0002"])
    return Mact()


@pytest.mark.parametrize("write", [_brats, _btcv, _mact])
def test_prepared_volumes_return_to_the_raw_grid(tmp_path: Path, write: Callable[[Path], Dataset]) -> None:
    dataset = write(tmp_path / "raw")
    store = Store(tmp_path / "store")
    folder = store.new_folder()
    ctx = StageContext(
        {"dataset": dataset}, {}, {}, 0, folder, store.scratch("prepare", "k"), data_root=tmp_path / "raw"
    )
    prepare.run(ctx)
    volumes = Volumes(store.publish("prepare", "k", folder, {}))
    assert volumes.classes == dataset.class_names(None)
    for case in (*volumes.train, *volumes.test):
        info, label = volumes.case(case), volumes.labels([case], "evaluate")[case]
        back, affine = restore(label, info)
        assert list(back.shape) == info.source["shape"]
        # where the prepared grid is coarser than the raw one, organs keep their place and about their size
        plain = dataset.model_copy(update={"downsample": 1, "min_depth": None, "spacing": None})
        raw, raw_affine = _back(plain.read_case(tmp_path / "raw", case))
        np.testing.assert_allclose(affine, raw_affine)
        both, either = (back > 0) & (raw > 0), (back > 0) | (raw > 0)
        assert both.sum() / either.sum() > (0.6 if isinstance(dataset, Btcv) else 0.99)


def test_broken_cases_are_named_together(tmp_path: Path) -> None:
    dataset = _brats(tmp_path)
    (tmp_path / "HGG" / B1 / f"{B1}_seg.nii.gz").unlink()
    _, label = write_brats_nifti(tmp_path, B2)
    write_nifti(tmp_path / "HGG" / B2 / f"{B2}_seg.nii.gz", label + 5, np.diag([-1.0, -1, 1, 1]))
    reports = check(dataset, tmp_path)
    assert ["missing" in reports[0].faults[0].what, "outside" in reports[1].faults[0].what] == [True, True]
    assert [f"{report.case}_seg.nii.gz" in report.faults[0].where for report in reports] == [True, True]
