"""The columns of a result table that hold numbers: metrics with their gains, and what a model costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from sfrbench.maths.metric_names import METRICS
from sfrbench.maths.stats import grand_mean
from sfrbench.report.items.table.rows import View
from sfrbench.report.render import captions
from sfrbench.report.render.style import DASH, judged, number
from sfrbench.report.render.tables import Entry, Notes, rank_entries
from sfrbench.results.axes import axis_text
from sfrbench.results.lines import Line, Stat, unit_of
from sfrbench.results.measures import flattery

if TYPE_CHECKING:
    from sfrbench.report.facts.info import Counted


@dataclass(frozen=True)
class Column:
    """One column of the table: for each line its number, its gain, and whether its class is dead in a
    seed."""

    entries: Sequence[Entry]
    stats: Sequence[Stat]
    gains: Sequence[float | None]
    lost: Sequence[bool]


def metric_column(view: View, metric: str, cls: str | None = None) -> Column:
    """``mean ± std`` of each line, and for the mean over classes its gain.

    Only lines with all their seeds, in one unit, whose empty predictions do not flatter them, are ranked,
    those
    of each dataset among themselves."""
    stats = [line.stat(metric, cls, view.over) for line in view.lines]
    lost = [any(one.cls == cls for one in line.dead) for line in view.lines]
    gains = [gain(view, line, metric) if cls is None else None for line in view.lines]
    comparable = len(view.lines) > 1 and "/" not in unit_of(view.frame, metric)
    whole = [
        stat.mean if comparable and not line.missing and not flattery(line, metric, cls) else None
        for stat, line in zip(stats, view.lines, strict=True)
    ]
    larger = METRICS[metric].larger
    ranks: list[Literal[0, 1, 2]] = [0] * len(whole)
    for classes in dict.fromkeys(line.classes for line in view.lines):
        places = [index for index, line in enumerate(view.lines) if line.classes == classes]
        own = rank_entries([whole[index] for index in places], larger, number)
        for index, rank in zip(places, own, strict=True):
            ranks[index] = rank
    entries = [
        Entry(_text(view, stat, larger, gone), rank, gain=_gain_text(change, larger))
        for stat, rank, change, gone in zip(stats, ranks, gains, lost, strict=True)
    ]
    return Column(entries, stats, gains, lost)


def _text(view: View, stat: Stat, larger: bool, lost: bool) -> str:
    if lost and larger and stat.mean == 0:
        return "0*"
    text = number(stat.mean)
    if stat.std is not None and view.shows_std:
        text += f" ± {number(stat.std)}"
    return f"{text}*" if lost else text


def _gain_text(gain: float | None, larger: bool) -> str:
    """``(+9.90 better)``, or nothing."""
    return "" if gain is None else f"({judged(gain, larger)})"


def reference(view: View, line: Line) -> Line | None:
    """The line that ``line`` is held against, at the same point."""
    arm = view.how.gains.get(line.arm)
    return next((other for other in view.lines if other.arm == arm and other.point == line.point), None)


def gain(view: View, line: Line, metric: str) -> float | None:
    """The mean paired difference to the reference, over the seeds and cases of both, where there is one."""
    other = reference(view, line)
    if other is None or flattery(line, metric) or flattery(other, metric):
        return None
    seeds, cases = line.common(other)
    if not seeds or not cases:
        return None
    value = grand_mean(line.cube(metric, cases, seeds) - other.cube(metric, cases, seeds))
    return None if np.isnan(value) else value


def gain_marks(view: View, line: Line, notes: Notes) -> str:
    """The mark of a line whose gain is missing or stands on a part of its seeds or cases."""
    arm = view.how.gains.get(line.arm)
    if arm is None or not line.seeds:
        return ""
    other = reference(view, line)
    name = dict(view.info.arms).get(arm, arm)
    if other is None or not other.seeds:
        return notes.mark(f"no gain: {name} has no result here")
    flat = [
        METRICS[metric].label
        for metric in view.how.metrics
        if flattery(line, metric) or flattery(other, metric)
    ]
    found = notes.mark(f"no gain in {', '.join(flat)}: empty predictions, here or of {name}") if flat else ""
    if other.seeds == line.seeds and other.cases == line.cases:
        return found
    seeds, cases = line.common(other)
    if not seeds or not cases:
        return notes.mark(f"no gain: no seed or case in common with {name}")
    return found + notes.mark(
        f"gain over what {name} has too: {captions.seeds_text(len(seeds))}, {len(cases)} cases"
    )


def gains_text(view: View) -> str:
    """What the notes say of the brackets."""
    labels = dict(view.info.arms)
    pairs = [f"{labels.get(a, a)} against {labels.get(b, b)}" for a, b in view.how.gains.items()]
    if not pairs:
        return ""
    return (
        f"In brackets: mean paired difference before rounding ({'; '.join(pairs)}); better or worse by the "
        "metric, whatever the sign."
    )


@dataclass(frozen=True)
class Cost:
    """A column of what a model costs: head, name in the CSV, entries, and the bare numbers."""

    head: str
    name: str
    entries: Sequence[Entry]
    texts: Sequence[str]


def cost_columns(view: View, notes: Notes) -> tuple[list[Cost], str]:
    """The columns of costs that the item asks for, and what the notes say of them."""
    asked = view.how.columns
    cells = [_counted(view, line) for line in view.lines]
    made, said = [], []
    if "params" in asked:
        millions = [next((c.predicts / 1e6 for c in own if c.predicts is not None), None) for own in cells]
        why = [own[0].why_predicts if own else "not run" for own in cells]
        made.append(_cost("Params (M)", "params_millions", millions, why, [""] * len(cells), notes))
        said.append("Params: of the model that predicts, in millions.")
    if "seconds" in asked:
        seconds = [_mean([c.seconds for c in own]) for own in cells]
        why = [own[0].why_seconds if own else "not run" for own in cells]
        devices = [" and ".join(dict.fromkeys(c.device for c in own if c.device)) for own in cells]
        known = list(dict.fromkeys(device for device in devices if device))
        told = [f"timed on {device}" if len(known) > 1 and device else "" for device in devices]
        made.append(_cost("s per case", "seconds_per_case", seconds, why, told, notes))
        where = f" on {known[0]}" if len(known) == 1 else ""
        said.append(
            f"s per case: wall time of predicting one case{where}, mean over cases and seeds; what else the "
            "machine did then is in it."
        )
        if view.info.prompted:
            said.append("Of a prompted model it is that of all rounds of its run, with the simulated user.")
    if "prompts" in asked:
        made += _prompt_columns(view)
        said.append(
            "Prompts per case: those up to the scored round, over all objects. s per prompt: what the model "
            "took to answer one; what it computes once for a case is in the first or, before it, in no one's."
        )
    return made, " ".join(said)


def _prompt_columns(view: View) -> list[Cost]:
    """What the user of a prompted model is asked for, and how long the model takes to answer."""
    per_case: list[str] = []
    per_prompt: list[str] = []
    for line in view.lines:
        own = [one for one in view.info.prompted if one.cell in line.cells.values()]
        cases, prompts = sum(one.cases for one in own), sum(one.prompts for one in own)
        none = DASH if not line.seeds else "0"
        per_case.append(number(prompts / cases) if cases else none)
        per_prompt.append(f"{sum(one.seconds for one in own) / prompts:.3f}" if prompts else DASH)
    return [
        Cost(head, name, list(map(Entry, texts)), ["" if text == DASH else text for text in texts])
        for head, name, texts in (
            ("prompts per case", "prompts_per_case", per_case),
            ("s per prompt", "seconds_per_prompt", per_prompt),
        )
    ]


def _cost(
    head: str,
    name: str,
    values: Sequence[float | None],
    why: Sequence[str],
    told: Sequence[str],
    notes: Notes,
) -> Cost:
    entries = [
        Entry(DASH, marks=notes.mark(f"{head}: {reason or 'not recorded'}"))
        if value is None
        else Entry(number(value), marks=notes.mark(note) if note else "")
        for value, reason, note in zip(values, why, told, strict=True)
    ]
    return Cost(head, name, entries, ["" if value is None else number(value) for value in values])


def _counted(view: View, line: Line) -> list[Counted]:
    """What is known of the models of a line's cells."""
    return [
        entry
        for entry in view.info.counted
        if entry.arm == line.arm
        and all(axis_text(entry.axes.get(path)) == axis_text(value) for path, value in line.axes.items())
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
