"""Nodes as tasks of Ray: one cluster of this machine for the whole file, and what a task asks of it."""

from __future__ import annotations

import importlib.util
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sfrbench.errors import InputError
from sfrbench.run.executors.ray.settings import Size, have_room, named_cluster, size_of
from tests.support.runs import QUIET, SPEC, cli, environment

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'sfrbench[ray]'"
)
#: Seconds apart from seconds: what no two runs write alike.
TIMED = ("history.csv", "index.json")


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


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster of two cores, whose token the environment knows."""
    import ray

    folder = tmp_path_factory.mktemp("x")
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_AUTH_MODE", "token")
    patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    del folder
    code = (
        "import ray, sys, tempfile, shutil\n"
        "place = tempfile.mkdtemp(prefix='ray-', dir='/tmp')\n"
        "context = ray.init(address='local', num_cpus=2, num_gpus=0, include_dashboard=False,"
        " object_store_memory=80 * 2**20, _temp_dir=place)\n"
        "print(context.address_info['gcs_address'], flush=True)\n"
        "sys.stdin.read()\n"
        "ray.shutdown()\n"
        "shutil.rmtree(place, ignore_errors=True)\n"
    )
    assert ray.__version__
    server = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    assert server.stdin is not None
    address = server.stdout.readline().strip()
    assert address
    yield address
    server.stdin.close()
    server.wait(60)
    patch.undo()


def _run(
    spec: Path, workspace: Path, *more: str, check: int | None = 0, address: str = ""
) -> subprocess.CompletedProcess[str]:
    patch = pytest.MonkeyPatch()
    if address:
        patch.setenv("RAY_ADDRESS", address)
    try:
        command = ("run", str(spec), "--profile", "smoke", "--workspace", str(workspace), *QUIET, *more)
        return cli(*command, "--executor", "ray", cwd=spec.parent, check=check)
    finally:
        patch.undo()
