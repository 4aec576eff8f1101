"""A table of the paper beside our results: tables by metric, one of organs, one of the protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from sfrbench.maths.metric_names import METRICS
from sfrbench.paper.tables import Published, published_as
from sfrbench.report.facts.info import ReportInfo
from sfrbench.report.items.pairs.table import ONE_SEED
from sfrbench.report.items.published.compare import Compared, Head, compare, heads, record
from sfrbench.report.items.published.protocol import protocol_table
from sfrbench.report.items.published.rows import Own, Pairing, pairings_of, setting_text
from sfrbench.report.items.table.rows import counts_of, marks_of
from sfrbench.report.render import captions
from sfrbench.report.render.style import DASH, judged, scaled, verdict
from sfrbench.report.render.tables import Entry, Notes, Table, unmarked
from sfrbench.results.axes import axis_texts
from sfrbench.results.lines import lines, subset_of

_CAPTION = "The paper's numbers beside ours."
_SPREAD = (
    "Ours: mean over seeds, ± standard deviation (n − 1) where there are several. Interval: 95 %, of our "
    "mean, over cases and, where there are several, seeds. Better, worse: ours, by the metric, whatever the "
    "sign."
)
_OF_ORGANS = (
    "Ours: mean over seeds; ± seeds: their standard deviation (n − 1). A difference above 0: ours is higher, "
    "which is better."
)


@dataclass(frozen=True)
class _Item:
    """What the tables of one item share."""

    table: Published
    info: ReportInfo
    subset: str
    pairings: Mapping[str, Sequence[Pairing]]  # by dataset

    @property
    def with_arms(self) -> bool:
        """Whether arms need a column of their own, because some have another name than their row in the
        paper."""
        every = [pairing for pairings in self.pairings.values() for pairing in pairings]
        return any(s.row and s.line and s.line.name not in (s.row.method, s.row.label) for s in every)


@dataclass
class _Body:
    """The rows of a table as they are made."""

    notes: Notes
    rows: list[tuple[Entry, ...]] = field(default_factory=list)
    data: list[dict[str, str]] = field(default_factory=list)

    def table(self, own: _Item, name: str, what: str, columns: Sequence[str], rules: Sequence[str]) -> Table:
        names = ("Method", "Setting", *(["Arm"] if own.with_arms else []))
        table = Table(
            name,
            f"Table {own.table.table} and ours: {what}.",
            _CAPTION,
            (*names, *columns),
            tuple(self.rows),
            self.notes.listed,
            tuple(self.data),
            captions.tail(own.info),
            len(names),
            quoted=("Paper",),
            rules=(*rules, *_rules(own)),
        )
        return unmarked(table)


def published_part(
    frame: pd.DataFrame, info: ReportInfo, which: str, own: Own, metrics: Sequence[str], name: str
) -> tuple[list[Table], dict[str, Sequence[Pairing]]]:
    """The tables beside the paper's ``which``, of some metrics or (none) of all, and the rows of each."""
    table = published_as(which)
    subset = subset_of(frame)
    shown = lines(frame, info.grid, subset)
    every = list(heads(table, metrics))
    datasets = dict.fromkeys(head.dataset for head in every)
    pairings = {dataset: pairings_of(table, dataset, shown, info, own) for dataset in datasets}
    item = _Item(table, info, subset, pairings)
    made: list[Table] = []
    behind: dict[str, Sequence[Pairing]] = {}
    for head in every:
        if head.column.organ is None:
            made.append(_whole(item, head, _file(name, head, len(datasets))))
            behind[made[-1].name] = pairings[head.dataset]
    for dataset in datasets:
        organs = [head for head in every if head.column.organ is not None and head.dataset == dataset]
        if organs:
            made.append(_organs(item, organs, f"{_file(name, organs[0], len(datasets))}_per_organ"))
            behind[made[-1].name] = pairings[dataset]
    made.append(
        protocol_table(table, info, [pairing for rows in pairings.values() for pairing in rows], name)
    )
    return made, behind


def _file(name: str, head: Head, datasets: int) -> str:
    return "_".join([name, head.column.metric, *([head.dataset] if datasets > 1 else [])])


def _whole(own: _Item, head: Head, name: str) -> Table:
    """One metric, a row for each method."""
    body, metric = _Body(Notes()), METRICS[head.column.metric]
    for pairing in own.pairings[head.dataset]:
        one = compare(own.table, head, pairing)
        marks, said = _marks(pairing, body.notes, own.info, head.column.metric)
        texts = one.texts
        spread = texts["mean"] if one.ours.std is None else f"{texts['mean']} ± {texts['std']}"
        counts = counts_of(pairing.line, own.info)[:2] if pairing.line else [DASH, DASH]
        values = (
            Entry(spread, marks=_joined(body.notes, [one.never])),
            Entry(texts["interval"], marks=_joined(body.notes, [one.why])),
            Entry(texts["paper"], marks=_joined(body.notes, one.told)),
            Entry(
                judged(one.difference, metric.larger), marks=_joined(body.notes, [one.reason or one.flattery])
            ),
            *map(Entry, counts),
        )
        body.rows.append((*_names(own, pairing, head.dataset, marks), *values))
        body.data.append(_data(own, head, pairing, one, said))
    what = f"{metric.label} ({head.column.unit})"
    what += ", mean over the organs" if head.column.average else ""
    columns = ("Ours", "95 % interval", "Paper", "Ours − paper", "n", "seeds")
    return body.table(own, name, f"{what}, {head.dataset}", columns, [_SPREAD])


