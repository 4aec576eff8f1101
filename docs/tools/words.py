"""Markdown of what the code says: values, what may stand somewhere, docstrings, tables."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from sfrbench.catalog.schema import Definitions, Schema

_NUMBERS = {"integer": "whole number", "number": "number"}
_SIMPLE = {"string": "text", "boolean": "true or false", "object": "mapping", "null": "none"}
_CODE = re.compile(r"(``.+?``|`[^`]+`)", re.DOTALL)
_ACTIVE = re.compile(r"([\\*_\[\]{}|#])")


def plain(text: str) -> str:
    """Text in which nothing but ``code`` means anything to Markdown."""
    parts = _CODE.split(text)
    parts[::2] = [_ACTIVE.sub(r"\\\1", part).replace("<", "&lt;") for part in parts[::2]]
    return "".join(parts)


def docstring(thing: object) -> str:
    """A docstring's paragraphs; of a class its own, not one that is inherited."""
    own = vars(thing).get("__doc__") if isinstance(thing, type) else thing.__doc__
    return paragraphs(inspect.cleandoc(own or ""))


def paragraphs(text: str) -> str:
    """Paragraphs and lists of a docstring, without its line breaks."""
    parts = re.split(r"\n\s*\n|\n(?=- )", text)
    return "\n\n".join(_paragraph(part) for part in parts)


def _paragraph(text: str) -> str:
    mark, body = ("- ", text[2:]) if text.startswith("- ") else ("", text)
    return mark + plain(" ".join(body.split()))


def code(text: str) -> str:
    return f"`{text}`"


def value(given: Any) -> str:
    """A value as it would stand in a specification; an empty text for one that says nothing."""
    if given is None:
        return code("null")
    if isinstance(given, BaseModel):
        given = given.model_dump(mode="json")
    if isinstance(given, str):
        return code(given) if given else code('""')
    if isinstance(given, Mapping):
        return code("{" + ", ".join(f"{key}: {_bare(each)}" for key, each in given.items()) + "}")
    return code(_bare(given))


def _bare(given: Any) -> str:
    if isinstance(given, float):
        return f"{given:g}"
    if isinstance(given, (list, tuple)):
        return "[" + ", ".join(_bare(each) for each in given) + "]"
    return given if isinstance(given, str) else json.dumps(given)


def may_be(schema: Schema, definitions: Definitions) -> str:
    """What a schema lets stand, in words."""
    schema = definitions.behind(schema)
    if schema == definitions.named["flag"]:
        return "true or false"
    if "enum" in schema:
        return " or ".join(value(each) for each in schema["enum"])
    if "const" in schema:
        return value(schema["const"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(may_be(each, definitions) for each in schema["anyOf"]))
    kind = schema.get("type", "")
    if isinstance(kind, list):
        return " or ".join(may_be({**schema, "type": each}, definitions) for each in kind)
    if kind == "array":
        return _list(schema, definitions)
    if kind in _NUMBERS:
        return _NUMBERS[kind] + _bounds(schema)
    return _SIMPLE.get(kind, "anything")


def _list(schema: Schema, definitions: Definitions) -> str:
    inner = schema.get("prefixItems")
    if inner:
        each = list(dict.fromkeys(may_be(one, definitions) for one in inner))
        return f"list of {len(inner)}: {' and '.join(each)}"
    items = schema.get("items")
    least = " (one at least)" if schema.get("minItems") == 1 else ""
    told = f"list: {may_be(items, definitions)}" if items else "list"
    return told + least


def _bounds(schema: Schema) -> str:
    """`` ≥ 1, ≤ 256``."""
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    said = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema]
    if "multipleOf" in schema:
        said.append(f"a multiple of {schema['multipleOf']}")
    return " " + ", ".join(said) if said else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, each cell on one line; nothing where there are no rows."""
    lines = [[" ".join(cell.split()) for cell in row] for row in rows]
    if not lines:
        return ""
    marks = ["---"] * len(head)
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, marks, *lines)) + "\n"


def fields(schema: Schema, definitions: Definitions) -> str:
    """The properties of a mapping: name, what may stand there, default, meaning."""
    rows = []
    required = schema.get("required", ())
    for name, inner in schema["properties"].items():
        default = "required" if name in required else value(inner["default"]) if "default" in inner else ""
        rows.append((code(name), may_be(inner, definitions), default, plain(inner.get("description", ""))))
    return table(("key", "may be", "default", "meaning"), rows)


def count(number: int) -> str:
    return f"{number:,}"
