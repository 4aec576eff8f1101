"""canvases: what SAM is given, kept for the report's pictures (Figs. 3 to 5); no other stage reads it."""

from __future__ import annotations

from collections.abc import Mapping

from sfrbench.stages.recipe import Asked, Chosen, Link, Needs, Recipe, Score, whole
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


def requested(cell: Chosen, nodes: Mapping[str, Link], wanted: Mapping[str, int]) -> Asked | None:
    return asked(cell, **wanted) if "finetune" in nodes else None


RECIPE = Recipe(
    STAGE,
    version=1,
    settings=CanvasesSettings,
    requested=requested,
    inputs={"prepare": ("prepare",)},
    needs=Needs(training_canvases=True, duration="seconds"),
    named="never",  # reports ask for it
)
