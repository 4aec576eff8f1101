"""Order of cases, crops and augmentation: without state, alike for image and labels."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sfrbench.errors import InputError
from sfrbench.sampling import View, draw_patch, draw_view, labelled_at, mix, unlabelled_at, vary_intensity


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(list(seed))


def test_labelled_cases_come_once_per_epoch() -> None:
    cases = [f"c{i}" for i in range(16)]
    epochs = [
        [c for step in range(e * 8, e * 8 + 8) for c in labelled_at(cases, 2, 7, step)] for e in range(3)
    ]
    assert all(sorted(epoch) == sorted(cases) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_a_short_last_group_is_dropped() -> None:
    seen = Counter(case for step in range(600) for case in labelled_at(["a", "b", "c"], 2, 0, step))
    assert set(seen) == {"a", "b", "c"}
    assert all(set(Counter(labelled_at(["a", "b", "c"], 2, 0, step)).values()) == {1} for step in range(50))
    assert min(seen.values()) > 340


def test_one_labelled_case_fills_the_batch() -> None:
    assert labelled_at(["only"], 2, 0, 5) == ["only", "only"]
    assert sorted(labelled_at(["a", "b"], 4, 0, 1)) == ["a", "a", "b", "b"]
    assert len(labelled_at(["a", "b"], 3, 0, 1)) == 3


def test_unlabelled_stream_reshuffles_endlessly() -> None:
    cases = list("abcde")
    stream = [case for step in range(10) for case in unlabelled_at(cases, 2, 1, step)]
    passes = [stream[i : i + 5] for i in range(0, 20, 5)]
    assert all(sorted(one) == cases for one in passes)
    assert len({tuple(one) for one in passes}) > 1
    assert len(unlabelled_at(["a"], 3, 0, 0)) == 3


def test_order_depends_on_step_alone() -> None:
    cases = [str(i) for i in range(9)]
    forward = [unlabelled_at(cases, 2, 3, step) for step in range(12)]
    assert [unlabelled_at(cases, 2, 3, step) for step in reversed(range(12))] == forward[::-1]
    assert [unlabelled_at(cases, 2, 4, step) for step in range(12)] != forward
    assert len({mix(seed, step) for seed in range(20) for step in range(20)}) == 400


def test_empty_lists_are_refused_with_a_remedy() -> None:
    with pytest.raises(InputError, match=r"dataset\.labeled"):
        labelled_at([], 2, 0, 0)
    with pytest.raises(InputError, match=r"dataset\.unlabeled"):
        unlabelled_at([], 2, 0, 0)


def test_crops_reach_every_offset_the_last_included() -> None:
    starts = {draw_view((6, 5, 9), (4, 4, 4), False, rng(i)).start for i in range(800)}
    assert {s[0] for s in starts} == {0, 1, 2}
    assert {s[1] for s in starts} == {0, 1}
    assert {s[2] for s in starts} == set(range(6))


def test_short_sides_are_padded_as_published() -> None:
    starts = {draw_view((10, 16, 20), (16, 16, 16), False, rng(i)).start for i in range(800)}
    assert {s[0] for s in starts} == set(range(-6, 1))  # (16 - 10) // 2 + 3 = 6 voxels at both ends
    assert {s[1] for s in starts} == set(range(-3, 4))
    assert {s[2] for s in starts} == set(range(5))


@pytest.mark.parametrize("patch", [(8, 8, 6), (8, 6, 4), (12, 12, 12)])
def test_a_crop_equals_padding_the_whole_volume(patch: tuple[int, int, int]) -> None:
    volume = rng(0).normal(size=(10, 9, 11)).astype(np.float32)
    padded = np.pad(volume, 12)
    for seed in range(40):
        view = draw_view(volume.shape, patch, True, rng(seed))
        place = tuple(slice(s + 12, s + 12 + p) for s, p in zip(view.start, patch, strict=True))
        expected = np.rot90(padded[place], view.turns, axes=(0, 1))
        assert view.flip in (0, 1)
        expected = np.flip(expected, view.flip)
        assert np.array_equal(view.take(volume), expected)


def test_channels_and_labels_follow_the_image() -> None:
    volume = rng(1).normal(size=(9, 9, 9)).astype(np.float32)
    both = np.stack([volume, -volume]).astype(np.float16)
    for seed in range(20):
        view = draw_view(volume.shape, (6, 6, 6), True, rng(seed))
        image = view.take(volume)
        assert np.array_equal(view.take(both)[1], -image.astype(np.float16))
        assert np.array_equal(view.take((volume > 0).astype(np.uint8)), (image > 0).astype(np.uint8))


def test_patches_that_are_not_square_turn_by_half_only() -> None:
    views = [draw_view((20, 20, 20), (8, 6, 4), True, rng(seed)) for seed in range(60)]
    assert {view.turns for view in views} == {0, 2}
    assert {view.take(np.zeros((20, 20, 20))).shape for view in views} == {(8, 6, 4)}
    assert {draw_view((20, 20, 20), (8, 8, 4), True, rng(s)).turns for s in range(60)} == {0, 1, 2, 3}


def test_a_crop_reads_only_its_own_voxels(tmp_path: Path) -> None:
    class Counting(np.ndarray):
        read = 0

        def __getitem__(self, index):  # type: ignore[no-untyped-def]
            part = super().__getitem__(index)
            Counting.read += part.size
            return part

    np.save(tmp_path / "v.npy", np.ones((40, 40, 40), np.float32))
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r").view(Counting)
    assert View((4, 4, 4), (8, 8, 8)).take(mapped).sum() == 512
    assert Counting.read == 512


def test_intensity_varies_alone_and_leaves_padding_at_zero() -> None:
    volume = rng(2).normal(2, 1, size=(10, 10, 10)).astype(np.float32)
    plain = draw_patch("c", volume, (12, 12, 12), True, False, rng(5))
    varied = draw_patch("c", volume, (12, 12, 12), True, True, rng(5))
    assert varied.view == plain.view
    assert np.array_equal(varied.plain, plain.image)
    assert not np.array_equal(varied.image, plain.image)
    assert varied.image.dtype == np.float32
    assert not varied.image[~varied.inside].any()
    inside = varied.inside
    order = np.argsort(plain.image[inside], kind="stable")
    assert (np.diff(varied.image[inside][order]) >= -1e-5).all()  # monotone: contrast never turns over


def test_a_constant_patch_stays_finite() -> None:
    assert np.isfinite(vary_intensity(np.zeros((4, 4, 4), np.float32), rng(0))).all()
