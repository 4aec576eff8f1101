"""A specification as YAML, each value with what stands behind it as a comment."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from sfrbench.errors import InputError
from sfrbench.files.yamlio import read_value
from sfrbench.spec.overlay import Told

#: What is said of a value; nothing where it is empty.
Origin = Callable[[Told], str]
_PLAIN = re.compile(r"[^\W\d][\w ./%()+;-]*", re.ASCII)
_SHORT = 70  # characters of a list on one line


def written(whole: Told, origin: Origin = lambda item: "") -> str:
    """YAML of what is told, which reads back as the same values."""
    return "".join(f"{line}\n" for line in _lines(whole, origin, ""))


def _lines(item: Told, origin: Origin, indent: str) -> Iterator[str]:
    """The lines of a mapping or a list that is not empty."""
    pairs = item.value.items() if isinstance(item.value, dict) else ((None, each) for each in item.value)
    for key, each in pairs:
        head = f"{indent}-" if key is None else f"{indent}{text(key)}:"
        line, said = _inline(each, origin)
        if line is not None:
            yield f"{head} {line}{'  # ' if said else ''}{said}"
            continue
        below = list(_lines(each, origin, indent + "  "))
        if key is None:  # the first line of an entry stands beside its dash
            yield f"{head} {below.pop(0).lstrip(' ')}"
        else:
            yield head
        yield from below


def _inline(item: Told, origin: Origin) -> tuple[str | None, str]:
    """A value that takes one line, and what is said of it; no line where it takes several."""
    if isinstance(item.value, dict):
        return (None, "") if item.value else ("{}", origin(item))
    if not isinstance(item.value, list):
        return scalar(item.value), origin(item)
    said = {origin(each) for each in item.value}
    plain = all(not isinstance(each.value, (dict, list)) for each in item.value)
    line = f"[{', '.join(scalar(each.value) for each in item.value)}]" if plain else ""
    if not item.value:
        return line, origin(item)
    return (line, said.pop()) if plain and len(said) == 1 and len(line) <= _SHORT else (None, "")


def scalar(value: Any) -> str:
    """A text, a number, true, false or null."""
    return text(value) if isinstance(value, str) else json.dumps(value)


def flow(value: Any) -> str:
    """Plain data on one line, as YAML."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{text(key)}: {flow(item)}' for key, item in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(flow, value))}]"
    return scalar(value)


def one_line(value: str) -> str:
    """A text as a comment may hold it."""
    return "".join(each if each.isprintable() else "?" for each in value)


def text(value: str) -> str:
    """A text as it is where it reads back as one, else in quotes."""
    if _PLAIN.fullmatch(value) and not value.endswith(" ") and _reads_back(value):
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(each if each.isprintable() else f"\\U{ord(each):08x}" for each in quoted)


def _reads_back(value: str) -> bool:
    try:
        return bool(read_value(value, "") == value)
    except InputError:
        return False
