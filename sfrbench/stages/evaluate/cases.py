"""The scores of one case: of which round of prompts, and by which Dice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfrbench.components.base import Protocol
from sfrbench.components.dataset.geometry import own_slices, own_spacing
from sfrbench.engine.predictions import label_map, thresholds_passed
from sfrbench.engine.volumes import CaseInfo
from sfrbench.errors import DataError
from sfrbench.maths.components import largest_component
from sfrbench.maths.metrics import Score, mask_dice, score_case
from sfrbench.maths.slice_dice import scored_slices, slice_mean
from sfrbench.store.store import Artefact

Labels = NDArray[Any]


@dataclass(frozen=True)
class Scored:
    """A case of a prediction, and what it is scored against: ``truth`` (X, Y, Z), integer. A case that was
    interpolated along z is scored on its own slices."""

    prediction: Artefact
    case: str
    info: CaseInfo
    truth: Labels
    classes: int  # with the background
    protocol: Protocol

    def scores(self, after: int | None, best: bool) -> tuple[list[Score], list[int]]:
        """All metrics of all classes, class by class, and the round that each class is scored after (empty:
        there are no rounds). With ``best`` that is the first one up to ``after`` with the class's highest
        Dice of the volume. One map is in memory at a time."""
        if after is None:
            rounds, found = list[int](), self._compared(self._map(None), self._label)
        elif best:
            rounds = self._best(after)
            found = self._of_rounds(rounds)
        else:
            rounds = [after] * (self.classes - 1)
            found = self._compared(self._map(after), self._label)
        return self._by_slices(found, rounds), rounds

    @cached_property
    def _label(self) -> Labels:
        return own_slices(self.truth, self.info)

    def _map(self, after: int | None) -> Labels:
        """The prediction. Maps of another shape are told apart before they are cut."""
        labels, shape = label_map(self.prediction, self.case, self.classes, after), self.truth.shape
        if labels.shape != shape:
            raise DataError(f"the prediction has shape {list(labels.shape)}, the label {list(shape)}")
        return own_slices(labels, self.info)

    def _compared(self, pred: Labels, label: Labels) -> list[Score]:
        return score_case(pred, label, self.classes, own_spacing(self.info), self.protocol)

    def _best(self, after: int) -> list[int]:
        dices = [self._dices(self._map(number)) for number in range(1, after + 1)]
        return [1 + int(np.argmax(of_class)) for of_class in np.transpose(dices)]

    def _dices(self, pred: Labels) -> list[float]:
        """Of each class, of what the protocol keeps of it."""
        found = []
        for number in range(1, self.classes):
            mask: NDArray[np.bool_] = pred == number
            kept = largest_component(mask) if self.protocol.largest_component else mask
            found.append(mask_dice(kept, self._label == number))
        return found

    def _of_rounds(self, rounds: Sequence[int]) -> list[Score]:
        """The scores of each class after its own round."""
        found: list[Score] = []
        for number in sorted(set(rounds)):
            mine = [label for label, one in enumerate(rounds, start=1) if one == number]
            pred, label = (np.where(np.isin(of, mine), of, 0) for of in (self._map(number), self._label))
            found += [score for score in self._compared(pred, label) if score.label in mine]
        return sorted(found, key=lambda score: score.label)

    def _by_slices(self, found: list[Score], rounds: Sequence[int]) -> list[Score]:
        """The scores with the Dice of each class as a mean over slices, where the protocol wants that."""
        if self.protocol.logit_thresholds is None:
            return found
        if not rounds:
            who = f"{self.prediction.stage} {self.prediction.key[:12]}"
            raise DataError(f"{who} keeps no logits, by which this protocol scores", hint="take another one")
        within, values = scored_slices(self._label, self.protocol.dice_slices), dict[int, float]()
        for label, number in enumerate(rounds, start=1):
            passed = thresholds_passed(self.prediction, self.case, label, number)
            own = None if passed is None else own_slices(passed, self.info)[..., within]
            truth: NDArray[np.bool_] = self._label[..., within] == label
            values[label] = slice_mean(own, truth, len(self.protocol.logit_thresholds))
        return [
            replace(score, value=values[score.label]) if score.metric == "dice" else score for score in found
        ]
