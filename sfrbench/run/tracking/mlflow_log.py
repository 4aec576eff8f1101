"""MLflow as a view of the store: a parent run for the experiment, a child run for each cell; and the same for
a study and its trials.

Everything is logged from published artefacts, after a cell has finished, so the same code serves a live
run and ``sfrbench track --rebuild``. A tracker that cannot be reached, or that behaves badly, never fails a
run: all but the workspace's own database is talked to from a process of its own.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfrbench.errors import StoreError, chain, told
from sfrbench.files.atomic import read_state, write_atomic
from sfrbench.files.databases import one_at_a_time, with_driver
from sfrbench.files.urls import check_answers, masked, sqlite_file, sqlite_url, without_secrets_of
from sfrbench.plan.build import Cell, Plan
from sfrbench.plan.graph import Link
from sfrbench.plan.resolve import digest
from sfrbench.plan.study import Study
from sfrbench.run.tracking import database as track_database
from sfrbench.run.tracking.apart import Conversation, Say
from sfrbench.run.tracking.cells import (
    cell_runs,
    experiment_name,
    find_experiment,
    log_cell,
    pages,
    parent_run,
)
from sfrbench.run.tracking.study import log_trial, study_run
from sfrbench.store.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

_AT_ONCE = 20  # cells that one process logs before another may
_PATIENCE_S = 300.0  # for another process that logs; making a database takes some of it
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "PGCONNECT_TIMEOUT": "5",
}

_OWN = "mlflow.db"  # the workspace's own database, in the state file: it moves with the workspace
STATE = "tracked.json"  # in the workspace: which cells are logged where


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

    def __init__(self, uri: str, workspace: Path, say: Say | None = None) -> None:
        """``say``: this is the process that talks to a tracker for another one, and tells it how it goes."""
        self.uri = uri
        self.name = masked(uri)  # never shown or kept otherwise
        self.workspace = workspace
        self.state_path = workspace / STATE
        self.broken: str | None = None
        self._client: MlflowClient | None = None
        own = workspace / "mlflow.db"
        self._own = own if uri == sqlite_url(own) else None
        self._place = _OWN if self._own else self.name
        self._say = say or (lambda _: None)
        self._apart = self._own is None and say is None
        self._talk: tuple[Plan, Conversation] | None = None

    def forget(self, plan: Plan) -> None:
        """Forget what was logged of an experiment, so that its cells are logged again (``track
        --rebuild``)."""
        self._guarded(lambda: self._write({}, plan))

    def log_cells(self, plan: Plan, store: Store, cells: Sequence[Cell], *, ask: bool = False) -> int:
        """Log finished cells that are not logged yet; returns how many. Never raises.

        What is noted as logged and is gone from MLflow is logged anew. A database that is a file is always
        looked at for that, another one where ``ask`` is set or something is to be logged.
        """
        marks = {cell.id: _mark(plan.spec.name, cell.nodes.values()) for cell in cells}
        if self.broken or not (ask or self._todo(plan, marks)):
            return 0
        if self._apart:
            return self._ask(plan, "log_cells", store.root, [cell.id for cell in cells], ask)
        logged = 0
        gone: set[str] | None = None

        def log_part(part: Sequence[Cell]) -> None:
            nonlocal logged, gone
            client, experiment = self._ready(plan)
            parent = parent_run(client, experiment, plan)
            known = self._known(plan)
            if gone is None:
                gone = known.keys() - self._there(client, experiment)
            todo = [cell for cell in part if cell.id in gone or known.get(cell.id) != marks[cell.id]]
            try:
                for cell in todo:
                    try:
                        log_cell(client, experiment, parent, store, cell)
                    except StoreError as error:  # of the store, not of MLflow
                        log.warning("%s is not logged: %s", cell.title, error)
                        continue
                    known[cell.id] = marks[cell.id]
                    logged += 1
                    self._say("works")
            finally:
                if todo:
                    self._write(known, plan)

        for start in range(0, max(1, len(cells)), _AT_ONCE):
            part = cells[start : start + _AT_ONCE]
            self._guarded(partial(log_part, part))
            if self.broken:
                break
        return logged

    def _guarded(self, work: Callable[[], None]) -> None:
        """One process at a time looks, logs and notes: of this workspace, and of all that write to a database
        of PostgreSQL. A fault ends tracking, not the run."""
        from filelock import FileLock

        try:
            place = self.workspace / "store" / "locks" / "mlflow.lock"
            place.parent.mkdir(parents=True, exist_ok=True)
            self._say("waits")
            uri = with_driver(self.uri)
            check_answers(uri)
            with FileLock(place, timeout=_PATIENCE_S), one_at_a_time(uri, "MLflow") as versions:
                if any(version.startswith("v") for version in versions):
                    raise StoreError("it holds the tables of studies: MLflow needs a database of its own")
                self._say("works")
                work()
        except Exception as error:  # the store is the truth: tracking must never fail a run
            self._give_up(_told(error))

    def _ask(self, plan: Plan, name: str, *arguments: Any) -> int:
        """Have another process do it, which is ended where it does not get on."""
        try:
            if self._talk is None or self._talk[0] is not plan:
                check_answers(with_driver(self.uri))
                self._talk = (plan, Conversation(_functions, self.uri, self.workspace, plan))
            done, fault = self._talk[1].ask(name, *arguments)
        except Exception as error:  # of the system, or of a plan that cannot be sent
            done, fault = 0, told(error)
        if fault:
            self._give_up(fault)
        return int(done)

    def _todo(self, plan: Plan, marks: Mapping[str, str]) -> bool:
        """Whether something is to be logged, without a question to a server."""
        known = self._known(plan)
        if any(known.get(cell) != mark for cell, mark in marks.items()):
            return True
        file = self._own or (sqlite_file(self.uri) if track_database.is_database(self.uri) else None)
        name = experiment_name(plan.spec.name, plan.spec.profile.name)
        return file is not None and not (
            track_database.fits(file) and track_database.cells(file, name).issuperset(marks)
        )

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
        return {run.data.tags.get("sfrbench.cell", "") for run in cell_runs(client, experiment)}

    def log_study(self, plan: Plan, study: Study) -> int:
        """Log finished trials that are not there yet, under one run for the study; returns how many.

        Never raises.
        """
        if self.broken:
            return 0
        if self._apart:
            return self._ask(plan, "log_study", study)
        logged = 0

        def log_trials() -> None:
            nonlocal logged
            client, experiment = self._ready(plan)
            parent = study_run(client, experiment, study)
            query = f"tags.`mlflow.parentRunId` = '{parent}'"
            known = set()
            for run in list(pages(client, experiment, query)):
                # half of one: its process was killed, or its server went away
                if run.info.status == "RUNNING":
                    client.delete_run(run.info.run_id)
                else:
                    known.add(run.data.tags.get("sfrbench.trial"))
            for trial in study.finished:
                if str(trial.number) not in known:
                    log_trial(client, experiment, parent, study, trial)
                    logged += 1
                    self._say("works")
            best = study.best
            if best is not None and best.value is not None:
                client.log_metric(parent, f"best/{study.metric}", best.value)
                client.set_tag(parent, "sfrbench.best_trial", best.number)

        self._guarded(log_trials)
        return logged

    def _give_up(self, fault: str) -> None:
        self.broken = without_secrets_of(self.uri, fault).partition("\n")[0][:300]
        if self._apart or self._own is not None:  # another process says it otherwise
            log.warning("MLflow at %s is not usable, the run goes on without it: %s", self.name, self.broken)

    def _ready(self, plan: Plan) -> tuple[MlflowClient, str]:
        """A client that works, and the id of the experiment. Raises what is wrong, within seconds."""
        if self._client is None or (self._own is not None and not self._own.is_file()):
            self._client = self._connect()
        return self._client, find_experiment(self._client, plan, self.workspace)

    def _connect(self) -> MlflowClient:
        uri = with_driver(self.uri)
        for name, value in _ENVIRONMENT.items():  # MLflow waits for minutes otherwise
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        for name in ("alembic", "mlflow"):  # mlflow sets its own at import
            logging.getLogger(name).setLevel(logging.WARNING)
        # a traceback of each error that it raises, which is told by whoever asked
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        made = False
        if self._own is not None:
            made = track_database.ensure(self._own, replace_broken=True)
            track_database.follow(self._own)
        elif track_database.is_database(self.uri):
            file = sqlite_file(self.uri)
            if file is not None:
                made = track_database.ensure(file, replace_broken=False)
            track_database.open_once(uri)
        client = MlflowClient(tracking_uri=uri)
        if made:  # MLflow may hold connections to a file of this name that is gone
            client._tracking_client.store.engine.dispose()
        return client


def _told(error: BaseException) -> str:
    """What is said of a fault. MLflow wraps a shortage of memory, whose own text is empty."""
    return told(next((each for each in chain(error) if isinstance(each, MemoryError)), error))


def _functions(say: Say, uri: str, workspace: Path, plan: Plan) -> Mapping[str, Callable[..., Any]]:
    """What a process that talks to a tracker does for the one that started it."""
    tracker = Tracker(uri, workspace, say)
    by_id = {cell.id: cell for cell in plan.cells}

    def log_cells(store: Path, cells: Sequence[str], ask: bool) -> tuple[int, str | None]:
        return tracker.log_cells(plan, Store(store), [by_id[cell] for cell in cells], ask=ask), tracker.broken

    def log_study(study: Study) -> tuple[int, str | None]:
        return tracker.log_study(plan, study), tracker.broken

    return {"log_cells": log_cells, "log_study": log_study}
