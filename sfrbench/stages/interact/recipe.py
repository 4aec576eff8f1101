"""interact: a simulated user prompts a foundation, case by case, and corrects it where it errs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar, cast

from sfrbench.components.base import Prompter
from sfrbench.stages.cost import Costed, Work
from sfrbench.stages.finetune import recipe as finetune
from sfrbench.stages.predict import recipe as predict
from sfrbench.stages.prepare import recipe as prepare
from sfrbench.stages.pseudolabel import recipe as pseudolabel
from sfrbench.stages.recipe import Asked, Chosen, Fault, Link, Needs, Pseudo, Recipe, Score, whole
from sfrbench.stages.retrain import recipe as retrain
from sfrbench.stages.settings import SplitSettings, StageSettings

STAGE = "interact"
#: Bytes of a voxel of a compressed label map: 0.007 of the left atrium, 0.017 of hippocampi.
PACKED = 0.01
#: Those that a cell without prompts has its result from.
_BEFORE = (finetune.STAGE, pseudolabel.STAGE, retrain.STAGE, predict.STAGE)


class InteractSettings(StageSettings):
    """Whose volumes are segmented. With ``thresholds`` it is kept how many of them each logit is above, for a
    protocol that scores that."""

    later_fields: ClassVar[Mapping[str, Any]] = {"thresholds": None}

    split: SplitSettings
    subset: Score
    thresholds: tuple[float, ...] | None = None


def kinds(stages: Collection[str], pseudo: Pseudo) -> tuple[str, ...]:
    return ("foundation", "prompter") if STAGE in stages else ()


def asked(cell: Chosen) -> Asked:
    data, prompter = cell.dataset, cast(Prompter, cell.components["prompter"])
    split = SplitSettings(max_test=data.max_test) if cell.score == "test" else SplitSettings(val=data.val)
    settings = InteractSettings(split=split, subset=cell.score, thresholds=cell.protocol.logit_thresholds)
    guess = {"guess": predict.STAGE} if prompter.from_guess else {}
    inputs = {"prepare": prepare.STAGE, **guess}
    keyed = {**whole("foundation"), "prompter": Prompter.evaluate_fields}
    return Asked(settings, inputs, keyed=keyed, seeded=prompter.random)


def joins(cell: Chosen, nodes: Mapping[str, Link]) -> Mapping[str, Asked]:
    return {STAGE: asked(cell)} if STAGE in cell.stages else {}


def faults(cell: Chosen) -> Iterator[Fault]:
    """A prediction that is asked for and not made, or made and not asked for."""
    if STAGE not in cell.stages:
        return
    if "evaluate" not in cell.stages:
        yield f"stage {STAGE} is named without evaluate: nothing would be scored", "add it to 'stages'"
    prompter = cast(Prompter, cell.components["prompter"])
    if prompter.scored == "best" and cell.protocol.logit_thresholds is not None:
        what = f"prompter.scored best goes by the Dice of volumes, and protocol.dice is {cell.protocol.dice}"
        yield what, "set prompter.scored to last, or protocol.dice to volume"
    made = [stage for stage in _BEFORE if stage in cell.stages]
    if prompter.from_guess:
        if predict.STAGE not in made:
            what = "the prompter goes by what the cell's own segmenter predicts, and no stage here predicts"
            yield what, f"add {predict.STAGE}, and {retrain.STAGE} or {finetune.STAGE} before it, to 'stages'"
    elif made:
        what = f"the result is that of stage {STAGE}, which does not read what {', '.join(made)} would make"
        yield what, "leave out the one or the other; an arm of their own may have the others"


def cost(node: Costed) -> Work | None:
    """What is kept of the maps alone: how long a model takes for a prompt is not stated anywhere."""
    told, data = cast(InteractSettings, node.settings), node.extent
    have = node.counts(told.split)
    if have is None or data is None:
        return None
    cases = have.test if told.subset == "test" else have.val
    maps = 1 if told.thresholds is None else data.classes
    return Work.kept(cases * node.component("prompter", Prompter).rounds * maps * data.voxels * PACKED)


RECIPE = Recipe(
    STAGE,
    version=1,
    settings=InteractSettings,
    inputs={"prepare": ("prepare",), "guess": ("predict",)},
    joins=joins,
    kinds=kinds,
    faults=faults,
    needs=Needs(accelerator=True, network=True, cores=4, memory="medium", duration="hours"),
    seeded=True,
    told_by="prompter",
    cost=cost,
)
