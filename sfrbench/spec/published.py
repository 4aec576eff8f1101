"""Checks report items that show a table of the paper: tables, rows, arms and metrics that there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sfrbench.errors import InputError, did_you_mean
from sfrbench.files.yamlio import Where
from sfrbench.report.published_tables import Published, published_as
from sfrbench.spec.model import Arm, ReportItem
from sfrbench.spec.sections import Reader


def check_published(reader: Reader, at: Where, item: ReportItem, arms: Sequence[Arm]) -> None:
    """Note what an item ``published`` names that is not there, and what it says twice."""
    try:
        table = published_as(str(item.published))
    except InputError as error:
        problem = error.problems[0]
        reader.fault((*at, "published"), f"published: {problem.what}", problem.hint)
        return
    for place, what, remedy in _faults(table, item, arms):
        reader.fault((*at, *place), what, remedy)


def _faults(table: Published, item: ReportItem, arms: Sequence[Arm]) -> Iterator[tuple[Where, str, str]]:
    rows: Mapping[str, str] = item.rows if isinstance(item.rows, Mapping) else {}
    arm_names = [arm.name for arm in arms]
    for arm, row in rows.items():
        if arm not in arm_names:
            yield ("rows", arm), f"rows: no arm '{arm}'", did_you_mean(arm, arm_names)
        if not table.named(row):
            yield ("rows", arm), _no_row("rows", table, row), did_you_mean(row, table.names)
    meant = {arm.name: rows.get(arm.name, arm.label) for arm in arms}
    for row in item.unbuilt:
        known = table.named(row)
        if not known:
            yield ("unbuilt", row), _no_row("unbuilt", table, row), did_you_mean(row, table.names)
        for arm, name in meant.items():
            own = table.named(name)
            if own and known and all(one in known for one in own):
                what = f"unbuilt: row '{row}' is that of arm '{arm}'"
                yield ("unbuilt", row), what, "take it out of 'unbuilt', or give the arm another row or label"
    if not any(table.named(name) for name in meant.values()):
        what = f"published: no arm is a row of Table {table.table}"
        yield ("published",), what, f"say in 'rows' which arm is which; known: {', '.join(table.names)}"
    shown = {column.metric for column in table.columns.values() if column.metric != "params"}
    for index, metric in enumerate(item.metrics if "metrics" in item.model_fields_set else ()):
        if metric not in shown:
            what = f"metrics: Table {table.table} prints no {metric}"
            yield ("metrics", index), what, did_you_mean(metric, shown)


def _no_row(field: str, table: Published, row: str) -> str:
    return f"{field}: Table {table.table} has no row '{row}'"
