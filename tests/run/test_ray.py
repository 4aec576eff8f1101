"""Nodes as tasks of Ray: one cluster of this machine for the whole file, and what a task asks of it."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from sfrbench.errors import InputError, NotReadyError
from sfrbench.run.executors.local import THREADS, Place
from sfrbench.run.executors.ray import task
from sfrbench.run.executors.ray.settings import Size, have_room, named_cluster, size_of
from sfrbench.run.signs import Sign, working
from tests.support.loaded import Process
from tests.support.processes import wait_until_gone
from tests.support.ray_cluster import Cluster
from tests.support.runs import DIVERGES, QUIET, SPEC, cli, environment
from tests.support.workers import made

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'sfrbench[ray]'"
)


def test_a_task_takes_its_cores_and_no_more_than_its_share_of_a_machine() -> None:
    small, cards = Size(2), Size(32, 8)
    assert size_of(4, 0.0, [small]) == Size(2)
    assert size_of(4, 0.0, [small, cards]) == Size(4)
    assert size_of(4, 1.0, [small, cards]) == Size(4, 1.0)
    assert size_of(8, 1.0, [small, cards]) == Size(4, 1.0), "eight cards share 32 cores"
    assert size_of(8, 0.5, [cards]) == Size(2, 0.5), "sixteen tasks share them"
    assert size_of(4, 1.0, [small]) == Size(4, 1.0), "it waits for a machine with a card"


def test_a_cluster_has_room_for_what_fits_on_its_machines_and_not_in_their_sum() -> None:
    machines = [Size(3), Size(3)]
    assert have_room(Size(2), machines, [])
    assert have_room(Size(2), machines, [Size(2)])
    assert not have_room(Size(2), machines, [Size(2)] * 2), "one core is left on each"
    assert have_room(Size(1), machines, [Size(2)] * 2)
    assert have_room(Size(1, 1 / 3), [Size(8, 1)], [Size(1, 1 / 3)] * 2)
    assert not have_room(Size(1, 1 / 3), [Size(8, 1)], [Size(1, 1 / 3)] * 3)


def test_the_environment_names_a_cluster_before_the_configuration_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert named_cluster() is None
    file = tmp_path / "sfrbench" / "config.yaml"
    file.parent.mkdir()
    file.write_text("executors: {ray: {address: 'head:6379'}}\n")
    found = named_cluster()
    assert found is not None
    assert found.address == "head:6379"
    assert str(file) in found.where
    monkeypatch.setenv("RAY_ADDRESS", "other:6379")
    found = named_cluster()
    assert found is not None
    assert found.address == "other:6379"
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(InputError, match="host:port of its head"):
        named_cluster()
    monkeypatch.delenv("RAY_ADDRESS")
    file.write_text("executors: {ray: {gpus_per_tasks: 0.5}}\n")
    with pytest.raises(InputError, match=r"config\.yaml:1:\d+.*gpus_per_tasks"):
        named_cluster()


@needs_ray
def test_a_cluster_that_does_not_answer_is_one_message(tmp_path: Path) -> None:
    spec = tmp_path / "small.yaml"
    spec.write_text(SPEC)
    started = time.monotonic()
    done = _run(spec, tmp_path / "away", check=2, address="127.0.0.1:1")
    assert "RAY_ADDRESS=127.0.0.1:1" in done.stderr
    assert "no Ray cluster answers" in done.stderr
    assert time.monotonic() - started < 30


TWO = f"""\
{SPEC.split("base:")[0]}base: {{backbone: vnet, ssl: supervised}}
seeds: [0, 1]
report: [{{table: results}}]
"""
LONG = ("--set", "ssl.steps=100", "--set", "ssl.checkpoint_every=10")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two machines of one core, whose token the environment knows; a task takes one core."""
    config = tmp_path_factory.mktemp("config")
    (config / "sfrbench").mkdir()
    (config / "sfrbench" / "config.yaml").write_text("executors: {ray: {cpus_per_task: 1}}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("XDG_CONFIG_HOME", str(config))
        cluster = Cluster()
        try:
            patch.setenv("RAY_ADDRESS", cluster.address)
            yield cluster
        finally:
            cluster.stop()


def begin(folder: Path, workspace: str, *more: str) -> Process:
    """A run of two trainings."""
    (folder / "two.yaml").write_text(TWO)
    command = ("run", "two.yaml", "--profile", "smoke", *QUIET, *LONG, "--workspace", workspace, *more)
    return Process(*command, cwd=folder, env=environment(), stderr=subprocess.STDOUT)


def training(process: Process, workspace: Path, count: int) -> list[Sign]:
    """The signs of a run in which so many trainings have begun and one has left a checkpoint."""
    deadline = time.monotonic() + 120
    while True:
        found = [sign for sign in working(workspace) if sign.stage == "retrain" and sign.alive]
        if len(found) >= count and list(workspace.glob("store/partial/retrain-*/checkpoint.pt")):
            return found
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@needs_ray
def test_two_machines_make_what_one_process_makes_whatever_dies(cluster: Cluster, tmp_path: Path) -> None:
    """A run is interrupted, its driver killed, then one of its workers, and a machine as a whole."""
    runs, on_ray = tmp_path / "runs", ("--executor", "ray")
    process = begin(tmp_path, "runs", *on_ray)
    signs = training(process, runs, 1)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=100)[0]
    assert process.returncode == 130, output
    assert "the same command goes on" in output
    assert list((runs / "working").glob("[!.]*.json")) == [], "no task is left"

    process = begin(tmp_path, "runs", *on_ray)
    signs = training(process, runs, 1)
    process.kill()
    process.communicate()
    wait_until_gone([sign.pid for sign in signs])

    process = begin(tmp_path, "runs", *on_ray)
    signs = sorted(training(process, runs, 2), key=lambda sign: cluster.on_node(sign.machine))
    assert [cluster.on_node(sign.machine) for sign in signs] == [False, True], "both are at work"
    os.kill(signs[1].pid, signal.SIGSTOP)  # or its training may end before its machine does
    os.kill(signs[0].pid, signal.SIGKILL)
    cluster.kill()
    output = process.communicate(timeout=200)[0]
    cluster.add()
    assert process.returncode == 0, output
    assert "its process in the Ray cluster is gone" in output
    assert "its machine of the Ray cluster is gone" in output
    assert "resumes: it was interrupted before" in output
    assert "(raylet)" not in output, "what Ray says of it"
    assert "6 ran, 1 reused, 0 failed, 0 blocked" in output
    assert list((runs / "working").glob("[!.]*.json")) == []

    records = [json.loads(path.read_text()) for path in runs.glob("store/retrain/*/record.json")]
    assert max(record["notes"]["resumed_at"] for record in records) >= 10
    with pytest.MonkeyPatch.context() as patch:
        for name in THREADS:
            patch.setenv(name, "1")
        process = begin(tmp_path, "alone", "--executor", "inline")
    output = process.communicate(timeout=200)[0]
    assert process.returncode == 0, output
    assert made(runs) == made(tmp_path / "alone")


