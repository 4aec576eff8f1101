"""What stands under every table whose rows come of trainings that see different numbers of patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sfrbench.plan.budgets import difference
from sfrbench.report.render.parts import Part, Traced
from sfrbench.report.render.prompts import cells_of

if TYPE_CHECKING:
    from sfrbench.report.facts.info import ReportInfo
    from sfrbench.report.render.tables import Table


def with_patches(part: Part, info: ReportInfo) -> Part:
    """The part, each of its tables with that sentence where it holds."""
    if not info.patches:
        return part
    tables = [_table(table, part.behind.get(table.name, ()), info) for table in part.tables]
    return replace(part, tables=tables)


def _table(table: Table, behind: Sequence[Traced], info: ReportInfo) -> Table:
    cells = cells_of(behind)
    said = difference(seen for cell, seen in info.patches.items() if cell in cells)
    return replace(table, rules=(*table.rules, said)) if said else table
