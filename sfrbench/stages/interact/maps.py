"""What a talk leaves of a case: the label map after each round, and how sure the model was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sfrbench.engine.disk_arrays import Arrays, disk_array
from sfrbench.engine.predictions import passed_name


class Maps:
    """The label map after each round, from the logits of one object after the other.

    A voxel that two objects claim goes to the larger logit, of equal ones to the earlier class; or to the
    later class. After its last round an object stays as it is.

    With ``thresholds`` (ascending) it is kept, too, how many of them each voxel's logit is above, of every
    object after every round that it had, before overlaps are settled.

    All of it lies in files below ``folder``: ``count`` bytes a voxel, and four times as many for the larger
    logit. In memory there are what the disk's cache holds and four bytes a voxel beside the logits.
    """

    def __init__(
        self,
        count: int,
        shape: Sequence[int],
        overlap: Literal["larger", "later"],
        folder: Path,
        thresholds: Sequence[float] = (),
    ) -> None:
        self._folder, self._thresholds = folder, thresholds
        self._labels = disk_array(folder / "labels", (count, *shape), np.uint8)
        self._best: NDArray[np.float32] | None = None
        if overlap == "larger":
            self._best = disk_array(folder / "best", (count, *shape), np.float32)
        self.passed = Arrays()

    @property
    def rounds(self) -> Arrays:
        """The label maps, uint8 (X, Y, Z), by the number of the round (from 1)."""
        return Arrays({str(number): labels for number, labels in enumerate(self._labels, start=1)})

    def put(self, label: int, number: int, logits: NDArray[np.float32]) -> None:
        """The object ``label`` after round ``number``."""
        self._settle(label, number, logits)
        if self._thresholds:
            name = passed_name(label, number)
            passed = disk_array(self._folder / f"passed_{label}_{number}", logits.shape, np.uint8)
            for threshold in self._thresholds:
                passed += logits > np.float32(threshold)
            self.passed[name] = passed

    def stay(self, label: int, after: int, logits: NDArray[np.float32]) -> None:
        """The object in all rounds after that number: its user had no more to say."""
        for number in range(after + 1, len(self._labels) + 1):
            self._settle(label, number, logits)

    def _settle(self, label: int, number: int, logits: NDArray[np.float32]) -> None:
        index = number - 1
        wins: NDArray[Any] = logits > 0
        if self._best is not None:
            wins &= logits > self._best[index]
            np.copyto(self._best[index], logits, where=wins)
        self._labels[index][wins] = label
