"""What follows the first training of a cell: the rounds of SFR+, or of self-training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from sfrbench.components.base import Component, Finetune, Selector, Ssl
from sfrbench.plan.graph import Configuration, Graph, Link
from sfrbench.plan.resolve import Resolved, digest
from sfrbench.stages import roles
from sfrbench.stages.finetune import recipe as finetune
from sfrbench.stages.pseudolabel import recipe as pseudolabel
from sfrbench.stages.recipe import Asked, Chosen
from sfrbench.stages.retrain import recipe as retrain
from sfrbench.stages.select import recipe as select


@dataclass(frozen=True)
class Step:
    """A node of a round; it takes the place of the stage's node before it."""

    stage: str
    asked: Asked
    components: Mapping[str, Resolved]


@dataclass(frozen=True)
class Rounds:
    """The steps of each round, in their order, and the stages in the order in which a cell lists them."""

    steps: tuple[tuple[Step, ...], ...]
    listed: tuple[str, ...]


def rounds_of(config: Configuration, chosen: Chosen) -> Rounds | None:
    """The rounds of a configuration that re-trains, where it has any."""
    if "selector" in config.components:
        return _sfr_plus(config, chosen)
    ssl = cast(Ssl, chosen.components["ssl"])
    offline = replace(chosen, pseudo="offline")
    steps = (
        Step(pseudolabel.STAGE, pseudolabel.by_segmenter(chosen), config.components),
        Step(retrain.STAGE, retrain.asked(offline), config.components),
    )
    return Rounds((steps,) * ssl.relabels, (retrain.STAGE, pseudolabel.STAGE)) if ssl.relabels else None


def _sfr_plus(config: Configuration, chosen: Chosen) -> Rounds:
    """A round: confidence of the segmenter, an update of SAM, new pseudo-labels, more re-training."""
    chooser, first = cast(Selector, chosen.components["selector"]), cast(Ssl, chosen.components["ssl"])
    parts = {
        **config.components,
        "ssl": _changed(config.components["ssl"], chooser.continuing(first)),
        "finetune": _changed(
            config.components["finetune"], chooser.updating(cast(Finetune, chosen.components["finetune"]))
        ),
    }
    later = replace(chosen, components={kind: resolved.component for kind, resolved in parts.items()})
    ask = Step(select.STAGE, select.asked(chosen), config.components)
    tune = Step(finetune.STAGE, finetune.asked(later, in_round=True), parts)
    # what SAM's update is trained with does not matter here, so that labels by a SAM that no case has updated
    # are the same work as before
    label = Step(pseudolabel.STAGE, pseudolabel.asked(chosen, in_round=True), config.components)
    before = [ask, tune, label] if chosen.pseudo == "offline" else [ask, tune]
    trained = (first.steps + number * chooser.retrain_steps for number in range(chooser.rounds))
    return Rounds(
        tuple(
            (*before, Step(retrain.STAGE, retrain.asked(later, first_iteration=done), parts))
            for done in trained
        ),
        (pseudolabel.STAGE, retrain.STAGE, select.STAGE, finetune.STAGE),
    )


def _changed(resolved: Resolved, component: Component) -> Resolved:
    return Resolved.of(component, resolved.card)


def add_rounds(graph: Graph, rounds: Rounds, nodes: dict[str, Link], seed: int) -> None:
    """Add the nodes of all rounds to those of a cell: "retrain" becomes that of the last round."""
    known = dict(nodes)
    for number, steps in enumerate(rounds.steps, 1):
        before, own_seed = known[retrain.STAGE], round_seed(seed, number)
        for step in steps:
            known[step.stage] = graph.node(step.stage, step.asked, step.components, known, own_seed)
        made = {step.stage for step in steps}
        for stage in (stage for stage in rounds.listed if stage in made):
            if stage == retrain.STAGE:  # what the round goes on from, or is labelled by
                nodes[roles.in_round(stage, number - 1)] = before
            else:
                nodes[roles.in_round(stage, number)] = known[stage]
    nodes[retrain.STAGE] = known[retrain.STAGE]


def round_seed(seed: int, number: int) -> int:
    """The base seed of a round, so that it draws other crops than the training before."""
    return int(digest(["round", number, seed])[:7], 16)
