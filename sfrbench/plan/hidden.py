"""Choices that another one hides in every cell: a wrong name or value is a fault all the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from sfrbench.catalog.cards import Card
from sfrbench.catalog.faults import concerns, of_component
from sfrbench.catalog.fields import field_exists, field_paths
from sfrbench.components.base import KINDS, Component
from sfrbench.errors import InputError, Problem, did_you_mean
from sfrbench.plan.resolve import Resolver, unflatten
from sfrbench.spec.model import Layer, Spec


def check_hidden(resolver: Resolver) -> None:
    """Note a name that no card has, a field that no component has, a value that none with the field takes."""
    known = {problem.where for problem in resolver.problems}
    for layer in _layers(resolver.spec):
        for path, value in layer.choices.items():
            kind, _, name = path.partition(".")
            where = layer.where(path)
            if kind not in KINDS or where in known or (path, where) in resolver.in_use:
                continue
            for problem in _name(resolver, kind, value) if not name else _value(resolver, kind, name, value):
                resolver.add(where, problem.what, problem.hint)


def _layers(spec: Spec) -> Iterator[Layer]:
    yield spec.base
    yield from (entry.layer for entry in (*spec.points, *spec.overlay_points))
    yield spec.overlay
    yield from (arm.layer for arm in spec.arms)


def _name(resolver: Resolver, kind: str, name: Any) -> list[Problem]:
    try:
        resolver.catalog.card(kind, name)
    except InputError as error:
        return [Problem("", f"{kind}: {each.what}", each.hint) for each in error.problems]
    return []


def _value(resolver: Resolver, kind: str, name: str, value: Any) -> list[Problem]:
    """What every component with this field has against a value; those in use are asked first."""
    said: list[Problem] = []
    known: set[str] = set()
    for cls, card in _classes(resolver, kind):
        known.update(field_paths(cls))
        if field_exists(cls, name):
            faults = _faults(card, name, value)
            if not faults:
                return []
            said = said or faults
    return said or [Problem("", f"{kind}.{name}: no {kind} has a field '{name}'", did_you_mean(name, known))]


def _classes(resolver: Resolver, kind: str) -> Iterator[tuple[type[Component], Card]]:
    """The classes of a kind, each with a card of it."""
    seen = set()
    for card in (*resolver.cards_in_use(kind), *resolver.catalog.cards(kind)):
        if card.target not in seen:
            seen.add(card.target)
            with suppress(InputError):  # a broken card that nothing uses is no fault of the specification
                yield card.component_class, card


def _faults(card: Card, name: str, value: Any) -> list[Problem]:
    try:
        card.component(unflatten({name: value}))
    except ValidationError as error:
        # not what it has against other fields
        every = of_component(error, card.component_class)
        return [Problem("", what, hint) for path, what, hint in every if concerns(path, name)]
    except InputError:
        return []
    return []
