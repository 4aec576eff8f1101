"""The worst case of each row, as a table."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from sfrbench.maths.metric_names import MetricName
from sfrbench.report.item import Context, OfArms
from sfrbench.report.render.parts import Part


class NewPart(OfArms):
    """``{newpart: dice}`` in a report: the worst case of each row.

    The fields are what a specification may write, ``faults`` (of ``Item``) is what ``validate`` finds wrong
    with them, and ``asks`` names stages that only this item needs. Planning imports this file, so what
    computes and draws is imported in the method.
    """

    kind: ClassVar[str] = "newpart"  # the key in a specification
    heading: ClassVar[str] = "New part"

    newpart: MetricName = Field(description="says which case is worst")

    def make_of(self, context: Context) -> Part:
        """A row for each line: case, value of the metric (mean over classes and seeds)."""
        from sfrbench.maths.metric_names import METRICS
        from sfrbench.report.render.style import DASH, number, stamp
        from sfrbench.report.render.tables import Entry, Table
        from sfrbench.results.lines import header, lines, subset_of

        metric, data = self.newpart, []
        shown = lines(context.frame, context.info.grid, subset_of(context.frame))
        for line in shown:
            values = line.frame[line.frame["metric"] == metric].groupby("case")["value"].mean().dropna()
            values = values.sort_values(ascending=METRICS[metric].larger)  # the worst first
            case, value = (DASH, DASH) if values.empty else (str(values.index[0]), number(values.iloc[0]))
            data.append({"arm": line.arm, "row": line.name, "case": case, metric: value})
        name = context.names.new(self.kind)
        table = Table(
            name,
            f"{self.heading}.",
            "The worst case of each row, mean over classes and seeds.",
            ("Method", "Case", header(context.frame, metric)),
            tuple((Entry(row["row"]), Entry(row["case"]), Entry(row[metric])) for row in data),
            (("", "A dash: no result."),) if any(row["case"] == DASH for row in data) else (),
            tuple(data),
            (stamp(context.info.profile),),
            leading=2,
        )
        return Part([table], behind={name: shown})
