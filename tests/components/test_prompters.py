"""The simulated user's clicks: where the rules of released code put them, voxel by voxel."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sfrbench.catalog.cards import Catalog
from sfrbench.components.base_prompts import Click, Said
from sfrbench.components.prompter import _rules
from sfrbench.components.prompter._names import FIXED, ON_A_SLICE, Rule
from sfrbench.components.prompter.clicks import Clicks
from tests.support.prompts import Mask, Voxel, allowed, mask, scene, squared_depths, voxels

RULES: tuple[Rule, ...] = get_args(Rule)
#: Their squares are exact, so that equal depths are equal to the bit whatever computes them.
SPACINGS = [(1.0, 1.0, 1.0), (0.5, 0.5, 2.0), (1.0, 2.0, 0.25), (0.625, 0.625, 0.625)]


def said(user: Clicks, *arguments: Any, **options: Any) -> Click | None:
    """The one click that is made, if any."""
    told = user.say(scene(*arguments, **options))
    assert told == Said(clicks=told.clicks)
    assert len(told.clicks) <= 1
    return told.clicks[0] if told.clicks else None


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Mask, Mask]:
    """Truth and prediction of one small volume, which may be of one slice, empty or full."""
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3)))
    truth, guess = (draw(arrays(bool, shape)) for _ in range(2))
    return truth, guess


@pytest.mark.parametrize("rule", RULES)
@given(masks=pairs(), seed=st.integers(0, 99), spacing=st.sampled_from(SPACINGS), in_mm=st.booleans())
@settings(max_examples=60, deadline=None)
def test_clicks_lie_where_the_rule_says(
    rule: Rule, masks: tuple[Mask, Mask], seed: int, spacing: tuple[float, float, float], in_mm: bool
) -> None:
    truth, guess = masks
    user = Clicks(rule=rule, spacing="mm" if in_mm else "voxel")
    click = said(user, truth, guess, seed, spacing=spacing)
    wanted = allowed(rule, truth, guess, spacing if in_mm else (1, 1, 1))
    if np.array_equal(truth, guess) or not wanted:
        assert click is None
    else:
        assert click in wanted
        assert click == said(user, truth, guess, seed, spacing=spacing)  # a seed repeats


@pytest.mark.parametrize("rule", RULES)
def test_every_place_that_a_rule_allows_is_drawn_evenly(rule: Rule) -> None:
    rng = np.random.default_rng(10)
    truth, guess = rng.random((4, 3, 2)) < 0.6, rng.random((4, 3, 2)) < 0.4
    clicks = [said(Clicks(rule=rule), truth, guess, seed) for seed in range(600)]
    wanted = allowed(rule, truth, guess)
    assert set(clicks) == wanted
    if rule in FIXED:
        assert len(wanted) == 1
        return
    sides = [{one for one in wanted if one.inside is inside} for inside in (True, False)]
    for side in filter(None, sides):
        share = 1 / len(wanted) if rule != "random_balanced" else 0.5 / len(side)
        for one in side:  # five standard deviations
            assert abs(clicks.count(one) / 600 - share) < 5 * np.sqrt(share * (1 - share) / 600)


def test_the_coin_is_of_missed_or_wrong_not_of_voxels() -> None:
    truth, guess = mask((9, 9, 3), (0, 0, 0)), mask((9, 9, 3), (slice(2, 9), slice(2, 9), slice(0, 3)))
    for rule, share in (("random_balanced", 0.5), ("random", 1 / 148)):
        clicks = [said(Clicks(rule=rule), truth, guess, seed) for seed in range(400)]
        positive = sum(one.inside for one in clicks if one is not None) / 400
        assert abs(positive - share) < 5 * np.sqrt(share * (1 - share) / 400)


def ball(shape: Voxel, centre: Voxel, radius: float) -> Mask:
    away = np.stack(np.indices(shape)) - np.reshape(centre, (3, 1, 1, 1))
    return np.asarray((away**2).sum(0) <= radius**2)


def test_ritm3d_clicks_the_core_of_a_ball() -> None:
    truth = ball((15, 15, 15), (7, 7, 7), 5)
    depths = squared_depths(truth, (1, 1, 1), (0, 1, 2))
    for seed in range(40):
        click = said(Clicks(rule="ritm3d"), truth, seed=seed)
        assert click is not None
        assert np.sqrt(depths[click.at]) > np.sqrt(depths.max()) / 2


def test_a_large_thin_sheet_loses_to_a_small_ball() -> None:
    small = ball((24, 24, 12), (4, 4, 6), 2)
    sheet = mask((24, 24, 12), (slice(10, 24), slice(0, 24), 6))
    assert sheet.sum() > 5 * small.sum()
    for truth, guess in ((small | sheet, None), (small, sheet), (sheet, small)):
        for seed in range(10):
            click = said(Clicks(rule="ritm3d"), truth, guess, seed)
            assert click is not None
            assert small[click.at]
            assert click.inside == bool(truth[click.at])


@pytest.mark.parametrize("rule", ["ritm3d", "ritm", "center"])
def test_of_errors_as_deep_the_wrong_one_is_clicked(rule: Rule) -> None:
    truth = mask((9, 9, 1), (slice(0, 3), slice(0, 3), 0))
    guess = mask((9, 9, 1), (slice(5, 8), slice(5, 8), 0))
    for seed in range(5):
        click = said(Clicks(rule=rule), truth, guess, seed)
        assert click is not None
        assert not click.inside
        assert guess[click.at]


def test_the_border_of_the_image_is_outside() -> None:
    whole = np.ones((5, 5, 1), bool)
    assert said(Clicks(rule="center"), whole) == Click((2, 2, 0), True)
    assert said(Clicks(rule="center"), np.ones((4, 5, 1), bool)) == Click((1, 1, 0), True)  # the first of six


def test_ritm_clicks_no_pixel_twice_and_ends_when_all_are_clicked() -> None:
    truth = mask((5, 4, 3), (slice(1, 4), 1, 1), (0, 0, 2))
    user, clicks = Clicks(rule="ritm"), list[Click]()
    while (told := user.say(scene(truth, said=[Said(clicks=(one,)) for one in clicks]))) != Said():
        assert {told.clicks[0]} == allowed("ritm", truth, truth & False, clicked=[one.at for one in clicks])
        clicks += told.clicks
    places = [one.at for one in clicks]
    assert places == [(1, 1, 1), (2, 1, 1), (3, 1, 1), (0, 0, 2)]  # all as deep; the larger slice first
    again = user.model_copy(update={"rule": "center"})
    assert said(again, truth, said=[Said(clicks=(one,)) for one in clicks]) == clicks[0]


@given(masks=pairs(), data=st.data())
@settings(max_examples=60, deadline=None)
def test_ritm_with_clicks_before(masks: tuple[Mask, Mask], data: st.DataObject) -> None:
    truth, guess = masks
    places = voxels(np.ones_like(truth))
    before = data.draw(st.lists(st.sampled_from(places), max_size=6, unique=True))
    rounds = [Said(clicks=(Click(at, bool(truth[at])),)) for at in before]
    click = said(Clicks(rule="ritm"), truth, guess, said=rounds)
    wanted = set() if np.array_equal(truth, guess) else allowed("ritm", truth, guess, clicked=before)
    assert (set() if click is None else {click}) == wanted


@pytest.mark.parametrize("rule", RULES)
def test_an_error_of_one_voxel_is_clicked(rule: Rule) -> None:
    truth = ball((9, 9, 9), (4, 4, 4), 3)
    for at, inside in (((4, 4, 4), True), ((4, 7, 4), True), ((0, 8, 8), False)):
        guess = truth.copy()
        guess[at] = not inside
        click = said(Clicks(rule=rule), truth, guess)
        if rule == "first_random":  # it looks at no error
            assert click is not None
            assert truth[click.at]
        else:
            assert click == Click(at, inside)


@pytest.mark.parametrize("rule", RULES)
def test_no_click_where_nothing_is_amiss(rule: Rule) -> None:
    for truth in (ball((9, 9, 9), (4, 4, 4), 3), np.zeros((3, 3, 3), bool), np.ones((3, 2, 1), bool)):
        assert said(Clicks(rule=rule), truth, truth.copy()) is None


@pytest.mark.parametrize("rule", RULES)
def test_without_an_object_only_wrong_voxels_are_clicked(rule: Rule) -> None:
    guess = mask((5, 5, 5), (slice(1, 3), 2, 4))
    for seed in range(5):
        click = said(Clicks(rule=rule), np.zeros((5, 5, 5), bool), guess, seed)
        if rule == "first_random":
            assert click is None
        else:
            assert click is not None
            assert guess[click.at]
            assert not click.inside


def test_clicks_of_released_code_where_nothing_is_amiss() -> None:
    truth = mask((4, 4, 3), (slice(0, 3), slice(0, 2), 1), (3, 3, 2))
    everywhere = voxels(np.ones_like(truth))
    slice_1 = [at for at in everywhere if at[2] == 1]
    background = [at for at in slice_1 if not truth[at]]
    wanted = {
        "random": {Click(at, True) for at in voxels(truth)},
        "random_balanced": {Click(at, False) for at in everywhere},
        "ritm3d": {Click((2, 2, 1), False)},
        "ritm": {Click((0, 2, 1), False)},
        "center": {Click((0, 2, 1), False)},
        "uniform": {Click(at, False) for at in background},
        "first_random": {Click(at, True) for at in slice_1 if truth[at]},
    }
    for rule in RULES:
        user = Clicks(rule=rule, perfect="released")
        assert {said(user, truth, truth, seed) for seed in range(500)} == wanted[rule]
    all_clicked = [Said(clicks=(Click(at, True),)) for at in voxels(truth)]
    assert said(Clicks(rule="ritm", perfect="released"), truth, truth, said=all_clicked) in wanted["ritm"]
    full = np.ones((2, 2, 1), bool)
    for rule in ("ritm", "center", "uniform"):  # there is no background
        assert said(Clicks(rule=rule, perfect="released"), full, full) is None


def test_depths_in_mm_change_the_click() -> None:
    truth = mask((9, 9, 9), (slice(1, 8), slice(1, 8), 2), (slice(1, 4), slice(1, 4), slice(4, 7)))
    thick_slices, thin = (1.0, 1.0, 5.0), (1.0, 1.0, 0.1)
    for spacing, sheet in ((thick_slices, True), (thin, False)):
        click = said(Clicks(rule="ritm3d", spacing="mm"), truth, spacing=spacing)
        assert click is not None
        assert (click.at[2] == 2) is sheet
        in_voxels = said(Clicks(rule="ritm3d"), truth, spacing=spacing)
        assert in_voxels == Click((2, 2, 5), True)


def test_the_script_of_2024_changes_its_rule_at_the_third_click() -> None:
    made = Catalog.read().card("prompter", "clicks_sam_med3d_2024").component({})
    assert isinstance(made, Clicks)
    assert [made.rule_of(number) for number in range(1, 6)] == [
        "ritm3d",
        "ritm3d",
        "random",
        "random",
        "random",
    ]
    assert (made.scored, made.spacing) == ("best", "mm")
    truth = ball((15, 15, 15), (7, 7, 7), 5)
    core = allowed("ritm3d", truth, np.zeros_like(truth))
    before = [Said(clicks=(Click((7, 7, 7), True),))]
    for count, inner in ((0, True), (1, True), (2, False)):
        clicks = {said(made, truth, seed=seed, said=before * count) for seed in range(200)}
        assert (clicks <= core) is inner


def test_what_draws_is_said() -> None:
    assert {rule for rule in RULES if not Clicks(rule=rule).random} == FIXED == {"ritm", "center"}
    assert Clicks(rule="center", then="random").random
    assert not Clicks(rule="center", then="random", number=2).random  # the second rule has no turn
    assert Clicks(rule="random", then="center", number=2, switch_after=1).random


def test_every_rule_has_its_formulas() -> None:
    assert list(_rules.CLICKS) == list(_rules.PERFECT) == list(RULES)
    assert set(RULES) > ON_A_SLICE


def test_a_volume_of_many_voxels_is_drawn_from_without_a_list_of_places() -> None:
    import tracemalloc

    truth = np.ones((96, 96, 96), bool)
    tracemalloc.start()
    said(Clicks(), truth)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * truth.size  # places as x, y, z are 24 bytes each
