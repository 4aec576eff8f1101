"""The table of parameters: what trains, what is trained, what predicts, and what the paper says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from sfrbench.report.render import captions
from sfrbench.report.render.style import DASH, scaled, stamp
from sfrbench.report.render.tables import Entry, Notes, Table
from sfrbench.results.axes import axis_text

if TYPE_CHECKING:
    from sfrbench.paper.sizes import Size
    from sfrbench.report.facts.info import Counted, ReportInfo

_COLUMNS = ("Trained in fine-tuning", "Fine-tuned model", "Model that predicts", "Paper (M)")


@dataclass(frozen=True)
class Sizes:
    """Counts of parameters and the paper's figure; where a count is none, ``why_…`` says why."""

    trained: int | None
    finetuned: int | None
    predicts: int | None
    paper: Size | None
    why_finetune: str = ""
    why_predicts: str = ""


@dataclass(frozen=True)
class ParameterRow:
    """One arm at the points of the axes where its models have these sizes; ``axes`` hold lists of values."""

    arm: str
    label: str
    axes: Mapping[str, Sequence[Any]]
    sizes: Sizes
    cells: Sequence[Counted] = ()

    @property
    def point(self) -> str:
        """``finetune.rank 1, 4``; empty where the axes make no difference."""
        return ", ".join(f"{path} {_values(values)}" for path, values in self.axes.items())

    def behind(self) -> dict[str, Any]:
        """The cells and nodes that the row stands on."""
        return {
            "row": ", ".join(part for part in (self.label, self.point) if part),
            "arm": self.arm,
            "match": {"arm": self.arm, **{path: _values(values) for path, values in self.axes.items()}},
            "axes": {path: list(values) for path, values in self.axes.items()},
            "cells": [entry.cell for entry in self.cells],
            "models": sorted({node for entry in self.cells for node in entry.nodes}),
        }


def parameters_table(info: ReportInfo, name: str) -> tuple[list[Table], list[ParameterRow]]:
    """One row for each arm, or for each different count of an arm where its points differ."""
    rows = [row for arm, label in info.arms for row in _rows(info, arm, label)]
    paths = [path for path in info.axes if any(path in row.axes for row in rows)]
    notes = Notes()
    table = Table(
        name,
        "Parameters.",
        "Counted in the models as they were trained, beside what the paper states.",
        ("Method", *paths, *_COLUMNS),
        tuple(_entries(row, paths, notes) for row in rows),
        notes.listed,
        tuple(_data(row, paths, info) for row in rows),
        (stamp(info.profile),),
        1 + len(paths),
        quoted=_COLUMNS[-1:],
        rules=_rules(info, rows),
    )
    return [table], rows


def _rows(info: ReportInfo, arm: str, label: str) -> list[ParameterRow]:
    by_point: dict[tuple[str, ...], list[Counted]] = {}
    for entry in info.counted:
        if entry.arm == arm:
            by_point.setdefault(tuple(axis_text(value) for value in entry.axes.values()), []).append(entry)
    if not by_point:
        why = info.left_out(arm) or "not run"
        return [ParameterRow(arm, label, {}, Sizes(None, None, None, None, why, why))]
    groups: dict[Sizes, list[list[Counted]]] = {}
    for cells in by_point.values():
        groups.setdefault(_sizes(cells), []).append(cells)
    every = [cells[0].axes for cells in by_point.values()]
    if len(groups) == 1:
        return [ParameterRow(arm, label, {}, sizes, list(chain(*points))) for sizes, points in groups.items()]
    return [
        ParameterRow(arm, label, _told(every, [cells[0].axes for cells in block]), sizes, list(chain(*block)))
        for sizes, points in groups.items()
        for block in _blocks(points)
    ]


