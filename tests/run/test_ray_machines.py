"""What the driver makes of machines of a Ray cluster that fall silent: Ray is pretended."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sfrbench.errors import NotReadyError
from sfrbench.files.atomic import write_atomic
from sfrbench.machine.needs import Machine
from sfrbench.plan.graph import Node
from sfrbench.run.executors.attempt import Ended, Event
from sfrbench.run.executors.local import Task
from sfrbench.run.executors.ray import pool as module
from sfrbench.run.executors.ray.cluster import Cluster
from sfrbench.run.executors.ray.pool import RayPool
from sfrbench.run.executors.ray.settings import RaySettings, Size
from sfrbench.run.signs import Sign
from tests.support.runs import SPEC
from tests.support.specs import plan_of


@dataclass
class Pretended:
    """Ray, in which no task ever ends. ``asks``: the function that each task has."""

    machines_: dict[str, Size] = field(default_factory=lambda: {"a": Size(1), "b": Size(1)})
    cancelled: list[str] = field(default_factory=list)
    asks: list[object] = field(default_factory=list)

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"NodeID": name, "Alive": True, "Resources": {"CPU": size.cpus}}
            for name, size in self.machines_.items()
        ]

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(gcs_address="head:6379")

    def remote(self, work: object) -> Any:
        function = object()

        def begin(order: bytes, node: Node, place: object) -> str:
            self.asks.append(function)
            return f"{node.title} {len(self.asks)}"

        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=begin))

    def wait(self, refs: Sequence[str], num_returns: int, timeout: float) -> tuple[list[str], Sequence[str]]:
        return [], refs

    def cancel(self, ref: str, *, recursive: bool) -> None:
        self.cancelled.append(ref)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Pretended:
    pretended = Pretended()
    monkeypatch.setitem(sys.modules, "ray", pretended)
    monkeypatch.setattr(module, "silence", lambda address: "")
    monkeypatch.setattr(module, "LISTEN_S", 0.0)
    monkeypatch.setattr(module, "LOOK_S", 0.0)
    return pretended


def pool_of(cluster: Pretended, folder: Path) -> RayPool:
    task = Task(Machine(folder, device="cpu"), folder / "store", "smoke", "run")
    return RayPool(task, Cluster(), RaySettings(cpus_per_task=1), None, shared=True)


def works_on(folder: Path, node: Node, machine: str) -> None:
    sign = Sign(
        worker=f"{machine}-7", run="run", host=machine, pid=7, machine=machine, stage=node.stage, key=node.key
    )
    write_atomic(folder / "working" / f"{sign.worker}.json", sign.model_dump_json())


def test_tasks_of_a_machine_that_falls_silent_are_given_up(cluster: Pretended, tmp_path: Path) -> None:
    """Ray says nothing of them for minutes. Those that have not begun may be waiting for that machine, and
    are asked for anew; those elsewhere go on."""
    pool, heard = pool_of(cluster, tmp_path), list[Event]()
    here, there, nowhere = list(plan_of(tmp_path, SPEC).nodes.values())[:3]
    for node in (here, there, nowhere):
        pool.start(node)
    works_on(tmp_path, here, "a")
    works_on(tmp_path, there, "b")
    pool.wait(heard.append, 0.0)
    assert cluster.cancelled == []
    assert not any(isinstance(event, Ended) for event in heard)

    del cluster.machines_["b"]
    heard.clear()
    pool.wait(heard.append, 0.0)
    ended = {event.link: event.status for event in heard if isinstance(event, Ended)}
    assert ended == {(there.stage, there.key): "lost", (nowhere.stage, nowhere.key): "stopped"}
    assert cluster.cancelled == [f"{there.title} 2", f"{nowhere.title} 3"]
    assert [path.name for path in (tmp_path / "working").glob("*.json")] == ["a-7.json"]

    pool.start(there)
    assert len({*map(id, cluster.asks[:3])}) == 1, "one function, of which Ray keeps what it has learned"
    assert cluster.asks[3] is not cluster.asks[0], "else it waits for the machine that is silent"
    heard.clear()
    pool.wait(heard.append, 0.0)
    assert not any(isinstance(event, Ended) for event in heard), "once"


def test_a_head_that_is_gone_ends_the_run_with_a_message(
    cluster: Pretended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Ray ends the process, also where it only waits for what others work on. A head may be silent
    for a while; machines are not asked for meanwhile, since there is nobody to answer."""
    pool = pool_of(cluster, tmp_path)
    monkeypatch.setattr(module, "silence", lambda address: f"{address} refuses")
    monkeypatch.setattr(cluster, "nodes", lambda: pytest.fail("asked"))
    pool.wait(lambda event: None, 0.0)
    monkeypatch.setattr(module, "HEADLESS_S", -1.0)
    with pytest.raises(NotReadyError, match=r"head:6379 .* is gone: head:6379 refuses"):
        pool.wait(lambda event: None, 0.0)
