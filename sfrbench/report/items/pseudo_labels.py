"""How good the pseudo-labels are, on unlabelled cases that have a label."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from sfrbench.maths.metric_names import MetricName
from sfrbench.report.item import METRICS, Context, OfArms, Rows, Shown, row_faults
from sfrbench.report.render.parts import Part
from sfrbench.spec.model import Fault, Item, Known


class PseudoLabelsItem(OfArms):
    """A table of the pseudo-labels' scores; arms that share them stand in one row."""

    kind: ClassVar[str] = "pseudo_labels"
    heading: ClassVar[str] = "Pseudo-labels"

    pseudo_labels: Literal[True]
    rows: Rows = Field("arm", description="'arm' or the path of an axis")
    metrics: list[MetricName] = Field(list(METRICS), min_length=1)

    @property
    def drawn_over(self) -> Collection[str]:
        return (self.rows,)

    def faults(self, known: Known, before: Sequence[Item]) -> Iterator[Fault]:
        yield from row_faults(self.rows, known)
        yield from super().faults(known, before)

    def make_of(self, context: Context) -> Part:
        from sfrbench.report.items.table.result import pseudo_table

        how = Shown(self.metrics, self.rows)
        tables, shown = pseudo_table(context.frame, context.info, how, context.names.new("pseudo_labels"))
        remark = "" if tables else "No arm has scored pseudo-labels."
        return Part(tables, remark=remark, behind={table.name: shown for table in tables})
