"""The tables of a report: results, results per class, pseudo-label quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from sfrbench.report import captions
from sfrbench.report.results import METRICS, Line, Stat, header, lines, subset_of, unit_of
from sfrbench.report.style import DASH, axis_text, number
from sfrbench.report.tables import MARKS, Entry, Table, rank_entries

if TYPE_CHECKING:
    from sfrbench.report.info import ReportInfo

_DEFAULT = ("dice", "jaccard", "asd", "hd95")


class Notes:
    """Notes under a table; equal texts share a mark."""

    def __init__(self) -> None:
        self._marks: dict[str, str] = {}

    def mark(self, text: str) -> str:
        if text not in self._marks:
            index = len(self._marks)
            self._marks[text] = MARKS[index] if index < len(MARKS) else f"({index + 1})"
        return self._marks[text]

    @property
    def listed(self) -> tuple[tuple[str, str], ...]:
        return tuple((mark, text) for text, mark in self._marks.items())


def result_tables(
    frame: pd.DataFrame, info: ReportInfo, item: Mapping[str, Any], name: str
) -> tuple[list[Table], list[Line]]:
    """The table of an item and, for several classes, the same per class; with the lines they show."""
    subset = subset_of(frame, item)
    shown = lines(frame, info, subset)
    if item.get("rows", "arm") != "arm":
        shown = _by_axis(shown, info, str(item["rows"]))
    metrics = [str(metric) for metric in item.get("metrics") or _DEFAULT]
    title = f"{info.title}." if item.get("table") in (None, "results") else f"{info.title}: {item['table']}."
    made = [_result(frame, info, shown, metrics, subset, name, title, item)]
    classes = _classes(shown)
    if len(classes) > 1:
        made += [_per_class(frame, info, shown, metrics[0], subset, f"{name}_per_class", item)]
    return made, shown


def pseudo_table(
    frame: pd.DataFrame, info: ReportInfo, item: Mapping[str, Any], name: str
) -> tuple[list[Table], list[Line]]:
    """How good the pseudo-labels are; arms that share them stand in one row."""
    shown = _merge_equal(lines(frame, info, "unlabelled"))
    if not shown:
        return [], []
    metrics = [str(metric) for metric in item.get("metrics") or _DEFAULT]
    made = [_result(frame, info, shown, metrics, "unlabelled", name, "Quality of the pseudo-labels.", item)]
    return made, shown


def _result(
    frame: pd.DataFrame,
    info: ReportInfo,
    shown: Sequence[Line],
    metrics: Sequence[str],
    subset: str,
    name: str,
    title: str,
    item: Mapping[str, Any],
) -> Table:
    frame = frame[frame["subset"] == subset]
    names, leading = _leading(shown, info, str(item.get("rows", "arm")))
    stats_by = {metric: [line.stat(metric) for line in shown] for metric in metrics}
    columns = [_value_column(stats_by[metric], shown, frame, metric) for metric in metrics]
    skipped = [line.not_scored(metrics) for line in shown]
    notes = Notes()
    rows, data = [], []
    for index, line in enumerate(shown):
        marks = marks_of(line, notes, info)
        row = [Entry(text, marks=marks if place == 0 else "") for place, text in enumerate(leading[index])]
        row += [column[index] for column in columns]
        row += [Entry(text) for text in counts_of(line, info)]
        if any(skipped):
            row.append(Entry(str(skipped[index]) if line.seeds else DASH))
        rows.append(tuple(row))
        own = {metric: stats_by[metric][index] for metric in metrics}
        data.append(_data(info, line, own, subset, skipped[index]))
    heads = [*names, *(header(frame, metric) for metric in metrics), "n", "seeds", "empty"]
    heads += ["not scored"] if any(skipped) else []
    said = [
        captions.made_of(info, subset, {len(line.classes) for line in shown if line.seeds}),
        _legend(shown, bool(any(skipped))),
        captions.left_out(info, {line.arm for line in shown if not line.point and not line.seeds}),
    ]
    return Table(
        name,
        title,
        " ".join(text for text in said if text),
        tuple(heads),
        tuple(rows),
        notes.listed,
        tuple(data),
        captions.tail(info),
        len(names),
    )


def _per_class(
    frame: pd.DataFrame,
    info: ReportInfo,
    shown: Sequence[Line],
    metric: str,
    subset: str,
    name: str,
    item: Mapping[str, Any],
) -> Table:
    frame = frame[frame["subset"] == subset]
    names, leading = _leading(shown, info, str(item.get("rows", "arm")))
    classes = _classes(shown)
    average = "AVG" if "AVG" not in classes else "mean of classes"
    wanted: list[tuple[str, str | None]] = [(average, None), *((cls, cls) for cls in classes)]
    by = {head: [line.stat(metric, cls) for line in shown] for head, cls in wanted}
    columns = [_value_column(by[head], shown, frame, metric) for head, _ in wanted]
    notes = Notes()
    rows, data = [], []
    for index, line in enumerate(shown):
        marks = marks_of(line, notes, info)
        row = [Entry(text, marks=marks if place == 0 else "") for place, text in enumerate(leading[index])]
        rows.append((*row, *(column[index] for column in columns), *map(Entry, counts_of(line, info)[:2])))
        data.append(_data(info, line, {head: by[head][index] for head, _ in wanted}, subset, 0, metric))
    head, _ = METRICS[metric]
    title = f"{head} ({unit_of(frame, metric)}) of each class."
    said = f"{captions.made_of(info, subset, {1})} {average}: unweighted mean over classes. n: cases."
    heads = (*names, *(head for head, _ in wanted), "n", "seeds")
    return Table(
        name, title, said, heads, tuple(rows), notes.listed, tuple(data), captions.tail(info), len(names)
    )


def _value_column(
    stats_of: Sequence[Stat], shown: Sequence[Line], frame: pd.DataFrame, metric: str
) -> list[Entry]:
    """``mean ± std`` of each line. Only lines with all their seeds, in one unit, are ranked, those of each
    dataset (by its classes) among themselves."""
    comparable = len(shown) > 1 and "/" not in unit_of(frame, metric)
    whole = [
        stat.mean if comparable and not line.missing else None
        for stat, line in zip(stats_of, shown, strict=True)
    ]
    ranks: list[Literal[0, 1, 2]] = [0] * len(shown)
    for classes in dict.fromkeys(line.classes for line in shown):
        places = [index for index, line in enumerate(shown) if line.classes == classes]
        own = rank_entries([whole[index] for index in places], METRICS[metric][1], number)
        for index, rank in zip(places, own, strict=True):
            ranks[index] = rank
    texts = [DASH if s.mean is None else f"{number(s.mean)} ± {number(s.std)}" for s in stats_of]
    return [Entry(text, rank) for text, rank in zip(texts, ranks, strict=True)]


def _leading(shown: Sequence[Line], info: ReportInfo, rows: str) -> tuple[list[str], list[list[str]]]:
    """The columns that name a row: the method, and each axis that there is."""
    paths = list(dict.fromkeys(path for line in shown for path in line.axes))
    method = rows == "arm" or len({line.arm for line in shown}) > 1
    if rows in paths:
        paths = [rows, *(path for path in paths if path != rows)]
    names = ["Method", *paths] if rows == "arm" else [*paths, *(["Method"] if method else [])]
    texts = []
    for line in shown:
        axes = [axis_text(line.axes[path]) if path in line.axes else DASH for path in paths]
        texts.append([line.label, *axes] if rows == "arm" else [*axes, *([line.label] if method else [])])
    return names, texts


def _by_axis(shown: Sequence[Line], info: ReportInfo, path: str) -> list[Line]:
    """The lines in the order of one axis, within it in the order of arms."""
    values = [axis_text(value) for value in info.axes.get(path, ())]

    def place(line: Line) -> int:
        text = axis_text(line.axes.get(path))
        return values.index(text) if text in values else len(values)

    return sorted(shown, key=place)


def counts_of(line: Line, info: ReportInfo) -> list[str]:
    """n, seeds, empty."""
    if not line.seeds:
        return [DASH, f"0/{len(info.seeds)}", DASH]
    per_seed = line.frame.groupby("seed")["case"].nunique()
    n = str(per_seed.max()) if per_seed.nunique() == 1 else f"{per_seed.min()}–{per_seed.max()}"
    seeds = f"{len(line.seeds)}/{len(info.seeds)}" if line.missing else str(len(line.seeds))
    return [n, seeds, str(line.empty())]


def marks_of(line: Line, notes: Notes, info: ReportInfo) -> str:
    """Marks of what is special about a line: missing seeds, empty predictions that score as perfect."""
    marks = ""
    by_reason: dict[str, list[int]] = {}
    for seed, reason in line.missing:
        by_reason.setdefault(reason, []).append(seed)
    for reason, seeds in by_reason.items():
        which = "no seed has a result" if len(seeds) == len(info.seeds) else f"without seed {_listed(seeds)}"
        marks += notes.mark(f"{which}: {reason}")
    if line.seeds and line.empty() and info.protocol_fields.get("empty") == "paper_zero":
        marks += notes.mark("empty predictions count as distance 0, the best possible, under this protocol")
    return marks


def _listed(values: Sequence[int]) -> str:
    return ", ".join(str(value) for value in values)


def _legend(shown: Sequence[Line], skipped: bool) -> str:
    said = ["n: cases.", "Empty: classes predicted empty although present, over cases, classes and seeds."]
    if skipped:
        said.append("Not scored: left out by the protocol, over the same.")
    if len(shown) > 1:
        one = len({line.classes for line in shown}) == 1
        among = "lines with all their seeds" if one else "lines of a dataset with all their seeds"
        said.append(f"Best in bold, second underlined, among {among}.")
    return " ".join(said)


def _data(
    info: ReportInfo,
    line: Line,
    numbers: Mapping[str, Stat],
    subset: str,
    skipped: int,
    metric: str = "",
) -> dict[str, str]:
    """One row of the CSV."""
    row = {"arm": line.arm, "label": line.label}
    row |= {path: axis_text(value) for path, value in line.axes.items()}
    row |= {"metric": metric} if metric else {}
    for name, stat in numbers.items():
        row[f"{name}_mean"] = "" if stat.mean is None else number(stat.mean)
        row[f"{name}_std"] = "" if stat.std is None else number(stat.std)
    row |= {"n": str(len(line.cases)), "seeds": str(len(line.seeds)), "subset": subset}
    if not metric:
        row |= {"empty": str(line.empty()), "not_scored": str(skipped)}
    note = "; ".join(f"seed {seed}: {reason}" for seed, reason in line.missing)
    return row | {"profile": info.profile, "protocol": info.protocol, "note": note}


def _classes(shown: Sequence[Line]) -> tuple[str, ...]:
    """Every class of any line, in the order of the first line that has it."""
    return tuple(dict.fromkeys(name for line in shown for name in line.classes))


def _merge_equal(shown: Sequence[Line]) -> list[Line]:
    """Lines that stand on the same evaluate nodes become one, named by all their labels."""
    groups: dict[Any, list[Line]] = {}
    for line in shown:
        groups.setdefault((line.keys or line.arm, line.point), []).append(line)
    merged = []
    for (_, point), members in groups.items():
        first = members[0]
        label = ", ".join(dict.fromkeys(line.label for line in members))
        merged.append(Line(first.arm, label, first.axes, point, first.frame, first.classes, first.missing))
    return merged
