"""What every prompter holds: it says what it announces, of what is there, and the same for one seed."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from sfrbench.components.base_prompts import Box, Click, Form, Prompter, Said, Scene
from sfrbench.conformance.checks import Check, Subject, expect
from sfrbench.maths.metrics import Mask

#: Rounds that are tried of those that a card has.
ROUNDS = 6


def small(subject: Subject) -> Prompter:
    """The card's prompter as it is."""
    return subject.component(Prompter)


def ready(subject: Subject) -> None:
    """Nothing is needed."""


def _truths() -> dict[str, Mask]:
    """Objects (X, Y, Z) by what they are."""
    ball = np.zeros((12, 10, 8), bool)
    ball[3:8, 2:7, 2:6] = True
    voxel, sheet, plane = np.zeros((7, 6, 5), bool), np.zeros((9, 8, 7), bool), np.zeros((8, 9, 1), bool)
    voxel[6, 0, 4] = sheet[:, 3, :] = plane[1:6, 4:9] = True
    parts = np.zeros((6, 9, 11), bool)
    parts[1:3, 2:4, 1:3] = parts[4, 5:8, 8:10] = True
    return {
        "an object": ball,
        "one voxel": voxel,
        "a sheet": sheet,
        "a volume of one slice": plane,
        "two parts": parts,
        "all of a volume": np.ones((4, 5, 6), bool),
    }


def _predictions(truth: Mask) -> dict[str, Mask]:
    """What a model may have made of an object."""
    shifted = np.roll(truth, 1, axis=0)
    one_off = truth.copy()
    one_off[tuple(np.argwhere(truth)[0])] = False
    return {
        "nothing found": np.zeros_like(truth),
        "all found": truth.copy(),
        "found a voxel aside": shifted,
        "one voxel missed": one_off,
        "all voxels taken": np.ones_like(truth),
    }


def _scenes(seed: int = 0) -> Iterator[tuple[str, Scene]]:
    for what, truth in _truths().items():
        slices = np.flatnonzero(truth.any(axis=(0, 1)))
        labelled = int(slices[0]), int(slices[-1])
        for found, prediction in _predictions(truth).items():
            rng = np.random.default_rng(seed)
            yield f"{what}, {found}", Scene(truth, prediction, labelled, rng, (), (0.8, 0.8, 2.5))


def _forms(said: Said, announced: frozenset[Form]) -> set[Form]:
    """The forms of what was said. A box on one slice may be one of the whole object, where that is announced
    and no other box is said."""
    found: set[Form] = {"click"} if said.clicks else set()
    for box in said.boxes:
        whole = box.low[2] != box.high[2] or (len(said.boxes) == 1 and "slice_box" not in announced)
        found.add("box" if whole else "slice_box")
    return found | {"absent"} if said.absent else found


def only_announced_forms_are_said(subject: Subject) -> None:
    """Of an object that fills the volume and that nobody has found it says something, in the forms that it
    announces and in no others; without a form it says nothing. What it tells of absence or of a range is
    stated in ``shows``."""
    prompter = small(subject)
    spoken = False
    for name, scene in _scenes():
        said = prompter.say(scene)
        others = _forms(said, prompter.forms) - prompter.forms
        expect(not others, f"{name}: {', '.join(sorted(others))}, announced {sorted(prompter.forms)}")
        told = bool(said.absent) or said.span is not None
        expect(not told or bool(prompter.shows), f"{name}: {said.told()}, and shows is empty")
        spoken |= said.count > 0
        if name == "all of a volume, nothing found":  # it is on every slice
            expect((said.count > 0) == bool(prompter.forms), f"{name}: {said.told()}")
    expect(spoken == bool(prompter.forms), f"announced {sorted(prompter.forms)}, and nothing is ever said")


def prompts_are_true(subject: Subject) -> None:
    """Clicks, boxes and slices lie in the volume; a click is of the class that it claims, a box that is not
    jittered holds something of the object, and a slice that is said to lack the object lacks it."""
    prompter = small(subject)
    for name, scene in _scenes():
        said, sides = prompter.say(scene), scene.truth.shape
        for click in said.clicks:
            expect(_within(click.at, sides), f"{name}: a click at {click.at} of {sides}")
            seen = f"{name}: {click.at} is {'in' if scene.truth[click.at] else 'outside of'} the object"
            expect(bool(scene.truth[click.at]) == click.inside, f"{seen}, and the click says otherwise")
        for box in said.boxes:
            expect(_within(box.low, sides) and _within(box.high, sides), f"{name}: {box} of {sides}")
            expect(all(a <= b for a, b in zip(box.low, box.high, strict=True)), f"{name}: {box} is turned")
            expect(_holds(box, scene.truth), f"{name}: nothing of the object in {box}")
        for z in said.absent:
            lacks = 0 <= z < sides[2] and not scene.truth[:, :, z].any()
            expect(lacks, f"{name}: slice {z} of {sides[2]} is said to lack the object")
        if said.span is not None:
            first, last = said.span
            expect(0 <= first <= last < sides[2], f"{name}: slices {first} to {last} of {sides[2]}")


