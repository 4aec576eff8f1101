"""Mean ranks of the methods, and which of them no test tells apart."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from sfrbench.maths.metric_names import MetricName
from sfrbench.report.item import Context, OfArms
from sfrbench.report.render.parts import Part


class RanksItem(OfArms):
    """A table of ranks and, where a test is possible, a critical-difference diagram."""

    kind: ClassVar[str] = "ranks"
    heading: ClassVar[str] = "Ranks"

    ranks: MetricName = Field(
        description="mean ranks by a metric, over datasets where 'dataset' is an axis, else over cases"
    )

    def make_of(self, context: Context) -> Part:
        from sfrbench.maths.metric_names import METRICS
        from sfrbench.report.items.ranks.diagram import rank_diagram
        from sfrbench.report.items.ranks.ranking import ranking
        from sfrbench.report.items.ranks.table import ranks_table
        from sfrbench.results.lines import subset_of

        frame, info = context.frame, context.info
        name = context.names.new(f"ranks_{self.ranks}")
        ranks = ranking(frame, info, self.ranks)
        if isinstance(ranks, str):
            return Part(remark=ranks)
        table = ranks_table(frame, info, self.ranks, ranks, name)
        behind = {name: ranks.places()}
        if ranks.p is None:
            return Part([table], remark=f"No diagram: {ranks.why}.", behind=behind)
        title = f"Ranks by {METRICS[self.ranks].label}."
        figure = rank_diagram(info, ranks, title, subset_of(frame), f"{name}_diagram", context.figures)
        return Part([table], [figure], behind={**behind, figure.name: list(figure.lines)})
