"""The rounds of SFR+ and of self-training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from sfrbench.report.item import Context, OfArms
from sfrbench.report.render.parts import Part, Traced


class RoundsItem(OfArms):
    """What the rounds chose from, and the pseudo-labels before and after them."""

    kind: ClassVar[str] = "rounds"
    heading: ClassVar[str] = "Rounds"

    rounds: Literal[True]

    def make_of(self, context: Context) -> Part:
        from sfrbench.report.items.rounds.label_tables import label_tables
        from sfrbench.report.items.rounds.table import rounds_table

        name = context.names.new("rounds")
        made, shown = rounds_table(context.frame, context.info, name)
        labels = label_tables(context.frame, context.info, name)
        behind: dict[str, Sequence[Traced]] = {table.name: rows for table, rows in labels}
        behind |= {table.name: shown for table in made}
        tables = [*made, *(table for table, _ in labels)]
        return Part(tables, remark="" if tables else "No round has run.", behind=behind)
