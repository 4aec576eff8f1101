"""MLflow as a view of the store: a parent run for the experiment, a child run for each cell; and the same for
a study and its trials.

Everything is logged from published artefacts, after a cell has finished, so the same code serves a live
run and ``sfrbench track --rebuild``. A tracker that cannot be reached never fails a run.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sfrbench.errors import told
from sfrbench.files.atomic import read_state, write_atomic
from sfrbench.files.urls import check_answers, masked, sqlite_file, sqlite_url
from sfrbench.plan.build import Cell, Plan
from sfrbench.plan.graph import Link
from sfrbench.plan.resolve import digest
from sfrbench.plan.study import Study
from sfrbench.run.tracking import database as track_database
from sfrbench.run.tracking.study import BATCH, log_trial, study_run
from sfrbench.run.tracking.values import metrics, parameters
from sfrbench.store.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

log = logging.getLogger(__name__)

_AT_ONCE = 20  # cells that one process logs before another may
_PATIENCE_S = 300.0  # for another process that logs; making a database takes some of it
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "PGCONNECT_TIMEOUT": "5",
}

_OWN = "mlflow.db"  # the workspace's own database, in the state file: it moves with the workspace
STATE = "tracked.json"  # in the workspace: which cells are logged where


def experiment_name(spec: str, profile: str) -> str:
    """What an experiment is called in MLflow."""
    return f"{spec} [{profile}]"


def logged_in(workspace: Path, spec: str, cell: str, links: Iterable[Link]) -> list[str]:
    """The tracking stores that hold a cell with exactly these nodes; nothing is asked of MLflow."""
    mark = _mark(spec, links)
    own = sqlite_url(workspace / "mlflow.db")
    found = [
        place for place, known in _state(workspace / STATE).items() if known.get(f"{spec}/{cell}") == mark
    ]
    return [own if place == _OWN else place for place in found]


def _mark(spec: str, links: Iterable[Link]) -> str:
    return digest([spec, *sorted(map(list, links))])


def _state(path: Path) -> dict[str, dict[str, str]]:
    return read_state(path, dict[str, dict[str, str]]) or {}


class Tracker:
    """Writes finished cells to one MLflow tracking store, each once, with any number of processes beside."""

    def __init__(self, uri: str, workspace: Path) -> None:
        self.uri = uri
        self.name = masked(uri)  # never shown or kept otherwise
        self.workspace = workspace
        self.state_path = workspace / STATE
        self.broken: str | None = None
        self._client: MlflowClient | None = None
        own = workspace / "mlflow.db"
        self._own = own if uri == sqlite_url(own) else None
        self._place = _OWN if self._own else self.name

    def forget(self, plan: Plan) -> None:
        """Log the cells of an experiment again (``track --rebuild``)."""
        with self._guarded():
            self._write({}, plan)

    def log_cells(self, plan: Plan, store: Store, cells: Sequence[Cell], *, ask: bool = False) -> int:
        """Log finished cells that are not logged yet; returns how many. Never raises.

        What is noted as logged and is gone from MLflow is logged anew. The workspace's own database is always
        looked at for that, another one where ``ask`` is set or something is to be logged.
        """
        marks = {cell.id: _mark(plan.spec.name, cell.nodes.values()) for cell in cells}
        if self.broken or not (ask or self._todo(plan, marks)):
            return 0
        logged = 0
        gone: set[str] | None = None
        for start in range(0, max(1, len(cells)), _AT_ONCE):
            with self._guarded():
                client, experiment = self._ready(plan)
                parent = self._parent(client, experiment, plan)
                known = self._known(plan)
                if gone is None:
                    gone = known.keys() - self._there(client, experiment)
                part = cells[start : start + _AT_ONCE]
                todo = [cell for cell in part if cell.id in gone or known.get(cell.id) != marks[cell.id]]
                try:
                    for cell in todo:
                        self._log_cell(client, experiment, parent, plan, store, cell)
                        known[cell.id] = marks[cell.id]
                        logged += 1
                finally:
                    if todo:
                        self._write(known, plan)
            if self.broken:
                break
        return logged

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """One process at a time looks, logs and notes. A fault ends tracking, not the run."""
        from filelock import FileLock

        try:
            place = self.workspace / "store" / "locks" / "mlflow.lock"
            place.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(place, timeout=_PATIENCE_S):
                yield
        except Exception as error:  # the store is the truth: tracking must never fail a run
            self._give_up(error)

    def _todo(self, plan: Plan, marks: Mapping[str, str]) -> bool:
        """Whether something is to be logged, without a question to a server."""
        known = self._known(plan)
        if any(known.get(cell) != mark for cell, mark in marks.items()):
            return True
        if self._own is None:
            return False
        name = experiment_name(plan.spec.name, plan.spec.profile.name)
        return not track_database.cells(self._own, name).issuperset(marks)

    def _known(self, plan: Plan) -> dict[str, str]:
        """The marks of this experiment's cells that are noted as logged here."""
        start = f"{plan.spec.name}/"
        noted = _state(self.state_path).get(self._place, {})
        return {name.removeprefix(start): mark for name, mark in noted.items() if name.startswith(start)}

    def _write(self, marks: Mapping[str, str], plan: Plan) -> None:
        state = _state(self.state_path)
        start = f"{plan.spec.name}/"
        others = {
            name: mark for name, mark in state.get(self._place, {}).items() if not name.startswith(start)
        }
        state[self._place] = others | {f"{start}{cell}": mark for cell, mark in marks.items()}
        write_atomic(self.state_path, json.dumps(state, indent=1))

    def _there(self, client: MlflowClient, experiment: str) -> set[str]:
        """The cells that have a run in an experiment."""
        return {run.data.tags.get("sfrbench.cell", "") for run in self._runs(client, experiment)}

    def _runs(self, client: MlflowClient, experiment: str) -> Iterator[Run]:
        """The runs of cells."""
        token = None
        while True:
            query = "tags.`sfrbench.role` = 'cell'"
            page = client.search_runs([experiment], query, max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def log_study(self, plan: Plan, study: Study) -> int:
        """Log finished trials that are not there yet, under one run for the study; returns how many.

        Never raises.
        """
        if self.broken:
            return 0
        with self._guarded():
            client, experiment = self._ready(plan)
            parent = study_run(client, experiment, study)
            query = f"tags.`mlflow.parentRunId` = '{parent}'"
            runs = client.search_runs([experiment], query, max_results=10_000)
            known = {run.data.tags.get("sfrbench.trial") for run in runs}
            todo = [trial for trial in study.finished if str(trial.number) not in known]
            for trial in todo:
                log_trial(client, experiment, parent, study, trial)
            best = study.best
            if best is not None and best.value is not None:
                client.log_metric(parent, f"best/{study.metric}", best.value)
                client.set_tag(parent, "sfrbench.best_trial", best.number)
            return len(todo)
        return 0

    def _give_up(self, error: Exception) -> None:
        self.broken = masked(told(error)).partition("\n")[0][:300]
        log.warning("MLflow at %s is not usable, the run goes on without it: %s", self.name, self.broken)

    def _ready(self, plan: Plan) -> tuple[MlflowClient, str]:
        """A client that works, and the id of the experiment. Raises what is wrong, within seconds."""
        if self._client is None or (self._own is not None and not self._own.is_file()):
            self._client = self._connect()
        return self._client, self._experiment(self._client, plan)

    def _connect(self) -> MlflowClient:
        check_answers(self.uri)
        for name, value in _ENVIRONMENT.items():  # MLflow waits for minutes otherwise
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        for name in ("alembic", "mlflow", "mlflow.store.db.utils"):  # mlflow sets its own at import
            logging.getLogger(name).setLevel(logging.WARNING)
        made = False
        if self._own is not None:
            made = track_database.ensure(self._own, replace_broken=True)
            track_database.follow(self._own)
        elif track_database.is_database(self.uri):
            file = sqlite_file(self.uri)
            if file is not None:
                track_database.ensure(file, replace_broken=False)
            track_database.open_once(self.uri)
        client = MlflowClient(tracking_uri=self.uri)
        if made:  # MLflow may hold connections to a file of this name that is gone
            client._tracking_client.store.engine.dispose()
        return client

    def _experiment(self, client: MlflowClient, plan: Plan) -> str:
        name = experiment_name(plan.spec.name, plan.spec.profile.name)
        found = client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                log.warning("the experiment '%s' was deleted in MLflow and is restored", name)
                client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)
        place = (self.workspace / "mlartifacts" / f"{plan.spec.name}-{plan.spec.profile.name}").resolve()
        return str(client.create_experiment(name, artifact_location=place.as_uri()))

    def _parent(self, client: MlflowClient, experiment: str, plan: Plan) -> str:
        found = client.search_runs([experiment], "tags.`sfrbench.role` = 'experiment'", max_results=1)
        if found and found[0].info.status == "FINISHED":
            return str(found[0].info.run_id)
        for half in found:  # its process was killed
            client.delete_run(half.info.run_id)
        tags = {
            "sfrbench.role": "experiment",
            "mlflow.runName": plan.spec.title[:200],
            "sfrbench.spec": str(plan.spec.document.path),
            "sfrbench.profile": plan.spec.profile.name,
            "mlflow.note.content": plan.spec.description[:5000],
        }
        run = client.create_run(experiment, tags=tags)
        for child in self._runs(client, experiment):  # of a parent that was deleted
            client.set_tag(child.info.run_id, "mlflow.parentRunId", run.info.run_id)
        client.log_text(run.info.run_id, plan.spec.document.path.read_text(encoding="utf-8"), "spec.yaml")
        client.set_terminated(run.info.run_id)
        return str(run.info.run_id)

    def _log_cell(
        self, client: MlflowClient, experiment: str, parent: str, plan: Plan, store: Store, cell: Cell
    ) -> None:
        from mlflow.entities import Param

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
        points = list(metrics(store, cell))
        for start in range(0, len(points), BATCH):
            client.log_batch(run_id, metrics=points[start : start + BATCH])
        for role, link in cell.nodes.items():
            artefact = store.get(*link)
            client.log_artifact(run_id, str(artefact.folder / "record.json"), role)
            for name in ("history.csv", "scores.csv", "model.json"):
                if name in artefact.record["files"]:
                    client.log_artifact(run_id, str(artefact.path(name)), role)
        client.set_terminated(run_id)
