"""The section of a search: table of trials, and where its figures come from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfrbench.maths.metric_names import METRICS
from sfrbench.report.items.search import plots as study_plots
from sfrbench.report.render import captions
from sfrbench.report.render.parts import Part
from sfrbench.report.render.style import DASH, number
from sfrbench.report.render.tables import Entry, Table, rank_entries
from sfrbench.results.axes import axis_text

if TYPE_CHECKING:
    from sfrbench.plan.study import Study, Trial
    from sfrbench.report.facts.info import ReportInfo


def study_part(info: ReportInfo, name: Callable[[str], str], folder: Path) -> Part:
    """Tables and figures of the study; ``name`` gives file names. A remark where there is no study."""
    study = info.study
    if study is None:
        remark = "The specification has a search, and no study of it is known here: run sfrbench search."
        return Part(remark=remark)
    if not study.of("complete"):
        remark = "No trial of the study is complete yet."
        return Part(tables=[_table(info, study, name("trials"))], remark=remark)
    return Part(
        tables=[_table(info, study, name("trials"))],
        figures=study_plots.figures(study, captions.foot(info), name, folder),
        remark=_remark(study),
    )


def _remark(study: Study) -> str:
    said = [f"Nodes shared: {study.shared} of {study.nodes}."]
    if len(study.of("complete")) < 2:
        said.append("Importance, slices and contours need two complete trials.")
    elif not study.importances:
        said.append("The importance of fields needs four complete trials with different values.")
    return " ".join(said)


def _table(info: ReportInfo, study: Study, name: str) -> Table:
    paths = list(study.space)
    metric = METRICS[study.metric]
    head = f"{metric.label} ({study.unit}) {'↑' if metric.larger else '↓'}"
    shown = [trial for trial in study.trials if trial.state not in ("running", "waiting")]
    ranks = rank_entries([trial.value for trial in shown], metric.larger, number)
    rows, data = [], []
    for trial, rank in zip(shown, ranks, strict=True):
        values = [axis_text(_rounded(trial.values[path])) if path in trial.values else DASH for path in paths]
        counts = [str(trial.facts.get(key, DASH)) for key in ("cases", "ran", "reused")]
        time = DASH if trial.seconds is None else f"{trial.seconds:.0f}"
        entries = [Entry(number(trial.value), rank), *map(Entry, [*counts, time, _state(trial)])]
        rows.append((Entry(str(trial.number)), *map(Entry, values), *entries))
        data.append(_row(info, study, trial))
    heads = ("Trial", *paths, head, "n", "nodes run", "reused", "s", "what became of it")
    running = len(study.of("running", "waiting"))
    seeds = captions.seeds_text(len(study.seeds))
    rules = [
        captions.ARROWS,
        "No test case is seen. n: validation cases.",
        f"Sampler {study.sampler}, pruner {study.pruner}, Optuna {study.optuna}.",
        f"{running} more trials run or wait." if running else "",
        f"{study.tie[0].upper()}{study.tie[1:]}." if study.tie else "",
    ]
    return Table(
        name,
        f"Trials of study {study.name}.",
        f"Mean over validation cases, classes and {seeds}.",
        heads,
        tuple(rows),
        (),
        tuple(data),
        captions.tail(info),
        rules=tuple(rule for rule in rules if rule),
    )


def _row(info: ReportInfo, study: Study, trial: Trial) -> dict[str, str]:
    """One row of the CSV."""
    values = {path: axis_text(trial.values[path]) for path in study.space if path in trial.values}
    counts = {key: str(trial.facts.get(key, "")) for key in ("cases", "ran", "reused")}
    return {
        "trial": str(trial.number),
        **values,
        study.metric: "" if trial.value is None else repr(trial.value),
        **counts,
        "state": trial.state,
        "seconds": "" if trial.seconds is None else f"{trial.seconds:.1f}",
        "profile": info.profile,
        "note": trial.note,
    }


def _state(trial: Trial) -> str:
    if trial.state == "pruned":
        return trial.note or trial.state
    return f"{trial.state}: {trial.note}" if trial.note else trial.state


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value
