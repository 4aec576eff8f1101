"""One case: every object on its own, round after round."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfrbench.components.base_prompts import Box, Form, Prompter, Said, Scene
from sfrbench.components.foundation.prompted import PromptedVolume, beyond
from sfrbench.engine.context import seed_for
from sfrbench.errors import DataError, InputError, shown
from sfrbench.maths.metrics import Mask, mask_dice
from sfrbench.stages.interact.maps import Maps


@dataclass(frozen=True)
class Case:
    """What a talk is about; ``known`` is the label map (X, Y, Z) as the user knows it."""

    name: str
    known: NDArray[np.uint8]
    classes: tuple[str, ...]
    spacing: tuple[float, float, float]
    seed: int  # the cell's

    @cached_property
    def labelled(self) -> tuple[int, int]:
        """First and last slice that hold any object; all, where none does."""
        slices = np.flatnonzero(self.known.any(axis=(0, 1)))
        return (int(slices[0]), int(slices[-1])) if slices.size else (0, self.known.shape[2] - 1)

    def rng(self, label: int, number: int) -> np.random.Generator:
        """Draws of one round of one object: the first two of five clicks are the two of two."""
        return np.random.default_rng(seed_for("interact", f"{self.name}/{label}/{number}", self.seed))


@dataclass(frozen=True)
class Round:
    """What was said, what came of it, and how long the model took; the first answer of a volume and of an
    object with what has to be done before."""

    said: Said
    logits: NDArray[np.float32]
    seconds: float


def rounds(
    opened: Callable[[], PromptedVolume], prompter: Prompter, case: Case, label: int, extent: bool
) -> Iterator[Round]:
    """The rounds of one object; they end early where the user has nothing more to say."""
    truth: Mask = case.known == label
    if not truth.any():
        return  # a user who has nothing to show does not begin
    box, subject = Box.around(truth) if extent else None, None
    prediction, said = np.zeros_like(truth), list[Said]()
    for number in range(1, prompter.rounds + 1):
        rng = case.rng(label, number)
        where = f"case {case.name}, {case.classes[label]}, round {number}"
        scene = Scene(truth, prediction, case.labelled, rng, tuple(said), case.spacing)
        who = f"{type(prompter).__name__} at {where}"
        try:
            given = prompter.say(scene)
        except SystemExit as error:  # it would end the run without a word
            raise InputError("the prompter ends the process", where=who, hint="raise an error") from error
        next_said = as_said(given, prompter.forms, truth.shape, who)
        if next_said == Said():
            return
        said.append(next_said)
        began = time.perf_counter()
        subject = opened().an_object(box) if subject is None else subject
        logits = subject.segment(tuple(said))
        seconds = time.perf_counter() - began
        _check(logits, truth, where)
        yield Round(next_said, logits, seconds)
        prediction = logits > 0


def as_said(given: Any, forms: frozenset[Form], shape: tuple[int, ...], where: str) -> Said:
    """What a prompter said, in plain numbers. Raises ``InputError`` where it is nothing that can be said of a
    volume of this shape, or nothing that was announced."""

    def fault(what: str, hint: str) -> InputError:
        return InputError(f"the prompter says {what}", where=where, hint=f"{hint}; try 'sfrbench conform'")

    if not isinstance(given, Said):
        raise fault(shown(given), "'say' returns a Said")
    try:
        said = Said.of({name: _whole(places) for name, places in given.told().items()})
    except (TypeError, ValueError) as error:
        raise fault(f"what is no prompt ({error})", "places are whole numbers") from error
    strange = beyond(said, forms)
    if strange:
        raise fault(f"{', '.join(strange)}, which it does not announce", "name it in 'forms'")
    for box in said.boxes:
        if not all(low <= high for low, high in zip(box.low, box.high, strict=True)):
            raise fault(f"a box from {list(box.low)} to {list(box.high)}", "the first voxel comes first")
    places = [click.at for click in said.clicks] + [at for box in said.boxes for at in (box.low, box.high)]
    places += [(0, 0, z) for z in (*said.absent, *(said.span or ()))]
    for at in places:
        if not all(0 <= value < side for value, side in zip(at, shape, strict=True)):
            raise fault(f"{list(at)}, outside a volume of {list(shape)} voxels", "voxels are counted from 0")
    return said


def _whole(places: Any) -> Any:
    """Whole numbers of any kind, and lists of them, as those of Python. Raises ``TypeError`` for others."""
    return [_whole(one) for one in places] if isinstance(places, (list, tuple)) else operator.index(places)


def _check(logits: NDArray[np.float32], truth: Mask, where: str) -> None:
    """Raises ``DataError`` where logits are none of this volume."""
    shape, own = list(logits.shape), list(truth.shape)
    if shape != own:
        raise DataError(f"the model answers with logits of shape {shape}, the volume has {own}", where=where)
    if np.isnan(logits).any():
        raise DataError(
            "the model answers with logits that are no numbers",
            where=where,
            hint="try foundation.precision: fp32, or look at the volume",
        )


def held(
    opened: Callable[[], PromptedVolume],
    prompter: Prompter,
    case: Case,
    maps: Maps,
    *,
    extent: bool,
    scored: bool,
) -> dict[str, Any]:
    """The whole talk, into ``maps``; ``opened`` gives the volume, once something is said of it.

    Returns by class what was said in each round, the seconds that the model took and, where it is ``scored``,
    the Dice of the object's own mask (percent, before overlaps)."""
    told: dict[str, Any] = {}
    for label, name in enumerate(case.classes[1:], start=1):
        own: dict[str, list[Any]] = {"said": [], "seconds": [], "dice": []}
        number, logits = 0, None
        for number, one in enumerate(rounds(opened, prompter, case, label, extent), start=1):
            logits = one.logits
            maps.put(label, number, logits)
            own["said"].append(one.said.told())
            own["seconds"].append(round(one.seconds, 4))
            if scored:
                own["dice"].append(round(mask_dice(logits > 0, case.known == label), 4))
        if logits is not None:
            maps.stay(label, number, logits)
        told[name] = own
    return told


def prompts(told: Mapping[str, Any]) -> int:
    """How many prompts a talk took."""
    return sum(Said.of(said).count for one in told.values() for said in one["said"])


def seconds_per_round(talks: Iterable[Mapping[str, Any]], count: int) -> list[float | None]:
    """What the model took in each round, a mean over cases and objects; none for a round that nobody had."""
    took = [one["seconds"] for told in talks for one in told.values()]
    by_round = [[seconds[index] for seconds in took if index < len(seconds)] for index in range(count)]
    return [round(sum(one) / len(one), 4) if one else None for one in by_round]
