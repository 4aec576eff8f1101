"""Users who speak once: boxes and their noise, every n-th slice, nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from sfrbench.catalog.cards import Catalog
from sfrbench.components.base_prompts import Box, Prompter, Said
from sfrbench.components.prompter.boxes import SliceBoxes, VolumeBox
from sfrbench.components.prompter.every import EverySlices
from sfrbench.components.prompter.none import Silent
from tests.support.prompts import Mask, mask, scene, voxels

MASKS = arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 5)))


def tight(truth: Mask) -> Box:
    """By the least and the greatest place of every axis."""
    places = voxels(truth)
    (x, u), (y, v), (z, w) = ((min(at[a] for at in places), max(at[a] for at in places)) for a in range(3))
    return Box((x, y, z), (u, v, w))


def of_slices(truth: Mask) -> tuple[Box, ...]:
    made = []
    for z in sorted({at[2] for at in voxels(truth)}):
        box = tight(truth[:, :, z : z + 1])
        made.append(Box((*box.low[:2], z), (*box.high[:2], z)))
    return tuple(made)


@given(truth=MASKS)
@settings(max_examples=60, deadline=None)
def test_boxes_are_tight(truth: Mask) -> None:
    if not truth.any():
        assert VolumeBox().say(scene(truth)) == SliceBoxes().say(scene(truth)) == Said()
        return
    assert VolumeBox().say(scene(truth)) == Said(boxes=(tight(truth),))
    assert SliceBoxes().say(scene(truth)) == Said(boxes=of_slices(truth))


def test_the_largest_part_alone() -> None:
    truth = mask((12, 9, 6), (slice(2, 5), slice(2, 6), slice(1, 3)), (10, 8, 5))
    assert VolumeBox().say(scene(truth)).boxes == (Box((2, 2, 1), (10, 8, 5)),)
    assert VolumeBox(part="largest").say(scene(truth)).boxes == (Box((2, 2, 1), (4, 5, 2)),)
    assert [box.low[2] for box in SliceBoxes(part="largest").say(scene(truth)).boxes] == [1, 2]


#: The farthest that an end moves: in or out by SAM 2's noise, out by MedSAM's.
NOISE: dict[str, Callable[[int], tuple[int, int]]] = {
    "sam2": lambda side: (int(np.rint(min(0.1 * side, 20))), int(np.rint(min(0.1 * side, 20)))),
    "medsam": lambda side: (0, 20),
}


@pytest.mark.parametrize("jitter", ["sam2", "medsam"])
@pytest.mark.parametrize("cls", [VolumeBox, SliceBoxes])
def test_ends_move_as_far_as_they_may(cls: type[VolumeBox] | type[SliceBoxes], jitter: str) -> None:
    low, high = (20, 20, 20), (34, 225, 23)  # sides of 14, 205 and 3: by 1, by 20 and not at all
    truth = mask((55, 246, 44), tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True)))
    user = cls.model_validate({"jitter": jitter})
    seen: list[set[int]] = [set() for _ in range(6)]
    for seed in range(400 if cls is VolumeBox else 100):
        for box in user.say(scene(truth, seed=seed)).boxes:
            for axis in range(3):
                seen[axis].add(low[axis] - box.low[axis] if axis < 2 or cls is VolumeBox else 0)
                seen[3 + axis].add(box.high[axis] - high[axis] if axis < 2 or cls is VolumeBox else 0)
    for axis in range(3):
        inner, outer = NOISE[jitter](high[axis] - low[axis])
        wanted = (0, 0) if axis == 2 and cls is SliceBoxes else (-inner, outer)
        for found in (seen[axis], seen[3 + axis]):
            assert (min(found), max(found)) == wanted
            assert len(found) > 0.8 * (wanted[1] - wanted[0])  # and to all places between


@pytest.mark.parametrize("jitter", ["sam2", "medsam"])
@given(truth=MASKS, seed=st.integers(0, 99), share=st.floats(0, 0.5), largest=st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_jittered_boxes_stay_in_the_volume_and_are_boxes(
    jitter: str, truth: Mask, seed: int, share: float, largest: int
) -> None:
    for cls in (VolumeBox, SliceBoxes):
        fields = {"jitter": jitter, "share": share, "largest": largest}
        user = cls.model_validate(fields)
        boxes = user.say(scene(truth, seed=seed)).boxes
        assert boxes == user.say(scene(truth, seed=seed)).boxes
        plain = cls().say(scene(truth)).boxes
        assert len(boxes) == len(plain)
        for box, at in zip(boxes, plain, strict=True):
            for first, last, low, high, side in zip(
                box.low, box.high, at.low, at.high, truth.shape, strict=True
            ):
                assert 0 <= first <= last < side
                if jitter == "medsam":
                    assert low - largest <= first <= low
                    assert high <= last <= high + largest
                else:
                    most = min(share * (high - low), largest)
                    assert max(abs(first - low), abs(last - high)) <= most + 0.5  # whole voxels


def test_no_jitter_where_it_is_none() -> None:
    truth = mask((9, 9, 9), (slice(2, 7), slice(2, 7), slice(2, 7)))
    assert VolumeBox(jitter="medsam", largest=0).say(scene(truth)) == VolumeBox().say(scene(truth))
    assert VolumeBox(jitter="sam2", share=0.0).say(scene(truth)) == VolumeBox().say(scene(truth))
    for wrong in ({"share": 0.6}, {"share": -0.1}, {"largest": -1}):
        with pytest.raises(ValidationError):
            VolumeBox.model_validate(wrong)


def test_a_box_of_the_prediction_sees_no_truth() -> None:
    cards = Catalog.read()
    for name in ("box_predicted", "box_slices_predicted"):
        user = cards.card("prompter", name).component({})
        assert isinstance(user, Prompter)
        assert (user.from_guess, user.shows, user.random) == (True, "", False)
    assert not VolumeBox().from_guess
    assert SliceBoxes().shows


@pytest.mark.parametrize(("every", "count"), [(2, 44), (5, 18), (10, 9)])
@pytest.mark.parametrize("over", ["all", "labelled"])
def test_every_n_th_slice_of_88(every: int, count: int, over: str) -> None:
    depth, first = (88, 0) if over == "all" else (120, 17)
    truth = mask((6, 5, depth), (slice(1, 4), slice(1, 4), slice(first, first + 88)))
    user = EverySlices.model_validate({"every": every, "over": over})
    said = user.say(scene(truth))
    assert len(said.clicks) == count
    assert [click.at[2] for click in said.clicks] == list(range(first, first + 88, every))
    assert all(click.inside and truth[click.at] for click in said.clicks)
    assert said.span == (None if over == "all" else (first, first + 87))


@given(truth=MASKS, other=st.integers(0, 4), every=st.integers(1, 6), seed=st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_what_is_said_on_slices(truth: Mask, other: int, every: int, seed: int) -> None:
    """``other``: a slice that holds another object of the case."""
    with_other = sorted({*(at[2] for at in voxels(truth)), min(other, truth.shape[2] - 1)})
    seen = scene(truth, seed=seed)
    seen = type(seen)(truth, seen.prediction, (with_other[0], with_other[-1]), seen.rng)
    has = {at[2] for at in voxels(truth)}
    for over, absent, form in (
        ("all", "skip", "click"),
        ("all", "mask0", "box"),
        ("labelled", "skip", "box"),
        ("labelled", "mask0", "click"),
    ):
        user = EverySlices.model_validate({"every": every, "over": over, "absent": absent, "form": form})
        said = user.say(seen)
        first, last = (0, truth.shape[2] - 1) if over == "all" else (with_other[0], with_other[-1])
        asked = [z for z in range(first, last + 1) if (z - first) % every == 0]
        on = [z for z in asked if z in has] if has else []
        off = [z for z in asked if z not in has] if has and absent == "mask0" else []
        assert [click.at[2] for click in said.clicks] == (on if form == "click" else [])
        assert list(said.boxes) == [box for box in of_slices(truth) if box.low[2] in on and form == "box"]
        assert all(click.inside and truth[click.at] for click in said.clicks)
        assert list(said.absent) == off
        assert said.span == ((first, last) if over == "labelled" and (on or off) else None)


def test_clicks_on_a_slice_are_any_of_its_voxels_and_the_same_for_every_spacing() -> None:
    truth = np.random.default_rng(0).random((3, 4, 11)) < 0.5
    drawn: dict[int, set[tuple[int, int, int]]] = {}
    for seed in range(300):
        whole = {one.at[2]: one for one in EverySlices(every=1).say(scene(truth, seed=seed)).clicks}
        for every in (2, 5):
            said = EverySlices(every=every).say(scene(truth, seed=seed))
            assert said.clicks == tuple(whole[z] for z in range(0, 11, every))
        for z, one in whole.items():
            drawn.setdefault(z, set()).add(one.at)
    assert set().union(*drawn.values()) == set(voxels(truth))


def test_an_object_between_the_prompted_slices_is_not_spoken_of() -> None:
    truth = mask((4, 4, 9), (1, 1, 3))
    assert EverySlices(every=5).say(scene(truth)) == Said()
    told = EverySlices(every=5, absent="mask0").say(scene(truth))
    assert told == Said(absent=(0, 5))


def test_the_protocol_of_medical_sam2() -> None:
    user = Catalog.read().card("prompter", "every_medical_sam2").component({})
    assert isinstance(user, EverySlices)
    assert user.forms == {"click", "absent"}
    assert (user.every, user.over, user.rounds) == (2, "labelled", 1)
    assert "first and the last slice" in user.shows
    assert "lack the object" in user.shows
    assert EverySlices().shows == ""
    assert EverySlices().forms == {"click"}
    assert EverySlices(form="box").forms == {"slice_box"}
    assert EverySlices().random
    assert not EverySlices(form="box").random


def test_a_silent_user_says_nothing() -> None:
    truth = mask((4, 4, 4), (slice(0, 3), 1, 1))
    user = Silent()
    assert user.say(scene(truth)) == Said()
    assert (user.forms, user.rounds, user.random, user.from_guess, user.shows) == (set(), 1, False, False, "")
    assert user.conflicts({}) == []
    (told,) = Silent(count=2).conflicts({})
    assert told.startswith("the map after round 2 is to be scored (count), and it has 1; an arm")
