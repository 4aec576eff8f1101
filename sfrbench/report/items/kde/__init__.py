"""Densities: of per-case scores, or of the confidence of SFR+ against the Dice of its labels."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from sfrbench.maths.metric_names import Share
from sfrbench.report.item import Context, OfArms, figure_part
from sfrbench.report.render.parts import Part


class KdeItem(OfArms):
    """A density for each arm, with every case as a tick below; or one panel for each round of SFR+."""

    kind: ClassVar[str] = "kde"
    heading: ClassVar[str] = "Per-case scores"

    kde: Literal[Share, "confidence"] = Field(
        description="per-case scores; 'confidence': C of SFR+ against Dice"
    )

    @property
    def over(self) -> str:
        return "Confidence and quality" if self.kde == "confidence" else self.heading

    def make_of(self, context: Context) -> Part:
        if self.kde == "confidence":
            return _confidence(context)
        from sfrbench.report.items.kde.density import kde_figure

        name = context.names.new(f"kde_{self.kde}")
        return figure_part(kde_figure(context.frame, context.info, self.kde, name, context.figures))


def _confidence(context: Context) -> Part:
    from sfrbench.report.items.kde.confidence import confidence_figure

    info = context.info
    name = context.names.new("confidence")
    figure, rows = confidence_figure(context.frame, info, name, context.figures)
    if figure is None:
        known = "No unlabelled case has a label to compare with." if info.rounds and info.unscored else ""
        return Part(remark=known or "No round of SFR+ has run.")
    return Part(figures=[figure], behind={figure.name: rows})
