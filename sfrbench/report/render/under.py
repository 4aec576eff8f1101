"""Words under the tables and figures of a part, by the cells that each stands on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from sfrbench.report.render.parts import Part, Traced

#: Sentences on some cells.
Say = Callable[[set[str]], list[str]]


def cells_of(behind: Iterable[Traced]) -> set[str]:
    """The cells that rows or lines stand on."""
    return {cell for one in behind for cell in _cells(one.behind())}


def _cells(facts: Mapping[str, Any]) -> Iterator[str]:
    cells = facts.get("cells", ())
    yield from map(str, cells.values() if isinstance(cells, Mapping) else cells)
    for side in facts.get("sides", ()):
        yield from _cells(side)


def with_rules(part: Part, say: Say, *, figures: bool) -> Part:
    """The part, with what there is to say under each of its tables, and under ``figures`` too."""

    def said(name: str) -> list[str]:
        return say(cells_of(part.behind.get(name, ())))

    tables = [replace(one, rules=(*one.rules, *said(one.name))) for one in part.tables]
    if not figures:
        return replace(part, tables=tables)
    drawn = [replace(one, notes=(*one.notes, *said(one.name))) for one in part.figures]
    return replace(part, tables=tables, figures=drawn)
