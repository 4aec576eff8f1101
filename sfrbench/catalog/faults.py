"""Faults of form, as pydantic finds them, in our words: what, and how to mend it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import ValidationError

from sfrbench.catalog.fields import nested
from sfrbench.components.base import Component, Settings
from sfrbench.errors import Problem, did_you_mean, shown
from sfrbench.files.yamlio import Document, Where

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


def of_component(error: ValidationError, cls: type[Component]) -> Iterator[tuple[str, str, str]]:
    """Each fault of a component: the dotted path of its field, empty for one of several fields; what; how to
    mend it."""
    for fault in error.errors():
        path = ".".join(part for part in fault["loc"] if isinstance(part, str))
        yield path, f"{cls.kind}{'.' if path else ': '}{describe(fault)}", hint(fault, cls)


def concerns(path: str, name: str) -> bool:
    """Whether the path of a fault is that of a field, or of a part of it."""
    return path == name or path.startswith(f"{name}.")


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