def _within(at: tuple[int, int, int], sides: tuple[int, ...]) -> bool:
    whole = all(type(place) is int for place in at)
    return whole and all(0 <= place < side for place, side in zip(at, sides, strict=True))


def _holds(box: Box, truth: Mask) -> bool:
    inner = tuple(slice(low, high + 1) for low, high in zip(box.low, box.high, strict=True))
    return bool(truth[inner].any())


def one_seed_says_one_thing(subject: Subject) -> None:
    """The same scene and seed give the same prompts, whatever the state of the global generators, which stay
    as they are, as truth and prediction do. Where it says that it does not draw, no seed matters."""
    prompter = small(subject)
    other = dict(_scenes(seed=1))
    for (name, scene), (_, again) in zip(_scenes(), _scenes(), strict=True):
        before = scene.truth.copy(), scene.prediction.copy()
        state = _global_state(seed=0)
        said = prompter.say(scene)
        expect(state == _global_state(), f"{name}: it draws from a global generator")
        _global_state(seed=1)
        repeated = prompter.say(again)
        expect(said == repeated, f"{name}: {said.told()}, then {repeated.told()}")
        same = np.array_equal(before[0], scene.truth) and np.array_equal(before[1], scene.prediction)
        expect(same, f"{name}: truth or prediction was changed in place")
        if not prompter.random:
            drawn = prompter.say(other[name])
            expect(drawn == said, f"{name}: {said.told()}, with another seed {drawn.told()}")


def _global_state(seed: int | None = None) -> tuple[Any, ...]:
    """Of the generators of Python and NumPy that all code shares, after they were seeded."""
    if seed is not None:
        random.seed(seed)
        np.random.seed(seed)
    name, numbers, *rest = np.random.get_state(legacy=True)
    return random.getstate(), name, np.asarray(numbers).tobytes(), *rest


def _talk(prompter: Prompter, truth: Mask, rounds: int) -> list[Said]:
    """What it says to a model that corrects the voxels around each click, and fills boxes."""
    prediction, said = np.zeros_like(truth), list[Said]()
    slices = np.flatnonzero(truth.any(axis=(0, 1)))
    for number in range(1, rounds + 1):
        rng = np.random.default_rng(number)
        labelled = int(slices[0]), int(slices[-1])
        one = prompter.say(Scene(truth, prediction.copy(), labelled, rng, tuple(said)))
        if one == Said():
            return said
        said.append(one)
        for click in one.clicks:
            _corrected(prediction, truth, click)
        for box in one.boxes:
            prediction[tuple(slice(a, b + 1) for a, b in zip(box.low, box.high, strict=True))] = True
    return said


def _corrected(prediction: Mask, truth: Mask, click: Click) -> None:
    near = tuple(slice(max(at - 1, 0), at + 2) for at in click.at)
    prediction[near] = truth[near] if click.inside else False


def rounds_go_on_from_one_another(subject: Subject) -> None:
    """Later rounds change nothing of earlier ones: a talk of few rounds is the beginning of a longer one."""
    prompter = small(subject)
    most = min(prompter.rounds, ROUNDS)
    for name, truth in _truths().items():
        whole = _talk(prompter, truth, most)
        for rounds in {1, 2, most}:
            part = _talk(prompter, truth, min(rounds, most))
            expect(part == whole[:rounds], f"{name}: {rounds} rounds are not the first of {most}")
        if subject.has("number"):
            short = subject.component(Prompter, number=2, count=1)
            expect(_talk(short, truth, 2) == whole[:2], f"{name}: 'number' changes the first clicks")


def more_rounds_than_there_are_are_not_scored(subject: Subject) -> None:
    """A ``count`` above the number of rounds is refused, one that is not is taken."""
    prompter = small(subject)
    expect(prompter.rounds >= 1, f"it has {prompter.rounds} rounds")
    for count, refused in ((prompter.rounds, False), (prompter.rounds + 1, True)):
        faults = prompter.model_copy(update={"count": count}).conflicts({})
        expect(bool(faults) == refused, f"count {count} of {prompter.rounds} rounds: {faults}")


def what_is_said_can_be_kept(subject: Subject) -> None:
    """What was said is the same after it was written to a file and read again."""
    for name, scene in _scenes():
        said = small(subject).say(scene)
        read = Said.of(json.loads(json.dumps(said.told())))
        expect(read == said, f"{name}: {said.told()} becomes {read.told()}")


OF_CARDS: tuple[Check, ...] = ()
FIRST: tuple[Check, ...] = (only_announced_forms_are_said,)
CHECKS: tuple[Check, ...] = (
    prompts_are_true,
    one_seed_says_one_thing,
    rounds_go_on_from_one_another,
    more_rounds_than_there_are_are_not_scored,
    what_is_said_can_be_kept,
)
