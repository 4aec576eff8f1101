"""Searches whose workers are jobs of a real SLURM or tasks of a real Ray cluster: what they make is what one
process makes, whichever of them is killed."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sfrbench.plan.study import Study
from sfrbench.run.executors.local import THREADS
from sfrbench.run.executors.slurm import ask, notes
from sfrbench.search.studies import read_study
from tests.support.loaded import Process
from tests.support.postgres import Server
from tests.support.runs import QUIET, cli, environment
from tests.support.searches import SMOKE, opened
from tests.support.slurm import MISSING, SITE, live, needs_slurm
from tests.support.workers import begun, made

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'sfrbench[ray]'"
)

SETS = ("ssl.steps=20", "ssl.checkpoint_every=5")
ALL = (*SMOKE, *QUIET, "--trials", "4", "--heartbeat", "2", *(f"--set={each}" for each in SETS))


@pytest.fixture
def site(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a search of four points, and what the site says of its clusters."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name in THREADS:
        monkeypatch.setenv(name, "1")
    (folder / "config" / "sfrbench").mkdir(parents=True)
    config = SITE.rstrip("}\n") + "}, ray: {cpus_per_task: 1}}\n"
    (folder / "config" / "sfrbench" / "config.yaml").write_text(config)
    yield folder
    if not MISSING:  # of a test that failed
        ask.cancel(live(folder / "runs"))


def started(site: Path, *options: str) -> Process:
    """A search, once one of its workers is in the middle of a training."""
    process = Process("search", *ALL, *options, cwd=site, env=environment(), stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 120
    while begun(site / "runs") is None:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def survives_a_kill(site: Path, executor: str, url: str | None = None) -> Study:
    """Kills a worker; all points are tried once all the same, and what is made is what one process makes."""
    stored = () if url is None else ("--storage", url)
    process = started(site, "--executor", executor, "--workers", "2", *stored)
    sign = begun(site / "runs")
    assert sign is not None
    os.kill(sign.pid, signal.SIGKILL)
    output = process.communicate(timeout=200)[0]
    assert process.returncode == 0, output
    assert "ended by SIGKILL: often a lack of memory; another one takes its place" in output
    assert "4 complete, 0 pruned, 0 failed, 1 run again" in output
    cli("search", *ALL, "--workspace", "one", cwd=site)
    assert made(site / "runs") == made(site / "one")
    found, one = read_study(opened(SETS), url), cli_study(site)
    assert found is not None
    tried = {tuple(sorted(trial.values.items())): trial.value for trial in found.of("complete")}
    assert tried == {tuple(sorted(trial.values.items())): trial.value for trial in one.of("complete")}
    assert len({trial.facts["worker"] for trial in found.of("complete")}) > 1
    assert list((site / "runs" / "working").glob("[!.]*.json")) == []
    return found


def cli_study(site: Path) -> Study:
    found = read_study(opened(SETS), f"sqlite:///{site / 'one' / 'studies.db'}")
    assert found is not None
    return found


@needs_slurm
def test_jobs_survive_one_that_is_killed(site: Path) -> None:
    survives_a_kill(site, "slurm")
    assert live(site / "runs") == []
    assert notes.submissions(site / "runs") == []


@needs_slurm
def test_jobs_share_a_study_in_postgres(
    site: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The password goes by the user's own file, which all machines see."""
    url = postgres.database()
    address, secret = url.replace(f":{postgres.password}", ""), site / "pgpass"
    secret.write_text(f"*:*:*:*:{postgres.password}\n")
    secret.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(secret))
    survives_a_kill(site, "slurm", address)


@needs_slurm
def test_jobs_that_are_left_go_on_until_they_are_cancelled(site: Path) -> None:
    """And they put the trials that they had in line again, for whoever comes next."""
    options = ("--executor", "slurm", "--workers", "2", "--set=ssl.steps=2000")
    done = cli("search", *ALL, *options, "--detach", cwd=site)
    assert "the jobs go on" in done.stdout
    jobs = live(site / "runs")
    assert len(jobs) == 2
    again = cli("search", *ALL, *options, "--detach", cwd=site)
    assert "2 workers that are there" in again.stdout
    assert sorted(live(site / "runs")) == sorted(jobs)
    deadline = time.monotonic() + 120
    while begun(site / "runs") is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    shown = cli("status", "runs", cwd=site).stdout
    assert any(f"job {job}" in shown for job in jobs)
    ended = cli("cancel", "small.yaml", cwd=site).stdout
    assert all(job in ended for job in jobs)
    assert live(site / "runs") == []
    deadline = time.monotonic() + 60
    while (study := read_study(opened((*SETS, "ssl.steps=2000")))) is None or not study.of("waiting"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert [trial.state for trial in study.trials if trial.state == "failed"] == []
    assert study.of("waiting")[0].facts["after"] in [trial.number for trial in study.of("retried")]


@needs_slurm
def test_ctrl_c_ends_the_jobs(site: Path) -> None:
    process = started(site, "--executor", "slurm", "--workers", "2", "--set=ssl.steps=2000")
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 130, output
    assert "the same command goes on" in output
    assert live(site / "runs") == []


@pytest.mark.slow
@needs_ray
def test_tasks_of_ray_survive_one_that_is_killed(site: Path) -> None:
    survives_a_kill(site, "ray")
