"""What every selector holds: a threshold that means something, and rounds that can be trained."""

from __future__ import annotations

import math

from sfrbench.components.base import Finetune, Selector, Ssl
from sfrbench.conformance.checks import Check, Subject, expect

#: Confidences of cases: alike, spread, at both ends, a single one.
LISTS = ([0.5, 0.9, 0.985, 0.99, 0.7], [1.0, 0.0], [0.8] * 4, [0.3], [0.991, 0.992, 0.993])


def small(subject: Subject) -> Selector:
    """The card's selector as it is."""
    return subject.component(Selector)


def ready(subject: Subject) -> None:
    """Nothing is needed."""


def threshold_is_a_confidence(subject: Subject) -> None:
    """The threshold lies in [0, 1], as confidences do, or is infinite (all cases, or none)."""
    for values in LISTS:
        found = small(subject).threshold(list(values))
        good = isinstance(found, float | int) and (0 <= found <= 1 or math.isinf(found))
        expect(good, f"of {values} it makes {found!r}")


def threshold_is_of_the_cases(subject: Subject) -> None:
    """The threshold does not depend on the order of the cases or on an earlier call, and changes no list."""
    selector = small(subject)
    for values in LISTS:
        given = list(values)
        first = selector.threshold(given)
        expect(given == values, f"{values} became {given}")
        turned = selector.threshold(list(reversed(values)))
        expect(first == turned, f"{values} give {first}, in reverse {turned}")
        expect(first == selector.threshold(list(values)), f"{values} give another threshold the second time")


def rounds_can_be_trained(subject: Subject) -> None:
    """A round's trainings keep the method, for the selector's steps, at rates above 0 and not above the
    method's, with no warm-up."""
    selector, tuned, method = small(subject), Finetune(), Ssl()
    update, further = selector.updating(tuned), selector.continuing(method)
    expect(type(update) is Finetune and type(further) is Ssl, "a round trains by another method")
    seen = f"SAM is updated for {update.steps} steps, the segmenter for {further.steps}"
    expect((update.steps, further.steps) == (selector.finetune_steps, selector.retrain_steps), seen)
    rates = [further.optim.lr_at(step, further.steps) for step in (0, further.steps - 1)]
    expect(all(0 < rate <= method.optim.lr for rate in rates), f"the segmenter's rate goes {rates}")
    rate = update.optim.lr_at(0, update.steps)
    expect(0 < rate <= 1, f"SAM's rate begins at {rate}")
    expect(update.optim.warmup == further.optim.warmup == 0, "a round warms up")


OF_CARDS: tuple[Check, ...] = ()
FIRST: tuple[Check, ...] = ()
CHECKS: tuple[Check, ...] = (threshold_is_a_confidence, threshold_is_of_the_cases, rounds_can_be_trained)
