"""Studies in a PostgreSQL database: what its faults look like, and that workers anywhere share it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import optuna
import pytest
import sqlalchemy

from sfrbench.errors import InputError
from sfrbench.files import databases
from sfrbench.files.databases import Turn, with_driver
from sfrbench.plan.study import Study
from sfrbench.search import storage as module
from sfrbench.search import trials
from sfrbench.search.storage import open_storage
from sfrbench.search.studies import read_study
from sfrbench.store.store import Store
from tests.support.loaded import Process
from tests.support.postgres import Server, program
from tests.support.runs import QUIET, cli, environment
from tests.support.searches import SMOKE, opened, search

STEPS = ("--set=ssl.steps=6", "--set=ssl.checkpoint_every=1")
SETS = tuple(text.removeprefix("--set=") for text in STEPS)


def study_of(url: str, sets: tuple[str, ...] = ()) -> Study:
    found = read_study(opened(sets), url)
    assert found is not None
    return found


def started(folder: Path, url: str, *options: str) -> Process:
    """A search in a process of its own, once its first training has a checkpoint."""
    stored = {**environment(), "SFRBENCH_STORAGE": url}
    process = Process("search", *SMOKE, *QUIET, *options, cwd=folder, env=stored, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 120
    while not list((folder / "runs" / "store" / "partial").glob("retrain-*/checkpoint.pt")):
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def ended(process: Process, status: int = 0) -> str:
    output, _ = process.communicate(timeout=200)
    assert process.returncode == status, output
    assert "Traceback" not in output
    return output


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials that train nothing, and all come out alike."""

    def score(self: trials._Runner, trial: optuna.Trial, plan: object) -> float:
        trial.set_user_attr("cases", 1)
        return 50.0

    monkeypatch.setattr(trials, "drive", lambda *_: None)
    monkeypatch.setattr(trials, "_fault", lambda *_: "")
    monkeypatch.setattr(trials._Runner, "_score", score)


def cut(postgres: Server, url: str, connection: sqlalchemy.Connection) -> None:
    """Have the server end all connections to a database, one of them in the middle of a transaction."""
    name = url.rpartition("/")[2]
    postgres.say(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'", "postgres"
    )
    connection.exec_driver_sql("SELECT 1")


@pytest.mark.slow
def test_workers_share_a_study(folder: Path, postgres: Server) -> None:
    """Two that make the tables at once, and one more on another workspace, such as another machine's."""
    url = postgres.database()
    done = cli("search", *SMOKE, *QUIET, "--storage", url, "--workers", "2", "--trials", "3", cwd=folder)
    assert "3 complete, 0 pruned, 0 failed, 0 run again" in done.stdout
    done = cli("search", *SMOKE, *QUIET, "--storage", url, "--workspace", "other", cwd=folder, check=None)
    assert "3 complete" in done.stdout
    search("--storage", url, "--workspace", "other", "--trials", "4")
    found = study_of(url).trials
    assert len({tuple(trial.values.items()) for trial in found}) == len(found) == 4
    for text in (done.stdout, done.stderr, *texts_below(folder)):
        assert postgres.password not in text


