"""The effect of one change over all methods: what each gains or loses, and the mean over them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import ClassVar

from pydantic import Field

from sfrbench.maths.metric_names import MetricName
from sfrbench.report.item import Context, OfArms, Rows, row_faults
from sfrbench.report.render.parts import Part, Traced
from sfrbench.spec.model import Fault, Item, Known


class OverallItem(OfArms):
    """A table and a forest plot for each further value of an axis against its first, or for pairs of arms,
    first minus second; one of each at every point of the other axes."""

    kind: ClassVar[str] = "overall"
    heading: ClassVar[str] = "Effect over all methods"

    overall: str | list[tuple[str, str]] = Field(
        description="the path of an axis, whose first value is the control; or pairs of arms, as in 'pairs'"
    )
    rows: Rows = Field("arm", description="'arm', or the path of an axis: what the effect is averaged over")
    metrics: list[MetricName] = Field(["dice"], min_length=1)

    @property
    def drawn_over(self) -> Collection[str]:
        return (self.rows,)

    def faults(self, known: Known, before: Sequence[Item]) -> Iterator[Fault]:
        if isinstance(self.overall, str):
            yield from known.change_faults(self.overall, ("overall",), "overall")
            if self.overall == self.rows:
                yield ("rows",), f"overall: rows and effect are both over '{self.rows}'", "name another axis"
        else:
            yield from known.pair_faults(self.overall, ("overall",), "overall: ")
        yield from row_faults(self.rows, known)
        yield from super().faults(known, before)

    def make_of(self, context: Context) -> Part:
        from sfrbench.report.items.overall.contrasts import groups_of
        from sfrbench.report.items.overall.forest import forest
        from sfrbench.report.items.overall.results import results_of
        from sfrbench.report.items.overall.table import overall_table

        groups = groups_of(context.frame, context.info, self.overall, self.rows)
        if isinstance(groups, str):
            return Part(remark=groups)
        tables, figures = [], []
        behind: dict[str, Sequence[Traced]] = {}
        for group in groups:
            for metric in self.metrics:
                results = results_of(group, metric)
                name = context.names.new(f"overall_{metric}_{group.name}")
                tables.append(overall_table(context.frame, context.info, results, name))
                behind[name] = [*group.contrasts, results]
                if results.shown:
                    plot = f"{name}_forest"
                    figures.append(forest(context.frame, context.info, results, plot, context.figures))
                    behind[plot] = list(group.contrasts)
        return Part(tables, figures, behind=behind)
