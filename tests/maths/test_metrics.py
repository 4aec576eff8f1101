"""Metrics: equal to MedPy to the bit where MedPy is defined, and by the protocol where it is not."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from sfrbench.components.base import Protocol
from sfrbench.components.protocol.standard import StandardProtocol
from sfrbench.errors import DataError
from sfrbench.maths.components import largest_component
from sfrbench.maths.metrics import DISTANCES, METRICS, Score, _exact, score_case

PAPER = StandardProtocol(empty="paper_zero", absent="score")
STRICT = StandardProtocol(spacing="mm")
SPACINGS = (
    None,
    (0.625, 0.625, 0.625),  # exact squares: k-d tree
    (1.5, 1.5, 2.0),
    (0.6, 0.6, 0.6),  # inexact: ties between equally near voxels differ in the last bit
    (0.7, 1.1, 2.3),
    (0.1, 0.3, 0.7),
)


def values(scores: list[Score], label: int = 1) -> dict[str, float]:
    return {score.metric: score.value for score in scores if score.label == label}


def assert_same(pred: NDArray, gt: NDArray, classes: int, spacing: tuple | None, protocol: Protocol) -> None:
    ours = score_case(pred, gt, classes, spacing, protocol)
    theirs = score_case(pred, gt, classes, spacing, protocol, backend="medpy")
    assert [(s.label, s.metric, s.empty_pred, s.empty_gt) for s in ours] == [
        (s.label, s.metric, s.empty_pred, s.empty_gt) for s in theirs
    ]
    assert np.array_equal([s.value for s in ours], [s.value for s in theirs], equal_nan=True)


def blobs(shape: tuple[int, ...], rng: np.random.Generator, classes: int = 4) -> NDArray[np.uint8]:
    """Several classes; from specks (no smoothing) to organs, touching edges, at times absent."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape), rng.uniform(0, 3))
    bounds = np.sort(rng.uniform(0.2, 1.0, classes - 1))
    return np.digitize(field, np.quantile(field, bounds)).astype(np.uint8)


