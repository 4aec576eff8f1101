"""The table of ranks, and the words under it and under the diagram."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from sfrbench.maths.metric_names import METRICS
from sfrbench.maths.stats import nanmean
from sfrbench.report.items.ranks.ranking import Ranking
from sfrbench.report.items.table import rows
from sfrbench.report.render import captions
from sfrbench.report.render.style import DASH, LEAST_P, number, p_value
from sfrbench.report.render.tables import Entry, Notes, Table, rank_entries
from sfrbench.results.lines import header, subset_of

if TYPE_CHECKING:
    from sfrbench.report.facts.info import ReportInfo

_NO_TEST = "no test: fewer than two seeds in common, or the same difference everywhere"


def ranks_table(frame: pd.DataFrame, info: ReportInfo, metric: str, ranking: Ranking, name: str) -> Table:
    """Methods from best to worst: mean rank, mean score, and the test against the best."""
    subset, notes = subset_of(frame), Notes()
    datasets = ranking.blocks if ranking.over == "datasets" else ()
    plain = [None if place in ranking.flattery else rank for place, rank in enumerate(ranking.mean_ranks)]
    best = rank_entries(plain, larger=False, shown=number)
    made, data = [], []
    for place, label in enumerate(ranking.names):
        p = (ranking.p or {}).get((0, place))
        against = DASH if place == 0 or p is None else p_value(p)
        flat = ranking.flattery.get(place) or ranking.flattery.get(0)
        untested = f"no test: {flat}" if flat else _NO_TEST
        mark = notes.mark(ranking.why or untested) if place and p is None else ""
        ranks = [number(rank) for rank in ranking.ranks[place]] if datasets else []
        own = ranking.lines[place]
        marks = "".join(dict.fromkeys(rows.marks_of(line, notes, info, [metric]) for line in own))
        row = [
            Entry(label, marks=marks),
            Entry(number(ranking.mean_ranks[place]), best[place]),
            *map(Entry, ranks),
        ]
        mean = number(float(nanmean(ranking.scores[place], axis=0)))
        shown = Entry(mean)
        for line in ranking.lines[place]:
            shown = rows.with_dead(
                shown, line.dead, notes, line.name if len(ranking.lines[place]) > 1 else ""
            )
        row += [shown, Entry(against, marks=mark)]
        made.append(tuple(row))
        texts = {"method": label, "arm": ranking.lines[place][0].arm, "mean_rank": row[1].text}
        texts |= {f"rank_{block}": text for block, text in zip(datasets, ranks, strict=True)}
        texts |= {f"{metric}_mean": mean}
        texts |= {"p_holm_to_best": "" if against == DASH else against, "over": ranking.over}
        texts |= {"n": str(len(ranking.blocks)), "subset": subset}
        data.append(texts | {"profile": info.profile, "protocol": info.protocol, "note": ranking.why})
    head = header(frame[frame["subset"] == subset], metric)
    return Table(
        name,
        f"Ranks by {METRICS[metric].label}.",
        caption(ranking, subset),
        ("Method", "mean rank ↓", *datasets, head, "p to the best (Holm)"),
        tuple(made),
        notes.listed,
        tuple(data),
        captions.tail(info),
        rules=(captions.ARROWS, *rules(ranking)),
    )


def caption(ranking: Ranking, subset: str) -> str:
    """What the ranks are over."""
    cases = f"the {len(ranking.blocks)} {captions.subset_text(subset)}"
    blocks = f"{len(ranking.blocks)} datasets" if ranking.over == "datasets" else cases
    return f"Mean ranks of {len(ranking.names)} methods over {blocks}; 1 is best."


def rules(ranking: Ranking) -> tuple[str, ...]:
    """How ranks are made, what tells two methods apart, and what is left out."""
    seeds = {seed for own in ranking.lines for line in own for seed in line.seeds}
    of_cases = "; a case counts with its mean over classes and seeds" if ranking.over == "cases" else ""
    said = [f"Equals share a rank{of_cases}."]
    if ranking.p is not None and ranking.over == "datasets":
        said.append("p: Wilcoxon signed-rank over datasets, two-sided, Holm over all pairs.")
    if ranking.p is not None and ranking.over == "cases":
        said.append(
            "p: paired difference over cases and seeds, Holm over all pairs."
            if len(seeds) > 1
            else "p: paired difference over cases, Holm over all pairs; one seed, so these trainings only."
        )
    if ranking.friedman is not None:
        these = "; it speaks of these trainings only" if ranking.over == "cases" else ""
        sign = "" if ranking.friedman < LEAST_P else "= "  # else "<" stands before it
        said.append(f"Friedman's test that all rank alike: p {sign}{p_value(ranking.friedman)}{these}.")
    said += [f"Not tested: {ranking.why}."] if ranking.why else []
    if ranking.flattery:
        what = "dataset" if ranking.over == "datasets" else "case"
        said.append(
            f"A {what} ranks behind all with fewer empty predictions that count as best or are left out; "
            "methods with such are not tested."
        )
    return (*said, *(f"Left out: {gap}." for gap in ranking.gaps))
