"""What stands under every table and figure that shows a prompted model: how much it was told of the truth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sfrbench.files.units import counted
from sfrbench.report.render import captions
from sfrbench.report.render.parts import Figure, Part, Traced
from sfrbench.report.render.under import cells_of

if TYPE_CHECKING:
    from sfrbench.report.facts.info import Prompted, ReportInfo
    from sfrbench.report.render.tables import Table


def with_prompts(part: Part, info: ReportInfo) -> Part:
    """The part, each of its tables and figures with what the prompted models behind it were told."""
    if not info.prompted:
        return part
    return replace(
        part,
        tables=[_table(table, part.behind.get(table.name, ()), info) for table in part.tables],
        figures=[_figure(figure, part.behind.get(figure.name, ()), info) for figure in part.figures],
    )


def _table(table: Table, behind: Sequence[Traced], info: ReportInfo) -> Table:
    """The counts stand under each table, even where a page says what several have in common only once."""
    cells = cells_of(behind)
    counts = [("", text) for text in counts_of(cells, info)]
    return replace(table, notes=(*table.notes, *counts), rules=(*table.rules, *rules_of(cells, info)))


def _figure(figure: Figure, behind: Sequence[Traced], info: ReportInfo) -> Figure:
    cells = cells_of(behind)
    return replace(figure, notes=(*figure.notes, *rules_of(cells, info), *counts_of(cells, info)))


def rules_of(cells: set[str], info: ReportInfo) -> list[str]:
    """Whose prompts are placed by the truth, and what else they tell of it; nothing for cells without any."""
    told = [one for one in info.prompted if one.cell in cells]
    by_truth = [one for one in told if not one.from_guess]
    said = []
    if by_truth:
        rest = "; the other rows saw no label of them" if cells - {one.cell for one in by_truth} else ""
        said.append(
            f"Prompted: {_labels(by_truth, info)}. A simulated user places the prompts by the truth of the "
            f"very cases that are scored{rest}."
        )
    for text in dict.fromkeys(text for one in told for text in one.shows):
        whose = _labels([one for one in told if text in one.shows], info)
        said.append(f"Beyond the places of the prompts ({whose}): {text.rstrip('.')}.")
    return said


def counts_of(cells: set[str], info: ReportInfo) -> list[str]:
    """How many prompts were given in these cells, and how often labels were looked at for them."""
    return [_counts(group, info) for group in _groups([one for one in info.prompted if one.cell in cells])]


def _groups(told: Sequence[Prompted]) -> list[list[Prompted]]:
    """By arm; arms that share a run are one group."""
    groups: list[list[Prompted]] = []
    for arm in dict.fromkeys(one.arm for one in told):
        own = [one for one in told if one.arm == arm]
        keys = {one.key for one in own}
        shared = next((group for group in groups if keys & {one.key for one in group}), None)
        if shared is None:
            groups.append(own)
        else:
            shared += own
    return groups


def _counts(group: Sequence[Prompted], info: ReportInfo) -> str:
    """Prompts and looks of all runs of a group, each counted once."""
    runs = list({one.key: one for one in group}.values())
    prompts, looks = sum(one.prompts_of_run for one in runs), sum(one.looks for one in runs)
    said = f"{_labels(group, info)}: {counted(prompts, 'prompt')} in {counted(len(runs), 'run')}"
    if all(one.from_guess for one in group):
        said += ", taken from the segmenter's own predictions: no label was looked at for them"
    else:
        times = counted(looks, "time")
        said += f", for which the labels of these cases were looked at {times} ({_product(runs)})"
    counts, rounds = sorted({one.count for one in group}), max(one.rounds for one in runs)
    if rounds > 1:
        said += f"; scored after {', '.join(map(str, counts))} of {rounds} rounds"
    if any(one.best for one in group):
        best = _labels([one for one in group if one.best], info)
        said += f"; {best}: after the best of the rounds so far, case by case, as only the truth can tell"
    return f"{said}."


def _product(runs: Sequence[Prompted]) -> str:
    """How the number of looks comes about."""
    shapes = {(one.cases, one.rounds) for one in runs}
    if len(shapes) > 1:
        return "cases × rounds, over all runs"
    ((cases, rounds),) = shapes
    said = f"{counted(cases, 'case')} × {counted(rounds, 'round')}"
    return said if len(runs) == 1 else f"{said} × {counted(len(runs), 'run')}"


def _labels(told: Iterable[Prompted], info: ReportInfo) -> str:
    labels = dict(info.arms)
    return captions.listed(dict.fromkeys(labels.get(one.arm, one.arm) for one in told))
