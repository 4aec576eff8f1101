"""A foundation that takes prompts, in milliseconds and without weights, and users of a few lines.

Its cards are written into a registry folder by ``cards``; ``SPEC`` is a specification that uses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sfrbench.components.base import Foundation, Prompter
from sfrbench.components.base_prompts import Box, Click, Form, Said, Scene
from sfrbench.components.foundation.prompted import PromptedModel, Shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Ball(Foundation):
    """Each positive click adds a ball of logits around it, ``radius`` less the distance in voxels; each
    negative click carves one of half the radius. A box is filled with ones, a slice without the object and
    the slices outside the span hold -1. It neither looks at the image nor draws anything."""

    family: ClassVar[str] = "ball"
    semantic: ClassVar[bool] = False
    takes: ClassVar[frozenset[Form]] = frozenset({"click", "box", "slice_box", "absent"})

    radius: float = Field(4.0, gt=0, description="of the ball around a positive click, voxels")
    extent: bool = Field(False, description="it is shown the box around the truth, and stays in it")

    @property
    def given_extent(self) -> bool:
        return self.extent

    def prompted(self, weights: Path | None) -> PromptedModel:
        return _Model(self.radius)


class LaterBall(Ball):
    """The same; of two objects that claim a voxel the later class has it."""

    overlap: ClassVar[Literal["larger", "later"]] = "later"


class ClicksOnlyBall(Ball):
    """The same; it understands no boxes."""

    takes: ClassVar[frozenset[Form]] = frozenset({"click"})


class HeavyBall(Ball):
    """The same, with weights that must be brought."""

    @property
    def weights(self) -> str | None:
        return "sam_vit_b"


class _Model:
    def __init__(self, radius: float) -> None:
        self.radius = radius

    def to(self, device: str) -> _Model:
        return self

    def open(self, shown: Shown) -> _Volume:
        return _Volume(self.radius, shown.image.shape)


class _Volume:
    def __init__(self, radius: float, shape: tuple[int, ...]) -> None:
        self.radius, self.shape = radius, shape

    def an_object(self, extent: Box | None) -> _Object:
        return _Object(self.radius, self.shape, extent)


class _Object:
    def __init__(self, radius: float, shape: tuple[int, ...], extent: Box | None) -> None:
        self.radius, self.shape, self.extent = radius, shape, extent

    def segment(self, said: Sequence[Said]) -> NDArray[np.float32]:
        import numpy as np

        logits = np.full(self.shape, -1, np.float32)
        for one in said:
            for box in one.boxes:
                logits[_within(box)] = np.maximum(logits[_within(box)], np.float32(1))
            for click in one.clicks:
                away = _distance(self.shape, click)
                if click.inside:
                    logits = np.maximum(logits, np.float32(self.radius) - away)
                else:
                    logits = np.minimum(logits, away - np.float32(self.radius / 2))
            logits[..., list(one.absent)] = -1
            if one.span is not None:
                first, last = one.span
                logits[..., :first] = logits[..., last + 1 :] = -1
        if self.extent is not None:
            kept = np.full_like(logits, -1)
            kept[_within(self.extent)] = logits[_within(self.extent)]
            logits = kept
        return logits


def _within(box: Box) -> tuple[slice, ...]:
    return tuple(slice(low, high + 1) for low, high in zip(box.low, box.high, strict=True))


def _distance(shape: tuple[int, ...], click: Click) -> NDArray[np.float32]:
    """Of each voxel from the click, in voxels."""
    import numpy as np

    grid = np.ogrid[tuple(slice(0, side) for side in shape)]
    squares = sum((axis - at) ** 2 for axis, at in zip(grid, click.at, strict=True))
    return np.sqrt(np.asarray(squares, dtype=np.float32))


class Corrector(Prompter):
    """One click a round, on the first voxel in scan order where the model errs. It draws nothing."""

    number: int = Field(5, ge=1, le=1000, description="clicks, one a round")

    @property
    def rounds(self) -> int:
        return self.number

    @property
    def forms(self) -> frozenset[Form]:
        return frozenset({"click"})

    @property
    def random(self) -> bool:
        return False

    def say(self, scene: Scene) -> Said:
        import numpy as np

        errors = scene.truth != scene.prediction
        if not errors.any():
            return Said()
        x, y, z = (int(axis[0]) for axis in np.nonzero(errors))
        return Said(clicks=(Click((x, y, z), bool(scene.truth[x, y, z])),))


class Boxer(Prompter):
    """The box around the object, once. It draws nothing."""

    guess: bool = Field(False, description="the object is what the cell's own segmenter predicts")

    @property
    def forms(self) -> frozenset[Form]:
        return frozenset({"box"})

    @property
    def random(self) -> bool:
        return False

    @property
    def from_guess(self) -> bool:
        return self.guess

    def say(self, scene: Scene) -> Said:
        import numpy as np

        spans = [np.flatnonzero(scene.truth.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
        (x, u), (y, v), (z, w) = ((int(found[0]), int(found[-1])) for found in spans)
        return Said(boxes=(Box((x, y, z), (u, v, w)),))


#: Card by kind and name.
CARDS = {
    "foundation/ball": "Ball",
    "foundation/ball_later": "LaterBall",
    "foundation/ball_clicks": "ClicksOnlyBall",
    "foundation/ball_heavy": "HeavyBall",
    "prompter/corrector": "Corrector",
    "prompter/boxer": "Boxer",
}

#: Clicks of the shipped kind, clicks that nothing is drawn for, a box from the truth, one from a prediction.
SPEC = """\
title: Prompts
dataset: {name: phantom, labeled: 2, train_cases: 4, test_cases: 2, shape: [32, 32, 16], organs: 2}
protocol: strict
base: {foundation: ball, backbone: vnet, ssl: supervised}
arms:
  - {name: clicks, prompter: {name: clicks, number: 3, count: 3}, stages: [interact, evaluate]}
  - {name: corrected, prompter: {name: corrector, number: 4, count: 2}, stages: [interact, evaluate]}
  - {name: box, prompter: boxer, stages: [interact, evaluate]}
  - {name: guess, prompter: {name: boxer, guess: true}, stages: [retrain, predict, interact, evaluate]}
  - {name: sup, stages: [retrain, predict, evaluate]}
"""


def cards(folder: Path) -> Path:
    """Writes the cards into a registry folder, which ``--registry`` or ``Catalog.read`` then takes."""
    for place, name in CARDS.items():
        path = folder / f"{place}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        needs = "needs: [weights]\n" if name == "HeavyBall" else ""
        path.write_text(
            f"target: {__name__}:{name}\nsummary: For tests.\nlabel: {name}\n{needs}", encoding="utf-8"
        )
    return folder
