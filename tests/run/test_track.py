"""MLflow as a view of the store: every cell once, whatever is deleted, broken, moved or out of reach."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mlflow import MlflowClient

from benchmarks.useless_servers import KINDS, useless_server
from sfrbench.files.urls import sqlite_url
from sfrbench.machine.needs import Machine
from sfrbench.report.items import kinds
from sfrbench.run.experiment import Experiment, default_tracking_uri, open_experiment
from sfrbench.run.tracking import apart
from sfrbench.run.tracking.database import ensure, newest_version
from sfrbench.run.tracking.mlflow_log import Tracker, logged_in
from sfrbench.store.store import Store
from tests.support.runs import QUIET, SPEC, here

TEXT = SPEC.split("arms:")[0].replace("mean_teacher", "supervised")
NAME = "small [smoke]"


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished workspace, logged."""
    folder = tmp_path_factory.mktemp("track")
    (folder / "small.yaml").write_text(TEXT + "arms: [{name: a}, {name: b, ssl: mean_teacher}]\n")
    here("run", "small.yaml", "--profile", "smoke", *QUIET, cwd=folder)
    assert log(folder) == 2
    return folder


@pytest.fixture
def copy(logged: Path, tmp_path: Path) -> Path:
    shutil.copytree(logged, tmp_path / "copy")
    return tmp_path / "copy"


def opened(folder: Path) -> Experiment:
    return open_experiment(str(folder / "small.yaml"), "smoke", Machine(folder / "runs"), items=kinds())


def log(folder: Path, uri: str | None = None) -> int:
    """Log what is missing; returns how many cells were logged. A fault raises."""
    tracker = Tracker(uri or default_tracking_uri(folder / "runs"), folder / "runs")
    plan = opened(folder).plan
    count = tracker.log_cells(plan, Store(folder / "runs" / "store"), plan.cells)
    assert tracker.broken is None, tracker.broken
    return count


def client_of(folder: Path) -> tuple[MlflowClient, str]:
    client = MlflowClient(tracking_uri=default_tracking_uri(folder / "runs"))
    found = client.get_experiment_by_name(NAME)
    assert found is not None
    return client, found.experiment_id


def cells_of(folder: Path) -> list[str]:
    """The arms of the runs of cells, all below the one run of the experiment."""
    client, experiment = client_of(folder)
    runs = client.search_runs([experiment])
    (parent,) = [run for run in runs if run.data.tags["sfrbench.role"] == "experiment"]
    cells = [run for run in runs if run.data.tags["sfrbench.role"] == "cell"]
    assert {run.data.tags["mlflow.parentRunId"] for run in cells} == {parent.info.run_id}
    return sorted(run.data.params["arm"] for run in cells)


@pytest.mark.parametrize("what", ["nothing", "database", "experiment", "run", "parent", "state"])
def test_what_is_gone_is_logged_anew(copy: Path, what: str) -> None:
    client, experiment = client_of(copy)
    role = "experiment" if what == "parent" else "cell"
    run = client.search_runs([experiment], f"tags.`sfrbench.role` = '{role}'")[0]
    if what == "database":
        (copy / "runs" / "mlflow.db").unlink()
    elif what == "experiment":
        client.delete_experiment(experiment)
    elif what in ("run", "parent"):
        client.delete_run(run.info.run_id)
    elif what == "state":
        (copy / "runs" / "tracked.json").unlink()
    wanted = {"nothing": [0], "database": [2], "experiment": [0, 2], "run": [1], "parent": [0], "state": [2]}
    assert log(copy) in wanted[what]
    assert cells_of(copy) == ["a", "b"]
    assert log(copy) == 0


