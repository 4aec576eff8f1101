"""Results: metrics of every arm and, for several classes, of each class."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from typing import ClassVar, Literal

from pydantic import Field

from sfrbench.maths.metric_names import MetricName
from sfrbench.report.item import METRICS, Context, OfArms, Rows, Shown, row_faults
from sfrbench.report.render.parts import Part
from sfrbench.spec.model import Fault, Item, Known


class TableItem(OfArms):
    """A table of results, one row for each arm at each point of the axes."""

    kind: ClassVar[str] = "table"
    heading: ClassVar[str] = "Results"

    table: str = Field(description="its name; 'results' is the table of the whole experiment")
    rows: Rows = Field("arm", description="'arm' or the path of an axis")
    metrics: list[MetricName] = Field(list(METRICS), min_length=1)
    gains: dict[str, str] = Field({}, description="arm: the arm that its gain is against, as {sfr_mt: mt}")
    std: Literal["seeds", "cases", "none"] = Field("seeds", description="what ± is over")
    columns: list[Literal["params", "seconds", "prompts"]] = Field(
        [], description="further columns: the model's cost, and what its user is asked for"
    )

    @property
    def drawn_over(self) -> Collection[str]:
        return (self.rows,)

    def faults(self, known: Known, before: Sequence[Item]) -> Iterator[Fault]:
        yield from row_faults(self.rows, known)
        yield from known.arm_faults(chain(*self.gains.items()), ("gains",), "gains: ")
        yield from super().faults(known, before)
        for name in (name for name, over in self.gains.items() if name == over):
            yield ("gains", name), f"gains: '{name}' against itself", ""

    def make_of(self, context: Context) -> Part:
        from sfrbench.report.items.table.result import result_tables

        how = Shown(self.metrics, self.rows, self.std, self.gains, self.columns)
        name = context.names.new(self.table)
        tables, shown = result_tables(context.frame, context.info, self.table, how, name)
        return Part(tables, behind={table.name: shown for table in tables})
