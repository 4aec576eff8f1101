"""Clicks on the object, one a round, each where the model errs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sfrbench.components.base_prompts import Click, Form, Prompter, Said, Scene


class Clicks(Prompter):
    """One click a round for each object, in its volume: the first on the object, the next ones on errors."""

    number: int = Field(10, ge=1, le=1000, description="clicks, one a round")
    rule: Literal["random"] = Field("random", description="where the next click lies")

    @property
    def rounds(self) -> int:
        return self.number

    @property
    def forms(self) -> frozenset[Form]:
        return frozenset({"click"})

    def say(self, scene: Scene) -> Said:
        import numpy as np

        places = np.argwhere(scene.truth != scene.prediction)
        if not len(places):
            return Said()
        x, y, z = (int(value) for value in places[scene.rng.integers(len(places))])
        return Said(clicks=(Click((x, y, z), bool(scene.truth[x, y, z])),))