@pytest.mark.parametrize("damage", ["empty", "garbage", "torn", "half made", "no version"])
def test_a_broken_database_is_made_anew(copy: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    path = copy / "runs" / "mlflow.db"
    whole = path.read_bytes()
    if damage in ("empty", "garbage", "torn"):
        path.write_bytes({"empty": b"", "garbage": b"x" * 9000, "torn": whole[:8192]}[damage])
    else:
        if damage == "half made":
            path.unlink()
        with sqlite3.connect(path) as connection:
            if damage == "half made":
                connection.execute("CREATE TABLE experiments (experiment_id INTEGER)")
            else:
                connection.execute("DELETE FROM alembic_version")  # its cells are known as logged
        connection.close()
    assert log(copy) == 2
    assert cells_of(copy) == ["a", "b"]
    if damage != "empty":
        assert "is broken and is set aside" in caplog.text
        assert len(list((copy / "runs").glob("mlflow.db.broken-*"))) == 1
    assert not list((copy / "runs").glob("mlflow.db.new-*"))


@pytest.mark.parametrize("change", ["DELETE FROM", "UPDATE"])
@pytest.mark.parametrize("own", [True, False], ids=["of the workspace", "another"])
def test_a_database_of_another_version_is_noticed_though_nothing_is_to_be_logged(
    copy: Path, change: str, own: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """One without a version, in the workspace, is made anew; any other one is the user's to upgrade."""
    path = copy / "runs" / "mlflow.db"
    if not own:
        path = path.rename(copy / "other.db")
        state = copy / "runs" / "tracked.json"
        state.write_text(state.read_text().replace('"mlflow.db"', json.dumps(sqlite_url(path))))
    assert log(copy, sqlite_url(path)) == 0
    with sqlite3.connect(path) as connection:
        connection.execute(f"{change} alembic_version{' SET version_num = 1' if change == 'UPDATE' else ''}")
    connection.close()
    if own and change == "DELETE FROM":
        assert log(copy) == 2
        return
    with pytest.raises(AssertionError, match="out-of-date database schema"):
        log(copy, sqlite_url(path))
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (3,)
    connection.close()
    assert "the run goes on without it" in caplog.text


def test_the_version_is_read_off_without_importing_mlflow() -> None:
    from alembic.script import ScriptDirectory
    from mlflow.store.db import utils

    newest = ScriptDirectory.from_config(utils._get_alembic_config("")).get_current_head()
    assert newest_version() == newest


def test_a_database_of_the_users_that_is_gone_is_made_and_filled_anew(copy: Path) -> None:
    (copy / "runs" / "mlflow.db").unlink()
    (copy / "runs" / "tracked.json").unlink()
    uri = sqlite_url(copy / "other.db")
    assert (log(copy, uri), log(copy, uri)) == (2, 0)
    (copy / "other.db").unlink()
    assert (log(copy, uri), log(copy, uri)) == (2, 0)


def test_a_database_that_is_not_ours_is_left_alone(logged: Path, tmp_path: Path) -> None:
    plan = opened(logged).plan
    (tmp_path / "notes.db").write_text("my own notes, which are no database" * 100)
    before = (tmp_path / "notes.db").read_bytes()
    ensure(tmp_path / "notes.db", replace_broken=False)
    tracker = Tracker(f"sqlite:///{tmp_path / 'notes.db'}", tmp_path / "runs")
    tracker.log_cells(plan, Store(tmp_path), plan.cells)
    assert tracker.broken is not None
    assert (tmp_path / "notes.db").read_bytes() == before


def test_artefacts_follow_a_workspace_that_moves(logged: Path, copy: Path) -> None:
    """And its cells are known as logged."""
    assert log(copy) == 0
    (copy / "runs" / "tracked.json").unlink()
    log(copy)
    client, experiment = client_of(copy)
    for run in client.search_runs([experiment]):
        assert run.info.artifact_uri.startswith((copy / "runs" / "mlartifacts").resolve().as_uri())
        assert client.list_artifacts(run.info.run_id)
    found = client.get_experiment(experiment).artifact_location
    assert found.startswith((copy / "runs").resolve().as_uri())
    cell = opened(copy).plan.cells[0]
    assert logged_in(copy / "runs", "small", cell.id, cell.nodes.values()) == [
        default_tracking_uri(copy / "runs")
    ]


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server that is of no use, with a password in its URL."""
    with useless_server(request.param) as address:
        yield f"http://me:pass-word@{address}"


def test_a_server_of_no_use_holds_a_run_for_seconds(
    copy: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")  # by default 10
    began = time.monotonic()
    done = here("run", "small.yaml", "--profile", "smoke", "--tracking-uri", server, cwd=copy)
    assert time.monotonic() - began < 90  # most of it are imports
    assert "the run goes on without it" in done.stderr
    journal = (copy / "runs" / "journal" / "small-smoke.json").read_text()
    assert json.loads(journal)["tracking_fault"]
    for text in (done.stdout, done.stderr, journal, (copy / "runs" / "tracked.json").read_text()):
        assert "pass-word" not in text


class _Endless(BaseHTTPRequestHandler):
    """Answers that are no error and never lead anywhere."""

    manner = ""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.manner == "come back in an hour":
            self.send_response(429)
            self.send_header("Retry-After", "3600")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        if self.manner == "the same page":
            body = json.dumps(PAGE).encode()
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.end_headers()
        part, pause = (b" " * 2**20, 0.0) if self.manner == "a body without end" else (b" ", 0.5)
        with suppress(OSError):
            while True:
                self.wfile.write(part)
                self.wfile.flush()
                time.sleep(pause)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


_INFO = {
    "run_id": "r",
    "run_uuid": "r",
    "experiment_id": "1",
    "status": "RUNNING",
    "lifecycle_stage": "active",
}
PAGE = {
    "experiment": {"experiment_id": "1", "name": NAME, "lifecycle_stage": "active"},
    "runs": [],
    "next_page_token": "again",
    "run": {"info": {**_INFO, "artifact_uri": "mlflow-artifacts:/x"}, "data": {}},
}


@pytest.mark.parametrize(
    ("manner", "fault"),
    [
        ("come back in an hour", "Max retries exceeded"),
        ("the same page", "again and again"),
        ("a byte at a time", "no sign of life for 4 s"),
        ("a body without end", "not enough memory"),
    ],
)
def test_a_server_that_never_comes_to_an_end_is_left(
    logged: Path, tmp_path: Path, manner: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(apart.PATIENCE_S, "works", 4.0 if manner == "a byte at a time" else 60.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    served = ThreadingHTTPServer(("127.0.0.1", 0), type("Now", (_Endless,), {"manner": manner}))
    threading.Thread(target=served.serve_forever, daemon=True).start()
    plan = opened(logged).plan
    tracker = Tracker(f"http://127.0.0.1:{served.server_port}", tmp_path)
    began = time.monotonic()
    try:
        assert tracker.log_cells(plan, Store(logged / "runs" / "store"), plan.cells) == 0
    finally:
        served.shutdown()
    assert tracker.broken is not None
    assert fault in tracker.broken
    assert time.monotonic() - began < 120  # an import of MLflow, a few requests
    assert tracker.log_cells(plan, Store(logged / "runs" / "store"), plan.cells) == 0  # at once


def test_another_database_is_written_from_another_process(copy: Path) -> None:
    uri = f"sqlite:///{copy / 'other.db'}"
    assert log(copy, uri) == 2
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(NAME)
    assert found is not None
    assert len(client.search_runs([found.experiment_id])) == 3
    assert log(copy, uri) == 0


def test_a_lock_that_cannot_be_had_does_not_fail_a_run(copy: Path) -> None:
    """Nor ``track --rebuild``, which says it by its status."""
    place = copy / "runs" / "store" / "locks" / "mlflow.lock"
    place.unlink()
    place.mkdir()
    (copy / "runs" / "tracked.json").unlink()
    done = here("run", "small.yaml", "--profile", "smoke", cwd=copy)
    assert "the run goes on without it" in done.stderr
    assert "report:" in done.stdout
    done = here("track", "small.yaml", "--profile", "smoke", "--rebuild", cwd=copy, check=1)
    assert "0 cells logged" in done.stdout


def test_state_that_cannot_be_written_does_not_fail_a_run(copy: Path) -> None:
    (copy / "runs" / "tracked.json").unlink()
    (copy / "runs" / "tracked.json").mkdir()
    done = here("run", "small.yaml", "--profile", "smoke", cwd=copy)
    assert "the run goes on without it" in done.stderr
    assert "report:" in done.stdout
