"""Self-training: a model labels the unlabelled cases for the next one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from sfrbench.components.base import Component
from sfrbench.components.ssl.supervised import Supervised


class SelfTraining(Supervised):
    """A supervised model labels all unlabelled cases, a new one is trained from scratch on these and the
    labelled ones, and so on (the paper's section IV-G.5: two or three times).

    With SFR the labels of the first model are SAM's. Each round is a training of ``steps`` steps of its own.
    The number of rounds is ours; the paper states none for its figures.
    """

    pseudo_fields: ClassVar[frozenset[str]] = frozenset()  # pseudo-labels there are, with SFR or without

    rounds: int = Field(3, ge=1, le=10, description="trainings on labels of the model before")

    def conflicts(self, cell: Mapping[str, Component]) -> list[str]:
        if "selector" in cell:
            return ["SFR+ continues one training, self-training starts anew in each round"]
        return []

    @property
    def relabels(self) -> int:
        return self.rounds
