"""JSON Schema (2020-12) of groups of fields and of cards: what may stand where, and what it means.

A schema passes what only code can judge: a class's own checks, and what two values must have in common.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from sfrbench.catalog.cards import Card, Catalog
from sfrbench.catalog.code import BASES
from sfrbench.catalog.fields import field_paths, nested
from sfrbench.components.base import KINDS, Component, Settings

Schema = dict[str, Any]
DRAFT = "https://json-schema.org/draft/2020-12/schema"
_AT = "#/$defs/"
#: What pydantic takes for true or false.
_WORDS = ("0", "1", "true", "false", "t", "f", "yes", "no", "y", "n", "on", "off")
_EITHER_CASE = "|".join("".join(f"[{a}{a.upper()}]" if a.isalpha() else a for a in word) for word in _WORDS)
FLAG: Schema = {
    "anyOf": [{"type": "boolean"}, {"enum": [0, 1]}, {"type": "string", "pattern": f"^({_EITHER_CASE})$"}]
}
#: Of a schema, what tells and does not judge.
_TELLS = ("description", "default")


def ref(name: str) -> Schema:
    return {"$ref": _AT + name}


def judged(schema: Schema) -> Schema:
    """A schema without what only tells."""
    return {key: item for key, item in schema.items() if key not in _TELLS}


@dataclass
class Definitions:
    """Schemas by name, which others refer to."""

    named: dict[str, Schema] = field(default_factory=lambda: {"flag": FLAG})

    def model(self, cls: type[BaseModel], *, partly: bool = False) -> Schema:
        """The schema of a model, what it refers to being defined. ``partly``: no field has to be given."""
        whole = cls.model_json_schema(ref_template=_AT + "{model}")
        for name, inner in whole.pop("$defs", {}).items():
            self.define(name, _tidy(inner, partly))
        return _tidy(whole, partly)

    def define(self, name: str, schema: Schema) -> Schema:
        """Keep a schema under a name; returns what refers to it."""
        if self.named.setdefault(name, schema) != schema:
            raise ValueError(f"two schemas are called '{name}'")
        return ref(name)

    def behind(self, schema: Schema) -> Schema:
        """A schema, or the one that it refers to."""
        return self.named[schema["$ref"].removeprefix(_AT)] if "$ref" in schema else schema


def _tidy(schema: Schema, partly: bool) -> Schema:
    """pydantic's schema in our words, no stricter than pydantic itself."""
    found: Schema = {}
    for key, item in schema.items():
        if key == "properties":
            found[key] = {name: _tidy(inner, partly) for name, inner in item.items()}
        elif isinstance(item, dict) and key != "default":
            found[key] = _tidy(item, partly)
        elif isinstance(item, list) and key in ("anyOf", "prefixItems"):
            found[key] = [_tidy(inner, partly) for inner in item]
        elif key == "description":
            found[key] = " ".join(item.replace("``", "").split())
        elif key != "title" and not (partly and key == "required"):
            found[key] = item
    if found.get("type") == "boolean" and "const" not in found:
        del found["type"]
        found |= ref("flag")
    if found.get("type") == "number":
        found.pop("multipleOf", None)  # a remainder of floats
    if "const" in found:
        found.pop("enum", None)  # some versions of pydantic give both
    if found.get("additionalProperties") is True:
        del found["additionalProperties"]  # and some say this
    return found


