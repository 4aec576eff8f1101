"""JSON Schema of specifications: sections, components with their fields, axes, searches, report items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sfrbench.catalog.cards import Catalog
from sfrbench.catalog.schema import Components, Definitions, Schema, finished, ref
from sfrbench.components.base import KINDS, Component
from sfrbench.maths.metric_names import METRICS
from sfrbench.spec import checks, predictions, search
from sfrbench.spec.model import PROFILES, SWITCHES, ItemKinds
from sfrbench.spec.reader import SpecFile
from sfrbench.stages.finder import named_stages

_TEXT: Schema = {"type": "string", "minLength": 1}
_SEEDS: Schema = {
    "type": ["array", "null"], "items": {"type": "integer"}, "minItems": 1, "uniqueItems": True,
}  # fmt: skip
_STAGES: Schema = {"type": "array", "minItems": 1, "items": {"enum": sorted(named_stages())}}
_HEADS = "|".join((*KINDS, *SWITCHES))
_PATH = rf"\s*({_HEADS})(\.[^,]*)?\s*"


def spec_schema(catalog: Catalog, items: ItemKinds) -> Schema:
    """The schema of a specification; its components are in ``catalog``, its report may have ``items``."""
    definitions = Definitions()
    components = Components(catalog, definitions)
    for kind in KINDS:
        definitions.define(kind, _component(components, kind))
        definitions.define(f"{kind} of an arm", _own_fields(components, kind))
    whole = definitions.model(SpecFile)
    sections = _sections(components, items)
    for name, schema in whole["properties"].items():
        told = {"description": schema["description"]} if "description" in schema else {}
        whole["properties"][name] = {**sections.get(name, schema), **told}
    del whole["required"], whole["description"]
    inherits = {"required": ["extends"]}
    rules = [{"if": {"not": inherits}, "then": {"required": ["title", "dataset"]}}, _arms_alone(definitions)]
    return finished("An experiment of sfrbench", {**whole, "allOf": rules}, definitions)


def _sections(components: Components, items: ItemKinds) -> Mapping[str, Schema]:
    definitions = components.definitions
    choices = definitions.define("choices", _section(components, {}))
    axes = definitions.define("axes", _axes(components))
    exclude = {
        "type": "array",
        "items": definitions.define("exclusion", definitions.model(checks.ExclusionEntry)),
    }
    local = definitions.model(checks.LocalEntry)
    local["properties"]["base"] = {**choices, "minProperties": 1}
    points = {"type": "array", "items": definitions.define("point", local)}
    arm = definitions.define("arm", _arm(components))
    ranges = definitions.define("search", _search(components))
    facts = {
        "seeds": _SEEDS,
        "axes": {"anyOf": [axes, {"type": "null"}]},
        "replace": _replace(),
        "arms": {
            "type": "object",
            "additionalProperties": _section(components, {"label": _label()}),
        },
        "exclude": exclude,
        "points": points,
        "search": ranges,
    }
    profile = definitions.define("profile", _section(components, facts))
    return {
        "extends": {**_TEXT, "examples": ["quickstart", "../base.yaml"]},
        "dataset": ref("dataset"),
        "protocol": ref("protocol"),
        "base": choices,
        "arms": {"type": "array", "items": arm},
        "axes": axes,
        "exclude": exclude,
        "points": points,
        "seeds": _SEEDS,
        "stages": {"anyOf": [_STAGES, {"type": "null"}]},
        "report": {"type": "array", "items": definitions.define("item", _item(definitions, items))},
        "search": ranges,
        "profiles": _object(dict.fromkeys(PROFILES, profile)),
    }


def _object(properties: Mapping[str, Schema]) -> Schema:
    return {"type": "object", "properties": dict(properties), "additionalProperties": False}


def _component(components: Components, kind: str) -> Schema:
    """A component: its name, or a mapping of name and fields.

    The fields are told by the class that the name means. In ``base`` whichever component has them reads them,
    so that those of other classes may stand there, too.
    """
    paths = components.paths(kind)
    rules: list[Schema] = [{"if": {"type": "string"}, "then": ref(f"{kind}.name")}]
    for cls in components.classes[kind]:
        fields = {"properties": components.fields(cls)}
        own = components.definitions.define(f"{kind} {cls.__name__}", fields)
        rules.append({"if": _named(components, cls), "then": own})
    whole = {path: components.at(kind, path) for path in paths if "." not in path}
    rules.append({"if": {"type": "object", "not": {"required": ["name"]}}, "then": {"properties": whole}})
    inner = {path: components.at(kind, path) for path in paths if "." in path}
    return {
        "type": ["string", "object"],
        "properties": {"name": ref(f"{kind}.name"), **inner},
        "propertyNames": {"enum": ["name", *paths]},
        "allOf": rules,
    }


def _own_fields(components: Components, kind: str) -> Schema:
    """A component that has no fields but those of the class that it names."""
    rules = [
        {"if": _named(components, cls), "then": {"propertyNames": {"enum": ["name", *paths]}}}
        for cls, paths in components.classes[kind].items()
    ]
    return {"allOf": rules}


def _named(components: Components, cls: type[Component]) -> Schema:
    names = {"name": {"enum": components.names_of(cls)}}
    return {"type": "object", "properties": names, "required": ["name"]}


def _choices(components: Components) -> dict[str, Schema]:
    """Components, their fields by path, and switches."""
    found: dict[str, Schema] = {kind: ref(kind) for kind in KINDS}
    for kind in KINDS:
        found |= {f"{kind}.{path}": components.at(kind, path) for path in components.paths(kind)}
    return found | {switch: {"enum": list(values)} for switch, values in SWITCHES.items()}


def _section(components: Components, own: Mapping[str, Schema]) -> Schema:
    """A section of choices, with keys of its own."""
    known = _choices(components)
    anything = components.definitions.define("choice", {"properties": known})
    return {
        "type": "object",
        "allOf": [anything],
        "properties": dict(own),
        "propertyNames": {"enum": [*own, *known]},
    }


def _arm(components: Components) -> Schema:
    given = components.definitions.model(predictions.Entry)
    given.pop("required")  # what is inherited may have it
    given["properties"]["labels"] = {
        "type": ["object", "null"],
        "minProperties": 1,
        "propertyNames": {"pattern": rf"^(-?[0-9]{{1,9}}|{predictions.OTHER})$"},
        "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 255},
    }
    whole = _section(
        components,
        {
            "name": _TEXT,
            "label": _label(),
            "stages": _STAGES,
            "without": {"type": "array", "description": "axes that mean nothing to it"},
            "predictions": {
                "anyOf": [_TEXT, given],
                "description": "a folder of label maps that another tool made",
            },
        },
    )
    return {**whole, "required": ["name"]}


def _arms_alone(definitions: Definitions) -> Schema:
    """Fields of an arm are those of the component that it names, where nothing else may name one for it."""
    kinds = "|".join(KINDS)
    others = {"propertyNames": {"not": {"pattern": rf"(^|,)\s*({kinds})\s*(,|$)"}}}
    rule = {"properties": {kind: ref(f"{kind} of an arm") for kind in KINDS}}
    return {
        "if": {"properties": {"axes": others}, "not": {"required": ["extends"]}},
        "then": {"properties": {"arms": {"items": rule}}},
    }


def _label() -> Schema:
    return {"type": ["string", "number", "boolean", "null"], "description": "what tables call it"}


def _axes(components: Components) -> Schema:
    """Axes by their paths; tied ones stand behind one another with commas."""
    several = {"type": "array", "minItems": 1}
    values = {path: {**several, "items": schema} for path, schema in _choices(components).items()}
    return {
        "type": "object",
        "properties": values,
        "patternProperties": {
            rf"^{_PATH}(,{_PATH})+$": {**several, "items": {"type": "array", "minItems": 2}},
            rf"^(\s+({_HEADS})[^,]*|({_HEADS})[^,]*\s+)$": several,
        },
        "additionalProperties": False,
    }


def _replace() -> Schema:
    swaps: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
    modes = [value for value in SWITCHES["pseudo"] if value != "none"]
    pseudo = {**swaps, "propertyNames": {"enum": modes}, "additionalProperties": {"enum": modes}}
    either = {"anyOf": [{"type": "string"}, swaps]}
    return _object({**dict.fromkeys(KINDS, either), "pseudo": pseudo})


def _search(components: Components) -> Schema:
    """A search, or the keys of it that a profile replaces."""
    number: Schema = {"type": "number"}
    limits = {
        "type": "object",
        "properties": {"low": number, "high": number, "log": {"enum": [True, False, 0, 1]}}
        | {"step": {"type": ["number", "null"]}},
        "required": ["low", "high"],
        "additionalProperties": False,
    }
    scalar = {"type": ["string", "number", "boolean", "null"]}
    choices = _object({"choices": {"type": "array", "items": scalar, "minItems": 2}})
    forms: Iterable[Schema] = (
        {"const": "card", "description": "the range of the card"},
        {"type": "array", "items": number, "minItems": 2, "maxItems": 2, "description": "from low to high"},
        limits,
        {**choices, "required": ["choices"]},
    )
    whole = components.definitions.model(search.Section, partly=True)
    whole["properties"]["params"] = {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"enum": list(_choices(components))},
        "additionalProperties": {"anyOf": list(forms)},
    }
    whole["properties"]["metric"]["enum"] = [*METRICS, *(f"val.{name}" for name in METRICS)]
    whole["properties"]["score"]["const"] = "val"
    whole["properties"]["seeds"] = _SEEDS
    return {**whole, "type": ["object", "null"]}


def _item(definitions: Definitions, items: ItemKinds) -> Schema:
    """An entry of the report: the fields of the one kind that it gives."""
    rules: list[Schema] = []
    names: dict[str, Any] = {}
    for kind, cls in items.items():
        schema = definitions.model(cls)
        names |= dict.fromkeys(schema["properties"])
        schema["properties"] |= {other: {"type": "null"} for other in items if other != kind}
        given = {"required": [kind], "properties": {kind: {"not": {"type": "null"}}}}
        rules.append({"if": given, "then": definitions.define(f"item {kind}", schema)})
    return {
        "type": "object",
        "propertyNames": {"enum": list(names)},
        "anyOf": [{"required": [kind]} for kind in items],
        "allOf": rules,
    }
