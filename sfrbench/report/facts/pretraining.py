"""What the weights of foundations were trained on, where scored cases may have been among it."""

from __future__ import annotations

from typing import cast

from sfrbench.components.base import Foundation
from sfrbench.errors import SfrbenchError
from sfrbench.places import added, weights
from sfrbench.plan.build import Plan
from sfrbench.plan.resolve import Resolved
from sfrbench.report.facts.info import Pretrained


def pretrained_of(plan: Plan) -> list[Pretrained]:
    """An entry for each cell whose foundation has such weights."""
    found = []
    for cell in plan.cells:
        if "foundation" not in cell.components:
            continue
        own = cell.components["foundation"]
        name = cast(Foundation, own.component).weights
        trained_on = "" if name is None else _trained_on(name)
        if trained_on:
            found.append(Pretrained(cell.arm, cell.id, _label(own), trained_on))
    return found


def _label(own: Resolved) -> str:
    """The card's, and the name of the weights where they are not the card's own."""
    checkpoint = own.component.model_dump(include={"checkpoint"}).get("checkpoint")
    other = checkpoint is not None and checkpoint != own.card.preset.get("checkpoint")
    return f"{own.card.label} from '{checkpoint}'" if other else own.card.label


def _trained_on(name: str) -> str:
    try:
        return weights.entry(name).trained_on
    except SfrbenchError:  # a name of another machine, or of a class from outside
        return added.UNKNOWN
