"""The tables of a report: results, results per class, pseudo-label quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from sfrbench.maths.metric_names import METRICS
from sfrbench.report.items.table import columns as values
from sfrbench.report.items.table import rows
from sfrbench.report.items.table.columns import Column, Cost
from sfrbench.report.items.table.rows import View
from sfrbench.report.render import captions
from sfrbench.report.render.style import DASH, number, verdict
from sfrbench.report.render.tables import Entry, Notes, Table, unmarked
from sfrbench.results import dead
from sfrbench.results.axes import axis_text
from sfrbench.results.lines import Line, header, lines, subset_of
from sfrbench.results.subsets import UNLABELLED

if TYPE_CHECKING:
    from sfrbench.report.facts.info import ReportInfo
    from sfrbench.report.item import Shown


def result_tables(
    frame: pd.DataFrame, info: ReportInfo, table: str, how: Shown, name: str
) -> tuple[list[Table], list[Line]]:
    """A table of results and, for several classes, one per class; with the lines that they show.

    ``table`` is its name in the item, ``name`` the stem of its files.
    """
    subset = subset_of(frame)
    shown = lines(frame, info.grid, subset)
    if how.rows != "arm":
        shown = rows.by_axis(shown, info, how.rows)
    title = info.title if table == "results" else f"{info.title}: {table}"
    view = View(frame[frame["subset"] == subset], info, shown, subset, how)
    made = [_result(view, name, title if title.endswith((".", "?", "!")) else f"{title}.")]
    if len(view.classes) > 1:
        made += [_per_class(view, how.metrics[0], f"{name}_per_class")]
    return made, shown


def pseudo_table(
    frame: pd.DataFrame, info: ReportInfo, how: Shown, name: str
) -> tuple[list[Table], list[Line]]:
    """How good the pseudo-labels are; arms that share them stand in one row."""
    shown = rows.merge_equal(lines(frame, info.grid, UNLABELLED))
    if not shown:
        return [], []
    view = View(frame[frame["subset"] == UNLABELLED], info, shown, UNLABELLED, how)
    return [_result(view, name, "Quality of the pseudo-labels.")], shown


def _result(view: View, name: str, title: str) -> Table:
    info, shown, metrics = view.info, view.lines, view.how.metrics
    columns = {metric: values.metric_column(view, metric) for metric in metrics}
    skipped = [line.not_scored(metrics) for line in shown]
    notes = Notes()
    names, first = _names(view, notes, metrics)
    costs, of_costs = values.cost_columns(view, notes)
    made, data = [], []
    for index, line in enumerate(shown):
        means = (rows.with_dead(column.entries[index], line.dead, notes) for column in columns.values())
        row = [*first[index], *means]
        row += [*(cost.entries[index] for cost in costs), *map(Entry, rows.counts_of(line, info))]
        if any(skipped):
            row.append(Entry(str(skipped[index]) if line.seeds else DASH))
        made.append(tuple(row))
        own = {"empty": str(line.empty()), "not_scored": str(skipped[index])}
        data.append(_data(view, index, columns, own, costs))
    heads = [*names, *(header(view.frame, metric) for metric in metrics), *(cost.head for cost in costs)]
    heads += ["n", "seeds", "empty", *(["not scored"] if any(skipped) else [])]
    told = {line.arm for line in shown if not line.point and not line.seeds}
    rules = [
        captions.made_of(info, view.counts, view.std),
        captions.ARROWS,
        *_legend(shown, bool(any(skipped))),
        values.gains_text(view),
        of_costs,
        captions.left_out(info, told),
    ]
    return _table(view, name, title, rules, heads, made, notes, data, len(names))


def _per_class(view: View, metric: str, name: str) -> Table:
    average = "AVG" if "AVG" not in view.classes else "mean of classes"
    columns = {average: values.metric_column(view, metric)}
    columns |= {cls: values.metric_column(view, metric, cls) for cls in view.classes}
    notes = Notes()
    names, first = _names(view, notes, [metric])
    made, data = [], []
    for index, line in enumerate(view.lines):
        mean, *cells = (column.entries[index] for column in columns.values())
        mean = rows.with_dead(mean, line.dead, notes)
        made.append((*first[index], mean, *cells, *map(Entry, rows.counts_of(line, view.info)[:2])))
        lost = "; ".join(cls for cls in view.classes if columns[cls].lost[index])
        data.append(_data(view, index, columns, {"never_found": lost}, metric=metric))
    rules = [
        captions.made_of(view.info, {1}, view.std),
        f"{average}: unweighted mean over classes. n: cases.",
        captions.ARROWS,
        values.gains_text(view),
        dead.STAR if any(any(column.lost) for column in columns.values()) else "",
    ]
    title = f"{header(view.frame, metric)} of each class."
    heads = [*names, *columns, "n", "seeds"]
    return _table(view, name, title, rules, heads, made, notes, data, len(names))


def _table(
    view: View,
    name: str,
    title: str,
    rules: Sequence[str],
    heads: Sequence[str],
    made: Sequence[tuple[Entry, ...]],
    notes: Notes,
    data: Sequence[Mapping[str, str]],
    leading: int,
) -> Table:
    table = Table(
        name,
        title,
        captions.number_text(view.info, view.subset, view.std),
        tuple(heads),
        tuple(made),
        notes.listed,
        tuple(data),
        captions.tail(view.info),
        leading,
        rules=tuple(rule for rule in rules if rule),
    )
    return unmarked(table)


def _names(view: View, notes: Notes, metrics: Sequence[str]) -> tuple[list[str], list[list[Entry]]]:
    """Heads and entries of the columns that name a row; the first carries the marks of its line."""
    names, texts = rows.leading(view)
    made = []
    for line, row in zip(view.lines, texts, strict=True):
        marks = rows.marks_of(line, notes, view.info, metrics) + values.gain_marks(view, line, notes)
        made.append([Entry(text, marks=marks if place == 0 else "") for place, text in enumerate(row)])
    return names, made


def _legend(shown: Sequence[Line], skipped: bool) -> list[str]:
    """What the counts mean, and what is set bold."""
    counts = "n: cases. Empty: classes predicted empty although present, over cases, classes and seeds."
    said = [f"{counts} Not scored: left out by the protocol, over the same." if skipped else counts]
    if len(shown) > 1:
        one = len({line.classes for line in shown}) == 1
        among = "lines with all their seeds" if one else "lines of a dataset with all their seeds"
        said.append(f"Best in bold, second underlined, among {among}.")
    return said


def _data(
    view: View,
    index: int,
    columns: Mapping[str, Column],
    own: Mapping[str, str],
    costs: Sequence[Cost] = (),
    metric: str = "",
) -> dict[str, str]:
    """One row of the CSV: numbers bare; gains where the item asks for them."""
    line, info = view.lines[index], view.info
    row = {"arm": line.arm, "label": line.label}
    row |= {path: axis_text(value) for path, value in line.axes.items()}
    row |= {"metric": metric} if metric else {}
    gains = view.how.gains
    for name, column in columns.items():
        stat, gain = column.stats[index], column.gains[index]
        row[f"{name}_mean"] = "" if stat.mean is None else number(stat.mean)
        row[f"{name}_std"] = "" if stat.std is None else number(stat.std)
        if gains and name not in view.classes:
            row[f"{name}_difference"] = "" if gain is None else number(gain)
            row[f"{name}_verdict"] = verdict(gain, METRICS[metric or name].larger)
    row |= {"std_over": view.over}
    row |= {"difference_against": gains.get(line.arm, "")} if gains else {}
    row |= {cost.name: cost.texts[index] for cost in costs}
    row |= {"n": str(len(line.cases)), "seeds": str(len(line.results)), "subset": view.subset, **own}
    said = [*(f"seed {seed}: {reason}" for seed, reason in line.missing), dead.note(line.dead)]
    note = "; ".join(text for text in said if text)
    return row | {"profile": info.profile, "protocol": info.protocol, "note": note}
