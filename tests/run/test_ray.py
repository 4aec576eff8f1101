"""Nodes as tasks of Ray: one cluster of this machine for the whole file, and what a task asks of it."""

from __future__ import annotations

import importlib.util
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sfrbench.errors import InputError
from sfrbench.run.executors.local import THREADS
from sfrbench.run.executors.ray.settings import Size, have_room, named_cluster, size_of
from tests.support.runs import DIVERGES, QUIET, SPEC, cli, environment
from tests.support.workers import made, training

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


SERVER = """\
import ray, shutil, sys, tempfile

place = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # a short path: sockets lie in it
context = ray.init(
    address="local", num_cpus=2, num_gpus=0, include_dashboard=False, object_store_memory=80 * 2**20,
    _temp_dir=place,
)
print(context.address_info["gcs_address"], flush=True)
sys.stdin.read()
ray.shutdown()
shutil.rmtree(place, ignore_errors=True)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster of two cores, whose token the environment knows; a task takes one of them."""
    config = tmp_path_factory.mktemp("config")
    (config / "sfrbench").mkdir()
    (config / "sfrbench" / "config.yaml").write_text("executors: {ray: {cpus_per_task: 1}}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("XDG_CONFIG_HOME", str(config))
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(
            [sys.executable, "-c", SERVER], text=True, env=environment(), **pipes
        ) as server:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            assert address
            yield address


LONG = ("--set", "ssl.steps=100")  # and no checkpoint before the end


@needs_ray
def test_a_cluster_makes_what_one_process_makes(cluster: str, tmp_path: Path) -> None:
    """And a worker that is killed in the middle of a training is made anew."""
    spec = tmp_path / "small.yaml"
    spec.write_text(SPEC.split("  - {name: sfr_mt")[0])
    env = environment() | dict.fromkeys(THREADS, "1")
    command = [sys.executable, "-m", "sfrbench", "run", str(spec), "--profile", "smoke", *QUIET, *LONG]
    subprocess.run([*command, "--workspace", str(tmp_path / "one")], env=env, check=True, capture_output=True)
    runs = tmp_path / "runs"
    process = subprocess.Popen(
        [*command, "--workspace", str(runs), "--executor", "ray"],
        env=environment() | {"RAY_ADDRESS": cluster},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 120
    while (sign := training(runs)) is None:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(sign.pid, signal.SIGKILL)
    output = process.communicate(timeout=200)[0]
    assert process.returncode == 0, output
    assert "its process in the Ray cluster is gone" in output
    assert "7 ran, 0 reused, 0 failed, 0 blocked" in output
    assert made(runs) == made(tmp_path / "one")
    assert list((runs / "working").glob("[!.]*.json")) == []


@needs_ray
def test_a_node_that_fails_blocks_its_own_only(cluster: str, tmp_path: Path) -> None:
    """A component of the user's own reaches the workers."""
    spec = tmp_path / "small.yaml"
    spec.write_text(SPEC.split("arms:")[0] + "arms: [{name: mt}, {name: bad, ssl: diverging}]\n")
    (tmp_path / "diverging.py").write_text(DIVERGES)
    card = tmp_path / "cards" / "ssl" / "diverging.yaml"
    card.parent.mkdir(parents=True)
    card.write_text("target: diverging:Diverging\nsummary: Its loss is not finite.\nlabel: Diverging\n")
    done = _run(spec, tmp_path / "runs", "--registry", "cards", check=1, address=cluster)
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
