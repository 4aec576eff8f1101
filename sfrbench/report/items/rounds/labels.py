"""Pseudo-labels before and after each round, on the same cases: whether confident cases make them better."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sfrbench.maths import stats
from sfrbench.report.facts.info import ReportInfo, Round
from sfrbench.report.items.rounds.table import Lines, rows_of
from sfrbench.report.render.style import DASH
from sfrbench.results.axes import axis_text, axis_texts, point_texts
from sfrbench.results.dead import Dead, find
from sfrbench.results.lines import Line
from sfrbench.results.measures import bounds_of
from sfrbench.results.subsets import before_round, labels_of_round, rounds_among


@dataclass(frozen=True)
class Group:
    """The cases of a table: the end of its name, what they are in a title and in words, and which they are.

    ``of`` gives the cases of a round and the round before it, of one seed, among all unlabelled ones.
    """

    ending: str
    title: str
    said: str
    of: Callable[[Round, Round | None], Collection[str]]
    none: str  # why there may be none
    every: bool = False  # all cases: self-training, too, where no case is confident or not


def labelled_by_sam(one: Round) -> frozenset[str]:
    """The cases whose labels by SAM re-training reads in this round; crops are judged one by one."""
    every = frozenset(one.confidence)
    return every if one.both or one.by_crop else every - one.confident


def _stored(one: Round | None) -> Collection[str] | None:
    """The cases that SAM labels in a round, or in the first labelling; None: all."""
    return None if one is None or one.labels_all else labelled_by_sam(one)


def _both(one: Round, before: Round | None) -> Collection[str]:
    own = labelled_by_sam(one)
    return own if before is None else own & labelled_by_sam(before)


GROUPS = (
    Group(
        "",
        "cases that SAM labels in both",
        "Confident cases leave: SAM labels them no more.",
        _both,
        "SAM labels no case both before and after the round",
    ),
    Group(
        "_confident",
        "confident cases",
        "They update SAM, under the segmenter's labels.",
        lambda one, _: frozenset() if one.by_crop else one.confident,
        "no case was confident",
    ),
    Group(
        "_all",
        "all unlabelled cases",
        "Whether re-training reads the label or not.",
        lambda one, _: frozenset(one.confidence),
        "no case was scored",
        every=True,
    ),
)


@dataclass(frozen=True)
class Labels:
    """The pseudo-labels of one arm, point and round, all seeds; a line is None if nothing is scored.

    ``rounds`` are those of SFR+ by seed, with the round before; empty for self-training, whose labels are
    the segmenter's and whose cases are always all.
    """

    arm: str
    label: str
    axes: Mapping[str, Any]
    number: int
    before: Line | None
    after: Line | None
    segmenter: Line | None
    rounds: Mapping[int, tuple[Round, Round | None]]
    group: Group

    def behind(self) -> dict[str, Any]:
        """What the row stands on, for provenance.json."""
        known = [line for line in (self.before, self.after, self.segmenter) if line is not None]
        name = ", ".join([self.label, *point_texts(self.axes), f"round {self.number}"])
        cells = {seed: pair[0].cell for seed, pair in self.rounds.items()}
        cells |= dict(self.after.cells) if self.after else {}
        return {
            "row": f"{name}, labels of {self.group.title}",
            "arm": self.arm,
            "match": {"arm": self.arm, "round": str(self.number), **axis_texts(self.axes)},
            "axes": dict(self.axes),
            "cells": {str(seed): cell for seed, cell in cells.items()},
            "evaluate": sorted({key for line in known for key in line.keys}),
        }

    def own(self, seed: int) -> Collection[str]:
        """The group's cases, of a seed of SFR+, that are labelled both before and after the round."""
        cases = self.group.of(*self.rounds[seed])
        stored = [have for one in self.rounds[seed] if (have := _stored(one)) is not None]
        return frozenset(cases).intersection(*stored)

    def dead(self, line: Line) -> tuple[Dead, ...]:
        """The line's dead classes among the group's cases."""
        own = {seed: self.own(seed) for seed in self.rounds}
        pairs = zip(line.frame["seed"], line.frame["case"], strict=True)
        return find(line.frame[[seed not in own or case in own[seed] for seed, case in pairs]])

    def cube(self, line: Line, seeds: Sequence[int], cases: Sequence[str]) -> stats.Array:
        """Dice (S, C, K) of the group's cases, NaN for the others."""
        values = line.cube("dice", cases, seeds).copy()
        for index, seed in enumerate(seeds):
            if seed in self.rounds:
                own = self.own(seed)
                values[index, [case not in own for case in cases]] = np.nan
        return values


