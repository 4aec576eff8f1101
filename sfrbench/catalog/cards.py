"""Component cards: which components exist, found without importing any of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field, PrivateAttr, ValidationError

from sfrbench.catalog.code import class_of, guarded
from sfrbench.catalog.faults import describe, hint
from sfrbench.catalog.fields import field_exists, field_paths, nested
from sfrbench.components.base import KINDS, Component, Settings
from sfrbench.errors import InputError, Problem, did_you_mean
from sfrbench.files.roots import shipped
from sfrbench.files.yamlio import Document, load


class Card(Settings):
    """A YAML file that names a component; the class holds types, defaults and bounds."""

    target: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", description="module:Class")
    summary: str
    label: str
    cite: str | None = None
    preset: dict[str, Any] = {}
    search: dict[str, Any] = {}
    needs: tuple[str, ...] = ()
    figures: dict[str, Any] = {}

    _kind: str = PrivateAttr("")
    _name: str = PrivateAttr("")
    _document: Document = PrivateAttr()

    @property
    def kind(self) -> str:
        return self._kind

    @property
    def name(self) -> str:
        return self._name

    @property
    def path(self) -> Path:
        return self._document.path

    @property
    def component_class(self) -> type[Component]:
        """The class behind the card, imported now. Raises ``InputError`` naming the card."""
        if isinstance(self._loaded, InputError):
            raise self._loaded
        return self._loaded

    @cached_property
    def _loaded(self) -> type[Component] | InputError:
        try:
            return class_of(self.target, self.kind, self._document.where("target"))
        except InputError as error:  # kept: a module is imported once
            return error

    def sound(self, doing: str) -> AbstractContextManager[None]:
        """What the class's own code raises, but for what it finds wrong with fields, names the card."""
        return guarded(f"target '{self.target}': {doing}", self._document.where("target"))

    def component(self, fields: Mapping[str, Any]) -> Component:
        """The component with the card's preset and ``fields`` over it. Raises ``ValidationError``.

        A group of fields that is given in part keeps the class's own default for the rest of the group, not
        the group's: ``optim: {clip: 1}`` changes the clipping and leaves a method's optimiser alone.
        """
        cls = self.component_class
        with self.sound("making it"):
            return cls.model_validate(merge(merge(group_defaults(cls), self.preset), fields))

    def problems(self) -> list[Problem]:
        """What is wrong with the card's target, preset and search range."""
        try:
            cls = self.component_class
        except InputError as error:
            return list(error.problems)
        found: list[Problem] = []
        try:
            self.component({})
        except InputError as error:
            return list(error.problems)
        except ValidationError as error:
            found += [
                Problem(
                    self._document.where("preset", *fault["loc"]),
                    f"preset: {describe(fault)}",
                    hint(fault, cls),
                )
                for fault in error.errors()
            ]
        for path in self.search:
            if not field_exists(cls, path):
                where = self._document.where("search", path)
                found.append(
                    Problem(where, f"search: no field '{path}'", did_you_mean(path, field_paths(cls)))
                )
        return found


class Catalog:
    """The cards of one or more registry folders."""

    def __init__(self, roots: Sequence[Path], cards: Mapping[tuple[str, str], Card]) -> None:
        self.roots = tuple(roots)
        self._cards = dict(cards)

    @classmethod
    def read(cls, extra: Iterable[Path] = ()) -> Catalog:
        """Read the shipped registry and ``extra`` folders; all faults are raised at once."""
        roots = [shipped("registry"), *extra]
        cards: dict[tuple[str, str], Card] = {}
        problems: list[Problem] = []
        for root in roots:
            if not root.is_dir():
                problems.append(Problem(str(root), "no such registry folder", "give a folder to --registry"))
                continue
            files = sorted(root.glob("*/*.yaml"))
            if not files:
                remedy = "cards are files such as stitch/mine.yaml below the folder that --registry names"
                problems.append(Problem(str(root), "this registry folder holds no card", remedy))
            for path in files:
                try:
                    card = read_card(path)
                except InputError as error:
                    problems += error.problems
                    continue
                other = cards.get((card.kind, card.name))
                if other is not None:
                    what = f"{card.kind}/{card.name} is defined twice, also in {other.path}"
                    problems.append(Problem(str(path), what, "rename one of the two files"))
                cards[card.kind, card.name] = card
        if problems:
            raise InputError.of(problems)
        return cls(roots, cards)

    def names(self, kind: str) -> list[str]:
        return [name for known, name in self._cards if known == kind]

    def cards(self, kind: str | None = None) -> list[Card]:
        order = {kind: index for index, kind in enumerate(KINDS)}
        chosen = [card for card in self._cards.values() if kind in (None, card.kind)]
        return sorted(chosen, key=lambda card: (order[card.kind], card.name))

    def card(self, kind: str, name: str) -> Card:
        """One card. Raises ``InputError`` with the nearest names."""
        card = self._cards.get((kind, name))
        if card is None:
            raise InputError(
                f"no component '{name}' of kind '{kind}'", hint=did_you_mean(name, self.names(kind))
            )
        return card


def read_card(path: Path) -> Card:
    """One card; its kind is the folder's name, its own name the file's."""
    document = load(path)
    kind = path.parent.name
    problems = []
    if kind not in KINDS:
        problems.append(Problem(str(path), f"'{kind}' is no kind of component", did_you_mean(kind, KINDS)))
    try:
        card = Card.model_validate(document.data)
    except ValidationError as error:
        problems += [
            Problem(document.where(*fault["loc"]), f"card: {describe(fault)}", hint(fault, Card))
            for fault in error.errors()
        ]
    if problems:
        raise InputError.of(problems)
    card._kind, card._name, card._document = kind, path.stem, document
    return card


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` laid on ``base``; nested mappings are merged, everything else is replaced."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = merge(old, value) if both else value  # type: ignore[arg-type]
    return result


def group_defaults(cls: type[Settings]) -> dict[str, Any]:
    """The default of every group of fields, as the class states it."""
    groups = [name for name in cls.model_fields if nested(cls, name) is not None]
    defaults = {name: cls.model_fields[name].get_default(call_default_factory=True) for name in groups}
    return {name: value.model_dump() for name, value in defaults.items() if isinstance(value, Settings)}
