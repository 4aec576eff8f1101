"""Order of cases, crops and augmentation: without state, alike for image and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, cast

import numpy as np
import pytest

from sfrbench.errors import InputError
from sfrbench.maths.sampling import (
    Crops,
    Sides,
    View,
    draw_patch,
    draw_view,
    draw_voxel,
    forced,
    labelled_at,
    mix,
    unlabelled_at,
    vary_intensity,
    voxels_by_class,
)


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


def test_a_short_last_group_is_a_batch_of_its_own_for_the_authors_loader() -> None:
    """torch's DataLoader with batch_size 2, shuffle and no drop_last, as train_finetuning.py has it."""
    assert [labelled_at(["only"], 2, 0, step, "shrink") for step in range(3)] == [["only"]] * 3
    cases = list("abcdefg")  # the seven of BTCV
    for epoch in range(3):
        groups = [labelled_at(cases, 2, 1, 4 * epoch + place, "shrink") for place in range(4)]
        assert [len(group) for group in groups] == [2, 2, 2, 1]
        assert sorted(case for group in groups for case in group) == cases
    for batch in (1, 7):  # no group is short: nothing changes
        for step in range(8):
            assert labelled_at(cases, batch, 1, step, "shrink") == labelled_at(cases, batch, 1, step)


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


def every_view(
    shape: tuple[int, ...], patch: tuple[int, int, int], rot_flip: bool, crops: Literal["all", "released"]
) -> Iterator[View]:
    """Each outcome of ``draw_view`` once: a generator that is told what to draw, and what it might have."""
    waiting: list[list[int]] = [[]]
    while waiting:
        told = waiting.pop()
        drawn: list[int] = []

        class Told:
            def integers(self, low: int, high: int, told: list[int] = told, drawn: list[int] = drawn) -> int:
                if len(drawn) >= len(told):
                    waiting.extend([*drawn, other] for other in range(low + 1, high))
                drawn.append(told[len(drawn)] if len(drawn) < len(told) else low)
                return drawn[-1]

        yield draw_view(shape, patch, rot_flip, cast(np.random.Generator, Told()), crops)


def released_crops(volume: np.ndarray, patch: tuple[int, int, int], rot_flip: bool) -> set[bytes]:
    """All that RandomRotFlip and then RandomCrop of ShumengLI/SFR can give, written plainly."""
    found = set()
    for turns, axis in [(k, axis) for k in range(4) for axis in range(2)] if rot_flip else [(0, None)]:
        turned = np.rot90(volume, turns)
        turned = turned if axis is None else np.flip(turned, axis)
        if any(size <= side for size, side in zip(turned.shape, patch, strict=True)):
            pads = [max((p - s) // 2 + 3, 0) for s, p in zip(turned.shape, patch, strict=True)]
            turned = np.pad(turned, [(pad, pad) for pad in pads])
        ends = [size - side for size, side in zip(turned.shape, patch, strict=True)]  # exclusive
        for x, y, z in np.ndindex(*ends):
            found.add(turned[x : x + patch[0], y : y + patch[1], z : z + patch[2]].tobytes())
    return found


@pytest.mark.parametrize("rot_flip", [False, True])
@pytest.mark.parametrize("shape", [(7, 6, 6), (7, 9, 4), (5, 6, 8)])
def test_released_crops_are_those_of_the_published_code(shape: tuple[int, ...], rot_flip: bool) -> None:
    volume, patch = rng(3).normal(size=shape).astype(np.float32), (5, 5, 5)
    views = list(every_view(shape, patch, rot_flip, "released"))
    assert {view.take(volume).tobytes() for view in views} == released_crops(volume, patch, rot_flip)


def test_released_padding_of_sides_that_are_long_enough() -> None:
    """Worked out by hand: 5 <= 6 is short, and (6 - s) // 2 + 3 of 7, 8, 9, 10, 11 is 2, 2, 1, 1, 0."""
    for size, pad in ((7, 2), (8, 2), (9, 1), (10, 1), (11, 0)):
        views = list(every_view((5, size, 12), (6, 6, 6), False, "released"))
        assert {view.start[0] for view in views} == set(range(-3, 2))  # 3 a side, and the last one never
        assert {view.start[1] for view in views} == set(range(-pad, size + pad - 6))
        assert {view.start[2] for view in views} == set(range(6))
        plain = every_view((5, size, 12), (6, 6, 6), False, "all")
        assert {view.start[1] for view in plain} == set(range(size - 6 + 1))


@pytest.mark.parametrize("crops", ["all", "released"])
def test_a_crop_is_always_one_of_four_mirrored_ones(crops: Literal["all", "released"]) -> None:
    """rot90 by k of 0..3 and then one flip: the four reflections of the square, never the identity. Of the
    square [[0, 1], [2, 3]]: left-right, top-bottom, along the main diagonal, and along the other."""
    volume = np.arange(4).reshape(2, 2, 1)
    seen = Counter()
    for drawn in every_view((4, 4, 4), (2, 2, 1), True, crops):
        turned = View((0, 0, 0), (2, 2, 1), drawn.turns, drawn.flip).take(volume)
        seen[tuple(turned.ravel().tolist())] += 1
    assert set(seen) == {(1, 0, 3, 2), (2, 3, 0, 1), (0, 2, 1, 3), (3, 1, 2, 0)}
    assert len(set(seen.values())) == 1  # all equally likely


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


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [(2, 0.33, 1), (1, 0.33, 0), (4, 0.33, 1), (5, 0.33, 2), (12, 0.33, 4), (3, 0.0, 0), (3, 1.0, 3)],
)
def test_how_many_patches_are_forced_is_nnunets_count(count: int, share: float, expected: int) -> None:
    theirs = [not index < round(count * (1 - share)) for index in range(count)]
    assert sum(theirs) == forced(count, share) == expected
    assert theirs[count - expected :] == [True] * expected


def test_a_class_is_drawn_first_and_then_a_voxel_of_it() -> None:
    labels = np.zeros((12, 11, 10), np.uint8)
    labels[1:9, 1:9, 1:9], labels[10, 10, 9] = 1, 3
    by_class = voxels_by_class(labels)
    one = rng(0)
    drawn = [draw_voxel(by_class, labels.shape, one) for _ in range(1000)]
    kinds = Counter(int(labels[place]) for place in drawn)
    assert set(kinds) == {1, 3}
    assert 430 < kinds[3] < 570  # as often as the class of 512 voxels
    assert len({place for place in drawn if labels[place] == 1}) > 250
    assert voxels_by_class(labels * 0) == []


def test_of_a_large_class_voxels_are_kept_evenly() -> None:
    (kept,) = voxels_by_class(np.ones((70, 60, 50), np.uint8))
    assert len(kept) == 70_000  # each third
    assert (np.diff(kept) == 3).all()


@pytest.mark.parametrize("rot_flip", [False, True])
@pytest.mark.parametrize("crops", ["all", "released"])
def test_a_forced_crop_is_centred_on_its_voxel(rot_flip: bool, crops: Crops) -> None:
    shape, patch = (20, 24, 9), (8, 8, 12)
    for seed in range(300):
        one = rng(seed)
        place = tuple(int(one.integers(size)) for size in shape)
        volume = np.zeros(shape, np.uint8)
        volume[place] = 1
        view = draw_view(shape, patch, rot_flip, one, crops, cast(Sides, place))
        assert view.take(volume).sum() == 1
        assert view.start[:2] == tuple(max(at - 4, 0) for at in place[:2])  # as in nnU-Net, at the low end
        assert view.start[2] == max(place[2] - 6, -4)  # and no further into padding than random crops
