"""finetune: the foundation model is adapted on stitched patches of the labelled cases (eq. 5)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import cast

from sfrbench.components.base import Selector
from sfrbench.stages.recipe import SAM, Asked, Chosen, Link, Needs, Pseudo, Recipe, whole
from sfrbench.stages.settings import CropSettings, labelled

STAGE = "finetune"


class FinetuneSettings(CropSettings):
    """How crops are drawn, and of which cases."""


def asked(cell: Chosen, *, in_round: bool = False) -> Asked:
    """SAM's training; ``in_round`` of SFR+ it goes on from the cell's SAM with what ``select`` is sure of."""
    data = cell.dataset
    settings = FinetuneSettings(
        split=labelled(data), patch=data.patch, rot_flip=data.rot_flip, crops=data.crops
    )
    if not in_round:
        return Asked(settings, {"prepare": "prepare"}, keyed=whole(*SAM))
    inputs = {"prepare": "prepare", "before": STAGE, "select": "select"}
    selector = cast(Selector, cell.components["selector"])
    return Asked(settings, inputs, keyed={**whole(*SAM), "selector": selector.round_fields})


def joins(cell: Chosen, nodes: Mapping[str, Link]) -> Mapping[str, Asked]:
    return {STAGE: asked(cell)} if "finetune" in cell.components else {}


def kinds(stages: Collection[str], pseudo: Pseudo) -> tuple[str, ...]:
    """SAM is there for its pseudo-labels, or as the model that predicts."""
    return SAM if pseudo != "none" or "retrain" not in stages else ()


RECIPE = Recipe(
    STAGE,
    version=1,
    settings=FinetuneSettings,
    inputs={"prepare": ("prepare",)},
    round_inputs={"before": (STAGE,), "select": ("select",)},
    joins=joins,
    kinds=kinds,
    needs=Needs(
        accelerator=True, network=True, training_canvases=True, cores=4, memory="medium", duration="hours"
    ),
    named="by default",
    seeded=True,
    told_by="finetune",
)
