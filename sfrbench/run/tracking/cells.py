"""Experiments and cells as runs of MLflow."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sfrbench.plan.build import Cell, Plan
from sfrbench.run.tracking.study import BATCH
from sfrbench.run.tracking.values import metrics, parameters
from sfrbench.store.store import RECORD, Artefact, Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

log = logging.getLogger(__name__)


def experiment_name(spec: str, profile: str) -> str:
    """What an experiment is called in MLflow."""
    return f"{spec} [{profile}]"


def find_experiment(client: MlflowClient, plan: Plan, workspace: Path) -> str:
    """The id of a plan's experiment, which is made or restored where need be."""
    name = experiment_name(plan.spec.name, plan.spec.profile.name)
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        if experiment.lifecycle_stage == "deleted":
            log.warning("the experiment '%s' was deleted in MLflow and is restored", name)
            client.restore_experiment(experiment.experiment_id)
        return str(experiment.experiment_id)
    place = (workspace / "mlartifacts" / f"{plan.spec.name}-{plan.spec.profile.name}").resolve()
    return str(client.create_experiment(name, artifact_location=place.as_uri()))


def parent_run(client: MlflowClient, experiment: str, plan: Plan) -> str:
    """The id of the finished run that stands over the cells."""
    runs = client.search_runs([experiment], "tags.`sfrbench.role` = 'experiment'", max_results=1)
    if runs and runs[0].info.status == "FINISHED":
        return str(runs[0].info.run_id)
    for half in runs:  # its process was killed
        client.delete_run(half.info.run_id)
    tags = {
        "sfrbench.role": "experiment",
        "mlflow.runName": plan.spec.title[:200],
        "sfrbench.spec": str(plan.spec.document.path),
        "sfrbench.profile": plan.spec.profile.name,
        "mlflow.note.content": plan.spec.description[:5000],
    }
    run = client.create_run(experiment, tags=tags)
    for child in cell_runs(client, experiment):  # of a parent that was deleted
        client.set_tag(child.info.run_id, "mlflow.parentRunId", run.info.run_id)
    client.log_text(run.info.run_id, plan.spec.document.text, "spec.yaml")
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def log_cell(client: MlflowClient, experiment: str, parent: str, store: Store, cell: Cell) -> None:
    """A run for one finished cell, in the place of one that is there."""
    from mlflow.entities import Param

    points = list(metrics(store, cell))  # all that is read comes first: no half of a run where it is damaged
    files = [(role, path) for role, link in cell.nodes.items() for path in _files(store.get(*link))]
    old = client.search_runs([experiment], f"tags.`sfrbench.cell` = '{cell.id}'")  # or a half of one
    for run in old:
        client.delete_run(run.info.run_id)
    tags = {
        "mlflow.parentRunId": parent,
        "mlflow.runName": cell.title,
        "sfrbench.role": "cell",
        "sfrbench.cell": cell.id,
        **{f"sfrbench.node.{role}": link[1] for role, link in cell.nodes.items()},
    }
    run_id = client.create_run(experiment, tags=tags).info.run_id
    params = [Param(name[:250], str(value)[:6000]) for name, value in parameters(cell)]
    for start in range(0, len(params), 100):
        client.log_batch(run_id, params=params[start : start + 100])
    for start in range(0, len(points), BATCH):
        client.log_batch(run_id, metrics=points[start : start + BATCH])
    for role, path in files:
        client.log_artifact(run_id, str(path), role)
    client.set_terminated(run_id)


def _files(artefact: Artefact) -> list[Path]:
    """What MLflow keeps of a node beside numbers."""
    names = [name for name in ("history.csv", "scores.csv", "model.json") if name in artefact.record["files"]]
    return [artefact.folder / RECORD, *map(artefact.path, names)]


def cell_runs(client: MlflowClient, experiment: str) -> Iterator[Run]:
    """The runs of all cells."""
    return pages(client, experiment, "tags.`sfrbench.role` = 'cell'")


def pages(client: MlflowClient, experiment: str, query: str) -> Iterator[Run]:
    """All runs that a query finds. Raises ``ConnectionError`` where a server gives a page twice."""
    seen: set[str | None] = {None}
    token = None
    while True:
        page = client.search_runs([experiment], query, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
        if token in seen:
            raise ConnectionError("it gives the same page of runs again and again")
        seen.add(token)
