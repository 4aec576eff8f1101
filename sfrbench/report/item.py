"""What a kind of report item is: its fields, its checks, the nodes it asks for, and how it is made.

A kind is a class in a module or package of ``sfrbench.report.items``, and nowhere else. Reading and planning
import these modules, so what draws and computes is imported by ``make``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from sfrbench.maths.metric_names import MetricName
from sfrbench.report.render.budgets import with_patches
from sfrbench.report.render.parts import Part
from sfrbench.report.render.pretraining import with_pretraining
from sfrbench.report.render.prompts import with_prompts
from sfrbench.report.render.style import safe_name
from sfrbench.spec.model import Fault, Item, Known

if TYPE_CHECKING:
    import pandas as pd

    from sfrbench.report.facts.info import ReportInfo

#: Metrics of a table that names none.
METRICS: tuple[MetricName, ...] = ("dice", "jaccard", "asd", "hd95")


class Names:
    """File names, each given once."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def new(self, wanted: str) -> str:
        name = base = safe_name(wanted)
        count = 1
        while name.lower() in self._given or name.lower().removesuffix("_per_class") in self._given:
            count += 1
            name = f"{base}_{count}"
        self._given.add(name.lower())
        return name


@dataclass(frozen=True)
class Context:
    """What items are made of: the tidy frame, what is known beside it, and where figures go."""

    frame: pd.DataFrame
    info: ReportInfo
    figures: Path
    names: Names = field(default_factory=Names)

    def only(self, arms: Sequence[str]) -> Context:
        """The same for some arms."""
        frame = self.frame[self.frame["arm"].isin(arms)]
        return replace(self, frame=frame, info=self.info.only(arms))


class ReportItem(Item, ABC):
    """An item that a report can show; ``heading`` stands over it."""

    heading: ClassVar[str]
    #: Whether specifications list it; else it is shown for another reason.
    listed: ClassVar[bool] = True

    @property
    def over(self) -> str:
        """What stands over this item."""
        return self.heading

    @abstractmethod
    def make(self, context: Context) -> Part:
        """Makes the tables and figures, and saves the figures; or a remark that says why there are none."""


def made(item: ReportItem, context: Context) -> Part:
    """What an item shows, with what the models in it were told, were trained on before, and saw here."""
    part = with_prompts(item.make(context), context.info)
    return with_patches(with_pretraining(part, context.info), context.info)


class OfArms(ReportItem):
    """An item on some arms."""

    arms: list[str] = Field([], description="the arms that the item shows; none: all")

    def faults(self, known: Known, before: Sequence[Item]) -> Iterator[Fault]:
        yield from known.arm_faults(self.arms, ("arms",), "arms: ")

    def make(self, context: Context) -> Part:
        return self.make_of(context.only(self.arms) if self.arms else context)

    @abstractmethod
    def make_of(self, context: Context) -> Part:
        """As ``make``, where only the item's arms are left."""


def _path(value: object) -> object:
    if isinstance(value, Mapping):
        raise ValueError("'arm' or the path of an axis is needed; a mapping goes with 'published'")
    return value


#: What the rows of a table are ordered by: 'arm', or the path of an axis.
Rows = Annotated[str, BeforeValidator(_path)]


def row_faults(rows: str, known: Known) -> Iterator[Fault]:
    """``rows`` that is neither 'arm' nor an axis."""
    yield from known.axis_faults(rows, ("rows",), "rows", ["arm"])


@dataclass(frozen=True)
class Shown:
    """How the lines of a result table are shown, see the fields of the item ``table``."""

    metrics: Sequence[str] = METRICS
    rows: str = "arm"
    std: Literal["seeds", "cases", "none"] = "seeds"
    gains: Mapping[str, str] = field(default_factory=dict)
    columns: Sequence[str] = ()


def figure_part(figure: Any) -> Part:
    """A part of one figure that shows lines."""
    return Part(figures=[figure], behind={figure.name: list(figure.lines)})
