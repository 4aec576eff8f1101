"""Which checks a card is put through, and the way through all of them."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast

from sfrbench.catalog.cards import Card, Catalog
from sfrbench.components.base import KINDS, Component
from sfrbench.conformance import card as every_card
from sfrbench.conformance.checks import Check, Result, Subject, title, tried
from sfrbench.errors import InputError, did_you_mean
from sfrbench.files.atomic import canonical


class Suite(Protocol):
    """What the module of a kind holds; it is named as the kind."""

    OF_CARDS: tuple[Check, ...]  # of every card, whatever is here
    FIRST: tuple[Check, ...]  # of what ``small`` gives, once it is ``ready``; where one fails, others mislead
    CHECKS: tuple[Check, ...]  # the others of it

    def small(self, subject: Subject, /) -> Component:
        """The component that the checks try. Cards that lead to equal ones are tried once."""

    def ready(self, subject: Subject, /) -> None:
        """Raises ``NotReadyError`` where the checks need weights or data that are not here."""


def suite_of(kind: str) -> Suite:
    """The suite of a kind, imported now: it may load torch."""
    return cast(Suite, importlib.import_module(f"sfrbench.conformance.{kind}"))


def checks_of(card: Card) -> tuple[Check, ...]:
    """The checks of a card's class: of a kind whose classes can do different things, those of what it can."""
    suite = suite_of(card.kind)
    own = getattr(suite, "checks_of", None)
    return cast("tuple[Check, ...]", own(card.component_class) if own else suite.CHECKS)


def chosen(catalog: Catalog, names: Sequence[str]) -> list[Card]:
    """The cards of ``KIND/NAME`` or ``KIND``; all where none is named. Raises ``InputError``."""
    found: dict[tuple[str, str], Card] = {}
    for name in names:
        kind, slash, own = name.partition("/")
        if kind not in KINDS:
            raise InputError(f"'{name}': no kind '{kind}'", hint=did_you_mean(kind, KINDS))
        cards = [catalog.card(kind, own)] if slash else catalog.cards(kind)
        found |= {(card.kind, card.name): card for card in cards}
    return list(found.values()) if names else catalog.cards()


class Examination:
    """Puts cards through their suites. Outcomes are kept: two cards that differ in what the suite scales
    away, such as the length of a training, share them."""

    def __init__(self, data: Mapping[str, Path] | None = None) -> None:
        self._data = data or {}
        self._known: dict[tuple[str, str, str], Result] = {}
        self._kept: tuple[tuple[str, str], dict[str, Any]] = ("", ""), {}  # of the last component alone
        self._folder = tempfile.TemporaryDirectory(prefix="sfrbench-conform-")

    def of(self, card: Card) -> Iterator[Result]:
        """The results of one card, one after the other. Checks that need what is not here are not tried."""
        for check in every_card.CHECKS:
            yield self.result(check, card)
        if card.problems():
            return
        suite = suite_of(card.kind)
        for check in suite.OF_CARDS:
            yield self.result(check, card)
        ready = self.result(suite.ready, card)
        if ready.status != "holds":
            yield replace(ready, check="what it needs")
            return
        for check in suite.FIRST:
            result = self.once(check, card)
            yield result
            if result.status == "does not hold":
                return
        for check in checks_of(card):
            yield self.once(check, card)

    def result(self, check: Check, card: Card, kept: dict[str, Any] | None = None) -> Result:
        """What becomes of one check of one card, with what checks of an equal component have ``kept``."""
        shared = Path(self._folder.name)
        with tempfile.TemporaryDirectory(prefix="check-", dir=shared) as folder:
            return tried(check, Subject(card, Path(folder), shared, self._data, {} if kept is None else kept))

    def once(self, check: Check, card: Card) -> Result:
        """One check of a kind, or what became of it for an equal component."""
        shared = Path(self._folder.name)
        component = suite_of(card.kind).small(Subject(card, shared, shared, self._data))
        own = card.kind, canonical(component.key_settings())
        key = *own, title(check)
        if key not in self._known:
            if self._kept[0] != own:
                self._kept = own, {}
            self._known[key] = self.result(check, card, self._kept[1])
        return replace(self._known[key], card=f"{card.kind}/{card.name}")
