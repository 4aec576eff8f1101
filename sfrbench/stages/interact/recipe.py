"""interact: a simulated user prompts a foundation, case by case, and corrects it where it errs."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sfrbench.components.base import Prompter
from sfrbench.stages.recipe import Asked, Chosen, Link, Needs, Pseudo, Recipe, Score, whole
from sfrbench.stages.settings import SplitSettings, StageSettings

STAGE = "interact"


class InteractSettings(StageSettings):
    """Whose volumes are segmented."""

    split: SplitSettings
    subset: Score


def kinds(stages: Collection[str], pseudo: Pseudo) -> tuple[str, ...]:
    return ("foundation", "prompter") if STAGE in stages else ()


def asked(cell: Chosen) -> Asked:
    data, prompter = cell.dataset, cell.components["prompter"]
    assert isinstance(prompter, Prompter)
    split = SplitSettings(max_test=data.max_test) if cell.score == "test" else SplitSettings(val=data.val)
    settings = InteractSettings(split=split, subset=cell.score)
    inputs = {"prepare": "prepare", **({"guess": "predict"} if prompter.from_guess else {})}
    keyed = {**whole("foundation"), "prompter": Prompter.evaluate_fields}
    return Asked(settings, inputs, keyed=keyed, seeded=prompter.random)


def joins(cell: Chosen, nodes: Mapping[str, Link]) -> Mapping[str, Asked]:
    return {STAGE: asked(cell)} if STAGE in cell.stages else {}


RECIPE = Recipe(
    STAGE,
    version=1,
    settings=InteractSettings,
    inputs={"prepare": ("prepare",), "guess": ("predict",)},
    joins=joins,
    kinds=kinds,
    needs=Needs(accelerator=True, network=True, cores=4, memory="medium", duration="hours"),
    seeded=True,
    told_by="prompter",
)