def _sizes(cells: Sequence[Counted]) -> Sizes:
    """What the seeds of one point share; a count is that of the first seed that has it."""
    tuned = next((entry.finetune for entry in cells if entry.finetune is not None), None)
    predicts = next((entry.predicts for entry in cells if entry.predicts is not None), None)
    return Sizes(
        trained=None if tuned is None else tuned[0],
        finetuned=None if tuned is None else tuned[1],
        predicts=predicts,
        paper=cells[0].size,
        why_finetune=cells[0].why_finetune if tuned is None else "",
        why_predicts=cells[0].why_predicts if predicts is None else "",
    )


def _blocks(points: list[list[Counted]]) -> list[list[list[Counted]]]:
    """The points as one block where a list of values for each axis tells them all, else one by one."""
    first = points[0][0].axes
    counts = [len({axis_text(cells[0].axes[path]) for cells in points}) for path in first]
    return [points] if math.prod(counts) == len(points) else [[cells] for cells in points]


def _told(every: Sequence[Mapping[str, Any]], own: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The values of those axes by which ``own`` points differ from the others of their arm."""
    told: dict[str, list[Any]] = {}
    for path in every[0]:
        values = {axis_text(axes[path]): axes[path] for axes in own}
        if len(values) < len({axis_text(axes[path]) for axes in every}):
            told[path] = list(values.values())
    return told


def _entries(row: ParameterRow, paths: Sequence[str], notes: Notes) -> tuple[Entry, ...]:
    def count(value: int | None, why: str) -> Entry:
        return Entry(f"{value:,}") if value is not None else Entry(DASH, marks=notes.mark(why))

    sizes = row.sizes
    return (
        Entry(row.label),
        *(Entry(_values(row.axes[path]) if path in row.axes else "all") for path in paths),
        count(sizes.trained, sizes.why_finetune),
        count(sizes.finetuned, sizes.why_finetune),
        count(sizes.predicts, sizes.why_predicts),
        _paper(row, notes),
    )


def _paper(row: ParameterRow, notes: Notes) -> Entry:
    paper = row.sizes.paper
    if paper is not None:
        return Entry(paper.text, marks=notes.mark(paper.place))
    # an arm without a cell has no models that the paper could be asked about
    return Entry(DASH, marks="" if row.cells else notes.mark(row.sizes.why_predicts))


def _data(row: ParameterRow, paths: Sequence[str], info: ReportInfo) -> dict[str, str]:
    """One row of the CSV."""
    sizes, paper = row.sizes, row.sizes.paper
    found = {"arm": row.arm, "label": row.label}
    found |= {path: _values(row.axes[path]) if path in row.axes else "all" for path in paths}
    counts = {"trained": sizes.trained, "finetuned": sizes.finetuned, "predicts": sizes.predicts}
    found |= {name: "" if value is None else str(value) for name, value in counts.items()}
    found |= {"paper_millions": paper.text if paper else "", "paper_place": paper.place if paper else ""}
    why = {"fine-tuning": sizes.why_finetune, "prediction": sizes.why_predicts}
    note = "; ".join(f"{what}: {reason}" for what, reason in why.items() if reason)
    return found | {"profile": info.profile, "note": note}


def _rules(info: ReportInfo, rows: Sequence[ParameterRow]) -> tuple[str, ...]:
    papers = dict.fromkeys(row.sizes.paper for row in rows if row.sizes.paper is not None)
    said = [
        "What predicts is the 3D segmenter of a re-trained arm, else the fine-tuned SAM.",
        "Paper: what the paper states for the model that predicts, in millions; a bare — where it states "
        "nothing.",
        *(f"Its {paper.text}M: {paper.note}." for paper in papers if paper.note),
    ]
    if scaled(info.profile):
        said.append(
            f"The counts are of the models of profile {info.profile}, which are others than the paper's."
        )
    said.append(captions.left_out(info, {row.arm for row in rows if not row.cells}))
    return tuple(rule for rule in said if rule)


def _values(values: Sequence[Any]) -> str:
    return ", ".join(axis_text(value) for value in values)
