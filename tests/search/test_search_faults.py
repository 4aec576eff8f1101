"""What is taken from a search while it runs: its studies, its starter; and what is never shown of it."""

from __future__ import annotations

import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sfrbench.cli import console
from sfrbench.cli import search as command
from sfrbench.files import children
from sfrbench.files.urls import STORAGE, sqlite_url
from sfrbench.search import ending
from sfrbench.search.options import Options
from sfrbench.search.storage import open_storage
from tests.support.loaded import Process
from tests.support.processes import children as children_of
from tests.support.processes import wait_until_gone
from tests.support.runs import QUIET, environment
from tests.support.searches import SMOKE, search, study_of

REMOVED = "the database of studies was removed"
LONG = ("--set=ssl.steps=60", "--set=ssl.val_every=10", "--set=ssl.checkpoint_every=5")


def two_workers(folder: Path, *options: str) -> Process:
    """A search by two workers, both of which have begun a training."""
    process = Process(
        "search", *SMOKE, *QUIET, "--workers", "2", *options,
        cwd=folder, env=environment(), stderr=subprocess.STDOUT,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while len(list((folder / "runs" / "store" / "partial").glob("retrain-*/checkpoint.pt"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def test_studies_that_are_removed_are_one_message(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No node failed: the same command trains what is left."""
    starts = console.PlainListener.node_starts

    def removing(self, node, *rest) -> None:  # type: ignore[no-untyped-def]
        if node.stage == "retrain":
            Path("runs/studies.db").unlink()
        starts(self, node, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(console.PlainListener, "node_starts", removing)
        output = search("--trials", "1", status=2)
    assert output.count(REMOVED) == 1
    for word in ("FAILED", "blocked", "Traceback", "Error"):
        assert word not in output
    assert not list(Path("runs/store/failed").glob("*"))
    assert "1 complete, 0 pruned, 0 failed" in search("--trials", "1")


@pytest.mark.slow
def test_studies_that_two_workers_lose_are_one_message(folder: Path) -> None:
    process = two_workers(folder, *LONG, "--heartbeat", "1")
    (folder / "runs" / "studies.db").unlink()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2, output
    assert output.count(REMOVED) == 1, output
    for word in ("FAILED", "blocked", "Traceback", "ended with status"):
        assert word not in output


def test_a_heartbeat_without_a_database_is_left_to_the_trial(tmp_path: Path) -> None:
    """In the thread that sends it, an error would be a traceback."""
    import optuna

    storage = open_storage(sqlite_url(tmp_path / "studies.db"), 1)
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    storage.record_heartbeat(trial._trial_id)
    (tmp_path / "studies.db").unlink()
    storage.record_heartbeat(trial._trial_id)
    with pytest.raises(optuna.exceptions.StorageInternalError):
        trial.report(1.0, 1)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
def test_workers_end_with_their_starter(folder: Path) -> None:
    """And another search does what they left."""
    steps = ("--trials=2", "--heartbeat=1", "--set=ssl.steps=50", "--set=ssl.checkpoint_every=5")
    process = two_workers(folder, *steps)
    workers = children_of(process.pid)
    assert len(workers) == 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until_gone(workers)
    assert "2 complete, 0 pruned, 0 failed" in search(*steps)
    trials = study_of(("ssl.steps=50", "ssl.checkpoint_every=5")).of("complete")
    assert len({tuple(trial.values.items()) for trial in trials}) == 2


def test_no_password_is_an_argument_of_a_worker(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody on a machine sees the arguments of its processes; the environment is its owner's."""
    addresses = ("postgresql://me:pass-word@host/studies", "https://me:pass-word@host")
    (folder / "cards" / "stitch").mkdir(parents=True)
    card = "target: sfrbench.components.stitch.grid:GridStitch\nsummary: a grid\nlabel: mine\n"
    (folder / "cards" / "stitch" / "mine.yaml").write_text(card)
    how = Options(*addresses, 20, 3, None)
    given = {"profile": "smoke", "workspace": Path("runs")}
    more = {"sets": ("ssl.steps=3",), "data": {"la": Path("/la")}, "registry": (Path("cards"),)}
    order = command._command("small.yaml", how, {**given, **more})
    asked: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(subprocess, "Popen", lambda argv, env, **_: asked.append((argv, env)))
    order.start(["--within=local"])
    ((argv, told),) = asked
    assert not [part for part in argv if "pass-word" in part]
    assert told[STORAGE] == addresses[0]
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    seen: list[Options] = []
    monkeypatch.setattr(command, "_work", lambda _, how, ending: seen.append(how))
    monkeypatch.setattr(children, "end_with_parent", lambda parent: None)
    monkeypatch.setattr(ending.Ending, "listen", lambda self: None)
    command.search.main(argv[4:], standalone_mode=False)
    assert seen == [replace(how, tracking_uri="none", executor="local")], "its starter writes to MLflow"
