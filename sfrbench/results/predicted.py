"""Which of a cell's label maps are its result."""

from __future__ import annotations

from typing import cast

from sfrbench.components.base import Prompter
from sfrbench.plan.build import Cell
from sfrbench.stages.external import recipe as external
from sfrbench.stages.interact import recipe as interact
from sfrbench.stages.predict import recipe as predict


def rounds_scored(cell: Cell) -> int | None:
    """The round of prompts that a cell's result is of (the last one, where the best of each case and class is
    scored); none: it is of a model that waits for nobody."""
    if interact.STAGE not in cell.nodes:
        return None
    return cast(Prompter, cell.components["prompter"].component).after


def result_role(cell: Cell) -> str:
    """The role of the node that left the label maps which the cell is judged by."""
    if is_external(cell):
        return external.STAGE
    return predict.STAGE if rounds_scored(cell) is None else interact.STAGE


def is_external(cell: Cell) -> bool:
    """Whether another tool made its label maps."""
    return external.STAGE in cell.nodes
