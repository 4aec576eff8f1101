"""One case: every object on its own, round after round, and the label map after each round."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sfrbench.components.base_prompts import Box, Prompter, Said, Scene
from sfrbench.components.foundation.prompted import PromptedVolume
from sfrbench.engine.context import seed_for
from sfrbench.maths.metrics import Mask, mask_dice


@dataclass(frozen=True)
class Case:
    """What a talk is about; ``known`` is the label map (X, Y, Z) as the user knows it."""

    name: str
    known: NDArray[np.uint8]
    classes: tuple[str, ...]
    spacing: tuple[float, float, float]
    seed: int  # the cell's

    @property
    def labelled(self) -> tuple[int, int]:
        """First and last slice that hold any object; all, where none does."""
        slices = np.flatnonzero(self.known.any(axis=(0, 1)))
        return (int(slices[0]), int(slices[-1])) if slices.size else (0, self.known.shape[2] - 1)

    def rng(self, label: int, number: int) -> np.random.Generator:
        """Draws of one round of one object: the first two of five clicks are the two of two."""
        return np.random.default_rng(seed_for("interact", f"{self.name}/{label}/{number}", self.seed))


@dataclass(frozen=True)
class Round:
    """What was said, what came of it, and how long the model took."""

    said: Said
    logits: NDArray[np.float32]
    seconds: float


def rounds(
    volume: PromptedVolume, prompter: Prompter, case: Case, label: int, extent: bool
) -> Iterator[Round]:
    """The rounds of one object; they end early where the user has nothing more to say."""
    truth: Mask = case.known == label
    if not truth.any():
        return  # a user who has nothing to show does not begin
    subject = volume.an_object(box_of(truth) if extent else None)
    prediction, said = np.zeros_like(truth), list[Said]()
    for number in range(1, prompter.rounds + 1):
        rng = case.rng(label, number)
        next_said = prompter.say(Scene(truth, prediction, case.labelled, rng, tuple(said), case.spacing))
        if next_said == Said():
            return
        said.append(next_said)
        began = time.perf_counter()
        logits = subject.segment(tuple(said))
        yield Round(next_said, logits, time.perf_counter() - began)
        prediction = logits > 0


def box_of(mask: Mask) -> Box:
    """The tight box around a mask that is not empty."""
    (x, u), (y, v), (z, w) = (
        (int(found[0]), int(found[-1]))
        for found in (np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3))
    )
    return Box((x, y, z), (u, v, w))


class Maps:
    """The label map after each round, from the logits of one object after the other.

    A voxel that two objects claim goes to the larger logit, or to the later class. After its last round an
    object stays as it is.
    """

    def __init__(
        self, count: int, shape: tuple[int, ...], overlap: Literal["larger", "later"], scratch: Path
    ) -> None:
        self.labels = [np.zeros(shape, np.uint8) for _ in range(count)]
        self._best: NDArray[np.float32] | None = None
        if overlap == "larger":  # rounds x volume in float32 may be more than there is memory for
            self._best = np.lib.format.open_memmap(
                scratch / "best.npy", mode="w+", dtype=np.float32, shape=(count, *shape)
            )

    def put(self, label: int, number: int, logits: NDArray[np.float32]) -> None:
        """The object ``label`` after round ``number`` (from 1)."""
        index = number - 1
        wins = logits > 0
        if self._best is not None:
            wins &= logits > self._best[index]
            np.copyto(self._best[index], logits, where=wins)
        self.labels[index][wins] = label


def held(
    volume: PromptedVolume,
    prompter: Prompter,
    case: Case,
    *,
    extent: bool,
    overlap: Literal["larger", "later"],
    scratch: Path,
) -> tuple[list[NDArray[np.uint8]], dict[str, Any]]:
    """The whole talk: label maps uint8 (X, Y, Z) after each round, and by class what was said in each, the
    seconds that the model took and the Dice of the object's own mask (before overlaps are settled)."""
    maps = Maps(prompter.rounds, case.known.shape, overlap, scratch)
    told: dict[str, Any] = {}
    for label, name in enumerate(case.classes[1:], start=1):
        own: dict[str, list[Any]] = {"said": [], "seconds": [], "dice": []}
        truth: Mask = case.known == label
        number, logits = 0, None
        for number, one in enumerate(rounds(volume, prompter, case, label, extent), start=1):
            logits = one.logits
            maps.put(label, number, logits)
            own["said"].append(one.said.told())
            own["seconds"].append(round(one.seconds, 4))
            own["dice"].append(round(mask_dice(logits > 0, truth), 4))
        for later in range(number + 1, prompter.rounds + 1):
            if logits is not None:
                maps.put(label, later, logits)
        told[name] = own
    return maps.labels, told


def prompts(told: dict[str, Any]) -> int:
    """How many prompts a talk took."""
    return sum(Said.of(said).count for one in told.values() for said in one["said"])
