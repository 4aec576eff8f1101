"""The tables of pseudo-labels before and after each round."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from sfrbench.report.facts.info import ReportInfo
from sfrbench.report.facts.rounds import ONLINE
from sfrbench.report.items.pairs.table import ONE_SEED
from sfrbench.report.items.rounds.labels import GROUPS, Group, LabelDice, Labels, compare, rows_of_group
from sfrbench.report.items.table.rows import with_dead
from sfrbench.report.render import captions
from sfrbench.report.render.style import DASH, judged, number, span
from sfrbench.report.render.tables import Entry, Notes, Table, unmarked
from sfrbench.results.axes import axis_text

_COLUMNS = ("Round", "n", "Before", "After", "After − before", "95 % interval", "Segmenter", "seeds")
_RULES = (
    "Before: labels that the training before the round reads; after: those that the round makes.",
    "Interval: of the paired difference, over cases and seeds; none where it would say next to nothing.",
    "Segmenter: its own labels of the same cases, from which the round chooses. n: cases of a seed.",
)

_LEFT_OUT = "without confident cases: SAM does not label them (selector.labels: all would have it label them)"


def label_tables(frame: pd.DataFrame, info: ReportInfo, name: str) -> list[tuple[Table, list[Labels]]]:
    """A table for each group of cases, with its rows; empty if no arm has rounds."""
    made: list[tuple[Table, list[Labels]]] = []
    for group in GROUPS:
        rows = rows_of_group(frame, info, group)
        if rows:
            made.append((_table(rows, info, f"{name}_labels{group.ending}", group), rows))
    return made


def _table(rows: Sequence[Labels], info: ReportInfo, name: str, group: Group) -> Table:
    paths = [path for path in info.axes if any(path in row.axes for row in rows)]
    notes = Notes()
    made, data = [], []
    for row in rows:
        dice = compare(row)
        why = _reasons(row, dice)
        names = [row.label, *(axis_text(row.axes[path]) if path in row.axes else DASH for path in paths)]
        marks = "".join(notes.mark(text) for text in why)
        named = [Entry(text, marks=marks if place == 0 else "") for place, text in enumerate(names)]
        before, after, segmenter = (
            with_dead(Entry(number(mean)), row.dead(line) if line and mean is not None else (), notes)
            for mean, line in zip(dice.means, (row.before, row.after, row.segmenter), strict=True)
        )
        gap = dice.gap
        interval = span(gap.low, gap.high) if gap else DASH
        which = (Entry(str(row.number)), Entry(dice.n))
        change = (Entry(judged(gap.mean if gap else None, larger=True)), Entry(interval))
        made.append((*named, *which, before, after, *change, segmenter, Entry(str(dice.seeds))))
        data.append(_data(row, dice, "; ".join(why), info, paths))
    table = Table(
        name,
        f"Pseudo-labels before and after each round: {group.title}.",
        "Dice (%), mean over cases, classes and seeds.",
        ("Method", *paths, *_COLUMNS),
        tuple(made),
        notes.listed,
        tuple(data),
        captions.tail(info),
        1 + len(paths),
        rules=(group.said, *_RULES),
    )
    return unmarked(table)


def _reasons(row: Labels, dice: LabelDice) -> list[str]:
    """Why a number is missing, and what is special about those that are there."""
    rounds = [one for one, _ in row.rounds.values()]
    if any(one.online for one in rounds):
        return [ONLINE]
    said = []
    if dice.without:
        seeds = ", ".join(map(str, dice.without))
        said.append(f"without seed {seeds}: these labels are not scored yet; run the experiment again")
    if any(one.by_crop for one in rounds):
        said.append("crops are judged one by one, so that no case is confident as a whole")
    elif rounds and not any(one.confident for one in rounds):
        said.append("no case was confident: SAM and its labels stay as they were")
    elif row.group.ending and any(one.confident and not one.labels_all for one in rounds):
        said.append(_LEFT_OUT)
    elif not dice.seeds and not dice.without:
        said.append(row.group.none)
    if not rounds:
        said.append("self-training: the labels are the segmenter's")
    if dice.seeds and dice.gap is None:
        said.append("no labels before: the first training reads those of labelled cases alone")
    if dice.gap and dice.gap.why:
        said.append(f"no interval: {dice.gap.why}")
    if dice.gap and dice.gap.low is not None and dice.seeds == 1:
        said.append(ONE_SEED)
    return list(dict.fromkeys(said))


def _data(row: Labels, dice: LabelDice, note: str, info: ReportInfo, paths: Sequence[str]) -> dict[str, str]:
    """One row of the CSV."""
    gap = dice.gap
    texts = {
        "n": dice.n,
        **dict(zip(("dice_before", "dice_after", "dice_segmenter"), map(number, dice.means), strict=True)),
        "difference": number(gap.mean if gap else None),
        "low": number(gap.low if gap else None),
        "high": number(gap.high if gap else None),
    }
    return {
        "arm": row.arm,
        "label": row.label,
        **{path: axis_text(row.axes[path]) if path in row.axes else "" for path in paths},
        "round": str(row.number),
        "cases": row.group.title,
        **{name: "" if text == DASH else text for name, text in texts.items()},
        "seeds": str(dice.seeds),
        "profile": info.profile,
        "protocol": info.protocol,
        "note": note,
    }
