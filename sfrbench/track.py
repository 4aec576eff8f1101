"""MLflow as a view of the store: a parent run for the experiment, a child run for each cell; and the same for
a study and its trials.

Everything is logged from published artefacts, after a cell has finished, so the same code serves a live
run and ``sfrbench track --rebuild``. A tracker that cannot be reached never fails a run.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfrbench.files import read_state, write_atomic
from sfrbench.graph import Link
from sfrbench.plan import Cell, Plan
from sfrbench.resolve import digest
from sfrbench.search_view import Study, Trial
from sfrbench.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

log = logging.getLogger(__name__)

_BATCH = 1000  # metrics in one request, MLflow's limit
_CURVE_POINTS = 200  # points kept of one training curve


STATE = "tracked.json"  # in the workspace: which cells are logged where


def experiment_name(spec: str, profile: str) -> str:
    """What an experiment is called in MLflow."""
    return f"{spec} [{profile}]"


def logged_in(workspace: Path, spec: str, cell: str, links: Iterable[Link]) -> list[str]:
    """The tracking stores that hold a cell with exactly these nodes; nothing is asked of MLflow."""
    mark = _mark(spec, links)
    return [uri for uri, known in _state(workspace / STATE).items() if known.get(f"{spec}/{cell}") == mark]


def _mark(spec: str, links: Iterable[Link]) -> str:
    return digest([spec, *sorted(map(list, links))])


def _state(path: Path) -> dict[str, dict[str, str]]:
    return read_state(path, dict[str, dict[str, str]]) or {}


class Tracker:
    """Writes finished cells to one MLflow tracking store, each once."""

    def __init__(self, uri: str, workspace: Path) -> None:
        self.uri = uri
        self.workspace = workspace
        self.state_path = workspace / STATE
        self.broken: str | None = None
        self._client: MlflowClient | None = None

    def forget(self) -> None:
        """Log every cell again (``track --rebuild``)."""
        self.state_path.unlink(missing_ok=True)

    def log_cells(self, plan: Plan, store: Store, cells: Iterable[Cell]) -> int:
        """Log finished cells that are not logged yet; returns how many. Never raises."""
        state = _state(self.state_path)
        known: dict[str, str] = state.setdefault(self.uri, {})
        marks = {cell.id: _mark(plan.spec.name, cell.nodes.values()) for cell in cells}
        todo = [cell for cell in cells if known.get(f"{plan.spec.name}/{cell.id}") != marks[cell.id]]
        if not todo or self.broken:
            return 0
        try:
            client = self._connect()
            experiment = self._experiment(client, plan)
            parent = self._parent(client, experiment, plan)
            for cell in todo:
                self._log_cell(client, experiment, parent, plan, store, cell)
                known[f"{plan.spec.name}/{cell.id}"] = marks[cell.id]
        except Exception as error:  # the store is the truth: tracking must never fail a run
            self._give_up(error)
        write_atomic(self.state_path, json.dumps(state, indent=1))
        return sum(known.get(f"{plan.spec.name}/{cell.id}") == marks[cell.id] for cell in todo)

    def log_study(self, plan: Plan, study: Study) -> int:
        """Log finished trials that are not there yet, under one run for the study; returns how many.

        Never raises. Of several workers, one calls this at a time.
        """
        if self.broken:
            return 0
        try:
            client = self._connect()
            experiment = self._experiment(client, plan)
            parent = self._study_run(client, experiment, study)
            query = f"tags.`mlflow.parentRunId` = '{parent}'"
            runs = client.search_runs([experiment], query, max_results=10_000)
            known = {run.data.tags["sfrbench.trial"] for run in runs}
            todo = [trial for trial in study.finished if str(trial.number) not in known]
            for trial in todo:
                self._log_trial(client, experiment, parent, study, trial)
            best = study.best
            if best is not None and best.value is not None:
                client.log_metric(parent, f"best/{study.metric}", best.value)
                client.set_tag(parent, "sfrbench.best_trial", best.number)
            return len(todo)
        except Exception as error:  # as above
            self._give_up(error)
        return 0

    def _give_up(self, error: Exception) -> None:
        self.broken = f"{type(error).__name__}: {str(error)[:200].partition(chr(10))[0]}"
        log.warning("MLflow at %s is not usable, the run goes on without it: %s", self.uri, self.broken)

    def _study_run(self, client: MlflowClient, experiment: str, study: Study) -> str:
        found = client.search_runs([experiment], f"tags.`sfrbench.study` = '{study.name}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        tags = {
            "sfrbench.role": "study",
            "sfrbench.study": study.name,
            "mlflow.runName": study.name,
            "sfrbench.sampler": f"{study.sampler}, pruner {study.pruner}, optuna {study.optuna}",
        }
        run_id = str(client.create_run(experiment, tags=tags).info.run_id)
        for path, values in study.space.items():
            client.log_param(run_id, f"space.{path}", str(values.choices or asdict(values))[:6000])
        client.set_terminated(run_id)
        return run_id

    def _log_trial(
        self, client: MlflowClient, experiment: str, parent: str, study: Study, trial: Trial
    ) -> None:
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        nodes = {
            f"sfrbench.node.{seed}.{role}": link[1]
            for seed, roles in trial.facts.get("nodes", {}).items()
            for role, link in roles.items()
        }
        tags = {
            "mlflow.parentRunId": parent,
            "mlflow.runName": f"trial {trial.number}",
            "sfrbench.role": "trial",
            "sfrbench.trial": str(trial.number),
            "sfrbench.state": trial.state,
            "sfrbench.note": trial.note[:5000],
            **nodes,
        }
        run_id = client.create_run(experiment, tags=tags).info.run_id
        metrics = [Metric("retrain/val_dice", value, now, step) for step, value in trial.curve.items()]
        metrics += [Metric(f"nodes/{name}", trial.facts.get(name, 0), now, 0) for name in ("ran", "reused")]
        if trial.value is not None:
            metrics.append(Metric(f"val/{study.metric}", trial.value, now, 0))
        params = [Param(path, str(value)[:6000]) for path, value in trial.values.items()]
        client.log_batch(run_id, metrics=metrics[:_BATCH], params=params)
        client.set_terminated(run_id, {"failed": "FAILED", "pruned": "KILLED"}.get(trial.state, "FINISHED"))

    def _connect(self) -> MlflowClient:
        if self._client is None:
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
            from mlflow import MlflowClient

            for name in ("alembic", "mlflow", "mlflow.store.db.utils"):  # mlflow sets its own at import
                logging.getLogger(name).setLevel(logging.WARNING)
            self._client = MlflowClient(tracking_uri=self.uri)
        return self._client

    def _experiment(self, client: MlflowClient, plan: Plan) -> str:
        name = experiment_name(plan.spec.name, plan.spec.profile.name)
        found = client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        place = (self.workspace / "mlartifacts" / f"{plan.spec.name}-{plan.spec.profile.name}").resolve()
        return client.create_experiment(name, artifact_location=place.as_uri())

    def _parent(self, client: MlflowClient, experiment: str, plan: Plan) -> str:
        found = client.search_runs([experiment], "tags.`sfrbench.role` = 'experiment'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        tags = {
            "sfrbench.role": "experiment",
            "mlflow.runName": plan.spec.title[:200],
            "sfrbench.spec": str(plan.spec.document.path),
            "sfrbench.profile": plan.spec.profile.name,
            "mlflow.note.content": plan.spec.description[:5000],
        }
        run = client.create_run(experiment, tags=tags)
        client.log_text(run.info.run_id, plan.spec.document.path.read_text(encoding="utf-8"), "spec.yaml")
        client.set_terminated(run.info.run_id)
        return str(run.info.run_id)

    def _log_cell(
        self, client: MlflowClient, experiment: str, parent: str, plan: Plan, store: Store, cell: Cell
    ) -> None:
        from mlflow.entities import Param

        old = client.search_runs([experiment], f"tags.`sfrbench.cell` = '{cell.id}'")
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
        params = [Param(name[:250], str(value)[:6000]) for name, value in _parameters(cell)]
        for start in range(0, len(params), 100):
            client.log_batch(run_id, params=params[start : start + 100])
        metrics = list(_metrics(store, cell))
        for start in range(0, len(metrics), _BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
        for role, link in cell.nodes.items():
            artefact = store.get(*link)
            client.log_artifact(run_id, str(artefact.folder / "record.json"), role)
            for name in ("history.csv", "scores.csv", "model.json"):
                if name in artefact.record["files"]:
                    client.log_artifact(run_id, str(artefact.path(name)), role)
        client.set_terminated(run_id)


def _parameters(cell: Cell) -> Iterator[tuple[str, Any]]:
    from sfrbench.reasons import flatten

    yield "arm", cell.arm
    yield "seed", cell.seed
    for path, value in cell.axes.items():
        yield f"axis.{path}", value
    for kind, resolved in cell.components.items():
        yield kind, resolved.card.name
        for path, value in flatten(resolved.component.model_dump(mode="json")).items():
            yield f"{kind}.{path}", value


def _metrics(store: Store, cell: Cell) -> Iterator[Metric]:
    """Training curves (thinned) and the mean of every score."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    for role, link in cell.nodes.items():
        artefact = store.get(*link)
        yield Metric(f"{role}/seconds", float(artefact.record["seconds"]), now, 0)
        if "history.csv" in artefact.record["files"]:
            with artefact.path("history.csv").open(encoding="utf-8", newline="") as stream:
                rows = list(csv.DictReader(stream))
            for row in rows[:: max(1, len(rows) // _CURVE_POINTS)]:
                for name, value in row.items():
                    if name != "step" and value not in ("", "nan", None):
                        yield Metric(f"{role}/{name}", float(value), now, int(row["step"]))
        if "scores.csv" in artefact.record["files"]:
            named = {"evaluate": "result", "evaluate_pseudo": "pseudo_labels"}
            subset = named.get(role) or role.replace("evaluate_pseudolabel_", "pseudo_labels_round_")
            for name, value in mean_scores(artefact.path("scores.csv")).items():
                yield Metric(f"{subset}/{name}", value, now, 0)


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
