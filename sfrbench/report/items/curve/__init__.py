"""A metric against the values of an axis."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import ClassVar

from pydantic import Field

from sfrbench.components.base import Settings
from sfrbench.errors import did_you_mean
from sfrbench.maths.metric_names import METRICS
from sfrbench.report.item import Context, OfArms, figure_part
from sfrbench.report.render.parts import Part
from sfrbench.spec.model import Fault, Item, Known


class Axes(Settings):
    """What a curve is drawn over."""

    x: str = Field(description="the path of an axis")
    y: str = Field(description="a metric")


class CurveItem(OfArms):
    """One curve for each arm, and for each value of the other axes; an arm that is ``without`` the axis is a
    line across, and the notes say where the curves reach it."""

    kind: ClassVar[str] = "curve"
    heading: ClassVar[str] = "Curve"

    curve: Axes

    @property
    def drawn_over(self) -> Collection[str]:
        return (self.curve.x,)

    def faults(self, known: Known, before: Sequence[Item]) -> Iterator[Fault]:
        yield from known.axis_faults(self.curve.x, ("curve", "x"), "curve")
        if self.curve.y not in METRICS:
            yield ("curve", "y"), f"curve: no metric '{self.curve.y}'", did_you_mean(self.curve.y, METRICS)
        yield from super().faults(known, before)

    def make_of(self, context: Context) -> Part:
        from sfrbench.report.items.curve.figure import curve_figure

        x, y = self.curve.x, self.curve.y
        name = context.names.new(f"curve_{y}_{x}")
        return figure_part(curve_figure(context.frame, context.info, x, y, name, context.figures))
