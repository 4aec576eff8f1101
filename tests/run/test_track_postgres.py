"""MLflow in a PostgreSQL database: its tables made once, its server away, and every cell once in the end."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest
import sqlalchemy

from sfrbench.files import databases
from sfrbench.files.databases import with_driver
from sfrbench.machine.needs import Machine
from sfrbench.report.items import kinds
from sfrbench.run.experiment import open_experiment
from sfrbench.run.tracking.mlflow_log import Tracker
from sfrbench.search.storage import open_storage
from sfrbench.store.store import Store
from tests.support.loaded import Process
from tests.support.postgres import Server
from tests.support.runs import QUIET, SPEC, cli, environment

TEXT = SPEC.split("arms:")[0].replace("mean_teacher", "supervised")
SMOKE = ("small.yaml", "--profile", "smoke")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished workspace that is logged nowhere."""
    folder = tmp_path_factory.mktemp("track")
    (folder / "small.yaml").write_text(TEXT + "arms: [{name: a}, {name: b, ssl: mean_teacher}]\n")
    cli("run", *SMOKE, *QUIET, cwd=folder)
    return folder


def log(folder: Path, uri: str) -> tuple[int, str | None]:
    """How many cells were logged, and the fault."""
    plan = open_experiment(str(folder / "small.yaml"), "smoke", Machine(folder / "runs"), items=kinds()).plan
    tracker = Tracker(uri, folder / "runs")
    return tracker.log_cells(plan, Store(folder / "runs" / "store"), plan.cells), tracker.broken


def arms_of(server: Server, url: str) -> list[str]:
    """The arms of the runs of cells, all below the one run of the one experiment."""
    name = url.rpartition("/")[2]
    assert len(server.say("SELECT * FROM alembic_version", name)) == 1
    ((experiment,),) = server.say("SELECT experiment_id FROM experiments WHERE name = 'small [smoke]'", name)
    tagged = (
        "SELECT r.run_uuid, r.status FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid WHERE t.key = "
        "'sfrbench.role' AND t.value = '%s' AND r.lifecycle_stage = 'active' "
        f"AND r.experiment_id = {experiment}"
    )
    ((parent, status),) = server.say(tagged % "experiment", name)
    assert status == "FINISHED"
    found = []
    for run, status in server.say(tagged % "cell", name):
        assert status == "FINISHED"
        value = f"SELECT value FROM %s WHERE run_uuid = '{run}' AND key = '%s'"
        assert server.say(value % ("tags", "mlflow.parentRunId"), name) == [(parent,)]
        assert server.say(f"SELECT count(*) FROM metrics WHERE run_uuid = '{run}'", name)[0][0] > 5  # type: ignore[operator]
        ((arm,),) = server.say(value % ("params", "arm"), name)
        found.append(str(arm))
    return sorted(found)


@pytest.mark.slow
def test_tables_are_made_once_by_several_at_a_time(finished: Path, tmp_path: Path, postgres: Server) -> None:
    """Three workspaces, as of three machines, log the same experiment to a new database at once."""
    url = postgres.database()
    processes = []
    for name in "xyz":
        shutil.copytree(finished, tmp_path / name)
        env = {**environment(), "SFRBENCH_TRACKING_URI": url}
        processes.append(Process("track", *SMOKE, cwd=tmp_path / name, env=env, stderr=subprocess.STDOUT))
    for process in processes:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        assert "2 cells logged to postgresql://studies:***@" in output
    assert arms_of(postgres, url) == ["a", "b"]


@pytest.mark.slow
def test_a_server_that_stops_does_not_end_a_run(tmp_path: Path, postgres: Server) -> None:
    """It stops once the first of two cells is logged; what is missing is logged when it is there again."""
    url = postgres.database()
    name = url.rpartition("/")[2]
    arms = "arms: [{name: a}, {name: b, ssl: mean_teacher, ssl.steps: 4}]\n"
    (tmp_path / "small.yaml").write_text(TEXT + arms)
    env = {**environment(), "SFRBENCH_TRACKING_URI": url}
    process = Process("run", *SMOKE, cwd=tmp_path, env=env, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 240
    query = "SELECT 1 FROM tags t JOIN runs r ON r.run_uuid = t.run_uuid WHERE t.key = 'sfrbench.cell'"
    while True:
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        assert time.monotonic() < deadline
        if postgres.say("SELECT 1 FROM pg_tables WHERE tablename = 'tags'", name) and postgres.say(
            query, name
        ):
            break
        time.sleep(0.02)
    postgres.stop()
    try:
        output, _ = process.communicate(timeout=240)
    finally:
        postgres.start()
    assert process.returncode == 0, output
    assert output.count("is not usable, the run goes on without it") == 1
    assert "Traceback" not in output
    assert "report: " in output
    done = cli("track", *SMOKE, "--tracking-uri", url, "--rebuild", cwd=tmp_path)
    assert "2 cells logged" in done.stdout
    assert arms_of(postgres, url) == ["a", "b"]
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or postgres.password.encode() not in path.read_bytes(), path
    assert postgres.password not in output + done.stdout + done.stderr


def test_tables_that_are_half_made_are_made_whole(finished: Path, postgres: Server) -> None:
    """As a process leaves them that is killed between the first tables and their migrations."""
    from mlflow.store.tracking.dbmodels.initial_models import Base

    url = postgres.database()
    engine = sqlalchemy.create_engine(with_driver(url))
    Base.metadata.create_all(engine)
    engine.dispose()
    assert log(finished, url) == (2, None)
    assert log(finished, url) == (0, None)
    assert arms_of(postgres, url) == ["a", "b"]


def test_what_keeps_a_database_from_being_opened_is_said(
    finished: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url, told in {
        postgres.url("postgres", "no-such-word"): "password authentication failed",
        postgres.url("nowhere"): 'database "nowhere" does not exist',
        postgres.url("postgres").replace(f":{postgres.port}", ":1"): "Connection refused",
    }.items():
        count, fault = log(finished, url)
        assert count == 0
        assert fault is not None
        assert told in fault
        assert "no-such-word" not in fault
        assert postgres.password not in fault
    studies = postgres.database()
    open_storage(studies)
    assert log(finished, studies) == (0, "it holds the tables of studies: MLflow needs a database of its own")
    monkeypatch.setattr(databases, "find_spec", lambda name: None)
    _, fault = log(finished, "postgresql://me:secret@host/mlflow")
    assert fault is not None
    assert "pip install 'sfrbench[postgres]'" in fault
    assert "secret" not in fault