def texts_below(folder: Path) -> list[str]:
    """What every file below a folder holds."""
    return [path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_a_killed_worker_is_replaced(folder: Path, postgres: Server) -> None:
    """kill -9 in the middle of a training; the server ends its turn and its connections, another goes on."""
    url = postgres.database()
    options = ["--heartbeat", "1", "--trials", "2", *STEPS]
    process = started(folder, url, *options)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    output = search(*options, "--storage", url)
    assert "resumes: it was interrupted before" in output
    study = study_of(url, SETS)
    (killed,) = study.of("retried")
    assert len(study.of("complete")) == len(study.finished) == 2
    again = next(trial for trial in study.of("complete") if trial.facts.get("after") == killed.number)
    assert again.values == killed.values
    assert len(list(Store(folder / "runs" / "store").records("retrain"))) == 2


@pytest.mark.slow
def test_a_server_that_comes_back_is_waited_for(folder: Path, postgres: Server) -> None:
    """After a crash, and longer than a trial may be silent: nobody takes another one for dead."""
    url = postgres.database()
    process = started(folder, url, "--heartbeat", "1", "--trials", "2", "--workers", "2", *STEPS)
    postgres.stop(signal.SIGQUIT)
    try:
        time.sleep(5)
    finally:
        postgres.start()
    output = ended(process)
    assert "2 complete, 0 pruned, 0 failed, 0 run again" in output
    assert "does not answer; waiting for it" in output
    assert "answers again" in output
    assert postgres.password not in output


def test_a_server_that_stays_away_is_one_message(
    folder: Path, postgres: Server, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the same command goes on once it is there again."""
    url = postgres.database()
    monkeypatch.setattr(module, "AWAY_S", 1.0)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(trials, "drive", lambda *_: postgres.stop())
            output = search("--storage", url, "--trials", "1", "--heartbeat", "1", status=2)
    finally:
        postgres.start()
    assert output.count("does not answer: connection to server") == 1, output
    assert "the same command goes on" in output
    assert not list(Path("runs/store/failed").glob("*"))
    time.sleep(3)  # the trial is silent for so long
    output = search("--storage", url, "--trials", "1", "--heartbeat", "1")
    assert "1 complete, 0 pruned, 0 failed, 1 run again" in output


def test_a_question_that_is_cut_off_is_asked_again(
    folder: Path, postgres: Server, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.database()
    asks = Turn.__enter__
    cuts = iter([False, True, False, True])  # the first turn makes the tables

    def asking(self: Turn) -> Turn:
        found = asks(self)
        if next(cuts, False):
            assert self._connection is not None
            cut(postgres, url, self._connection)
        return found

    monkeypatch.setattr(Turn, "__enter__", asking)
    output = search("--storage", url, "--trials", "2")
    assert output.count("the connection to the database of studies broke") == 2
    assert "2 complete, 0 pruned, 0 failed, 0 run again" in output


def test_a_trial_whose_question_is_cut_off_is_run_again(
    folder: Path, postgres: Server, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.database()
    left = [1]
    write = optuna.storages.RDBStorage.set_trial_user_attr

    def writing(self: optuna.storages.RDBStorage, trial: int, key: str, value: object) -> None:
        if key == "nodes" and left:
            left.pop()
            with optuna.storages._rdb.storage._create_scoped_session(self.scoped_session) as session:
                cut(postgres, url, session.connection())
        write(self, trial, key, value)

    monkeypatch.setattr(optuna.storages.RDBStorage, "set_trial_user_attr", writing)
    output = search("--storage", url, "--trials", "2")
    assert "the connection to the database of studies broke" in output
    assert "2 complete, 0 pruned, 0 failed, 1 run again" in output


def test_wrong_addresses_are_one_message(folder: Path, postgres: Server) -> None:
    cases = {
        postgres.url("postgres", "no-such-word"): ("password authentication failed", "~/.pgpass"),
        postgres.url("nowhere"): ('database "nowhere" does not exist', "createdb nowhere"),
        postgres.url("postgres").replace(f":{postgres.port}", ":1"): (
            "Connection refused",
            "a database by URL",
        ),
        postgres.url("x", local=True).replace("socket", "sacket"): ("No such file or directory", "by URL"),
    }
    for url, (told, remedy) in cases.items():
        output = search("--storage", url, status=2)
        assert output.startswith("--storage postgresql://studies:***@"), output
        assert told in output, output
        assert remedy in output, output
        assert postgres.password not in output
        assert "no-such-word" not in output
    assert not (folder / "runs" / "studies.db").exists()


def test_studies_and_mlflow_need_a_database_each(postgres: Server) -> None:
    url = postgres.database()
    name = url.rpartition("/")[2]
    postgres.say("CREATE TABLE alembic_version (version_num text)", name)
    postgres.say("INSERT INTO alembic_version VALUES ('cbc13b556ace')", name)
    with pytest.raises(InputError, match="holds MLflow's tables"):
        open_storage(url)
    assert postgres.say("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", name) == [(1,)]


def test_a_socket_and_a_named_driver_will_do(postgres: Server) -> None:
    url = postgres.database()
    name = url.rpartition("/")[2]
    local = postgres.url(name, local=True)
    for address in (local, local.replace("postgresql:", "postgres:"), with_driver(url)):
        assert open_storage(address).get_all_studies() == []


def test_a_missing_driver_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "find_spec", lambda name: None)
    for url in ("postgresql://me:secret@host/studies", "postgresql+psycopg://me:secret@host/studies"):
        output = search("--storage", url, status=2)
        assert "pip install 'sfrbench[postgres]'" in output
        assert "secret" not in output


@pytest.mark.parametrize(
    ("here", "url", "found"),
    [
        ({"psycopg2", "psycopg"}, "postgresql://h/x", "postgresql+psycopg2://h/x"),
        ({"psycopg"}, "postgresql://h/x", "postgresql+psycopg://h/x"),
        ({"psycopg"}, "postgres://u:p@h/postgres://", "postgresql+psycopg://u:p@h/postgres://"),
        ({"psycopg2", "psycopg"}, "postgresql+psycopg://h/x", "postgresql+psycopg://h/x"),
        (set(), "postgresql+pg8000://h/x", "postgresql+pg8000://h/x"),
        (set(), "sqlite:////x", "sqlite:////x"),
        (set(), "https://h", "https://h"),
    ],
)
def test_the_driver_that_is_here_is_named(
    here: set[str], url: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "find_spec", lambda name: name if name in here else None)
    assert with_driver(url) == found


def test_turns_exclude_each_other(postgres: Server) -> None:
    """And a turn ends with its connection."""
    engine = sqlalchemy.create_engine(with_driver(postgres.database()))
    first, second = Turn(engine, "asks a"), Turn(engine, "asks a")
    entered = threading.Event()

    def enter() -> None:
        with second:
            entered.set()

    with first:
        thread = threading.Thread(target=enter)
        thread.start()
        with Turn(engine, "asks b"):
            assert not entered.wait(0.5)
        first.release()
        assert entered.wait(20)
        thread.join()
    engine.dispose()


def test_a_server_ends_with_its_starter(postgres: Server, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.postgres"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = process.stdout.readline().split()[1]
    assert open_storage(url).get_all_studies() == []
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 30
    ready = [program("pg_isready") or "pg_isready", "-q", "-d", url]
    while subprocess.run(ready, check=False).returncode == 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)
