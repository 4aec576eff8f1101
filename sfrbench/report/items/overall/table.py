"""The table of an effect over all methods, and the words under it and under its figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from sfrbench.files.units import counted
from sfrbench.maths.metric_names import METRICS
from sfrbench.report.items.overall.results import Results, Row
from sfrbench.report.items.pairs.table import few_cases, reach
from sfrbench.report.render import captions
from sfrbench.report.render.style import DASH, judged, number, p_value, span, verdict
from sfrbench.report.render.tables import Entry, Notes, Table, unmarked
from sfrbench.results.axes import axis_texts
from sfrbench.results.lines import header, subset_of

if TYPE_CHECKING:
    from sfrbench.maths.stats import Interval
    from sfrbench.report.facts.info import ReportInfo

HARMS = "harms: its whole interval is on the worse side"


def overall_table(frame: pd.DataFrame, info: ReportInfo, results: Results, name: str) -> Table:
    """A row for each method, and one for the mean over them."""
    notes, group, larger = Notes(), results.group, METRICS[results.metric].larger
    subset = subset_of(frame)
    rows, data = [], []
    for row in results.rows:
        why = [HARMS, *row.notes] if row.verdict(larger) == "worse" else list(row.notes)
        gap = row.result.difference if row.result else None
        p = row.result.p if row.result else None
        texts = _texts(row.contrast.name, row.means, gap, p, row.holm, larger)
        rows.append(_entries(texts, "".join(notes.mark(text) for text in why)))
        data.append(_record(texts, gap, larger, why) | _place(row, group.axis))
    whole = results.whole
    effect, p = (whole.effect, whole.p) if whole else (None, None)
    texts = _texts(results.name, results.means, effect, p, None, larger)
    why = incomplete(results)
    rows.append(_entries(texts, "".join(notes.mark(text) for text in why)))
    data.append(_record(texts, effect, larger, why) | _shares(results))
    stamps = {"metric": results.metric, "what": group.what, "subset": subset, "profile": info.profile}
    stamps |= {"protocol": info.protocol}
    head = header(frame[frame["subset"] == subset], results.metric)
    sides = [f"{side}, {head}" for side in reversed(group.sides)]
    table = Table(
        name,
        title(results),
        caption(results, subset),
        (_named(results), *sides, "Difference", "95 % interval", "p", "p (Holm)", "n", "seeds"),
        tuple(rows),
        notes.listed,
        tuple(record | stamps for record in data),
        captions.tail(info),
        rules=(captions.ARROWS, *rules(results)),
    )
    return unmarked(table)


def title(results: Results) -> str:
    return f"Effect on {METRICS[results.metric].label}{_at(results)}."


def _at(results: Results) -> str:
    return f" at {results.group.point}" if results.group.point else ""


def caption(results: Results, subset: str) -> str:
    """What the differences are."""
    return f"{results.group.what} on {captions.subset_text(subset)}, mean over cases, classes and seeds."


def incomplete(results: Results) -> list[str]:
    """What is special about the mean over the rows."""
    whole, lacking = results.whole, len(results.rows) - len(results.shown)
    said = [f"without those that have no number, {lacking} of {len(results.rows)}"] if lacking else []
    if whole is None:
        return [*said, f"no mean over them: {results.why}"]
    if whole.effect.low is None:
        said.append(f"no interval{' and no test' if whole.p is None else ''}: {whole.effect.why}")
    return said


def rules(results: Results) -> tuple[str, ...]:
    """How rows and their mean are read, what the interval covers and what not."""
    group, tested = results.group, sum(row.holm is not None for row in results.rows)
    known = [row.result for row in results.rows if row.result]
    better, worse = results.count("better"), results.count("worse")
    said = [
        "Better, worse: by the metric, whatever the sign.",
        f"Interval and p of a row: {reach(known)}.",
        *few_cases(known),
        f"Holm: p corrected for {counted(tested, 'tested row')}; intervals are not.",
        f"Whole interval on the better side{_at(results)}: {better} of {len(results.shown)}; worse: {worse}.",
        *_covers(results),
    ]
    others = group.others
    if others:
        said.append(
            f"One such table for each value of {', '.join(others)}; 'rows: {others[0]}' averages over those."
        )
    if group.without:
        said.append(f"Not in it, without {group.axis}: {', '.join(group.without)}.")
    return tuple(said)


def _covers(results: Results) -> list[str]:
    """What the interval of the mean covers, and what not."""
    whole, noun = results.whole, results.group.noun
    if whole is None or whole.effect.low is None:
        return []
    seeds = whole.effect.seeds
    levels = f"{noun}, cases and seeds" if seeds > 1 else f"{noun} and cases"
    said = [
        f"Mean over {noun}, of equal weights. Its interval is of a random-effects model, over {levels}; "
        f"cases{' and seeds' if seeds > 1 else ''} are shared by all. It speaks of others like these."
    ]
    if whole.shares is not None:
        names = (f"{noun} and their own trainings", "cases", "shared seeds")
        parts = [f"{100 * share:.0f} % {name}" for name, share in zip(names, whole.shares, strict=True)]
        said.append(f"Of the squared error of that mean: {', '.join(parts if seeds > 1 else parts[:2])}.")
    kept = ["another dataset", "other settings"]
    if results.group.rows != "dataset.choice":
        kept.insert(0, "another choice of labelled cases")
    if seeds < 2:
        kept.insert(0, "other trainings, of which one seed tells nothing")
    return [*said, f"Not covered: {', '.join(kept)}."]


def _named(results: Results) -> str:
    return "Method" if results.group.rows == "arm" else results.group.rows


def _texts(
    name: str,
    means: tuple[float, float] | None,
    gap: Interval | None,
    p: float | None,
    holm: float | None,
    larger: bool,
) -> list[str]:
    """One row as it is printed."""
    return [
        name,
        *(number(mean) for mean in reversed(means or (None, None))),
        judged(gap.mean if gap else None, larger),
        span(gap.low, gap.high) if gap else DASH,
        p_value(p),
        p_value(holm),
        str(gap.cases) if gap else "0",
        str(gap.seeds) if gap else "0",
    ]


def _entries(texts: list[str], marks: str) -> tuple[Entry, ...]:
    return tuple(Entry(text, marks=marks if index == 0 else "") for index, text in enumerate(texts))


def _record(texts: list[str], gap: Interval | None, larger: bool, why: list[str]) -> dict[str, str]:
    """One row of the CSV; 'without' and 'with' are the means without and with the change."""
    record = dict(zip(("row", "without", "with"), texts[:3], strict=True))
    mean = gap.mean if gap else None
    record |= {"difference": number(mean), "verdict": verdict(mean, larger)}
    record |= {"low": number(gap.low if gap else None), "high": number(gap.high if gap else None)}
    record |= dict(zip(("p", "p_holm", "n", "seeds"), texts[5:], strict=True))
    record |= {"note": "; ".join(why), "arm": ""}
    return {key: "" if value == DASH else value for key, value in record.items()}


def _place(row: Row, axis: str) -> dict[str, str]:
    """Where a row stands: its arm, and the values of the axes but for that of the change."""
    line = row.contrast.one or row.contrast.other
    axes = axis_texts(line.axes) if line else {}
    return {"arm": row.contrast.arm, **{path: text for path, text in axes.items() if path != axis}}


def _shares(results: Results) -> dict[str, str]:
    """The shares of rows, cases and seeds in the squared error of the mean."""
    whole = results.whole
    if whole is None or whole.shares is None:
        return {}
    names = ("share_rows", "share_cases", "share_seeds")
    return {name: f"{share:.3f}" for name, share in zip(names, whole.shares, strict=True)}
