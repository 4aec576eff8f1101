"""A simulated user and a small model, object by object: rounds, seeds, and what ends a talk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from sfrbench.components.base_prompts import Box, Click, Prompter, Said
from sfrbench.components.prompter._names import Rule
from sfrbench.components.prompter.boxes import SliceBoxes, VolumeBox
from sfrbench.components.prompter.clicks import Clicks
from sfrbench.components.prompter.every import EverySlices
from sfrbench.components.prompter.none import Silent
from sfrbench.errors import InputError
from sfrbench.stages.interact import talk

CLASSES = ("background", *(f"organ {number}" for number in range(1, 14)))


class Painter:
    """Paints a cube around each positive click, takes one away around each negative one, and fills boxes."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.rounds: list[int] = []

    def an_object(self, extent: Box | None) -> Painter:
        return Painter(self.shape)

    def segment(self, said: Sequence[Said]) -> NDArray[np.float32]:
        logits = np.full(self.shape, -1, np.float32)
        for one in said:
            for click in one.clicks:
                logits[tuple(slice(max(at - 1, 0), at + 2) for at in click.at)] = 1 if click.inside else -1
            for box in one.boxes:
                logits[tuple(slice(a, b + 1) for a, b in zip(box.low, box.high, strict=True))] = 1
        return logits


def organs() -> NDArray[np.uint8]:
    """Thirteen blocks, the last of one voxel; the seventh is absent."""
    known = np.zeros((20, 12, 14), np.uint8)
    for label in range(1, 14):
        x, z = 5 * ((label - 1) % 4), 3 * ((label - 1) // 4)
        known[x : x + 4, 2 : 4 + label % 5, z + 1 : z + 3] = label
    known[known == 7] = 0
    known[known == 13] = 0
    known[3, 3, 11] = 13
    return known


def talks(user: Prompter, seed: int = 0, name: str = "case") -> dict[int, list[talk.Round]]:
    known = organs()
    case = talk.Case(name, known, CLASSES, (1.0, 1.0, 2.0), seed)
    volume = Painter(known.shape)
    return {label: list(talk.rounds(lambda: volume, user, case, label, False)) for label in range(1, 14)}


def told(user: Prompter, seed: int = 0, name: str = "case") -> dict[int, list[Said]]:
    return {label: [one.said for one in rounds] for label, rounds in talks(user, seed, name).items()}


@pytest.mark.parametrize("rule", ["random", "random_balanced", "ritm3d", "ritm", "center", "uniform"])
def test_thirteen_organs_are_clicked_each_on_its_own(rule: Rule) -> None:
    known = organs()
    said = told(Clicks(rule=rule, number=5))
    assert said[7] == []
    for label, rounds in said.items():
        assert len(rounds) <= 5
        for number, one in enumerate(rounds):
            (click,) = one.clicks
            assert bool(known[click.at] == label) is click.inside
            assert click.inside or number > 0
    assert said == told(Clicks(rule=rule, number=5))
    short = told(Clicks(rule=rule, number=2))
    assert short == {label: rounds[:2] for label, rounds in said.items()}


def test_seed_case_and_object_each_draw_anew() -> None:
    user = Clicks(number=1)
    said = told(user)
    assert said != told(user, seed=1)
    assert said != told(user, name="another")
    known = np.zeros((9, 9, 9), np.uint8)
    known[2:7, 2:7, 2:4], known[2:7, 2:7, 5:7] = 1, 2  # two objects alike
    case = talk.Case("case", known, CLASSES[:3], (1.0, 1.0, 1.0), 0)
    one, two = (
        next(talk.rounds(lambda: Painter(known.shape), user, case, label, False)).said for label in (1, 2)
    )
    (a,), (b,) = one.clicks, two.clicks
    assert (a.at[0], a.at[1], a.at[2] + 3) != b.at


def test_a_talk_ends_when_all_is_found() -> None:
    known = np.zeros((9, 9, 9), np.uint8)
    known[3:6, 3:6, 3:6] = 1
    case = talk.Case("case", known, CLASSES[:2], (1.0, 1.0, 1.0), 0)
    rounds = list(talk.rounds(lambda: Painter(known.shape), Clicks(rule="ritm3d"), case, 1, False))
    assert [one.said.told() for one in rounds] == [{"clicks": [[4, 4, 4, 1]]}]
    goes_on = list(
        talk.rounds(lambda: Painter(known.shape), Clicks(rule="random", perfect="released"), case, 1, False)
    )
    assert len(goes_on) == 10


def test_who_speaks_once_does() -> None:
    known = organs()
    for user in (VolumeBox(), SliceBoxes(), SliceBoxes(jitter="medsam", largest=1), EverySlices(every=1)):
        said = told(user)
        assert {label: len(rounds) for label, rounds in said.items()} == {
            label: int(label != 7) for label in range(1, 14)
        }
        assert said == told(user)
    filled = talks(SliceBoxes())
    assert all(
        np.array_equal(rounds[0].logits > 0, known == label) for label, rounds in filled.items() if rounds
    )


def test_nobody_asks_a_model_for_a_silent_user() -> None:
    assert told(Silent()) == {label: [] for label in range(1, 14)}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (Said(clicks=(Click((20, 0, 0), True),)), r"\[20, 0, 0\], outside a volume of \[20, 12, 14\]"),
        (Said(clicks=(Click((0, -1, 0), True),)), "outside a volume"),
        (Said(boxes=(Box((0, 0, 0), (3, 12, 3)),)), "outside a volume"),
        (Said(boxes=(Box((5, 0, 0), (3, 2, 3)),)), "first voxel comes first"),
        (Said(absent=(3,)), "absent, which it does not announce"),
        (Said(clicks=(Click((1.5, 0, 0), True),)), "no prompt"),
        ("here", "'here'"),
    ],
)
def test_what_a_users_class_says_is_looked_at(given: Said, told: str) -> None:
    with pytest.raises(InputError, match=told):
        talk.as_said(given, frozenset({"click", "box"}), (20, 12, 14), "Mine at case a, liver, round 1")


def test_voxels_of_numpy_are_numbers() -> None:
    x, y, z = np.argwhere(organs() == 1)[0]
    said = talk.as_said(Said(clicks=(Click((x, y, z), True),)), frozenset({"click"}), (20, 12, 14), "here")
    assert said == Said(clicks=(Click((0, 2, 1), True),))
    assert type(said.clicks[0].at[0]) is int
