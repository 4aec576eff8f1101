"""Decoder features of labelled against unlabelled cases (Fig. 10)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from sfrbench.components.base import Settings
from sfrbench.report.item import Context, ReportItem
from sfrbench.report.render.parts import Part, Traced
from sfrbench.spec.model import Fault, Item, Known


class FeaturesOf(Settings):
    """Which features are shown."""

    arms: list[str] | None = Field(None, min_length=1, description="none: every arm that re-trains")
    of: str = Field("foreground", description="'foreground', 'background' or the name of a class")
    cases: int = Field(32, ge=2, le=1000, description="at most so many labelled and so many unlabelled cases")
    voxels: int = Field(
        500, ge=10, le=100_000, description="voxels of each group in the figure; also the most of one case"
    )

    def shows(self, arm: str) -> bool:
        """Whether they are of this arm."""
        return self.arms is None or arm in self.arms

    @property
    def draw(self) -> dict[str, int]:
        """The settings of the node that samples them."""
        return {"cases": self.cases, "voxels": self.voxels}


class FeaturesItem(ReportItem):
    """Densities and distances of features; adds a node to the cells that it shows."""

    kind: ClassVar[str] = "features"
    heading: ClassVar[str] = "Features of labelled and unlabelled cases"

    features: FeaturesOf

    def faults(self, known: Known, before: Sequence[Item]) -> Iterator[Fault]:
        """Arms exist and re-train; several items share one draw of cases and voxels, so one node."""
        at, own = ("features",), self.features
        if any(isinstance(one, FeaturesItem) and one.features.draw != own.draw for one in before):
            yield at, "features: 'cases' and 'voxels' differ from an item before", "make them equal"
        stages = {arm.name: arm.stages for arm in known.arms}
        for name in own.arms or ():
            yield from known.arm_faults([name], (*at, "arms"), "features: ")
            if name in stages and "retrain" not in stages[name]:
                yield (*at, "arms"), f"features: arm '{name}' re-trains no segmenter", "leave it out"

    def asks(self, arm: str) -> Mapping[str, Mapping[str, int]]:
        return {"features": self.features.draw} if self.features.shows(arm) else {}

    def make(self, context: Context) -> Part:
        from sfrbench.report.items.features.gaps import gaps_of
        from sfrbench.report.items.features.plot import features_figure
        from sfrbench.report.items.features.tables import tables

        info, new, own = context.info, context.names.new, self.features
        gaps, why = gaps_of(info, own.of, own.voxels, own.arms)
        if not gaps:
            return Part(remark=why)
        figure = features_figure(info, gaps, new("features"), context.figures)
        made = tables(info, gaps, new("features_distances"))
        behind: dict[str, Sequence[Traced]] = {
            figure.name: gaps,
            **{table.name: rows for table, rows in made},
        }
        return Part([table for table, _ in made], [figure], behind=behind)
