"""What the paper says of the size of a cell's model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sfrbench.paper.sizes import Size, sizes
from sfrbench.plan.build import Cell
from sfrbench.plan.resolve import Resolved


def size_of(cell: Cell) -> Size | None:
    """The paper's figure for the model that predicts in ``cell``; None if the paper gives none.

    Components count by the names that the specification chose: a profile that puts a smaller model in the
    place of another one does not change what the paper says about that one.
    """
    entries = sizes().retrain if "retrain" in cell.nodes else sizes().finetune
    for entry in entries:
        if all(_holds(cell.components, path, wanted) for path, wanted in entry.when.items()):
            return Size(entry.millions, entry.place, entry.note)
    return None


def _holds(components: Mapping[str, Resolved], path: str, wanted: Any) -> bool:
    kind, _, field = path.partition(".")
    if kind not in components:
        return False
    part = components[kind]
    value = getattr(part.component, field, None) if field else part.chosen or part.card.name
    return value in (wanted if isinstance(wanted, list) else [wanted])
