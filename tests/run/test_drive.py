"""The loop of a run, with pools that pretend: what is started, told, retried, left to others."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sfrbench.machine.needs import Machine
from sfrbench.plan.build import Cell, Plan
from sfrbench.plan.graph import Link, Node
from sfrbench.plan.reasons import Reasons
from sfrbench.report.items import kinds
from sfrbench.run.executors import drive as module
from sfrbench.run.executors.attempt import Began, Ended, Hear
from sfrbench.run.executors.drive import ACCELERATED, HOST, drive
from sfrbench.run.experiment import open_experiment
from sfrbench.run.outcomes import Book, Outcome, Outcomes
from sfrbench.store.store import Store
from tests.support.runs import SPEC


@dataclass
class Told:
    """A listener that keeps what it hears, as (event, stage)."""

    events: list[tuple[str, str]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    def node_waits(self, node: Node, whom: str, index: int, total: int) -> None:
        self.events.append(("waits", node.stage))

    def node_starts(self, node: Node, reason: str, index: int, total: int) -> None:
        self.events.append(("starts", node.stage))
        assert reason

    def node_progress(self, node: Node, done: int, total: int, values: dict[str, float]) -> None:
        self.events.append(("progress", node.stage))

    def node_again(self, node: Node, reason: str, index: int, total: int) -> None:
        self.events.append(("again", reason))

    def node_ended(self, outcome: Outcome, index: int, total: int) -> None:
        self.events.append((outcome.status, outcome.node.stage))
        self.numbers.append(index)


class Pretended:
    """A pool of ``slots`` workers; ``does`` says what becomes of a node."""

    def __init__(self, store: Store, does: Callable[[Node], Ended], slots: int = 2) -> None:
        self.store, self.does, self.slots = store, does, slots
        self.running: list[Node] = []
        self.most = 0
        self.closed = False

    def room(self) -> Collection[str]:
        return (ACCELERATED, HOST) if len(self.running) < self.slots else ()

    def start(self, node: Node) -> None:
        for source in node.inputs.values():
            assert self.store.has(*source), "started before its inputs"
        self.running.append(node)
        self.most = max(self.most, len(self.running))

    def wait(self, hear: Hear, seconds: float) -> None:
        if not self.running:
            return
        node = self.running.pop(0)
        ended = self.does(node)
        if ended.status in ("ran", "failed", "lost"):
            hear(Began(ended.link))
        hear(ended)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "small.yaml").write_text(SPEC)
    machine = Machine(tmp_path / "runs")
    return open_experiment(str(tmp_path / "small.yaml"), "smoke", machine, items=kinds()).plan


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "runs" / "store")
    store.open()
    return store


def publish(store: Store, link: Link) -> None:
    folder = store.new_folder()
    try:
        store.publish(*link, folder, {"seconds": 1.0, "stage": link[0], "key": link[1], "notes": {}})
    finally:
        store.discard(folder)


def made(store: Store) -> Callable[[Node], Ended]:
    def make(node: Node) -> Ended:
        publish(store, (node.stage, node.key))
        return Ended((node.stage, node.key), "ran", seconds=1.0)

    return make


def ran(plan: Plan, store: Store, pool: Pretended) -> tuple[Outcomes, Told, list[Cell]]:
    outcomes, listener, cells = Outcomes(), Told(), list[Cell]()
    drive(plan, store, pool, Book(plan, listener, outcomes), cells.append, dict.fromkeys(plan.nodes, 1.0))
    assert pool.closed
    return outcomes, listener, cells


def test_everything_runs_on_two_workers(plan: Plan, store: Store) -> None:
    pool = Pretended(store, made(store))
    outcomes, listener, cells = ran(plan, store, pool)
    assert outcomes.count("ran") == len(plan.nodes)
    assert len(cells) == len(plan.cells)
    assert pool.most == 2
    assert sorted(listener.numbers) == list(range(1, len(plan.nodes) + 1))


def test_a_failed_node_blocks_only_what_needs_it(plan: Plan, store: Store) -> None:
    make = made(store)

    def fails(node: Node) -> Ended:
        if node.stage == "finetune":
            return Ended((node.stage, node.key), "failed", "for a reason", log="a log")
        return make(node)

    outcomes, _, cells = ran(plan, store, Pretended(store, fails))
    assert outcomes.count("failed") == 1
    assert {cell.arm for cell in cells} == {"mt"}
    blocked = [each for each in outcomes.by_link.values() if each.status == "blocked"]
    assert {each.node.stage for each in blocked} == {"pseudolabel", "retrain", "predict", "evaluate"}
    assert all("is missing" in each.reason for each in blocked)
    assert len(outcomes.by_link) == len(plan.nodes)


@pytest.mark.parametrize(("deaths", "status"), [(2, "ran"), (3, "failed")])
def test_a_node_whose_worker_dies_is_tried_again(plan: Plan, store: Store, deaths: int, status: str) -> None:
    make, died = made(store), []

    def dies(node: Node) -> Ended:
        if node.stage == "finetune" and len(died) < deaths:
            died.append(node)
            return Ended((node.stage, node.key), "lost", "its process was ended by SIGKILL")
        return make(node)

    outcomes, listener, _ = ran(plan, store, Pretended(store, dies))
    link = next(link for link in plan.nodes if link[0] == "finetune")
    assert outcomes.by_link[link].status == status
    assert sum(event == ("again", "its process was ended by SIGKILL") for event in listener.events) == 2
    noted = "its process was ended by SIGKILL, 3 times" if status == "failed" else None
    assert store.failure(*link) == noted
    if noted:
        log = store.failure_folder(*link) / "log.txt"
        assert outcomes.by_link[link].log == str(log)
        assert log.read_text().count("ended by SIGKILL\n") == 3


def test_a_busy_node_is_passed_over_and_waited_for_last(
    plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process ends its node once nothing else is left here."""
    monkeypatch.setattr(module, "AGAIN_S", 0.0)
    make = made(store)
    link = next(link for link in plan.nodes if link[0] == "finetune")

    class Waiting(Told):
        def node_waits(self, node: Node, whom: str, index: int, total: int) -> None:
            super().node_waits(node, whom, index, total)
            publish(store, link)

    def busy(node: Node) -> Ended:
        return Ended(link, "busy", lock=link) if node.stage == "finetune" else make(node)

    monkeypatch.setattr(Store, "is_locked", lambda self, *lock: lock == link)
    outcomes, listener = Outcomes(), Waiting()
    drive(
        plan,
        store,
        Pretended(store, busy),
        Book(plan, listener, outcomes),
        lambda _: None,
        dict.fromkeys(plan.nodes, 1.0),
    )
    assert outcomes.by_link[link].status == "elsewhere"
    assert outcomes.count("ran") == len(plan.nodes) - 1
    assert listener.events.count(("waits", "finetune")) == 1
    before = listener.events[: listener.events.index(("waits", "finetune"))]
    assert ("ran", "retrain") in before  # of the arm without SAM


