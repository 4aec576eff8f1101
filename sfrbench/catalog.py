"""Component cards: which components exist, found without importing any of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from pydantic import Field, PrivateAttr, ValidationError

from sfrbench.card_code import class_of, guarded
from sfrbench.components.base import KINDS, Component, Settings
from sfrbench.errors import InputError, Problem, did_you_mean, shown
from sfrbench.roots import shipped
from sfrbench.yamlio import Document, Where, load


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
            for path in sorted(root.glob("*/*.yaml")):
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


def nested(cls: type[Settings], name: str) -> type[Settings] | None:
    """The settings class of a field, where the field is a group of fields."""
    annotation = cls.model_fields[name].annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, Settings) else None


def field_paths(cls: type[Settings]) -> list[str]:
    """Every field of a settings class by dotted path."""
    paths = []
    for name in cls.model_fields:
        inner = nested(cls, name)
        paths += [name] if inner is None else [f"{name}.{path}" for path in field_paths(inner)]
    return paths


def field_exists(cls: type[Settings], path: str) -> bool:
    """Whether a dotted path names a field (or a group of fields) of a settings class."""
    head, _, rest = path.partition(".")
    if head not in cls.model_fields:
        return False
    inner = nested(cls, head)
    return not rest or (inner is not None and field_exists(inner, rest))


#: Type of a pydantic fault -> what is needed, and how to write it.
_NEEDED = {
    "model_type": ("a mapping", "as in {FIELD: VALUE}"),
    "dict_type": ("a mapping", "as in {KEY: VALUE}"),
    "list_type": ("a list", "as in [VALUE, VALUE]"),
    "string_type": ("text", "put it in quotes where it is meant as text"),
}
_HINTS = {"missing": "add it", "string_pattern_mismatch": "as in module:Class"}


def describe(fault: Mapping[str, Any]) -> str:
    """A pydantic fault in our words: ``steps: 0 is below the bound 1``."""
    name = ".".join(str(part) for part in fault["loc"])
    value, context, kind = fault.get("input"), fault.get("ctx", {}), fault["type"]
    bounds = {
        "less_than_equal": ("above", "le"),
        "less_than": ("not below", "lt"),
        "greater_than_equal": ("below", "ge"),
        "greater_than": ("not above", "gt"),
    }
    if kind in bounds:
        word, limit = bounds[kind]
        return f"{name}: {shown(value)} is {word} the bound {context[limit]}"
    if kind == "extra_forbidden":
        return f"no field '{name}'"
    if kind == "missing":
        return f"'{name}' is missing"
    if kind in _NEEDED:
        return f"{name}: {_NEEDED[kind][0]} is needed, got {shown(value)}"
    if kind == "value_error":
        text = str(context.get("error", fault["msg"]))
        return f"{name}: {text}" if name else text
    return f"{name}: {fault['msg'][0].lower()}{fault['msg'][1:]}, got {shown(value)}"


def hint(fault: Mapping[str, Any], cls: type[Settings]) -> str:
    """How to mend a pydantic fault of ``cls``."""
    if fault["type"] == "literal_error":
        return did_you_mean(str(fault["input"]), re.findall("'([^']*)'", fault["ctx"]["expected"]))
    if fault["type"] != "extra_forbidden":
        return _NEEDED.get(fault["type"], ("", _HINTS.get(fault["type"], "")))[1]
    inner: type[Settings] | None = cls
    for part in fault["loc"][:-1]:
        inner = _group(inner, str(part)) if inner and part in inner.model_fields else None
    return did_you_mean(str(fault["loc"][-1]), inner.model_fields) if inner else ""


def _group(cls: type[Settings], name: str) -> type[Settings] | None:
    """As ``nested``, also where the field may be none."""
    found = (nested(cls, name), *get_args(cls.model_fields[name].annotation))
    return next((one for one in found if isinstance(one, type) and issubclass(one, Settings)), None)


def form_problem(document: Document, fault: Mapping[str, Any], at: Where, cls: type[Settings]) -> Problem:
    """A pydantic fault of the section at ``at``, in our words and with its place."""
    loc = tuple(part for part in fault["loc"] if not str(part).startswith(("function-", "str", "dict[")))
    return Problem(document.where(*at, *loc), describe({**fault, "loc": (*at, *loc)}), hint(fault, cls))