@pytest.mark.slow
@needs_ray
def test_a_node_that_fails_blocks_its_own_only(cluster: Cluster, tmp_path: Path) -> None:
    """A component of the user's own reaches the workers."""
    spec = tmp_path / "small.yaml"
    spec.write_text(SPEC.split("arms:")[0] + "arms: [{name: mt}, {name: bad, ssl: diverging}]\n")
    (tmp_path / "diverging.py").write_text(DIVERGES)
    card = tmp_path / "cards" / "ssl" / "diverging.yaml"
    card.parent.mkdir(parents=True)
    card.write_text("target: diverging:Diverging\nsummary: Its loss is not finite.\nlabel: Diverging\n")
    done = _run(spec, tmp_path / "runs", "--registry", "cards", check=1, address=cluster.address)
    assert "FAILED bad seed 0: retrain: the loss is not finite" in done.stderr
    assert "4 ran, 0 reused, 1 failed, 2 blocked" in done.stdout
    log = next(line for line in done.stderr.splitlines() if "log:" in line).split("log: ")[1]
    assert "Traceback" in Path(log).read_text()


def _run(
    spec: Path, workspace: Path, *more: str, check: int, address: str
) -> subprocess.CompletedProcess[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", address)
        command = ("run", str(spec), "--profile", "smoke", "--workspace", str(workspace), *QUIET, *more)
        return cli(*command, "--executor", "ray", cwd=spec.parent, check=check)


@needs_ray
def test_an_interrupt_while_a_worker_loads_torch_does_not_break_it_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A machine that goes has tasks cancelled that have said nothing yet; their processes go on to others."""
    seen: list[bool] = []

    def prepared(order: bytes, place: Place) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        seen.append(task.ENDING.is_set())
        raise InputError("loaded whole")

    monkeypatch.setattr(task, "_prepared", prepared)
    fault = task.work(b"", cast(Any, None), Place("cpu", 1))
    assert seen == [True]
    assert isinstance(fault, NotReadyError)
    assert "loaded whole" in str(fault)
    monkeypatch.setattr(os, "kill", lambda *given: None)
    task.work(b"", cast(Any, None), Place("cpu", 1))
    assert seen == [True, False], "the next one is not told to end"
