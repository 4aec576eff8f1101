"""canvases: what SAM is given, kept for the report's pictures (Figs. 3 to 5); no other stage reads it."""

from __future__ import annotations

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


RECIPE = Recipe(
    STAGE,
    version=1,
    settings=CanvasesSettings,
    requested=asked,
    inputs={"prepare": ("prepare",)},
    needs=Needs(training_canvases=True, duration="seconds"),
    named="never",  # reports ask for it
)