class Components:
    """The components of a catalog as schemas: of each kind the names, and at each path all that may be."""

    def __init__(self, catalog: Catalog, definitions: Definitions) -> None:
        self.definitions = definitions
        self.cards = {kind: catalog.cards(kind) for kind in KINDS}
        #: kind -> class -> its fields and groups of fields by dotted path.
        self.classes: dict[str, dict[type[Component], dict[str, Schema]]] = {}
        for kind in KINDS:
            classes = dict.fromkeys(card.component_class for card in self.cards[kind])
            self.classes[kind] = {cls: self.paths_of(cls) for cls in classes}
            self._define_names(kind)
            self._define_paths(kind)

    def names_of(self, cls: type[Component]) -> list[str]:
        return [card.name for card in self.cards[cls.kind] if card.component_class is cls]

    def paths(self, kind: str) -> list[str]:
        """What a component of a kind may be given, by dotted path."""
        return list(dict.fromkeys(path for paths in self.classes[kind].values() for path in paths))

    def paths_of(self, cls: type[Component]) -> dict[str, Schema]:
        """The fields of a class and groups of them, by dotted path."""
        properties = self.definitions.model(cls, partly=True).get("properties", {})
        return dict(self._walk(cls, properties, ""))

    def _walk(
        self, cls: type[Settings], properties: Mapping[str, Schema], before: str
    ) -> Iterable[tuple[str, Schema]]:
        for name, schema in properties.items():
            yield before + name, schema
            inner = nested(cls, name)
            if inner is not None:
                group = self.definitions.behind(schema)
                yield from self._walk(inner, group.get("properties", {}), f"{before}{name}.")

    def _define_names(self, kind: str) -> None:
        cards = self.cards[kind]
        told = [" ".join(card.summary.split()) for card in cards]
        self.definitions.define(
            f"{kind}.name", {"enum": [card.name for card in cards], "enumDescriptions": told}
        )

    def _define_paths(self, kind: str) -> None:
        """One schema for each path: what any class of the kind takes there."""
        for path in self.paths(kind):
            every = [paths[path] for paths in self.classes[kind].values() if path in paths]
            forms = list({json.dumps(judged(each), sort_keys=True): judged(each) for each in every}.values())
            schema = dict(forms[0]) if len(forms) == 1 else {"anyOf": forms}
            for key in _TELLS:
                said = {json.dumps(each[key]): each[key] for each in every if key in each}
                if len(said) == 1 and (key != "default" or len(every) == sum(key in one for one in every)):
                    schema[key] = next(iter(said.values()))
            self.definitions.define(f"{kind}.{path}", schema)

    def at(self, kind: str, path: str, cls: type[Component] | None = None) -> Schema:
        """What may stand at a path of a kind, or of one class of it."""
        whole = self.definitions.named[f"{kind}.{path}"]
        if cls is None:
            return ref(f"{kind}.{path}")
        own = self.classes[kind][cls][path]
        if "anyOf" in whole and judged(own) != judged(whole):
            return own
        return ref(f"{kind}.{path}") | {
            key: own[key] for key in _TELLS if key in own and own[key] != whole.get(key)
        }

    def fields(self, cls: type[Component]) -> Schema:
        """The fields of a class, groups of fields as one."""
        return {path: self.at(cls.kind, path, cls) for path in self.classes[cls.kind][cls] if "." not in path}


def card_schema(catalog: Catalog, kinds: Sequence[str] = KINDS) -> Schema:
    """The schema of cards of these kinds; ``preset`` and ``search`` by the class that ``target`` names."""
    definitions = Definitions()
    components = Components(catalog, definitions)
    whole = definitions.model(Card)
    targets: dict[str, type[Component]] = {}
    for kind in kinds:
        for card in components.cards[kind]:
            targets.setdefault(card.target, card.component_class)
    whole["properties"]["target"]["anyOf"] = [{"enum": sorted(targets)}, {"type": "string"}]
    rules = []
    for target, cls in sorted(targets.items()):
        preset = {"properties": components.fields(cls), "additionalProperties": False}
        paths = [*field_paths(cls), *(name for name in cls.model_fields if nested(cls, name))]
        rules.append(
            {
                "if": {"properties": {"target": {"const": target}}, "required": ["target"]},
                "then": {"properties": {"preset": preset, "search": {"propertyNames": {"enum": paths}}}},
            }
        )
    if len(kinds) == 1:  # a class of one's own has at least what every one has
        base = definitions.model(BASES[kinds[0]], partly=True).get("properties", {})
        other = {"if": {"properties": {"target": {"not": {"enum": sorted(targets)}}}, "required": ["target"]}}
        rules.append({**other, "then": {"properties": {"preset": {"properties": base}}}})
    title = "A component card of sfrbench" if len(kinds) > 1 else f"A {kinds[0]} card of sfrbench"
    return finished(title, {**whole, "allOf": rules}, definitions)


def finished(title: str, schema: Schema, definitions: Definitions) -> Schema:
    """A whole schema, with the definitions that it refers to, directly or not."""
    used: set[str] = set()
    waiting: list[Any] = [schema]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            name = str(item.get("$ref", "")).removeprefix(_AT)
            if name and name not in used:
                used.add(name)
                waiting.append(definitions.named[name])
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
    named = {name: definitions.named[name] for name in definitions.named if name in used}
    return {"$schema": DRAFT, "title": title, **schema, "$defs": named}


def dumped(schema: Schema) -> str:
    """A schema as text; each definition and each property of the whole is a line."""

    def line(item: Any) -> str:
        return json.dumps(item)

    def block(name: str, item: Any) -> str:
        if name not in ("$defs", "properties"):
            return f" {line(name)}: {line(item)}"
        inner = ",\n".join(f"  {line(key)}: {line(each)}" for key, each in item.items())
        return f" {line(name)}: {{\n{inner}\n }}"

    return "{\n" + ",\n".join(block(name, item) for name, item in schema.items()) + "\n}\n"
