"""What every prompter holds: it says what it announces, within the volume, and the same for one seed."""

from __future__ import annotations

import numpy as np

from sfrbench.components.base_prompts import Prompter, Said, Scene
from sfrbench.conformance.checks import Check, Subject, expect


def small(subject: Subject) -> Prompter:
    """The card's prompter as it is."""
    return subject.component(Prompter)


def ready(subject: Subject) -> None:
    """Nothing is needed."""


def _scene(seed: int = 0, found: bool = False) -> Scene:
    truth = np.zeros((12, 10, 8), bool)
    truth[3:8, 2:7, 2:6] = True
    prediction = truth.copy() if found else np.zeros_like(truth)
    return Scene(truth, prediction, (2, 5), np.random.default_rng(seed))


def one_seed_says_one_thing(subject: Subject) -> None:
    """The same scene and seed give the same prompts, and the first round says something."""
    first, again = (small(subject).say(_scene()) for _ in range(2))
    expect(first == again, f"{first.told()}, then {again.told()}")
    expect(
        first != Said() or small(subject).rounds == 0, "it says nothing of an object that nobody has found"
    )


OF_CARDS: tuple[Check, ...] = ()
FIRST: tuple[Check, ...] = ()
CHECKS: tuple[Check, ...] = (one_seed_says_one_thing,)
