"""Values in JSON: where they stand, and what if one were another."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path to everything in a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, item in inside for path in ((*at, key), *places(item, (*at, key)))]


def mutants(whole: Any, at: Iterable[tuple[Any, ...]]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Copies of a JSON value in each of which one thing, at these places in turn, is another."""
    for number, path in enumerate(at):
        changed = json.loads(json.dumps(whole))
        inside = changed
        for key in path[:-1]:
            inside = inside[key]
        inside[path[-1]] = (None, [], {}, "x", -1, [1], {"a": 1})[number % 7]
        yield path, changed
