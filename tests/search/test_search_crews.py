"""Workers that a search starts: their share of the machine, how they are replaced, told to end, and what goes
to other machines. No cluster is needed here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sfrbench.errors import InputError, SfrbenchError
from sfrbench.machine.needs import Machine, cores
from sfrbench.run.executors.local import THREADS, places
from sfrbench.run.executors.ray.cluster import _environment
from sfrbench.run.executors.settings import LocalSettings
from sfrbench.run.executors.slurm.settings import SlurmSettings, heaviest_first, shape_of
from sfrbench.run.past import MOST
from sfrbench.search.opening import open_study
from sfrbench.search.options import Options
from sfrbench.search.storage import MAX_RETRY, StudiesRemoved
from sfrbench.search.workers.choice import Where
from sfrbench.search.workers.keep import Progress, keep
from sfrbench.search.workers.local import LocalCrew
from sfrbench.search.workers.order import INTERRUPTED, REMOVED, Gone, Order
from sfrbench.search.workers.tail import Tail
from sfrbench.store.store import Store
from tests.support.runs import QUIET, environment
from tests.support.searches import SMOKE, opened, search, study_of
from tests.support.workers import begun


@dataclass
class Played:
    """A crew whose workers end as written, one after the other."""

    ends: list[tuple[int | None, str]]
    started: list[str] = field(default_factory=list)
    refuses: bool = False
    closed: bool = False
    ended: int = 0

    def come_back(self) -> Collection[str]:
        return ()

    def start(self, count: int) -> Collection[str]:
        if self.refuses and self.started:
            raise SfrbenchError("no more")
        names = [str(len(self.started) + at) for at in range(count)]
        self.started += names
        return names

    def wait(self, seconds: float) -> Sequence[Gone]:
        status, why = self.ends.pop(0)
        self.ended += 1
        return [Gone(str(self.ended - 1), status, why)]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def progress(folder: Path) -> Progress:
    experiment = opened()
    return Progress(experiment, open_study(experiment, Options()), None)


def kept(crew: Played, progress: Progress, workers: int) -> list[str]:
    said: list[str] = []
    assert keep(crew, Where("local", workers), progress, said.append)
    assert crew.closed
    return said


def test_a_worker_that_dies_is_replaced_and_one_that_ends_is_not(progress: Progress) -> None:
    ends = [(-9, "killed"), (None, "its job is gone"), (2, "wrong"), (INTERRUPTED, "stopped"), (0, "")]
    crew = Played(ends)
    said = kept(crew, progress, 3)
    assert len(crew.started) == 5, "two more for two that died"
    assert said == [
        "worker 0: killed; another one takes its place",
        "worker 1: its job is gone; another one takes its place",
        "worker 2: wrong",
        "worker 3: stopped",
    ]


def test_workers_that_die_for_nothing_come_to_an_end(progress: Progress) -> None:
    """Each trial may kill its workers so often before it has failed, and only then another one is tried."""
    crew = Played([(-9, "killed")] * 100)
    said = kept(crew, progress, 2)
    assert len(crew.started) == 2 + 2 * (MAX_RETRY + 2)
    assert said[-1] == f"worker {len(crew.started) - 1}: killed"


def test_the_others_go_on_where_no_more_worker_is_to_be_had(
    progress: Progress, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(kept(Played([(-9, "killed"), (0, "")], refuses=True), progress, 2)) == 1
    assert "no more" in caplog.text
    crew = Played([(-9, "killed")], refuses=True)
    with pytest.raises(SfrbenchError, match="no more"):
        keep(crew, Where("local", 1), progress, print)
    assert crew.closed


def test_studies_that_a_worker_finds_removed_end_the_search(progress: Progress) -> None:
    crew = Played([(REMOVED, ""), (-15, "ended")])
    with pytest.raises(StudiesRemoved):
        keep(crew, Where("local", 2), progress, print)
    assert crew.closed
    assert len(crew.started) == 2


def test_local_workers_have_the_cards_or_the_cores_of_the_local_executor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And one that takes the place of another has what that one had."""
    told: list[dict[str, str]] = []

    class Ended:
        pid, returncode = 0, 0

        def __init__(self, command: object, env: dict[str, str], **_: object) -> None:
            Ended.pid += 1
            self.pid = Ended.pid
            told.append({name: env[name] for name in (*THREADS, "CUDA_VISIBLE_DEVICES") if name in env})

        def poll(self) -> int:
            return 0

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    monkeypatch.setattr(subprocess, "Popen", Ended)
    order = Order(("search",), None, Path())
    machine = Machine(Path("runs"))
    LocalCrew(order, places(machine, 2, (), LocalSettings())).start(2)
    share = str(max(1, cores() // 2))
    assert told == [dict.fromkeys(THREADS, share)] * 2
    told.clear()
    crew = LocalCrew(order, places(machine, 2, ("3", "5"), LocalSettings(host_workers=0)))
    crew.start(2)
    assert [each["CUDA_VISIBLE_DEVICES"] for each in told] == ["3", "5"]
    crew.wait(1)
    crew.start(1)
    assert told[-1] == told[0]


def test_a_job_of_a_search_asks_for_what_its_heaviest_stage_wants() -> None:
    assert heaviest_first(["evaluate", "predict", "retrain", "prepare"])[:2] == ["retrain", "predict"]
    settings = SlurmSettings.model_validate(
        {
            "partition": "cpu",
            "stages": {"retrain": {"partition": "gpu", "memory": 48}, "predict": {"cpus": 9}},
        }
    )
    shape = shape_of(heaviest_first(["prepare", "predict", "retrain"]), settings, gpu=True)
    assert (shape.partition, shape.gres, shape.memory, shape.cpus, shape.hours) == ("gpu", "gpu:1", 48, 9, 24)


def test_what_goes_to_other_machines_holds_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    url = "postgresql://me:pass-word@host/studies"
    for executor in ("slurm", "ray"):
        with pytest.raises(InputError, match="pgpass") as caught:
            Where(executor).check_studies(url)
        assert "pass-word" not in str(caught.value)
    assert Where("local").check_studies(url) == ""
    assert Where("slurm").check_studies("postgresql://me@host/studies") == ""
    assert "PostgreSQL" in Where("slurm").check_studies("sqlite:////runs/studies.db")
    assert Where("ray").check_studies("sqlite:////runs/studies.db") == "", "a cluster of this machine"
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert "PostgreSQL" in Where("ray").check_studies("sqlite:////runs/studies.db")
    for name in ("SFRBENCH_STORAGE", "SFRBENCH_TRACKING_URI"):
        monkeypatch.setenv(name, url)
    monkeypatch.setenv("SFRBENCH_DATA", "/data")
    assert "pass-word" not in str(_environment())
    assert _environment()["SFRBENCH_DATA"] == "/data"


def test_only_jobs_can_be_left() -> None:
    with pytest.raises(InputError, match="--detach"):
        Where("ray", detach=True)
    assert Where("slurm", 3, detach=True).workers == 3


def test_lines_are_shown_once_they_are_whole(tmp_path: Path) -> None:
    shown: list[str] = []
    tail, path = Tail(shown.append), tmp_path / "out"
    tail.follow(path)
    tail.look()
    path.write_text("one\ntw")
    tail.look()
    assert shown == ["one"]
    path.write_text("one\ntwo\n")
    tail.look()
    again = Tail(shown.append)
    again.follow(path, old=True)
    again.look()
    assert shown == ["one", "two"]


def test_a_worker_that_is_told_to_end_leaves_a_checkpoint_and_its_trial(folder: Path) -> None:
    """As jobs are, near their time limit; twice, as SLURM tells all processes of a job."""
    options = ("--trials", "1", "--set=ssl.steps=40", "--set=ssl.checkpoint_every=1000")
    started = {"SFRBENCH_PARENT": str(os.getpid()), **environment()}
    command = [sys.executable, "-m", "sfrbench", "search", *SMOKE, *QUIET, *options, "--worker"]
    process = subprocess.Popen([*command, "--within=local"], cwd=folder, env=started)
    deadline = time.monotonic() + 120
    while (sign := begun(folder / "runs")) is None:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert sign.pid == process.pid
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == INTERRUPTED
    assert list((folder / "runs" / "store" / "partial").glob("retrain-*/checkpoint.pt"))
    first, second = study_of(("ssl.steps=40", "ssl.checkpoint_every=1000")).trials
    assert (first.state, second.state) == ("retried", "waiting")
    assert "resumes: it was interrupted before" in search(*options)


def test_records_are_read_once_for_all_trials(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To order the nodes of a trial, those of before the first one will do."""
    asked: list[str] = []
    records = Store.records

    def counted(self: Store, stage: str, most: int | None = None):  # type: ignore[no-untyped-def]
        if most == MOST:
            asked.append(stage)
        return records(self, stage, most)

    monkeypatch.setattr(Store, "records", counted)
    search("--trials", "3", "--worker")
    assert len(study_of().of("complete")) == 3
    assert asked
    assert len(asked) == len(set(asked))
