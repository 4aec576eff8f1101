"""``--executor local``: equal to one process with as many threads, whatever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from sfrbench.errors import InputError
from sfrbench.machine import needs
from sfrbench.machine.driver import Driver
from sfrbench.machine.needs import Machine
from sfrbench.run.executors.choice import How, choose
from sfrbench.run.executors.drive import ACCELERATED, HOST
from sfrbench.run.executors.local import THREADS, places
from sfrbench.run.executors.settings import LocalSettings, settings_of
from tests.support.loaded import Process
from tests.support.processes import children, wait_until_gone
from tests.support.runs import QUIET, SPEC, cli, environment
from tests.support.torches import CPU, H200, NEW, Torch, install
from tests.support.workers import made, training

RUN = ("small.yaml", "--profile", "smoke", *QUIET)
LONG = ("--set", "ssl.steps=200")  # and no checkpoint before the end


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("local")
    (folder / "small.yaml").write_text(SPEC.split("  - {name: sfr_mt")[0])
    return folder


@pytest.fixture(scope="module")
def alone(folder: Path) -> Path:
    """What one process with one thread makes of long trainings."""
    one_thread = environment() | dict.fromkeys(THREADS, "1")
    process = Process("run", *RUN, *LONG, "--workspace", "alone", cwd=folder, env=one_thread)
    said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return folder / "alone"


def begun(folder: Path, workspace: str) -> Process:
    """A run by two workers of one thread, one of which has begun to train the segmenter."""
    process = Process(
        "run", *RUN, *LONG, "--workspace", workspace, "--workers", "2",
        cwd=folder, env=environment(), stderr=subprocess.STDOUT, cores=two_cores(),
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while training(folder / workspace) is None:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def two_cores() -> tuple[int, ...]:
    """Workers take their share of the cores, which differ between machines: a run of two is given two."""
    return tuple(sorted(os.sched_getaffinity(0))[:2])


@pytest.mark.slow
def test_two_workers_make_what_one_process_makes(folder: Path, alone: Path) -> None:
    """And a worker that is killed in the middle of a training is replaced."""
    process = begun(folder, "killed")
    sign = training(folder / "killed")
    assert sign is not None
    os.kill(sign.pid, signal.SIGKILL)
    output = process.communicate(timeout=200)[0]
    assert process.returncode == 0, output
    assert "its process was ended by SIGKILL" in output
    assert "7 ran, 0 reused, 0 failed, 0 blocked" in output
    assert made(folder / "killed") == made(alone)
    assert list((folder / "killed" / "working").glob("[!.]*.json")) == []
    assert list((folder / "killed" / "running").glob("*.json")) == []


@pytest.mark.slow
def test_interrupted_workers_leave_their_step(folder: Path, alone: Path) -> None:
    process = begun(folder, "stopped")
    workers = children(process.pid)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=100)[0]
    assert process.returncode == 130, output
    assert "the same command goes on" in output
    wait_until_gone(workers)
    again = cli("run", *RUN, *LONG, "--workspace", "stopped", "--workers", "1", cwd=folder)
    assert "resumes: it was interrupted before" in again.stdout
    records = [json.loads(path.read_text()) for path in folder.glob("stopped/store/retrain/*/record.json")]
    assert any(record["notes"]["resumed_at"] > 0 for record in records)


@pytest.mark.slow
def test_workers_end_with_a_driver_that_is_killed(folder: Path) -> None:
    process = begun(folder, "orphans")
    workers = children(process.pid)
    assert len(workers) >= 2
    process.kill()
    process.communicate()
    wait_until_gone(workers)
    again = cli("run", *RUN, *LONG, "--workspace", "orphans", "--workers", "2", cwd=folder)
    assert "0 failed, 0 blocked" in again.stdout


def test_places() -> None:
    machine, cores = Machine(Path("runs")), needs.cores()
    assert [place.threads for place in places(machine, 2, (), LocalSettings())] == [max(1, cores // 2)] * 2
    shared = places(machine, None, ("0", "2"), LocalSettings(workers_per_gpu=2))
    assert [place.card for place in shared] == ["0", "2", "0", "2", None]
    assert [place.lanes for place in shared] == [(ACCELERATED,)] * 4 + [(HOST,)]
    apple = places(Machine(Path("runs"), device="mps"), 2, (), LocalSettings())
    assert [(place.device, place.lanes) for place in apple] == [("mps", (ACCELERATED, HOST))] * 2
    only = places(machine, None, ("1",), LocalSettings(host_workers=0))
    assert [(place.card, place.lanes) for place in only] == [("1", (ACCELERATED, HOST))]


def test_the_executor_that_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    install(monkeypatch, CPU, Driver())
    assert choose(How(), machine).executor == "inline"
    assert choose(How(workers=2), machine).executor == "local"
    install(monkeypatch, Torch(cards=[H200, H200]), NEW, CUDA_VISIBLE_DEVICES="0,3")
    assert choose(How(), machine).cards == ("0", "3")
    assert choose(How(gpus=("3",)), machine).cards == ("3",)
    assert choose(How("inline", gpus=("3",)), machine).machine.device == "cuda:1"
    assert choose(How("local"), Machine(tmp_path, device="cuda:1")).cards == ("3",)
    assert choose(How(), Machine(tmp_path, device="cuda:1")).executor == "inline"
    assert choose(How(), Machine(tmp_path, device="cpu")).executor == "inline"
    with pytest.raises(InputError, match="one process"):
        How("inline", workers=2)
    with pytest.raises(InputError, match="has one card"):
        How("inline", gpus=("0", "3"))


def test_faults_of_the_configuration_have_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "sfrbench").mkdir()
    file = tmp_path / "sfrbench" / "config.yaml"
    file.write_text("executors:\n  local:\n    workers_per_gpu: 0\n    worker: 2\n  locl: {}\n")
    with pytest.raises(InputError) as caught:
        settings_of("local", LocalSettings)
    text = str(caught.value)
    for part in (f"{file}:3:", f"{file}:4:", f"{file}:5:", "did you mean 'local'?", "no field 'worker'"):
        assert part in text
    file.write_text("executors: {local: {workers_per_gpu: 2}}\n")
    assert settings_of("local", LocalSettings).workers_per_gpu == 2