#: The lines below each other of one method, and what they show; all but one need a result of ours.
_LINES = {"ours": "mean", "± seeds": "std", "paper": "paper", "ours − paper": "difference"}


def _organs(own: _Item, organs: Sequence[Head], name: str) -> Table:
    """Every organ a column, and below each other ours, its deviation, the paper's, and the difference."""
    body, dataset = _Body(Notes()), organs[0].dataset
    for pairing in own.pairings[dataset]:
        cells = [compare(own.table, head, pairing) for head in organs]
        marks, said = _marks(pairing, body.notes, own.info, organs[0].column.metric)
        body.data += [_data(own, head, pairing, one, said) for head, one in zip(organs, cells, strict=True)]
        shown = set(_LINES) if pairing.line is not None and pairing.line.seeds else {"paper"}
        shown -= {"± seeds"} if all(one.ours.std is None for one in cells) else set()
        shown -= {"paper", "ours − paper"} if pairing.row is None else set()
        method, *names = _names(own, pairing, dataset, marks)
        for what in (line for line in _LINES if line in (shown or {"ours"})):
            told = [_told(what, one) for one in cells]
            values = [
                Entry(one.texts[_LINES[what]], marks=_joined(body.notes, texts))
                for one, texts in zip(cells, told, strict=True)
            ]
            body.rows.append((replace(method, text=f"{method.text}, {what}"), *names, *values))
    what = f"{METRICS[organs[0].column.metric].label} (%) of each organ, {dataset}"
    return body.table(own, name, what, [head.name for head in organs], [_OF_ORGANS])


def _told(what: str, one: Compared) -> Sequence[str]:
    gap = [one.reason or one.flattery]
    return {"ours": [one.never], "paper": one.told, "ours − paper": gap}.get(what, [])


def _names(own: _Item, pairing: Pairing, dataset: str, marks: str) -> tuple[Entry, ...]:
    line, row = pairing.line, pairing.row
    if row is not None:
        setting = setting_text(row, dataset)
    else:
        labeled = pairing.setup.labeled if pairing.setup else None
        setting = DASH if labeled is None else f"{labeled} labelled"
    method = row.method if row else line.name if line else DASH
    arm = [Entry(line.name if line else DASH)] if own.with_arms else []
    return (Entry(method, marks=marks), Entry(setting), *arm)


def _marks(pairing: Pairing, notes: Notes, info: ReportInfo, metric: str) -> tuple[str, list[str]]:
    """The marks of a row, and what they say that the CSV tells as well."""
    said = [text for text in (pairing.reason, pairing.note) if text]
    marks = _joined(notes, said)
    if pairing.line is not None:
        marks += marks_of(pairing.line, notes, info, [metric])
        said += [f"seed {seed}: {reason}" for seed, reason in pairing.line.missing]
        if len(pairing.line.results) == 1:
            marks += notes.mark(ONE_SEED)
            said.append(ONE_SEED)
    return marks, said


def _joined(notes: Notes, texts: Sequence[str]) -> str:
    return "".join(notes.mark(text) for text in texts if text)


def _data(own: _Item, head: Head, pairing: Pairing, one: Compared, said: Sequence[str]) -> dict[str, str]:
    """One row of the CSV."""
    line = pairing.line
    row = {**record(own.table, head, pairing, one)}
    row["verdict"] = verdict(one.difference, METRICS[head.column.metric].larger)
    row |= axis_texts(line.axes) if line else {}
    row["setting"] = setting_text(pairing.row, head.dataset) if pairing.row else ""
    labeled = pairing.setup.labeled if pairing.setup else None
    row["labeled"] = "" if labeled is None else str(labeled)
    row |= {"n": str(len(line.cases)), "seeds": str(len(line.results))} if line else {"n": "", "seeds": ""}
    row |= {"subset": own.subset, "profile": own.info.profile, "protocol": own.info.protocol}
    reasons = (*said, one.reason, one.why, one.flattery, one.never, *one.told)
    return row | {"reason": "; ".join(text for text in reasons if text)}


def _rules(own: _Item) -> list[str]:
    """What holds for every table of an item."""
    said = [f"Rows as printed in {own.table.source}; then arms of ours that it does not print."]
    if scaled(own.info.profile):
        said.append(
            f"Ours are scaled-down runs (profile {own.info.profile}): the difference says nothing about the "
            "paper."
        )
    said.append("The paper's are single numbers without a spread, so nothing is tested.")
    if own.subset != "test":
        said.append(f"Ours are on {captions.subset_text(own.subset)}, theirs on test cases.")
    return said
