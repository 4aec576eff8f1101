"""What the suites share: a card under examination, a check, and what became of it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from pydantic import ValidationError

from sfrbench.catalog.cards import Card
from sfrbench.catalog.fields import field_exists
from sfrbench.components.base import Component
from sfrbench.errors import NotReadyError, SfrbenchError, shorter
from sfrbench.plan.resolve import unflatten
from sfrbench.spec.reader import read_profile

C = TypeVar("C", bound=Component)
Status = Literal["holds", "does not hold", "not ready here"]


class Broken(Exception):
    """A card does not hold what a check expects; the text says what was seen."""


def expect(holds: bool, seen: str) -> None:
    """Raises ``Broken`` with what was ``seen`` where a promise does not hold."""
    if not holds:
        raise Broken(seen)


@dataclass(frozen=True)
class Subject:
    """A card under examination; ``folder`` is empty, for what a check writes."""

    card: Card
    folder: Path
    shared: Path  # what several checks make and only read, such as volumes
    data: Mapping[str, Path] = field(default_factory=dict)  # where datasets lie, as of ``--data``
    kept: dict[str, Any] = field(default_factory=dict)  # by checks of an equal component, for one another

    def component(self, cls: type[C], **fields: Any) -> C:
        """The card's component with ``fields`` over it, a dotted name for a field of a group."""
        return cast(C, self.card.component(unflatten(fields)))

    def scaled(self, cls: type[C], **fields: Any) -> C:
        """The component as profile smoke scales it, with those of ``fields`` over it that its class has."""
        wanted = {**_smoke(self.card.kind), **fields}
        known = {name: value for name, value in wanted.items() if self.has(name)}
        try:
            return self.component(cls, **known)
        except ValidationError:  # bounds of its own: as small as the suite alone asks for
            return self.component(cls, **{name: known[name] for name in fields if name in known})

    def has(self, name: str) -> bool:
        """Whether the class has a field of this (dotted) name."""
        return field_exists(self.card.component_class, name)


@cache
def _smoke(kind: str) -> Mapping[str, Any]:
    choices = read_profile("smoke").layer.choices
    return {
        path.removeprefix(f"{kind}."): value for path, value in choices.items() if path.startswith(f"{kind}.")
    }


#: Returns where the promise holds; raises ``Broken``, or ``NotReadyError`` where something is not here.
#: The first paragraph of its docstring says what is expected.
Check = Callable[[Subject], None]


@dataclass(frozen=True)
class Result:
    """What became of one check of one card."""

    card: str  # kind/name
    check: str
    status: Status
    expected: str = ""
    seen: str = ""  # what does not hold, or what is not here

    def __str__(self) -> str:
        if self.status == "not ready here":
            return f"{self.card}  {self.check}  not ready here: {self.seen}"
        line = f"{self.card}  {self.check}  {self.status}"
        if self.status == "holds":
            return line
        return f"{line}\n    expected: {self.expected}\n    seen: {self.seen}"


def tried(check: Check, subject: Subject) -> Result:
    """One check of one card. What the card's own code raises is a promise that does not hold."""
    card, name = f"{subject.card.kind}/{subject.card.name}", title(check)
    expected = " ".join((check.__doc__ or name).split("\n\n")[0].split())
    try:
        check(subject)
    except NotReadyError as error:
        return Result(card, name, "not ready here", expected, _one_line(error))
    except Broken as error:
        return Result(card, name, "does not hold", expected, str(error))
    except SfrbenchError as error:
        return Result(card, name, "does not hold", expected, _one_line(error))
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        told = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Result(
            card, name, "does not hold", expected, f"{shorter(told, 300)} ({last.filename}:{last.lineno})"
        )
    return Result(card, name, "holds", expected)


def title(check: Check) -> str:
    """The name of a check in words."""
    return check.__name__.replace("_", " ")


def _one_line(error: SfrbenchError) -> str:
    """What is wrong and how to mend it, in one line each."""
    return "; ".join(" ".join(line.split()) for line in str(error).splitlines())
