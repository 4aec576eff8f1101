"""What stands under every table whose rows come of trainings that see different numbers of patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sfrbench.plan.budgets import difference
from sfrbench.report.render.parts import Part
from sfrbench.report.render.under import with_rules

if TYPE_CHECKING:
    from sfrbench.report.facts.info import ReportInfo


def with_patches(part: Part, info: ReportInfo) -> Part:
    """The part, each of its tables with that sentence where it holds."""

    def say(cells: set[str]) -> list[str]:
        said = difference(seen for cell, seen in info.patches.items() if cell in cells)
        return [said] if said else []

    return with_rules(part, say, figures=False)
