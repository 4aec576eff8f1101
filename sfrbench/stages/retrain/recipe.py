"""retrain: a 3D segmenter by a semi-supervised method, with or without SFR's pseudo-labels."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, cast

from pydantic import Field

from sfrbench.components.base import Selector, Ssl
from sfrbench.stages.cost import ROW, Costed, Work
from sfrbench.stages.recipe import SAM, Asked, Chosen, Link, Needs, Pseudo, Recipe, whole
from sfrbench.stages.settings import CropSettings, Size, labelled, with_unlabelled

STAGE = "retrain"
#: Mean Dice, 0 to 1, of a validation, in the history at the step that it came after.
VALIDATION = "validation_dice"


class RetrainSettings(CropSettings):
    later_fields: ClassVar[Mapping[str, Any]] = {
        **CropSettings.later_fields,
        "first_iteration": 0,
        "stride": None,
    }

    pseudo: Pseudo = Field(description="where pseudo-labels come from: stored ones, SAM in the loop, nowhere")
    first_iteration: int = Field(
        0, description="iterations of the trainings that a round of SFR+ goes on from"
    )
    stride: Size | None = Field(
        None, description="of the windows of validation, where there are cases for it"
    )


def asked(cell: Chosen, *, first_iteration: int = 0) -> Asked:
    """The segmenter's training; after ``first_iteration`` > 0 iterations it is a round of SFR+, which goes on
    from the cell's segmenter with what ``select`` is sure of."""
    data, ssl = cell.dataset, cast(Ssl, cell.components["ssl"])
    unlabelled = ssl.uses_unlabelled or cell.pseudo != "none"
    settings = RetrainSettings(
        split=with_unlabelled(data) if unlabelled else labelled(data),
        patch=data.patch,
        rot_flip=data.rot_flip,
        crops=data.crops,
        pseudo=cell.pseudo,
        first_iteration=first_iteration,
        stride=data.stride if data.val else None,
    )
    inputs = {"prepare": "prepare"}
    keyed = whole("backbone", "ssl")
    if first_iteration:
        inputs |= {"before": STAGE, "select": "select"}
        keyed |= {"selector": cast(Selector, cell.components["selector"]).round_fields}
    if cell.pseudo != "none":
        source = "pseudolabel" if cell.pseudo == "offline" else "finetune"
        inputs[source] = source
    return Asked(settings, inputs, keyed, gets=SAM if cell.pseudo == "online" else ())


def joins(cell: Chosen, nodes: Mapping[str, Link]) -> Mapping[str, Asked]:
    return {STAGE: asked(cell)} if STAGE in cell.stages else {}


def kinds(stages: Collection[str], pseudo: Pseudo) -> tuple[str, ...]:
    return ("backbone", "ssl") if STAGE in stages else ()


def cost(node: Costed) -> Work | None:
    """Steps of the student and of the method, and of SAM where it labels in the loop; then validations."""
    told, ssl = cast(RetrainSettings, node.settings), node.component("ssl", Ssl)
    have, network = node.counts(told.split), node.segmenter(told.patch)
    if have is None or network is None:
        return None
    labelled, pseudo = ssl.batch_labeled, told.pseudo != "none"
    unlabelled = ssl.batch_unlabeled if ssl.uses_unlabelled or pseudo else 0
    own = node.passes(ssl, labelled, unlabelled, network)
    if own is None:
        return None
    plain = (0 if ssl.plain == "none" else labelled) + (unlabelled if ssl.plain == "all" or pseudo else 0)
    step = plain * network.whole.trained + own.flops(network)
    if told.pseudo == "online":
        sam, canvases = node.tuned(told.patch), node.canvases(told.patch)
        if sam is None or canvases is None:
            return None
        step += unlabelled * canvases * sam.forward
    flops = ssl.steps * step
    if have.val and told.stride is not None:
        each = node.by_segmenter(told.patch, told.stride)
        flops += -(-ssl.steps // ssl.val_every) * have.val * (each or 0.0)
    weights = network.parameters * (2 if have.val else 1) + own.parameters
    return Work(flops, ssl.steps * 5e-3 + 1.0, 4 * weights + 2 * ssl.steps * ROW, node.precision("backbone"))


RECIPE = Recipe(
    STAGE,
    version=2,  # paired dropout, weights of SFR+ rounds kept
    settings=RetrainSettings,
    inputs={"prepare": ("prepare",), "pseudolabel": ("pseudolabel",), "finetune": ("finetune",)},
    round_inputs={"before": (STAGE,), "select": ("select",)},
    joins=joins,
    kinds=kinds,
    needs=Needs(accelerator=True, network=True, cores=4, memory="medium", duration="hours"),
    cost=cost,
    named="by default",
    seeded=True,
    told_by="ssl",
)
