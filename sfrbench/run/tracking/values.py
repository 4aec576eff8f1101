"""What MLflow is told of a cell: parameters, training curves, mean scores."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfrbench.plan.build import Cell
from sfrbench.stages import roles
from sfrbench.stages.retrain.recipe import VALIDATION
from sfrbench.store.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Metric

_CURVE_POINTS = 200  # points kept of one training curve


def parameters(cell: Cell) -> Iterator[tuple[str, Any]]:
    from sfrbench.plan.reasons import flatten

    yield "arm", cell.arm
    yield "seed", cell.seed
    for path, value in cell.axes.items():
        yield f"axis.{path}", value
    for kind, resolved in cell.components.items():
        yield kind, resolved.card.name
        for path, value in flatten(resolved.component.model_dump(mode="json")).items():
            yield f"{kind}.{path}", value


def metrics(store: Store, cell: Cell) -> Iterator[Metric]:
    """Training curves (thinned, but for validations) and the mean of every score."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    for role, link in cell.nodes.items():
        artefact = store.get(*link)
        for name in ("seconds", "peak_gpu_memory_mb"):
            if name in artefact.record:
                yield Metric(f"{role}/{name}", float(artefact.record[name]), now, 0)
        if "history.csv" in artefact.record["files"]:
            with artefact.path("history.csv").open(encoding="utf-8", newline="") as stream:
                rows = list(csv.DictReader(stream))
            every = max(1, len(rows) // _CURVE_POINTS)
            for row in (row for at, row in enumerate(rows) if at % every == 0 or row.get(VALIDATION)):
                for name, value in row.items():
                    if name != "step" and value not in ("", "nan", None):
                        yield Metric(f"{role}/{name}", float(value), now, int(row["step"]))
        if "scores.csv" in artefact.record["files"]:
            subset = _subset(role)
            for name, value in mean_scores(artefact.path("scores.csv")).items():
                yield Metric(f"{subset}/{name}", value, now, 0)


def _subset(role: str) -> str:
    """What MLflow calls the scores of a role."""
    named = {roles.RESULT: "result", roles.PSEUDO: "pseudo_labels"}
    stage, number = roles.round_of(role) or ("", 0)
    return named.get(role) or (f"pseudo_labels_round_{number}" if stage == "pseudolabel" else role)


def mean_scores(path: Path) -> Mapping[str, float]:
    """Mean over cases of each metric and class of one scores.csv; unscored values are left out."""
    values: dict[tuple[str, str], list[float]] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            if row["value"] not in ("", "nan"):
                values.setdefault((row["metric"], row["class"]), []).append(float(row["value"]))
    means: dict[str, float] = {}
    for metric, found in values.items():
        name = base = "".join(c if c.isalnum() or c in "_-./" else "_" for c in "/".join(metric))
        number = 1
        while name in means:  # classes such as 'left lobe' and 'left_lobe'
            number += 1
            name = f"{base}_{number}"
        means[name] = sum(found) / len(found)
    return means
