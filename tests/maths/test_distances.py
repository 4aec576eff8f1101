"""Distances and boxes against scipy, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from sfrbench.components.ssl._sdf import signed_distances
from sfrbench.maths import distances
from sfrbench.maths.boxes import box_of
from sfrbench.maths.components import largest_component
from sfrbench.maths.distances import squared_distances

#: Long ones need more than 16 bits; of some, other axes come first.
SHAPES = [(17, 20, 11), (9, 31, 14), (12, 8, 40), (1, 1, 9), (1, 23, 1), (300, 4, 3), (3, 5, 260), (2, 2, 2)]


def masks(shape: tuple[int, int, int]) -> list[NDArray[np.bool_]]:
    """Single voxels, corners, scattered ones, smooth shapes that touch the sides, and all but one voxel."""
    rng = np.random.default_rng(sum(shape))
    noise = ndimage.gaussian_filter(rng.normal(size=shape), 2, mode="constant")
    one, corners = np.zeros(shape, bool), np.zeros(shape, bool)
    one[tuple(rng.integers(0, side) for side in shape)] = True
    corners[0, 0, 0] = corners[-1, -1, -1] = True
    scattered = rng.random(shape) < 0.02
    scattered.flat[3 % scattered.size] = True
    return [one, corners, scattered, noise >= np.median(noise), noise >= np.quantile(noise, 0.9), ~one]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("block", [1, 1 << 18])  # of many pieces, of one
def test_distances_are_those_of_scipy(
    shape: tuple[int, int, int], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distances, "BLOCK", block)
    for mask in masks(shape):
        if mask.any():
            wanted = ndimage.distance_transform_edt(~mask)
            found = np.sqrt(squared_distances(mask), dtype=np.float64)
            assert found.tobytes() == wanted.tobytes()


def test_there_is_something_to_measure_from() -> None:
    with pytest.raises(ValueError, match="no voxel"):
        squared_distances(np.zeros((3, 4, 5), bool))


def signed_by_scipy(inside: NDArray[np.bool_], absent: float) -> NDArray[Any]:
    """By the formula, of whole volumes in float64, and rounded once."""
    if inside.all() or not inside.any():
        return np.full(inside.shape, -absent if inside.all() else absent, np.float32)
    within, without = (ndimage.distance_transform_edt(part) for part in (inside, ~inside))
    signed = without / without.max() - within / within.max()
    signed[within == 1] = 0
    return np.asarray(signed.astype(np.float32))


@pytest.mark.parametrize("shape", SHAPES)
def test_signed_distances_are_those_of_scipy(shape: tuple[int, int, int]) -> None:
    """Of every mask by itself, and as one of several classes."""
    every = [*masks(shape), np.zeros(shape, bool), np.ones(shape, bool)]
    labels = np.stack([2 * mask.astype(np.uint8) for mask in every])
    labels[:, :, :, : shape[2] // 3] //= 2
    found = signed_distances(labels, 4, 0.25)
    for volume, maps in zip(labels, found, strict=True):
        for label, one in enumerate(maps, start=1):
            assert one.tobytes() == signed_by_scipy(volume == label, 0.25).tobytes()


@pytest.mark.parametrize("shape", [*SHAPES, (6, 7)])
def test_the_largest_component_is_that_of_the_whole_volume(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    for share in (0.0, 0.03, 0.1, 0.5, 1.0):
        mask = rng.random(shape) < share
        parts, count = ndimage.label(mask, np.ones((3,) * len(shape)))
        sizes = [int((parts == part).sum()) for part in range(1, count + 1)]
        wanted = parts == 1 + sizes.index(max(sizes)) if sizes else mask  # the first of equally large ones
        np.testing.assert_array_equal(largest_component(mask), wanted)


def test_a_box_holds_the_mask_and_a_margin_as_far_as_there_is_one() -> None:
    mask = np.zeros((9, 8, 7), bool)
    assert box_of(mask) is None
    mask[2, 0, 3] = mask[4, 5, 6] = True
    assert box_of(mask) == (slice(2, 5), slice(0, 6), slice(3, 7))
    assert box_of(mask, margin=2) == (slice(0, 7), slice(0, 8), slice(1, 7))
