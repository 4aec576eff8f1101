"""Paired differences between arms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from pydantic import Field

from sfrbench.maths.metric_names import MetricName
from sfrbench.report.item import Context, OfArms
from sfrbench.report.render.parts import Part
from sfrbench.spec.model import Fault, Item, Known


class PairsItem(OfArms):
    """The first arm of each pair minus the second, on the cases and seeds of both, with interval and test."""

    kind: ClassVar[str] = "pairs"
    heading: ClassVar[str] = "Paired differences"

    pairs: list[tuple[str, str]]
    metrics: list[MetricName] = Field(["dice"], min_length=1)

    def faults(self, known: Known, before: Sequence[Item]) -> Iterator[Fault]:
        yield from known.pair_faults(self.pairs, ("pairs",), "pairs: ")
        yield from super().faults(known, before)

    def make_of(self, context: Context) -> Part:
        from sfrbench.report.items.pairs.table import pairs_table

        name = context.names.new("pairs")
        tables, shown = pairs_table(context.frame, context.info, self.pairs, self.metrics, name)
        return Part(tables, behind={table.name: shown for table in tables})