def rows_of_group(frame: pd.DataFrame, info: ReportInfo, group: Group) -> list[Labels]:
    """The rows of a group of cases, ordered by arm, point and round."""
    known = Lines(frame, info)
    orders = [[arm for arm, _ in info.arms]]
    orders += [[axis_text(value) for value in values] for values in info.axes.values()]

    def place(row: Labels) -> tuple[int, ...]:
        texts = [row.arm, *(axis_text(row.axes.get(path)) for path in info.axes)]
        found = (o.index(text) if text in o else len(o) for o, text in zip(orders, texts, strict=True))
        return (*found, row.number)

    rows = [*_of_sfr_plus(known, info, group), *_of_self_training(known, frame, info, group)]
    return sorted(rows, key=place)


def _of_sfr_plus(known: Lines, info: ReportInfo, group: Group) -> Iterator[Labels]:
    rounds = {(one.cell, one.number): one for one in info.rounds}
    for row in rows_of(info):
        before, after = (known.at(labels_of_round(row.number - back), row.arm, row.axes) for back in (1, 0))
        pairs = {one.seed: (one, rounds.get((one.cell, one.number - 1))) for one in row.rounds}
        segmenter = known.at(before_round(row.number), row.arm, row.axes)
        yield Labels(row.arm, row.label, row.axes, row.number, before, after, segmenter, pairs, group)


def _of_self_training(known: Lines, frame: pd.DataFrame, info: ReportInfo, group: Group) -> Iterator[Labels]:
    of_sfr_plus = {one.arm for one in info.rounds}
    there = rounds_among(map(str, frame["subset"].unique())) if group.every else {}
    for round_, subset in there.items():
        for line in known.of(subset):
            if line.arm not in of_sfr_plus:
                before = known.at(labels_of_round(round_ - 1), line.arm, line.axes)
                yield Labels(line.arm, line.label, line.axes, round_, before, line, None, {}, group)


@dataclass(frozen=True)
class LabelDice:
    """What stands in a row: Dice before, after and of the segmenter's labels, on the same cases and seeds."""

    means: tuple[float | None, float | None, float | None] = (None, None, None)
    gap: stats.Interval | None = None
    n: str = DASH
    seeds: int = 0
    without: tuple[int, ...] = ()  # seeds that are not scored yet


def compare(row: Labels) -> LabelDice:
    """On the cases of the group that are scored both before and after, or after alone where there is no
    before."""
    if row.after is None or (row.before is None and row.rounds):
        return LabelDice(without=tuple(seed for seed in row.rounds if row.own(seed)))
    other = row.before or row.after
    seeds, cases = row.after.common(other)
    before, after = row.cube(other, seeds, cases), row.cube(row.after, seeds, cases)
    unknown = np.isnan(before) | np.isnan(after)
    before[unknown] = after[unknown] = np.nan
    n = (~unknown).any(axis=2).sum(axis=1)
    without = tuple(seed for seed in row.rounds if seed not in seeds and row.own(seed))
    if not n.any():
        return LabelDice(without=without)
    net = _same(row, seeds, cases, unknown)
    return LabelDice(
        (stats.grand_mean(before) if row.before else None, stats.grand_mean(after), net),
        stats.difference(after, before, bounds_of("dice"))[0] if row.before else None,
        str(n.max()) if n.min() == n.max() else f"{n.min()}–{n.max()}",
        int(np.count_nonzero(n)),
        without,
    )


def _same(row: Labels, seeds: Sequence[int], cases: Sequence[str], unknown: Any) -> float | None:
    """The Dice of the segmenter's labels of what is compared, where all of it is scored."""
    net = row.segmenter
    if net is None or not (set(seeds) <= set(net.seeds) and set(cases) <= set(net.cases)):
        return None
    values = row.cube(net, seeds, cases)
    values[unknown] = np.nan
    mean = stats.grand_mean(values)
    return None if np.isnan(mean) else mean
