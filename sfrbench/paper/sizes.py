"""Numbers that the paper states, from ``reports/published``; none of them is measured here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from sfrbench.components.base import Settings
from sfrbench.errors import InputError
from sfrbench.files.roots import shipped
from sfrbench.files.yamlio import load

if TYPE_CHECKING:
    pass


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
