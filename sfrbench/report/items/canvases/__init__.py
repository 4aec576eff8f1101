"""Stitched canvases as SAM sees them (Figs. 3 to 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from sfrbench.report.item import Context, OfArms, figure_part
from sfrbench.report.render.parts import Part


class CanvasesItem(OfArms):
    """One row for each line, one column for each canvas; adds a node to the cells."""

    kind: ClassVar[str] = "canvases"
    heading: ClassVar[str] = "Canvases"

    canvases: int = Field(ge=1, le=4, description="so many scored cases")

    def asks(self, arm: str) -> Mapping[str, Mapping[str, int]]:
        return {"canvases": {"cases": self.canvases}}

    def make_of(self, context: Context) -> Part:
        from sfrbench.report.items.canvases.figure import canvases_figure

        name = context.names.new("canvases")
        figure = canvases_figure(context.frame, context.info, name, context.figures)
        if figure is None:
            return Part(remark="No canvas is in the store: run the experiment once more.")
        return figure_part(figure)
