"""nnU-Net's augmentation: geometry against plain crops and formulas, ranges, frequencies, and repetition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from sfrbench.maths import augment
from sfrbench.maths.augment import Warp, affine, change_intensities, draw_augmented, draw_warp
from sfrbench.maths.sampling import View

PATCH = (12, 10, 8)
STILL = affine((0, 0, 0), (1, 1, 1))
INSIDE, OUTSIDE = (3, 4, 5), (-4, 9, 7)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def smooth(shape: tuple[int, int, int] = (20, 18, 16)) -> Any:
    return ndimage.gaussian_filter(rng(1).normal(size=shape), 1.5).astype(np.float32)


def labels(shape: tuple[int, int, int] = (20, 18, 16)) -> Any:
    found = np.zeros(shape, np.uint8)
    found[4:15, 5:14, 3:13] = 1
    found[8:12, 8:12, 6:10] = 7
    found[2:5, 3:6, 10:14] = 255
    return found


@pytest.mark.parametrize("start", [INSIDE, OUTSIDE])
def test_a_warp_that_moves_nothing_is_a_plain_crop(start: tuple[int, int, int]) -> None:
    image, label, plain = smooth(), labels(), View(start, PATCH)
    for warp in (Warp(start, PATCH), Warp(start, PATCH, matrix=STILL)):
        assert np.allclose(warp.take(image), plain.take(image), atol=1e-5)
        assert (warp.take(label) == plain.take(label)).all()
        assert (warp.take_labels(label) == plain.take(label)).all()
        half = np.stack([image, image * 2]).astype(np.float16)
        assert warp.take(half).dtype == np.float16
        assert np.allclose(warp.take(half), plain.take(half), atol=1e-2)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_quarter_turns_about_each_axis(axis: int) -> None:
    """A cube turned by 90 degrees shows the voxels that a turned array has, inside of the volume."""
    image, label = smooth((16, 16, 16)), labels((16, 16, 16))
    angles = [90.0 if axis == other else 0.0 for other in range(3)]
    warp = Warp((3, 3, 3), (10, 10, 10), matrix=affine(angles, (1, 1, 1)))
    first, second = ((1, 2), (2, 0), (0, 1))[axis]
    for array, take in ((image, warp.take), (label, warp.take_labels)):
        cut = array[3:13, 3:13, 3:13]
        assert np.allclose(take(array), np.rot90(cut, -1, (first, second)), atol=1e-5)


@pytest.mark.parametrize("scale", [0.7, 1.0, 1.4])
def test_any_warp_is_linear_interpolation(scale: float) -> None:
    """Against scipy in float64, which takes what lies outside as 0 at once: compared inside."""
    image, matrix = smooth((40, 36, 32)), affine((25, -12, 7), (scale,) * 3)
    start = (14, 13, 12)
    centre = np.array(start) + (np.array(PATCH) - 1) / 2
    offset = centre - np.array(matrix) @ ((np.array(PATCH) - 1) / 2)
    expected = ndimage.affine_transform(image.astype(np.float64), np.array(matrix), offset, PATCH, order=1)
    assert np.allclose(Warp(start, PATCH, matrix=matrix).take(image), expected, atol=1e-4)


def test_larger_steps_make_things_smaller() -> None:
    ball = np.zeros((24, 24, 24), np.uint8)
    ball[np.sum((np.indices(ball.shape) - 11.5) ** 2, 0) < 36] = 1
    sizes = [
        int(Warp((4, 4, 4), (16, 16, 16), matrix=affine((0, 0, 0), (scale,) * 3)).take_labels(ball).sum())
        for scale in (0.7, 1.0, 1.4)
    ]
    assert sizes[0] > 2 * sizes[1] > 4 * sizes[2]
    assert sizes[2] / sizes[1] == pytest.approx(1.4**-3, rel=0.1)


def test_labels_stay_labels_and_are_those_of_the_largest_share() -> None:
    label = labels()
    for seed in range(20):
        matrix = affine(rng(seed).uniform(-30, 30, 3), (rng(seed).uniform(0.7, 1.4),) * 3)
        warp = Warp((4, 4, 3), PATCH, matrix=matrix)
        found = warp.take_labels(label)
        shares = np.stack([warp.take((label == one).astype(np.float32)) for one in (0, 1, 7, 255)])
        expected = np.array([0, 1, 7, 255])[shares.argmax(0)]
        ranked = np.sort(shares, 0)
        whole = warp.take(np.ones(label.shape, np.float32)) > 0.9999
        clear = whole & (ranked[-1] - ranked[-2] > 1e-3)
        assert clear.mean() > 0.7
        assert (found == expected)[clear].all()
        assert (found[~whole] == 0).all()
        assert set(np.unique(warp.take(label))) <= {0, 1, 7, 255}


def test_mirroring_comes_last_and_only_where_it_is_allowed() -> None:
    image, plain = smooth(), Warp(INSIDE, PATCH, matrix=affine((10, 5, -20), (1.2,) * 3))
    both = Warp(INSIDE, PATCH, matrix=plain.matrix, mirrored=(0, 2))
    assert (both.take(image) == plain.take(image)[::-1, :, ::-1]).all()
    drawn = [draw_warp((20, 18, 16), PATCH, True, rng(seed)) for seed in range(400)]
    counts = Counter(axis for warp in drawn for axis in warp.mirrored)
    assert all(150 < counts[axis] < 250 for axis in range(3))
    assert len({warp.mirrored for warp in drawn}) == 8
    assert not any(draw_warp((20, 18, 16), PATCH, False, rng(seed)).mirrored for seed in range(50))


def angles_and_scales(matrix: Any) -> tuple[Any, Any]:
    """Of Rz Ry Rx S: the scales are the lengths of the columns."""
    matrix = np.array(matrix)
    scales = np.linalg.norm(matrix, axis=0)
    turn = matrix / scales
    about_x, about_z = np.arctan2(turn[2, 1], turn[2, 2]), np.arctan2(turn[1, 0], turn[0, 0])
    return np.rad2deg([about_x, -np.arcsin(turn[2, 0]), about_z]), scales


def test_a_fifth_is_turned_and_a_fifth_is_scaled_within_the_ranges() -> None:
    drawn = [draw_warp((20, 18, 16), PATCH, True, rng(seed)) for seed in range(2000)]
    moved = [angles_and_scales(warp.matrix) for warp in drawn if warp.matrix is not None]
    assert len(moved) / 2000 == pytest.approx(1 - 0.8**2, abs=0.04)
    angles = np.array([angle for angle, _ in moved if np.abs(angle).max() > 1e-6])
    scales = np.array([scale for _, scale in moved if np.abs(scale - 1).max() > 1e-6])
    assert len(angles) / 2000 == pytest.approx(0.2, abs=0.03)
    assert len(scales) / 2000 == pytest.approx(0.2, abs=0.03)
    assert np.allclose(scales, scales[:, :1])  # the same along all axes
    assert 0.7 <= scales.min() < 0.75
    assert 1.35 < scales.max() <= 1.4
    assert (angles.max(0) > 25).all()
    assert (angles.min(0) < -25).all()
    assert np.abs(angles).max() <= 30 + 1e-6


def test_slices_far_apart_are_turned_in_their_plane() -> None:
    drawn = [draw_warp((64, 64, 20), (40, 40, 12), True, rng(seed)) for seed in range(600)]
    moved = [angles_and_scales(warp.matrix) for warp in drawn if warp.matrix is not None]
    angles, scales = (np.array(each) for each in zip(*moved, strict=True))
    assert np.allclose(angles[:, :2], 0)
    assert np.abs(angles[:, 2]).max() > 150
    assert np.allclose(scales[:, 2], 1)
    assert scales[:, 0].max() > 1.3


#: Change, share of patches; blur and low resolution pick half of the channels, and here is one.
SHARES = {
    "noise": 0.1,
    "blur": 0.1,
    "brightness": 0.15,
    "contrast": 0.15,
    "low_resolution": 0.125,
    "inverted_gamma": 0.1,
    "gamma": 0.3,
}


def test_intensities_change_in_nnunets_order_and_frequency(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def noted(name: str) -> Callable[..., Any]:
        return lambda image, rng, flat: (seen.append(name), image)[1]

    assert [change.__name__ for _, change in augment.CHANGES] == list(SHARES)
    told = [(share, noted(change.__name__)) for share, change in augment.CHANGES]
    monkeypatch.setattr(augment, "CHANGES", told)
    image = np.zeros((2, 2, 2), np.float32)
    for seed in range(4000):
        before = len(seen)
        change_intensities(image, rng(seed))
        own = seen[before:]
        assert own == sorted(own, key=list(SHARES).index)
    counts = Counter(seen)
    for name, share in SHARES.items():
        assert counts[name] / 4000 == pytest.approx(share, abs=0.025), name


def test_noise_has_up_to_a_tenth() -> None:
    image = np.zeros((20, 20, 20), np.float32)
    found = [float(augment.noise(image, rng(seed), False).std()) for seed in range(60)]
    assert 0.09 < max(found) < 0.104
    assert min(found) < 0.015


@pytest.mark.parametrize(("sigma", "size"), [(0.5, 3), (0.6, 5), (0.75, 5), (0.9, 5), (1.0, 7)])
def test_kernels_of_blur_have_batchgeneratorsv2s_size(sigma: float, size: int) -> None:
    """6 sigma + 0.5 rounded; an even one becomes the odd number towards 6 sigma + 0.5."""
    assert 2 * augment.kernel_radius(sigma) + 1 == size


def test_blur_is_a_gaussian_of_its_own_along_each_axis() -> None:
    point = np.zeros((15, 15, 15), np.float32)
    point[7, 7, 7] = 1
    found = augment.blur(point, rng(4), False)
    sigmas = rng(4).uniform(0.5, 1.0, 3)
    line = [np.exp(-0.5 * ((np.arange(15) - 7) / sigma) ** 2) for sigma in sigmas]
    for own, sigma in zip(line, sigmas, strict=True):
        own[np.abs(np.arange(15) - 7) > augment.kernel_radius(sigma)] = 0
        own /= own.sum()
    assert np.allclose(found, line[0][:, None, None] * line[1][:, None] * line[2], atol=1e-7)


def test_brightness_and_contrast_are_within_a_quarter() -> None:
    image = smooth()
    factors = [float((augment.brightness(image, rng(seed), False) / image).mean()) for seed in range(300)]
    assert 0.75 <= min(factors) < 0.77
    assert 1.23 < max(factors) <= 1.25
    one = rng()
    drawn = np.array([augment.factor(one, 0.7, 1.5) for _ in range(4000)])
    assert (drawn < 1).mean() == pytest.approx(0.5, abs=0.03)  # half of them below 1, whatever the range
    for seed in range(20):
        found = augment.contrast(image, rng(seed), False)
        times = augment.factor(rng(seed), 0.75, 1.25)
        expected = np.clip((image - image.mean()) * times + image.mean(), image.min(), image.max())
        assert np.allclose(found, expected, atol=1e-6)


def test_low_resolution_keeps_a_ramp_and_loses_detail() -> None:
    fine = rng(2).normal(size=(16, 16, 16)).astype(np.float32)
    for seed in range(10):
        found = augment.low_resolution(fine, rng(seed), False)
        assert found.shape == fine.shape
        side = round(16 * rng(seed).uniform(0.5, 1.0))
        assert len(np.unique(found)) <= 16**3
        assert (found.std() < fine.std()) == (side < 16)
    flat = augment.low_resolution(fine * 0 + np.arange(16, dtype=np.float32), rng(3), True)
    assert (flat == np.arange(16)).all()  # slices stay apart


@pytest.mark.parametrize("change", [augment.gamma, augment.inverted_gamma])
def test_gamma_keeps_mean_and_deviation(change: Callable[..., Any]) -> None:
    image = smooth() * 3 + 1
    for seed in range(20):
        found = change(image, rng(seed), False)
        assert found.mean() == pytest.approx(image.mean(), abs=1e-5)
        assert found.std() == pytest.approx(image.std(), rel=1e-5)
        order = np.argsort(image.ravel())
        assert (np.diff(found.ravel()[order]) >= -1e-6).all()  # monotone, of either sign
    assert (augment.gamma(np.full((3, 3, 3), 2.0, np.float32), rng(), False) == 2).all()


def test_gamma_is_a_power_of_the_range() -> None:
    image = smooth()
    power = augment.factor(rng(5), 0.7, 1.5)
    unit = (image - image.min()) / np.ptp(image)
    bent = unit.astype(np.float64) ** power
    expected = (bent - bent.mean()) / bent.std() * image.std() + image.mean()
    assert np.allclose(augment.gamma(image, rng(5), False), expected, atol=1e-5)
    assert np.allclose(augment.inverted_gamma(image, rng(5), False), -augment.gamma(-image, rng(5), False))


def test_a_patch_repeats_and_intensities_follow_the_geometry() -> None:
    volume, label = smooth((24, 24, 24)), labels((24, 24, 24))
    for seed in range(30):
        one, two = (draw_augmented("a", volume, PATCH, True, rng(seed)) for _ in range(2))
        assert (one.image == two.image).all()
        assert (one.view.take_labels(label) == two.view.take_labels(label)).all()
        assert one.image.dtype == np.float32
        assert one.image.shape == one.inside.shape == PATCH
        assert np.isfinite(one.image).all()
        warp = draw_warp(volume.shape, PATCH, True, rng(seed))
        assert one.view == warp
        assert (one.plain == warp.take(volume)).all()
        assert (one.plain[~one.inside] == 0).all() or warp.matrix is not None
