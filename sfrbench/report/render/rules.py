"""Where a rule stands on a page: once for all sections, once for a section, or under one table or figure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sfrbench.report.render.parts import Part


@dataclass(frozen=True)
class Rules:
    """``page`` holds the rules of several sections, ``sections`` those of several items of only one."""

    page: tuple[str, ...]
    sections: tuple[tuple[str, ...], ...]

    def own(self, rules: Sequence[str], section: int) -> list[str]:
        """What remains to be said under an item of a section."""
        return [rule for rule in rules if rule not in self.page and rule not in self.sections[section]]


def placed(sections: Sequence[Sequence[Part]]) -> Rules:
    """Every rule in the one place from which it covers all tables and figures that need it."""
    listed = [
        [table.rules for part in parts for table in part.tables]
        + [figure.notes for part in parts for figure in part.figures]
        for parts in sections
    ]
    page = _several([rule for item in items for rule in item] for items in listed)
    return Rules(page, tuple(tuple(rule for rule in _several(items) if rule not in page) for items in listed))


def _several(groups: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """The texts that more than one group holds, in the order of their first appearance."""
    counts: dict[str, int] = {}
    for group in groups:
        for text in dict.fromkeys(group):
            counts[text] = counts.get(text, 0) + 1
    return tuple(text for text, count in counts.items() if count > 1)
