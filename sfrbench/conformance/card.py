"""What every card holds, whatever its kind: it names a class whose fields tell what they are."""

from __future__ import annotations

from collections.abc import Iterator

from annotated_types import Ge, Gt
from pydantic.fields import FieldInfo

from sfrbench.catalog.code import BASES
from sfrbench.catalog.fields import nested
from sfrbench.components.base import Component, Settings
from sfrbench.conformance.checks import Check, Subject, expect


def names_a_component(subject: Subject) -> None:
    """The class can be imported and made with the card's preset; the search range names fields of it."""
    problems = subject.card.problems()
    expect(not problems, "; ".join(" ".join(str(problem).split()) for problem in problems))


def numbers_have_bounds(subject: Subject) -> None:
    """Every number among the fields has a lower bound, so that nonsense is refused before anything runs."""
    free = [name for name, field in _numbers(subject.card.component_class) if not _bounded(field)]
    expect(not free, f"no bound (ge or gt) of {', '.join(free)}")


def fields_are_described(subject: Subject) -> None:
    """Every field that the kind does not have by itself has a description."""
    cls, base = subject.card.component_class, BASES[subject.card.kind]
    own = [name for name in cls.model_fields if name not in base.model_fields]
    silent = [name for name in own if not cls.model_fields[name].description]
    expect(not silent, f"no description of {', '.join(silent)}")


def search_stays_within_bounds(subject: Subject) -> None:
    """Both ends of each search range are values that the class takes."""
    for path, span in subject.card.search.items():
        for limit in (span["low"], span["high"]) if isinstance(span, dict) else span:
            subject.component(Component, **{path: limit})  # raises where it does not


def _numbers(cls: type[Settings]) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in cls.model_fields.items():
        inner = nested(cls, name)
        if inner is not None:
            yield from _numbers(inner)
        elif field.annotation in (int, float, int | None, float | None):
            yield name, field


def _bounded(field: FieldInfo) -> bool:
    return any(isinstance(part, Ge | Gt) for part in field.metadata)


CHECKS: tuple[Check, ...] = (
    names_a_component,
    numbers_have_bounds,
    fields_are_described,
    search_stays_within_bounds,
)
