"""evaluate: stored predictions against the truth, per case, class and metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, cast

from sfrbench.components.base import Prompter, Protocol
from sfrbench.stages import roles
from sfrbench.stages.cost import ROW, Costed, Work, labelled_share
from sfrbench.stages.external import recipe as external
from sfrbench.stages.interact import recipe as interact
from sfrbench.stages.recipe import Asked, Chosen, Fault, Link, Recipe
from sfrbench.stages.settings import StageSettings

STAGE = "evaluate"


class EvaluateSettings(StageSettings):
    """``slices``: volumes that are interpolated along z were once scored so, and are scored on their own
    slices now. ``after`` is the round of prompts that is scored; with ``best`` that round up to it which has
    the highest Dice of the volume, case by case and class by class."""

    later_fields: ClassVar[Mapping[str, Any]] = {"slices": None, "after": None, "best": False}

    slices: Literal["own"] | None = None
    after: int | None = None
    best: bool = False


def asked(cell: Chosen, source: str) -> Asked:
    """Scores of the node in the role ``source``."""
    settings = EvaluateSettings(slices=None if cell.dataset.min_depth is None else "own")
    if source == interact.STAGE:
        prompter = cast(Prompter, cell.components["prompter"])
        best = prompter.scored == "best" and prompter.after > 1  # of one round there is no better one
        settings = settings.model_copy(update={"after": prompter.after, "best": best})
    inputs = {"prepare": "prepare", "prediction": source}
    return Asked(settings, inputs, keyed={"protocol": Protocol.predict_fields})


def joins(cell: Chosen, nodes: Mapping[str, Link]) -> Mapping[str, Asked]:
    """Everything that labels cases is scored: the model, pseudo-labels, and what rounds select from."""
    if STAGE not in cell.stages:
        return {}
    result = next((stage for stage in (external.STAGE, interact.STAGE) if stage in nodes), "predict")
    if cell.protocol.logit_thresholds is not None:  # of which pseudo-labels keep nothing
        return {role_of(result): asked(cell, result)}
    first = [role for role in (result, "pseudolabel") if role in nodes]
    rounds = [
        role for role, (stage, _) in nodes.items() if stage in ("select", "pseudolabel") and role != stage
    ]
    return {role_of(source): asked(cell, source) for source in (*first, *rounds)}


def faults(cell: Chosen) -> Iterator[Fault]:
    """A protocol that scores what the stages do not keep."""
    if (
        STAGE in cell.stages
        and interact.STAGE not in cell.stages
        and cell.protocol.logit_thresholds is not None
    ):
        what = f"protocol.dice {cell.protocol.dice} scores logits, which stage {interact.STAGE} alone keeps"
        yield what, "give arms without prompts another protocol, or set protocol.dice to volume"


def role_of(source: str) -> str:
    """The role of the scores of a node, from that node's role."""
    results = dict.fromkeys(("predict", interact.STAGE, external.STAGE), roles.RESULT)
    return {**results, "pseudolabel": roles.PSEUDO}.get(source, roles.scored(source))


def cost(node: Costed) -> Work | None:
    """Distances of every class in every case; a score of each."""
    made = node.inputs["prediction"]
    split = getattr(made.settings, "split", None)
    have = None if split is None else node.counts(split)
    if have is None or node.extent is None:
        return None
    subset = getattr(made.settings, "subset", "unlabelled")
    share = labelled_share(made.selector)  # of the labels of a round
    unlabelled = have.unlabelled if share is None else round(share * have.unlabelled)
    cases = {"test": have.test, "val": have.val, "unlabelled": unlabelled}[subset]
    classes = node.extent.classes - 1
    host = cases * node.extent.voxels * (5e-8 + 3e-8 * classes)
    return Work(0.0, host, cases * classes * 8 * ROW, at_most=share is None)


RECIPE = Recipe(
    STAGE,
    version=1,
    settings=EvaluateSettings,
    inputs={
        "prepare": ("prepare",),
        "prediction": ("predict", "pseudolabel", "select", "interact", "external"),
    },
    joins=joins,
    faults=faults,
    cost=cost,
    named="by default",
    # scores of test cases take no time; pseudo-labels are of many cases, and of the same ones in every round
    # that leaves SAM as it is
    compared=lambda inputs: inputs["prediction"] == "pseudolabel",
)
