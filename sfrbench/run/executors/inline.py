"""Runs a plan in this process, node after node. One failed node does not stop the others."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from sfrbench.engine.context import Pruned
from sfrbench.errors import stopped, told
from sfrbench.plan.build import Cell, Plan
from sfrbench.plan.graph import Link, Node
from sfrbench.plan.reasons import Reasons

if TYPE_CHECKING:
    from sfrbench.run.executors.node import Worker

Status = Literal["reused", "ran", "failed", "blocked", "pruned"]


@dataclass(frozen=True)
class Outcome:
    """What became of a node, and why."""

    node: Node
    status: Status
    reason: str
    seconds: float = 0.0
    log: str = ""


class Listener(Protocol):
    """Shows what happens, event by event."""

    def node_waits(self, node: Node, index: int, total: int) -> None: ...
    def node_starts(self, node: Node, reason: str, index: int, total: int) -> None: ...
    def node_progress(self, node: Node, done: int, total: int, values: dict[str, float]) -> None: ...
    def node_ended(self, outcome: Outcome, index: int, total: int) -> None: ...


@dataclass
class Outcomes:
    """The outcome of every node of a plan."""

    by_link: dict[Link, Outcome] = field(default_factory=dict)

    def count(self, status: Status) -> int:
        return sum(outcome.status == status for outcome in self.by_link.values())

    def cell_fault(self, cell: Cell) -> Outcome | None:
        """The first node of the cell that failed, or that was blocked by another."""
        bad = [self.by_link[link] for link in cell.nodes.values() if self.by_link[link].status == "failed"]
        blocked = [
            self.by_link[link] for link in cell.nodes.values() if self.by_link[link].status == "blocked"
        ]
        return (bad + blocked + [None])[0]


def all_reused(plan: Plan, listener: Listener) -> Outcomes:
    """The outcomes of a plan whose every node is in the store: nothing is run, torch is not imported."""
    outcomes = Outcomes()
    for index, (link, node) in enumerate(plan.nodes.items(), 1):
        outcomes.by_link[link] = Outcome(node, "reused", "same key")
        listener.node_ended(outcomes.by_link[link], index, len(plan.nodes))
    return outcomes


def run_inline(
    plan: Plan, worker: Worker, listener: Listener, on_cell: Callable[[Cell], None], outcomes: Outcomes
) -> None:
    """Run what is missing, in an order that finishes cells early; ``on_cell`` is called with each finished
    cell.

    ``outcomes`` is filled as nodes end, so that it tells what was done even where the run is interrupted.
    A node that is pruned ends the run: nobody wants the rest of it.
    """
    reasons = Reasons(worker.store)
    left = {cell.id: len(set(cell.nodes.values())) for cell in plan.cells}
    cells_of: dict[Link, list[Cell]] = {}
    for cell in plan.cells:
        for link in set(cell.nodes.values()):
            cells_of.setdefault(link, []).append(cell)
    for index, (link, node) in enumerate(plan.nodes.items(), 1):
        outcome = _one(node, worker, listener, outcomes, reasons, index, len(plan.nodes))
        outcomes.by_link[link] = outcome
        listener.node_ended(outcome, index, len(plan.nodes))
        if outcome.status == "pruned":
            return
        for cell in cells_of.get(link, ()):
            left[cell.id] -= 1
            if not left[cell.id] and outcomes.cell_fault(cell) is None:
                on_cell(cell)


def _one(
    node: Node,
    worker: Worker,
    listener: Listener,
    outcomes: Outcomes,
    reasons: Reasons,
    index: int,
    total: int,
) -> Outcome:
    store = worker.store
    bad = [link for link in node.inputs.values() if outcomes.by_link[link].status in ("failed", "blocked")]
    if bad:
        stage, key = bad[0]
        return Outcome(node, "blocked", f"its input {stage} {key[:8]} is missing")
    if store.has(node.stage, node.key):
        return Outcome(node, "reused", "same key")

    def progress(done: int, total: int, **values: float) -> None:
        listener.node_progress(node, done, total, values)

    reason = ""

    def begins() -> None:
        nonlocal reason
        reason = reasons.why(node)
        listener.node_starts(node, reason, index, total)

    try:
        if store.is_locked(node.stage, node.key):
            listener.node_waits(node, index, total)
        artefact = worker.run(node, progress, begins)
    except Pruned as stop:
        return Outcome(node, "pruned", str(stop))
    except Exception as error:  # whatever it is, it must not stop the other cells; it is kept and shown
        if stopped(error):
            raise KeyboardInterrupt from error
        log = store.note_failure(node.stage, node.key, told(error), traceback.format_exc())
        return Outcome(node, "failed", told(error), log=str(log or ""))
    if not reason:
        return Outcome(node, "reused", "another process has just made it")
    twin = artefact.record.get("equal_to")
    if twin is not None:
        return Outcome(node, "reused", f"the same work as {node.stage} {twin[:8]}")
    return Outcome(node, "ran", reason, artefact.record["seconds"])
