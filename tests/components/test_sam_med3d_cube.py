"""SAM-Med3D's cube: where it lies, what is in it, and the way back to the volume."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from sfrbench.components.base_prompts import Box
from sfrbench.components.foundation._sam_med3d_cube import OUTSIDE, Axis, Grid, crop, normalised

STRAIGHT = (False, False, False)
#: Shape and spacing: finer, coarser, anisotropic, one slice.
VOLUMES = [
    ((40, 31, 22), (0.625, 0.625, 0.625)),
    ((12, 9, 7), (2.1, 2.1, 3.3)),
    ((30, 17, 8), (0.7, 1.1, 4.7)),
    ((21, 20, 1), (1.0, 1.0, 5.0)),
    ((1, 20, 7), (0.3, 1.0, 5.0)),
]


@pytest.mark.parametrize(
    ("size", "spacing", "count"), [(160, 0.625, 67), (88, 0.625, 37), (36, 1.0, 24), (1, 9.0, 1)]
)
def test_voxels_after_resampling(size: int, spacing: float, count: int) -> None:
    """66.7, 36.7 and 24 voxels of 1.5 mm; a single slice stays one."""
    assert Axis(size, 1.5 / spacing).resampled == count
    assert len(Axis(size, 1.5 / spacing).sources) == count


@pytest.mark.parametrize(("shape", "spacing"), VOLUMES)
def test_images_are_resampled_linearly_from_the_low_edge(
    shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> None:
    """New voxel j has its middle (j + 0.5) * 1.5 mm from the low edge; beyond the other edge all is 0."""
    image = np.random.default_rng(0).normal(5, 1, shape).astype(np.float32)
    grid = Grid.of(shape, spacing, 1.5, STRAIGHT)
    made = grid.resample(image)
    middles = [
        (np.arange(count) + 0.5) * 1.5 / mm - 0.5 if size > 1 else np.zeros(1)
        for count, mm, size in zip(made.shape, spacing, shape, strict=True)
    ]
    places = np.stack(np.meshgrid(*middles, indexing="ij"))
    wanted = map_coordinates(image.astype(np.float64), places, order=1, mode="nearest")
    for axis, size in zip(places, shape, strict=True):
        wanted[axis >= size - 0.5] = 0
    np.testing.assert_allclose(made, wanted, atol=1e-5)


@pytest.mark.parametrize("flip", list(product((False, True), repeat=3)))
def test_a_turned_grid_is_that_of_the_turned_volume(flip: tuple[bool, bool, bool]) -> None:
    """Turned after resampling, as the released scripts turn volumes; so are boxes and the way back."""
    shape, spacing = (23, 14, 9), (0.8, 1.2, 2.0)
    axes = [number for number, turned in enumerate(flip) if turned]
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    straight, turned = (Grid.of(shape, spacing, 1.5, one) for one in (STRAIGHT, flip))
    new = straight.resample(image)
    np.testing.assert_array_equal(turned.resample(image), np.flip(new, axes))
    box = Box((3, 2, 1), (19, 9, 6))
    count = new.shape
    for place, other, size, back in zip(
        straight.place((3, 2, 1)), turned.place((3, 2, 1)), count, flip, strict=True
    ):
        assert other == (size - 1 - place if back else place)
    begin = turned.begin(box, 32)
    cube = crop(turned.resample(image), begin, 32)
    there = turned.back(cube, begin)
    nearest = new[np.ix_(*(axis.places for axis in straight.axes))]
    np.testing.assert_array_equal(there, nearest)


@pytest.mark.parametrize(("shape", "spacing"), VOLUMES)
def test_the_way_back_is_by_nearest_voxels(
    shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> None:
    """An old voxel gets what the cube has at its middle, in mm; outside of the cube the logit is negative."""
    grid, side = Grid.of(shape, spacing, 1.5, STRAIGHT), 8
    begin = grid.begin(Box((0, 4, 0), (0, 5, 0)), side)
    cube = np.random.default_rng(0).normal(size=(side,) * 3).astype(np.float32)
    made = grid.back(cube, begin)
    wanted = np.full(shape, OUTSIDE)
    for voxel in np.ndindex(shape):
        # the new voxel in which the old one's middle lies; one slice stays one, whatever its thickness
        at = [
            int((i + 0.5) * mm / 1.5) if n > 1 else 0 for i, mm, n in zip(voxel, spacing, shape, strict=True)
        ]
        inside = [place - low for place, low in zip(at, begin, strict=True)]
        if all(0 <= place < side for place in inside):
            wanted[voxel] = cube[tuple(inside)]
    np.testing.assert_array_equal(made, wanted)
    assert (made == OUTSIDE).any()
    assert made.dtype == np.float32


def test_the_cube_is_centred_on_the_box() -> None:
    """As torchio's CropOrPad: the box's middle, rounded down to an edge between voxels, is the cube's."""
    grid = Grid.of((200, 200, 200), (1.5, 1.5, 1.5), 1.5, STRAIGHT)
    for low, high in ((10, 19), (10, 20), (0, 0), (199, 199), (0, 199), (60, 61)):
        middle = (low + high + 1) / 2  # between voxels 9 and 10 it is 10
        assert grid.begin(Box((low,) * 3, (high,) * 3), 128) == (int(middle) - 64,) * 3


@pytest.mark.parametrize("spacing", [0.4, 0.625, 1.0, 1.5, 2.3])
def test_the_box_is_that_of_the_resampled_mask(spacing: float) -> None:
    """Of boxes at every place: that of a mask resampled by nearest voxels, where one is left of it."""
    size = 40
    axis = Axis(size, 1.5 / spacing)
    nearest = np.floor(axis.sources + 0.5).astype(int)
    for low, high in product(range(size), repeat=2):
        if low > high:
            continue
        mask = np.zeros(size + 2, bool)  # a new voxel may lie beyond the last one
        mask[low : high + 1] = True
        held = np.flatnonzero(mask[nearest])
        first, last = axis.extent(low, high)
        if held.size:
            assert (first, last) == (held[0], held[-1])
        else:
            assert 0 <= first == last < axis.resampled
            assert abs(axis.sources[first] - (low + high) / 2) <= axis.ratio / 2 + 0.5


def test_what_is_beyond_the_volume_is_zero() -> None:
    image = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
    for begin in ((-2, -1, 3), (1, 4, -3), (-9, 0, 0), (0, 7, 0)):
        cube = crop(image, begin, 4)
        for voxel in np.ndindex(4, 4, 4):
            at = [i + low for i, low in zip(voxel, begin, strict=True)]
            inside = all(0 <= i < size for i, size in zip(at, image.shape, strict=True))
            assert cube[voxel] == (image[tuple(at)] if inside else 0)


def test_statistics_are_of_the_voxels_above_zero() -> None:
    cube = np.random.default_rng(0).normal(1, 2, (6, 6, 6)).astype(np.float32)
    above = cube[cube > 0].astype(np.float64)
    spread = np.sqrt(((above - above.mean()) ** 2).sum() / (len(above) - 1))
    np.testing.assert_allclose(normalised(cube), (cube - above.mean()) / spread, atol=1e-6)
    assert normalised(cube).dtype == np.float32


def test_a_cube_without_contrast_stays_finite() -> None:
    flat = np.full((4, 4, 4), 3, np.float32)
    assert (normalised(flat) == 0).all()
    assert (normalised(np.zeros_like(flat)) == 0).all()
    one = np.zeros_like(flat)
    one[1, 2, 3] = 5
    np.testing.assert_array_equal(normalised(one), one - 5)
