"""How large the models are."""

from __future__ import annotations

from typing import ClassVar, Literal

from sfrbench.report.item import Context, OfArms
from sfrbench.report.render.parts import Part


class ParametersItem(OfArms):
    """What trains, what is trained, what predicts, and what the paper says."""

    kind: ClassVar[str] = "parameters"
    heading: ClassVar[str] = "Parameters"

    parameters: Literal[True]

    def make_of(self, context: Context) -> Part:
        from sfrbench.report.items.parameters.table import parameters_table

        tables, shown = parameters_table(context.info, context.names.new("parameters"))
        return Part(tables, behind={table.name: shown for table in tables})
