"""Slices of the best, median and worst cases, with contours."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from sfrbench.report.item import Context, OfArms
from sfrbench.report.render.parts import Part


class MontageItem(OfArms):
    """Scored cases and, where arms make pseudo-labels that are scored, unlabelled ones; with a viewer."""

    kind: ClassVar[str] = "montage"
    heading: ClassVar[str] = "Slices"

    montage: int = Field(ge=1, le=12, description="so many cases")

    def make_of(self, context: Context) -> Part:
        from sfrbench.report.items.montage.figure import montage_figure
        from sfrbench.results.lines import subset_of
        from sfrbench.results.subsets import UNLABELLED

        frame, info, new = context.frame, context.info, context.names.new
        subset, name = subset_of(frame), new("montage")
        figures = [montage_figure(frame, info, self.montage, subset, name, context.figures)]
        if (frame["subset"] == UNLABELLED).any():
            name = new("montage_pseudo_labels")
            figures.append(montage_figure(frame, info, self.montage, UNLABELLED, name, context.figures))
        kept = [figure for figure in figures if figure is not None]
        if not kept:
            return Part(remark="No prediction or no volume is at hand to show slices of.")
        return Part(figures=kept, behind={figure.name: list(figure.lines) for figure in kept})