def test_what_another_process_left_is_taken_up(
    plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGAIN_S", 0.0)
    make, tries = made(store), []

    def busy_once(node: Node) -> Ended:
        if node.stage == "finetune" and not tries:
            tries.append(node)
            return Ended((node.stage, node.key), "busy", lock=("finetune", node.key))
        return make(node)

    outcomes, _, _ = ran(plan, store, Pretended(store, busy_once))
    assert outcomes.count("ran") == len(plan.nodes)


def test_a_stopped_node_is_started_again(plan: Plan, store: Store) -> None:
    make, stopped = made(store), []

    def stops(node: Node) -> Ended:
        if len(stopped) < 5:
            stopped.append(node)
            return Ended((node.stage, node.key), "stopped")
        return make(node)

    outcomes, _, _ = ran(plan, store, Pretended(store, stops))
    assert outcomes.count("ran") == len(plan.nodes)


def test_a_node_that_is_started_again_has_the_reason_that_it_had(plan: Plan, store: Store) -> None:
    """It has been seen by then, and differs in nothing from itself."""
    reasons = Reasons(store)
    first = {link: reasons.why(node) for link, node in plan.nodes.items()}
    assert {link: reasons.why(node) for link, node in plan.nodes.items()} == first


def test_a_pruned_node_ends_the_run(plan: Plan, store: Store) -> None:
    outcomes, _, cells = ran(
        plan, store, Pretended(store, lambda node: Ended((node.stage, node.key), "pruned", "why"), slots=1)
    )
    assert [outcome.status for outcome in outcomes.by_link.values()] == ["pruned"]
    assert cells == []


def test_an_interrupted_run_closes_its_pool(plan: Plan, store: Store) -> None:
    def interrupted(node: Node) -> Ended:
        raise KeyboardInterrupt

    pool = Pretended(store, interrupted)
    with pytest.raises(KeyboardInterrupt):
        ran(plan, store, pool)
    assert pool.closed
