"""What every foundation that takes prompts holds: logits of the volume, the same for the same prompts."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sfrbench.components.base_prompts import Box, Click, Form, Said
from sfrbench.components.foundation.prompted import PromptedObject, Shown, forms_of
from sfrbench.conformance._foundation import small, weights_of
from sfrbench.conformance.checks import Broken, Check, Subject, expect
from sfrbench.errors import InputError

SHAPE = (18, 13, 5)
OBJECT = Box((4, 3, 1), (9, 8, 3))
ELSEWHERE = Box((11, 6, 1), (16, 11, 3))


def image_of(shape: tuple[int, int, int], seed: int = 3) -> NDArray[np.float32]:
    """A z-scored volume that cannot be written to, as a prepared one: noise and two bright blocks."""
    values = np.random.default_rng(seed).normal(0, 0.3, shape).astype(np.float32)
    for box in (OBJECT, ELSEWHERE):
        values[tuple(slice(low, high + 1) for low, high in zip(box.low, box.high, strict=True))] += 2
    values -= values.mean()
    values /= values.std()
    values.flags.writeable = False
    return values


def shown(image: NDArray[np.float32], folder: Path) -> Shown:
    """The volume as the stage shows it, with an empty folder of its own."""
    low, high = np.percentile(image, (0.5, 99.5))
    return Shown(image, (float(low), float(high)), (1.0, 1.0, 2.0), Path(tempfile.mkdtemp(dir=folder)))


def told(form: Form, box: Box) -> Said:
    """One round of one form about the object in ``box``; of ``absent``, that it lacks a slice beyond."""
    (x, y, z), (u, v, w) = box.low, box.high
    if form == "click":
        return Said(clicks=(Click(((x + u) // 2, (y + v) // 2, (z + w) // 2), True),))
    if form == "box":
        return Said(boxes=(box,))
    if form == "slice_box":
        return Said(boxes=tuple(Box((x, y, at), (u, v, at)) for at in range(z, w + 1)))
    return Said(absent=(w + 1,))


def rounds_of(takes: frozenset[Form], box: Box) -> dict[Form, tuple[Said, ...]]:
    """For each form what a user says; that a slice lacks the object only beside another form."""
    first = next((form for form in ("click", "box", "slice_box") if form in takes), None)
    rounds: dict[Form, tuple[Said, ...]] = {form: (told(form, box),) for form in sorted(takes - {"absent"})}
    if "absent" in takes:
        expect(first is not None, "it is told of slices without the object, and never of the object")
        assert first is not None
        said = told(first, box)
        rounds["absent"] = (Said(said.clicks, said.boxes, told("absent", box).absent),)
    return rounds


class Talk:
    """The card's small model, built anew, before a volume."""

    def __init__(self, subject: Subject, image: NDArray[np.float32] | None = None, **fields: object) -> None:
        image = image_of(SHAPE) if image is None else image
        self.foundation = small(subject, **fields)
        self.takes = self.foundation.takes
        self.model = self.foundation.prompted(weights_of(subject)).to("cpu")
        self.volume, self.shape = self.model.open(shown(image, subject.folder)), image.shape

    def an_object(self, box: Box) -> PromptedObject:
        return self.volume.an_object(box if self.foundation.given_extent else None)

    def answers(self, rounds: Sequence[Said], box: Box) -> Iterator[NDArray[np.float32]]:
        """The logits of a new object after each round."""
        subject = self.an_object(box)
        for number in range(1, len(rounds) + 1):
            yield self.checked(subject.segment(tuple(rounds[:number])))

    def last(self, rounds: Sequence[Said], box: Box) -> NDArray[np.float32]:
        return list(self.answers(rounds, box))[-1]

    def checked(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        expect(isinstance(logits, np.ndarray), f"{type(logits).__name__} in the place of an array")
        seen = f"{logits.dtype} {logits.shape} in the place of float32 {self.shape}"
        expect(logits.dtype == np.float32 and logits.shape == self.shape, seen)
        expect(bool(np.isfinite(logits).all()), "logits that are not finite")
        return logits


def _any(takes: frozenset[Form], box: Box) -> tuple[Said, ...]:
    """A round that the model understands."""
    return next(iter(rounds_of(takes, box).values()))


def every_form_gives_logits_of_the_volume(subject: Subject) -> None:
    """Each form of prompt gives logits float32 (X, Y, Z), finite, in float32 and in bf16."""
    for precision in ("fp32", "bf16"):
        one = Talk(subject, precision=precision)
        for said in rounds_of(one.takes, OBJECT).values():
            one.last(said, OBJECT)


def other_forms_are_not_understood(subject: Subject) -> None:
    """A form of prompt that is not in 'takes' raises an error that names it, and is never passed over."""
    one = Talk(subject)
    takes = one.takes
    for said in (told(form, OBJECT) for form in ("click", "box", "slice_box", "absent")):
        (strange,) = forms_of(said)
        if strange in takes or (strange == "slice_box" and "box" in takes):
            continue
        try:
            one.last((said,), OBJECT)
        except InputError as error:
            expect(strange in str(error), f"of '{strange}' it says: {error}")
        else:
            raise Broken(f"'{strange}' was taken")


def another_prompt_has_other_logits(subject: Subject) -> None:
    """The same form at another place gives other logits."""
    one = Talk(subject)
    here, there = (rounds_of(one.takes, box) for box in (OBJECT, ELSEWHERE))
    for form in here:
        same = np.array_equal(one.last(here[form], OBJECT), one.last(there[form], ELSEWHERE))
        expect(not same, f"two objects have the same logits, told by '{form}'")


def the_same_prompts_give_the_same_logits(subject: Subject) -> None:
    """To the bit: asked again, and of another model that saw another volume and another object before."""
    one, other = Talk(subject), Talk(subject)
    there = rounds_of(one.takes, ELSEWHERE)
    before = other.model.open(shown(image_of(SHAPE, seed=8), subject.folder))
    before.an_object(ELSEWHERE if other.foundation.given_extent else None).segment(_any(other.takes, OBJECT))
    for form, said in rounds_of(one.takes, OBJECT).items():
        first = one.last(said, OBJECT)
        other.last(there[form], ELSEWHERE)
        expect(np.array_equal(first, other.last(said, OBJECT)), f"told by '{form}', the logits differ")
        expect(np.array_equal(first, one.last(said, OBJECT)), f"told again by '{form}', they differ")


def rounds_follow_one_another(subject: Subject) -> None:
    """A second round has logits, too, leaves those of the first as they were, and repeats to the bit."""
    one = Talk(subject)
    (first,) = _any(one.takes, OBJECT)
    second = Said(clicks=(Click(ELSEWHERE.low, False),)) if "click" in one.takes else first
    answers = [(logits, logits.copy()) for logits in one.answers((first, second), OBJECT)]
    again = one.last((first, second), OBJECT)
    expect(np.array_equal(*answers[0]), "the second round changed the logits of the first")
    expect(np.array_equal(answers[1][0], again), "two rounds do not repeat")


def slices_beyond_the_span_stay_empty(subject: Subject) -> None:
    """Where a user says which slices are to be segmented, the logits of all others are negative."""
    one = Talk(subject)
    for form, rounds in rounds_of(one.takes, OBJECT).items():
        said = Said(rounds[0].clicks, rounds[0].boxes, rounds[0].absent, span=(1, 3))
        logits = one.last((said,), OBJECT)
        beyond = np.concatenate([logits[..., :1], logits[..., 4:]], -1)
        expect(bool((beyond < 0).all()), f"told by '{form}', voxels beyond the span are the object's")


def small_objects_and_odd_volumes(subject: Subject) -> None:
    """An object of one voxel in a corner, a volume of one slice, sides that are odd: all have logits."""
    for shape in ((18, 13, 5), (11, 19, 1), (33, 7, 2)):
        one = Talk(subject, image_of(shape))
        last = shape[0] - 1, shape[1] - 1, shape[2] - 1
        for box in (Box((0, 0, 0), (0, 0, 0)), Box(last, last)):
            forms = rounds_of(one.takes - {"absent"}, box)
            for said in forms.values():
                one.last(said, box)


def nothing_else_is_touched(subject: Subject) -> None:
    """The volume stays as it is, and so do the global random numbers of Python, NumPy and torch."""
    image = image_of(SHAPE)
    before = image.copy(), random.getstate(), str(np.random.get_state()), torch.random.get_rng_state()
    one = Talk(subject, image)
    for said in rounds_of(one.takes, OBJECT).values():
        one.last(said, OBJECT)
    expect(np.array_equal(image, before[0]), "the volume was changed")
    expect(random.getstate() == before[1], "Python's random numbers went on")
    expect(str(np.random.get_state()) == before[2], "NumPy's random numbers went on")
    expect(torch.equal(torch.random.get_rng_state(), before[3]), "torch's random numbers went on")


#: Of every foundation that takes prompts.
CHECKS: tuple[Check, ...] = (
    every_form_gives_logits_of_the_volume,
    other_forms_are_not_understood,
    another_prompt_has_other_logits,
    the_same_prompts_give_the_same_logits,
    rounds_follow_one_another,
    slices_beyond_the_span_stay_empty,
    small_objects_and_odd_volumes,
    nothing_else_is_touched,
)
