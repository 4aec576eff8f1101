"""What a trial is judged by: the metric of a cell, and the empty predictions that flatter it."""

from __future__ import annotations

import csv

from sfrbench.maths.metric_names import flatters
from sfrbench.plan.build import Cell
from sfrbench.run.tracking.values import mean_scores
from sfrbench.spec.model import Search
from sfrbench.stages.evaluate import recipe as evaluate
from sfrbench.store.store import Store


def score_of(store: Store, cell: Cell, search: Search) -> tuple[float | None, int]:
    """The metric of one cell and its number of cases: mean over cases, then classes; shares in percent."""
    path = store.get(*cell.nodes[evaluate.STAGE]).path("scores.csv")
    with path.open(encoding="utf-8", newline="") as stream:
        cases = {row["case"] for row in csv.DictReader(stream)}
    prefix = f"{search.metric}/"
    values = [value for name, value in mean_scores(path).items() if name.startswith(prefix)]
    if not values:
        return None, len(cases)
    mean = sum(values) / len(values)
    return (100 * mean if search.larger else mean), len(cases)


def flattering(store: Store, cell: Cell, search: Search) -> int:
    """How many empty predictions make the metric of one cell look better than it is (``spec.flatters``)."""
    with (
        store.get(*cell.nodes[evaluate.STAGE]).path("scores.csv").open(encoding="utf-8", newline="") as stream
    ):
        rows = [row for row in csv.DictReader(stream) if row["metric"] == search.metric]
    yes = ("1", "True", "true")
    return sum(
        row["empty_pred"] in yes
        and row["empty_gt"] not in yes
        and flatters(search.metric, float(row["value"] or "nan"))
        for row in rows
    )
