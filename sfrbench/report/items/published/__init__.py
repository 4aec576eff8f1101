"""A table of the paper beside our results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import BeforeValidator, Field

from sfrbench.errors import InputError, did_you_mean
from sfrbench.maths.metric_names import MetricName
from sfrbench.report.item import Context, OfArms
from sfrbench.report.render.parts import Part
from sfrbench.spec.model import Fault, Item, Known

if TYPE_CHECKING:
    from sfrbench.paper.tables import Published


def _mapping(value: object) -> object:
    if isinstance(value, str):
        raise ValueError("rows of a published table map arms to rows of the paper")
    return value


class PublishedItem(OfArms):
    """The paper's numbers, ours, and their difference; with where the protocols differ."""

    kind: ClassVar[str] = "published"
    heading: ClassVar[str] = "Published and reproduced"

    published: str = Field(description="a table of the paper, as 'table07'")
    rows: Annotated[dict[str, str], BeforeValidator(_mapping)] = Field(
        {}, description="arm -> its row in the paper; else the row that is called as the arm's label"
    )
    unbuilt: dict[str, str] = Field({}, description="row of the paper -> why no arm has it")
    notes: dict[str, str] = Field({}, description="arm -> a footnote at its rows")
    metrics: list[MetricName] = Field([], description="none: all that the table prints")

    def faults(self, known: Known, before: Sequence[Item]) -> Iterator[Fault]:
        from sfrbench.paper.tables import published_as

        try:
            table = published_as(self.published)
        except InputError as error:
            yield ("published",), f"published: {error.problems[0].what}", error.problems[0].hint
        else:
            yield from self._faults(table, known)
        for arm in self.notes:
            yield from known.arm_faults([arm], ("notes", arm), "notes: ")
        yield from super().faults(known, before)

    def _faults(self, table: Published, known: Known) -> Iterator[Fault]:
        """What is not in the table, and what is said twice."""
        arm_names = [arm.name for arm in known.arms]
        for arm, row in self.rows.items():
            if arm not in arm_names:
                yield ("rows", arm), f"rows: no arm '{arm}'", did_you_mean(arm, arm_names)
            if not table.named(row):
                yield ("rows", arm), _no_row("rows", table, row), did_you_mean(row, table.names)
        meant = {arm.name: self.rows.get(arm.name, arm.label) for arm in known.arms}
        for row in self.unbuilt:
            its = table.named(row)
            if not its:
                yield ("unbuilt", row), _no_row("unbuilt", table, row), did_you_mean(row, table.names)
            for arm, name in meant.items():
                own = table.named(name)
                if own and its and all(one in its for one in own):
                    what = f"unbuilt: row '{row}' is that of arm '{arm}'"
                    remedy = "take it out of 'unbuilt', or give the arm another row or label"
                    yield ("unbuilt", row), what, remedy
        if not any(table.named(name) for name in meant.values()):
            what = f"published: no arm is a row of Table {table.table}"
            yield ("published",), what, f"say in 'rows' which arm is which; known: {', '.join(table.names)}"
        shown = {column.metric for column in table.columns.values() if column.metric != "params"}
        for index, metric in enumerate(self.metrics):
            if metric not in shown:
                what = f"metrics: Table {table.table} prints no {metric}"
                yield ("metrics", index), what, did_you_mean(metric, shown)

    def make_of(self, context: Context) -> Part:
        from sfrbench.report.items.published.rows import Own
        from sfrbench.report.items.published.tables import published_part

        name, own = context.names.new(self.published), Own(self.rows, self.unbuilt, self.notes)
        tables, behind = published_part(context.frame, context.info, self.published, own, self.metrics, name)
        return Part(tables, behind=behind)


def _no_row(field: str, table: Published, row: str) -> str:
    return f"{field}: Table {table.table} has no row '{row}'"
