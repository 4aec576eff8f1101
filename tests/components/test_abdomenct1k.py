"""AbdomenCT-1K: statistics, the order of preparation, the split, and the steps on the grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import zoom
from skimage.transform import resize

from sfrbench.components.dataset._organ_stats import target_spacing
from sfrbench.components.dataset._splits import ABDOMENCT1K
from sfrbench.components.dataset.abdomenct1k import AbdomenCt1k
from sfrbench.components.dataset.geometry import Volume, crop, resample, restore
from sfrbench.engine.volumes import CaseInfo
from sfrbench.errors import DataError
from tests.support.data_writers import write_abdomen_case, write_lists, write_nifti

CASES = ("Case_00001", "Case_00002", "Case_00003")
FOUR = [(0.8, 0.8, 5), (0.7, 0.7, 2.5), (0.9, 0.9, 5), (0.8, 0.8, 4)]
STEPS = ((0.8, 0.8, 2.5), (0.8, 0.8, 2.0), (1.0, 0.9, 1.0))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed, (case, step) in enumerate(zip(CASES, STEPS, strict=True)):
        write_abdomen_case(tmp_path, case, np.diag([-step[0], step[1], step[2], 1.0]), 1 + seed, seed)
    write_lists(tmp_path, CASES[:2], CASES[2:])
    return tmp_path


def _raw(root: Path, case: str) -> tuple[np.ndarray, np.ndarray]:
    seed = CASES.index(case)
    return write_abdomen_case(root / "again", case, np.eye(4), seed=seed)


def test_statistics_are_those_of_the_organs_in_training_cases(root: Path) -> None:
    inside = np.concatenate([image[label > 0] for image, label in (_raw(root, case) for case in CASES[:2])])
    case = AbdomenCt1k().read_case(root, CASES[2])
    found = case.source["statistics"]
    assert found["mean"] == pytest.approx(inside.mean())
    assert found["std"] == pytest.approx(inside.std())
    assert [found["low"], found["high"]] == pytest.approx(np.percentile(inside, [0.5, 99.5]))
    assert found["spacing"] == pytest.approx((0.8, 0.8, 2.25))
    first = AbdomenCt1k(stat_cases=1).read_case(root, CASES[2]).source["statistics"]
    assert first["spacing"] == pytest.approx((0.8, 0.8, 2.5))
    given = AbdomenCt1k(mean=0, std=50, clip=(-100, 200)).read_case(root, CASES[2]).source["statistics"]
    assert given == {"low": -100, "high": 200, "mean": 0, "std": 50, "spacing": found["spacing"]}


@pytest.mark.parametrize(
    ("spacings", "slices", "wanted"),
    # nnU-Net's determine_fullres_target_spacing, run on the same fingerprints
    [
        (FOUR, (40, 80, 50, 60), (0.8, 0.8, 2.95)),
        (FOUR, (200, 180, 190, 180), (0.8, 0.8, 4.5)),
        ([(0.8, 0.8, z) for z in (0.5, 0.5, 5, 5, 5)], (60,) * 5, (0.8, 0.8, 0.80001)),
        ([(0.8, 0.8, 2.4)] * 2, (60, 60), (0.8, 0.8, 2.4)),
    ],
)
def test_the_target_spacing_is_nnunets(
    spacings: list[tuple[float, ...]], slices: tuple[int, ...], wanted: tuple[float, ...]
) -> None:
    shapes = [(512, 512, n) for n in slices]
    assert target_spacing(spacings, shapes) == pytest.approx(wanted, rel=1e-12)
    turned = [steps[::-1] for steps in spacings], [shape[::-1] for shape in shapes]
    assert target_spacing(*turned) == pytest.approx(wanted[::-1], rel=1e-12)


def test_few_thick_slices_take_the_tenth_percentile_of_the_files(tmp_path: Path) -> None:
    for seed, (case, z) in enumerate(zip(CASES, (5.0, 2.5, 4.0), strict=True)):
        affine = np.diag([-0.8, 0.8, z, 1.0])
        image, label = write_abdomen_case(tmp_path / "whole", case, affine, seed=seed)
        few = image[..., ::4], label[..., ::4]
        for part, values in zip(("AbdomenCT-1K-ImagePart1", "Mask"), few, strict=True):
            name = f"{case}_0000.nii.gz" if part != "Mask" else f"{case}.nii.gz"
            write_nifti(tmp_path / part / name, values, affine)
    write_lists(tmp_path, CASES[:2], CASES[2:])
    found = AbdomenCt1k().read_case(tmp_path, CASES[2]).source["statistics"]["spacing"]
    assert found == pytest.approx((0.8, 0.8, 2.5 + 0.1 * 2.5))


def test_interpolation_stays_within_the_limits_of_the_image(root: Path) -> None:
    """scikit-image's resize, as nnU-Net calls it: order 3, edges repeated, no antialiasing; and its clip."""
    image, _ = _raw(root, CASES[0])
    upright = (np.clip(image[::-1], -90, 120).astype(np.float32) - 10) / 40
    made = {"clip": (-90, 120), "mean": 10, "std": 40}
    smooth = AbdomenCt1k(spacing=(0.5, 0.5, 2.0), separate=None, **made).read_case(root, CASES[0]).image
    options = {"order": 3, "mode": "edge", "anti_aliasing": False}
    np.testing.assert_allclose(smooth, resize(upright.astype(float), smooth.shape, **options), atol=1e-4)
    assert (smooth.min(), smooth.max()) == pytest.approx((upright.min(), upright.max()))
    apart = AbdomenCt1k(spacing=(0.5, 0.5, 1.25), **made).read_case(root, CASES[0]).image
    assert apart.shape[2] == 2 * upright.shape[2]
    for index in range(apart.shape[2]):
        wanted = resize(upright[..., index // 2].astype(float), apart.shape[:2], **options)
        np.testing.assert_allclose(apart[..., index], wanted, atol=1e-4)


def test_clip_then_standardise_then_resample(root: Path) -> None:
    dataset = AbdomenCt1k(spacing=(0.4, 0.8, 2.5), separate=None, clip=(-90, 120), mean=10, std=40)
    case = dataset.read_case(root, CASES[0])
    image, label = _raw(root, CASES[0])
    upright = (np.clip(image[::-1], -90, 120).astype(np.float32) - 10) / 40
    wanted = zoom(upright, (2, 1, 1), order=3, mode="nearest", grid_mode=True).clip(
        upright.min(), upright.max()
    )
    np.testing.assert_allclose(case.image, wanted, atol=1e-4)
    np.testing.assert_array_equal(np.unique(case.label), np.unique(label))
    info = CaseInfo(case.label.shape, case.spacing, case.affine, (0, 1), case.source)
    back, affine = restore(case.label, info)
    assert (back == label).mean() > 0.99
    np.testing.assert_allclose(affine, np.diag([-0.8, 0.8, 2.5, 1.0]), atol=1e-6)
    nearest = AbdomenCt1k(spacing=(0.4, 0.8, 2.5), label_order=0).read_case(root, CASES[0])
    np.testing.assert_array_equal(nearest.label, label[::-1].repeat(2, 0))
    scaled = AbdomenCt1k(norm="volume").read_case(root, CASES[0]).image
    assert (float(scaled.mean()), float(scaled.std())) == pytest.approx((0, 1), abs=1e-4)


def test_the_split_is_of_the_cases_with_labels(tmp_path: Path) -> None:
    (tmp_path / "Mask").mkdir()
    for number in range(63, 1063):
        (tmp_path / "Mask" / f"Case_{number:05d}.nii.gz").touch()
    train, test = AbdomenCt1k().case_lists(tmp_path)
    order = [case for case in ABDOMENCT1K if int(case[5:]) >= 63]
    assert [*test, *train] == order
    assert len(test) == 100
    (tmp_path / "Mask" / "Case_00500.nii.gz").unlink()
    with pytest.raises(DataError, match="labels of 999 cases are here") as caught:
        AbdomenCt1k().case_lists(tmp_path)
    assert "Mask" in caught.value.problems[0].hint


def test_broken_training_cases(root: Path) -> None:
    file = root / "AbdomenCT-1K-ImagePart1" / f"{CASES[0]}_0000.nii.gz"
    file.write_bytes(b"no NIfTI")
    with pytest.raises(DataError, match="cannot be read as NIfTI") as caught:
        AbdomenCt1k().read_case(root, CASES[0])
    assert caught.value.problems[0].where == f"case {CASES[0]}, {file}"
    found = AbdomenCt1k().read_case(root, CASES[2]).source["statistics"]
    assert found["spacing"] == pytest.approx(STEPS[1])
    with pytest.raises(DataError, match="no organ voxels"):
        AbdomenCt1k(stat_cases=1).read_case(root, CASES[2])
    file.unlink()
    with pytest.raises(DataError, match="file is missing"):
        AbdomenCt1k().read_case(root, CASES[0])


def _volume(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Volume:
    rng = np.random.default_rng(0)
    image = rng.standard_normal(shape).astype(np.float32)
    return Volume(image, (image > 0.5).astype(np.uint8), spacing, np.diag([*spacing, 1.0]))


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("spacing", [(1.5, 1.0, 1.0), (0.7, 1.3, 0.4), (9.0, 1.0, 30.0)])
def test_resampling_is_scipys(order: int, spacing: tuple[float, float, float]) -> None:
    volume = _volume((11, 8, 9), (1.0, 1.0, 1.0))
    made = resample(volume, spacing, image_order=order, label_order=0)
    factors = [new / old for new, old in zip(made.image.shape, volume.image.shape, strict=True)]
    wanted = zoom(volume.image.astype(float), factors, order=order, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(made.image, wanted, atol=1e-5)
    np.testing.assert_allclose(np.multiply(made.spacing, made.image.shape), volume.image.shape)


def test_a_coarse_axis_is_taken_slice_by_slice() -> None:
    volume = _volume((6, 6, 4), (1.0, 1.0, 4.0))
    made = resample(volume, (1.0, 1.0, 2.0), image_order=3, label_order=1, separate=3.0)
    np.testing.assert_array_equal(made.image, volume.image.repeat(2, 2))
    np.testing.assert_array_equal(made.label, volume.label.repeat(2, 2))
    smooth = resample(volume, (1.0, 1.0, 2.0), image_order=3, label_order=1, separate=None)
    assert not np.array_equal(smooth.image, made.image)


def test_cropping_and_resampling_together_come_back() -> None:
    volume = _volume((12, 10, 9), (1.0, 1.0, 1.0))
    box = ((2, 11), (0, 7), (3, 9))
    made = resample(crop(volume, box), (0.5, 0.5, 0.3), image_order=1, label_order=0)
    source = {"shape": [12, 10, 9], "affine": np.eye(4).tolist(), **made.source}
    affine = made.affine
    assert affine is not None
    info = CaseInfo(made.label.shape, made.spacing, affine.tolist(), (0, 1), source)
    wanted = np.zeros_like(volume.label)
    inner = tuple(slice(*pair) for pair in box)
    wanted[inner] = volume.label[inner]
    np.testing.assert_array_equal(restore(made.label, info)[0], wanted)
    np.testing.assert_allclose(affine @ [-0.5, -0.5, -0.5, 1], [1.5, -0.5, 2.5, 1])  # the outer corner
