"""canvases: what SAM is given, kept for the report's pictures (Figs. 3 to 5); no other stage reads it."""

from __future__ import annotations

from typing import cast

from sfrbench.components.base import Foundation
from sfrbench.stages.cost import Costed, Work
from sfrbench.stages.recipe import Asked, Chosen, Needs, Recipe, Score, whole
from sfrbench.stages.settings import Size, SplitSettings, StageSettings

STAGE = "canvases"


class CanvasesSettings(StageSettings):
    split: SplitSettings
    subset: Score
    patch: Size
    cases: int  # scored cases at most


def asked(cell: Chosen, cases: int) -> Asked:
    data = cell.dataset
    split = SplitSettings(labeled=data.labeled, choice=data.choice, val=data.val, max_test=data.max_test)
    settings = CanvasesSettings(split=split, subset=cell.score, patch=data.patch, cases=cases)
    return Asked(settings, {"prepare": "prepare"}, keyed=whole("stitch", "foundation"))


def cost(node: Costed) -> Work | None:
    """A picture of one byte a pixel, and the number of the voxel in each."""
    told, foundation = cast(CanvasesSettings, node.settings), node.component("foundation", Foundation)
    return Work(0.0, 1.0, (1 + told.cases) * foundation.canvas**2 * 5)


RECIPE = Recipe(
    STAGE,
    version=1,
    settings=CanvasesSettings,
    requested=asked,
    inputs={"prepare": ("prepare",)},
    needs=Needs(training_canvases=True, duration="seconds"),
    cost=cost,
    named="never",  # reports ask for it
)
