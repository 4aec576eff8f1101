"""finetune: the foundation model is adapted on stitched patches of the labelled cases (eq. 5)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import cast

from sfrbench.components.base import Component, Finetune, Selector
from sfrbench.stages.cost import ROW, Costed, Work
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
    """SAM is there for its pseudo-labels, or as the model that predicts; not where it is only prompted, or
    another tool predicts."""
    alone = "retrain" not in stages and (STAGE in stages or not {"interact", "external"} & set(stages))
    return SAM if pseudo != "none" or alone else ()


def unchanged(selector: Component | None) -> bool:
    """Whether it is known before that a round's update has no confident case, and so leaves SAM as it was."""
    return isinstance(selector, Selector) and selector.confident_share() == 0


def cost(node: Costed) -> Work | None:
    """Steps on stitched crops; where the encoder stays as it is and views repeat, each is encoded once. The
    trained parameters are kept."""
    told, tune = cast(FinetuneSettings, node.settings), node.component("finetune", Finetune)
    have, model, count = node.counts(told.split), node.tuned(told.patch), node.canvases(told.patch)
    if have is None or model is None or count is None:
        return None
    kept = 4 * model.trained
    if unchanged(node.components.get("selector")):
        return Work(0.0, 0.0, kept)
    cases = min(tune.batch, have.labelled) if tune.short_batch == "shrink" else tune.batch
    canvases = cases * (count if tune.volumetric else 1) + ("select" in node.inputs)
    views = 0 if tune.fixed_views is None else min(tune.fixed_views * have.labelled, tune.steps * cases)
    flops = tune.steps * canvases * model.training + views * model.encoding
    return Work(flops, tune.steps * 5e-3 + 1.0, kept + tune.steps * ROW, node.precision("foundation"))


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
    cost=cost,
    named="by default",
    seeded=True,
    told_by="finetune",
)
