"""The table of SFR+'s rounds: how many cases were confident, and how good their labels really were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from sfrbench.report.facts.info import ReportInfo, Round
from sfrbench.report.items.table.rows import with_dead
from sfrbench.report.render import captions
from sfrbench.report.render.style import DASH, number
from sfrbench.report.render.tables import Entry, Notes, Table
from sfrbench.results.axes import axis_text, axis_texts
from sfrbench.results.lines import Line, lines
from sfrbench.results.subsets import before_round

_COLUMNS = (
    "Round",
    "Threshold",
    "Confident",
    "C",
    "Dice (%) confident",
    "Dice (%) others",
    "Spearman C, Dice",
    "seeds",
)
_CAPTION = "Labels of the unlabelled cases by the segmenter before each round; means over seeds."
_RULES = (
    "Confident: cases that update SAM, of all unlabelled ones. C: the confidence that the threshold is "
    "compared with: mean, and least to greatest.",
    "Dice: mean over cases and classes against the truth, which evaluation alone opens. Spearman: rank "
    "correlation of C and Dice over cases.",
)


@dataclass(frozen=True)
class RoundRow:
    """A round of an arm at one point of the axes, all seeds."""

    arm: str
    label: str
    axes: Mapping[str, Any]
    number: int
    rounds: Sequence[Round] = field(repr=False)

    def behind(self) -> dict[str, Any]:
        """What the row stands on, for provenance.json."""
        return {
            "row": f"{self.label}, round {self.number}",
            "arm": self.arm,
            "match": {
                "arm": self.arm,
                "round": str(self.number),
                **axis_texts(self.axes),
            },
            "axes": dict(self.axes),
            "cells": {str(one.seed): one.cell for one in self.rounds},
            "select": [one.select for one in self.rounds],
        }


class Lines:
    """The lines of each subset that have scores, by arm and point."""

    def __init__(self, frame: pd.DataFrame, info: ReportInfo) -> None:
        self._frame, self._info = frame, info
        self._known: dict[str, list[Line]] = {}

    def of(self, subset: str) -> Sequence[Line]:
        if subset not in self._known:
            found = lines(self._frame, self._info.grid, subset)
            self._known[subset] = [line for line in found if line.seeds]
        return self._known[subset]

    def at(self, subset: str, arm: str, axes: Mapping[str, Any]) -> Line | None:
        here = (arm, axis_texts(axes))
        return next((line for line in self.of(subset) if (line.arm, axis_texts(line.axes)) == here), None)


def rounds_table(frame: pd.DataFrame, info: ReportInfo, name: str) -> tuple[list[Table], list[RoundRow]]:
    """One row for each arm, point of the axes and round; empty if no arm has rounds."""
    rows = rows_of(info)
    if not rows:
        return [], []
    paths = [path for path in info.axes if any(path in row.axes for row in rows)]
    quality, known, notes = quality_of(frame, rows), Lines(frame, info), Notes()
    entries, data = [], []
    for row in rows:
        names = [row.label, *(axis_text(row.axes[path]) if path in row.axes else DASH for path in paths)]
        values = _values(row, quality)
        line = known.at(before_round(row.number), row.arm, row.axes)
        first = with_dead(Entry(names[0]), line.dead if line else (), notes)
        entries.append((first, *(Entry(text) for text in (*names[1:], str(row.number), *values))))
        heads = ["label", *paths, *(head.lower() for head in _COLUMNS)]
        cells = ["" if text == DASH else text for text in (*names, str(row.number), *values)]
        data.append({"arm": row.arm, **dict(zip(heads, cells, strict=True)), "profile": info.profile})
    table = Table(
        name,
        "Rounds of SFR+.",
        _CAPTION,
        ("Method", *paths, *_COLUMNS),
        tuple(entries),
        notes.listed,
        tuple(data),
        captions.tail(info),
        1 + len(paths),
        rules=_RULES,
    )
    return [table], rows


def rows_of(info: ReportInfo) -> list[RoundRow]:
    """The rounds of all seeds, in the order of arms, points and rounds."""
    groups: dict[tuple[str, tuple[str, ...], int], list[Round]] = {}
    for one in info.rounds:
        point = tuple(axis_text(value) for value in one.axes.values())
        groups.setdefault((one.arm, point, one.number), []).append(one)
    labels = dict(info.arms)
    order = list(labels)
    rows = [
        RoundRow(arm, labels.get(arm, arm), members[0].axes, number_, members)
        for (arm, _, number_), members in groups.items()
    ]
    return sorted(rows, key=lambda row: order.index(row.arm))  # stable: points and rounds stay in order


Quality = Mapping[tuple[str, int, str], float]


def quality_of(frame: pd.DataFrame, rows: Sequence[RoundRow]) -> Quality:
    """Dice in percent of the labels that rounds choose from, mean over classes, by cell, round and case."""
    numbers = {before_round(row.number): row.number for row in rows}
    part = frame[frame["subset"].isin(list(numbers)) & (frame["metric"] == "dice")]
    means = part.groupby(["cell", "subset", "case"])["value"].mean().dropna().reset_index()
    keys = zip(
        means["cell"].astype(str), means["subset"].map(numbers), means["case"].astype(str), strict=True
    )
    return dict(zip(keys, means["value"].astype(float), strict=True))


def known_dice(one: Round, quality: Quality) -> dict[str, float]:
    """The Dice of every case of a round that is scored."""
    dice = {case: quality.get((one.cell, one.number, case)) for case in one.confidence}
    return {case: value for case, value in dice.items() if value is not None}


def spearman(one: Round, dice: Mapping[str, float]) -> float | None:
    """Rank correlation of confidence and Dice; None for fewer than three cases or equal values."""
    ranks = pd.DataFrame({"c": [one.confidence[case] for case in dice], "d": list(dice.values())}).rank()
    if len(dice) < 3 or ranks["c"].nunique() < 2 or ranks["d"].nunique() < 2:
        return None
    return float(ranks["c"].corr(ranks["d"]))


def _values(row: RoundRow, quality: Quality) -> list[str]:
    per_seed: dict[str, list[float]] = {"confident": [], "others": [], "spearman": []}
    for one in row.rounds:
        known = known_dice(one, quality)
        for head, wanted in (("confident", True), ("others", False)):
            chosen = [value for case, value in known.items() if (case in one.confident) == wanted]
            per_seed[head] += [float(np.mean(chosen))] if chosen else []
        rho = spearman(one, known)
        per_seed["spearman"] += [] if rho is None else [rho]
    counts = [len(one.confident) for one in row.rounds]
    total = max(len(one.confidence) for one in row.rounds)
    confidences = [value for one in row.rounds for value in one.confidence.values()]
    thresholds = [one.threshold for one in row.rounds if np.isfinite(one.threshold)]
    return [
        f"{np.mean(thresholds):.3f}" if thresholds else DASH,
        f"{np.mean(counts):.1f} of {total}",
        f"{np.mean(confidences):.3f} ({min(confidences):.3f}–{max(confidences):.3f})",
        *(
            number(float(np.mean(per_seed[head]))) if per_seed[head] else DASH
            for head in ("confident", "others")
        ),
        f"{np.mean(per_seed['spearman']):.2f}" if per_seed["spearman"] else DASH,
        str(len(row.rounds)),
    ]
