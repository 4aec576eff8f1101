"""Numbers that the paper states, from ``reports/published``; none of them is measured here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from sfrbench.components.base import Settings
from sfrbench.errors import InputError
from sfrbench.files.roots import shipped
from sfrbench.files.yamlio import load

if TYPE_CHECKING:
    from sfrbench.plan.build import Cell
    from sfrbench.plan.resolve import Resolved


@dataclass(frozen=True)
class Size:
    """How large a model is by the paper, in millions of parameters, with the place that says so."""

    millions: float
    place: str
    note: str = ""

    @property
    def text(self) -> str:
        return f"{self.millions:g}"


class _Entry(Settings):
    millions: float = Field(gt=0)
    place: str = Field(min_length=1)
    note: str = ""
    when: dict[str, Any] = Field(min_length=1, description="kind, or kind.field -> a value or a list of such")


class _Sizes(Settings):
    source: str
    finetune: list[_Entry]
    retrain: list[_Entry]


@cache
def sizes() -> _Sizes:
    """``parameters.yaml`` as read. Raises ``InputError`` where it has another form."""
    path = shipped("reports") / "published" / "parameters.yaml"
    try:
        return _Sizes.model_validate(load(path).data)
    except ValidationError as error:
        raise InputError(str(error), where=str(path)) from error


def size_of(cell: Cell) -> Size | None:
    """The paper's figure for the model that predicts in ``cell``; none where the paper gives none.

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