@pytest.fixture
def stray() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A 6^3 cube in a 10^3 grid: the prediction has one stray voxel at the origin."""
    gt = np.zeros((10, 10, 10), dtype=np.uint8)
    gt[2:8, 2:8, 2:8] = 1
    pred = gt.copy()
    pred[0, 0, 0] = 1
    return pred, gt


@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
def test_equals_medpy_on_random_label_maps(spacing: tuple | None) -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        shape = tuple(int(n) for n in rng.integers(1, 20, 3))
        protocol = StandardProtocol(
            spacing="voxel" if spacing is None else "mm", nsd_tolerance=float(rng.choice([0.6, 1.0, 2.5]))
        )
        assert_same(blobs(shape, rng), blobs(shape, rng), 4, spacing, protocol)


@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
def test_equals_medpy_on_specks_and_edges(spacing: tuple | None) -> None:
    shape = (9, 7, 8)
    protocol = StandardProtocol(spacing="voxel" if spacing is None else "mm")
    masks = []
    for corner in ((0, 0, 0), (8, 6, 7), (4, 3, 4)):
        speck = np.zeros(shape, dtype=np.uint8)
        speck[corner] = 1
        masks.append(speck)
    half, face = np.zeros(shape, dtype=np.uint8), np.zeros(shape, dtype=np.uint8)
    half[:5] = 1
    face[:, :, 7] = 1
    masks += [half, face, np.ones(shape, dtype=np.uint8)]
    for pred, gt in itertools.product(masks, repeat=2):
        assert_same(pred, gt, 2, spacing, protocol)


def test_equals_medpy_with_largest_component_and_other_dtypes() -> None:
    protocol = StandardProtocol(largest_component=True)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        pred, gt = blobs((14, 15, 13), rng), blobs((14, 15, 13), rng)
        assert_same(pred.astype(np.int64), np.asfortranarray(gt), 4, None, protocol)


def test_an_image_wide_mask_has_its_surface_on_the_image_border() -> None:
    full, speck = np.ones((5, 5, 5), dtype=np.uint8), np.zeros((5, 5, 5), dtype=np.uint8)
    speck[2, 2, 2] = 1
    found = values(score_case(speck, full, 2, None, PAPER))
    assert found["asd"] == 2.0  # the nearest face of the border, not 0
    assert found["dice"] == 2 / 126


def test_medpy_example(stray: tuple[NDArray, NDArray]) -> None:
    found = values(score_case(*stray, 2, None, PAPER))
    assert found["asd"] == pytest.approx(0.0226, abs=5e-5)
    assert found["assd"] == pytest.approx(0.0114, abs=5e-5)
    assert (found["asd_rev"], found["hd95"]) == (0.0, 0.0)
    assert found["nsd"] == (152 + 152) / (153 + 152)


def test_asd_direction(stray: tuple[NDArray, NDArray]) -> None:
    forth = values(score_case(*stray, 2, None, PAPER))
    back = values(score_case(*stray, 2, None, PAPER.model_copy(update={"asd": "gt_to_pred"})))
    assert (back["asd"], back["asd_rev"]) == (forth["asd_rev"], forth["asd"])
    assert back["assd"] == forth["assd"]


def test_nsd_counts_up_to_the_tolerance_in_mm() -> None:
    gt, pred = np.zeros((12, 4, 4), dtype=np.uint8), np.zeros((12, 4, 4), dtype=np.uint8)
    gt[4] = pred[6] = 1  # two planes, two voxels of 0.5 mm apart
    for tolerance, expected in ((0.9, 0.0), (1.0, 1.0)):
        protocol = StandardProtocol(spacing="mm", nsd_tolerance=tolerance)
        found = values(score_case(pred, gt, 2, (0.5, 3.0, 3.0), protocol))
        assert (found["nsd"], found["hd95"]) == (expected, 1.0)
        assert values(score_case(pred, gt, 2, (0.5, 3.0, 3.0), PAPER))["hd95"] == 2.0  # voxels


def test_largest_component_is_per_class_and_26_connected(stray: tuple[NDArray, NDArray]) -> None:
    pred, gt = stray
    gt, pred = gt.copy(), pred.copy()
    gt[0, 9, 9] = pred[0, 9, 9] = 2  # alone in its class: must survive
    keep = PAPER.model_copy(update={"largest_component": True})
    scores = score_case(pred, gt, 3, None, keep)
    assert values(scores)["dice"] == 1.0
    assert values(scores, 2)["dice"] == 1.0
    diagonal = np.zeros((4, 4, 4), dtype=bool)
    diagonal[0, 0, 0] = diagonal[1, 1, 1] = diagonal[3, 3, 0] = True
    kept = largest_component(diagonal)
    assert kept.sum() == 2
    assert not kept[3, 3, 0]
    assert not largest_component(np.zeros((3, 3, 3), dtype=bool)).any()


EMPTY, CUBE = np.zeros((3, 4, 12), dtype=np.uint8), np.zeros((3, 4, 12), dtype=np.uint8)
CUBE[1, 1:3, 2:5] = 1
DIAGONAL_MM = math.sqrt((3 * 1.0) ** 2 + (4 * 1.0) ** 2 + (12 * 0.5) ** 2)
NAN = math.nan


@pytest.mark.parametrize(
    ("empty", "absent", "pred", "gt", "share", "distance"),
    [
        ("paper_zero", "score", EMPTY, CUBE, 0.0, 0.0),
        ("paper_zero", "score", CUBE, EMPTY, 0.0, 0.0),
        ("paper_zero", "score", EMPTY, EMPTY, 0.0, 0.0),
        ("paper_zero", "skip", EMPTY, CUBE, 0.0, 0.0),
        ("paper_zero", "skip", CUBE, EMPTY, NAN, NAN),
        ("worst", "skip", EMPTY, CUBE, 0.0, DIAGONAL_MM),
        ("worst", "skip", CUBE, EMPTY, NAN, NAN),
        ("worst", "skip", EMPTY, EMPTY, NAN, NAN),
        ("worst", "score", CUBE, EMPTY, 0.0, DIAGONAL_MM),
        ("worst", "score", EMPTY, EMPTY, 1.0, 0.0),  # rightly absent
        ("skip", "score", EMPTY, CUBE, NAN, NAN),
        ("skip", "score", EMPTY, EMPTY, NAN, NAN),
    ],
)
def test_empty_masks(
    empty: str, absent: str, pred: NDArray, gt: NDArray, share: float, distance: float
) -> None:
    protocol = StandardProtocol.model_validate({"empty": empty, "absent": absent, "spacing": "mm"})
    for backend in ("fast", "medpy"):
        scores = score_case(pred, gt, 2, (1.0, 1.0, 0.5), protocol, backend=backend)  # type: ignore[arg-type]
        assert [s.metric for s in scores] == list(METRICS)
        for score in scores:
            expected = distance if score.metric in DISTANCES else share
            assert np.array_equal(score.value, expected, equal_nan=True), (backend, score)
            assert (score.empty_pred, score.empty_gt) == (not pred.any(), not gt.any())


def test_the_diagonal_is_in_voxels_where_distances_are() -> None:
    protocol = StandardProtocol(empty="worst")
    assert values(score_case(EMPTY, CUBE, 2, (1.0, 1.0, 0.5), protocol))["hd95"] == 13.0  # 3, 4, 12


def test_unusable_input_is_named() -> None:
    with pytest.raises(DataError, match=r"\[3, 4, 12\], the label \[3, 4, 13\]"):
        score_case(CUBE, np.zeros((3, 4, 13), dtype=np.uint8), 2, None, PAPER)
    with pytest.raises(DataError, match="float64"):
        score_case(CUBE.astype(float), CUBE, 2, None, PAPER)
    for spacing in (None, (1.0, 1.0), (1.0, 0.0, 1.0), (1.0, NAN, 1.0)):
        with pytest.raises(DataError, match="3 positive voxel sizes"):
            score_case(CUBE, CUBE, 2, spacing, STRICT)


def test_exact_spacing_is_told_from_inexact() -> None:
    assert _exact((0.625, 0.625, 0.625), (512, 512, 512))
    assert _exact((1.0, 1.0, 1.0), (2048, 2048, 2048))
    assert not _exact((0.6, 1.0, 1.0), (4, 4, 4))
    assert not _exact((1.0, 1.0, 1.0 + 2**-24), (512, 512, 512))
