"""What becomes of the nodes of a plan: outcomes, who is told, and which cells that finishes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from sfrbench.plan.build import Cell, Plan
from sfrbench.plan.graph import Link, Node
from sfrbench.store.store import Store

#: ``elsewhere``: made by another process while this run went on.
Status = Literal["reused", "ran", "elsewhere", "failed", "blocked", "pruned"]
DONE: tuple[Status, ...] = ("ran", "reused", "elsewhere")


@dataclass(frozen=True)
class Outcome:
    """What became of a node, and why; ``host`` and ``job`` say where, if it was another process's work.
    ``no_room``: it failed because a disk is full, as the next ones would."""

    node: Node
    status: Status
    reason: str
    seconds: float = 0.0
    log: str = ""
    host: str = ""
    job: str = ""
    no_room: bool = False


class Listener(Protocol):
    """Shows what happens, event by event. ``index`` counts the nodes in the order in which they turn up."""

    def node_waits(self, node: Node, whom: str, index: int, total: int) -> None: ...
    def node_starts(self, node: Node, reason: str, index: int, total: int) -> None: ...
    def node_progress(self, node: Node, done: int, total: int, values: dict[str, float]) -> None: ...
    def node_again(self, node: Node, reason: str, index: int, total: int) -> None: ...
    def node_ended(self, outcome: Outcome, index: int, total: int) -> None: ...
    def says(self, text: str) -> None: ...


@dataclass
class Outcomes:
    """The outcome of every node of a plan."""

    by_link: dict[Link, Outcome] = field(default_factory=dict)

    def count(self, *statuses: Status) -> int:
        return sum(outcome.status in statuses for outcome in self.by_link.values())

    def cell_fault(self, cell: Cell) -> Outcome | None:
        """The first node of the cell that failed, or that was blocked by another; a node without an outcome
        has not run yet."""
        ended = [self.by_link[link] for link in cell.nodes.values() if link in self.by_link]
        bad = [outcome for outcome in ended if outcome.status == "failed"]
        blocked = [outcome for outcome in ended if outcome.status == "blocked"]
        return (bad + blocked + [None])[0]


class Book:
    """Keeps ``outcomes`` as nodes end, so that they tell what was done even where a run is interrupted; tells
    the listener, and hands over finished cells."""

    def __init__(self, plan: Plan, listener: Listener, outcomes: Outcomes) -> None:
        self.plan = plan
        self.outcomes = outcomes
        self._listener = listener
        self._numbers: dict[Link, int] = {}
        self._finished: list[Cell] = []
        self._left = {cell.id: len(set(cell.nodes.values())) for cell in plan.cells}
        self._cells_of: dict[Link, list[Cell]] = {}
        for cell in plan.cells:
            for link in set(cell.nodes.values()):
                self._cells_of.setdefault(link, []).append(cell)

    def waits(self, link: Link, whom: str) -> None:
        self._listener.node_waits(self.plan.nodes[link], whom, *self._place(link))

    def starts(self, link: Link, reason: str) -> None:
        self._listener.node_starts(self.plan.nodes[link], reason, *self._place(link))

    def progress(self, link: Link, done: int, total: int, values: dict[str, float]) -> None:
        self._listener.node_progress(self.plan.nodes[link], done, total, values)

    def again(self, link: Link, reason: str) -> None:
        self._listener.node_again(self.plan.nodes[link], reason, *self._place(link))

    def says(self, text: str) -> None:
        """What concerns no single node."""
        self._listener.says(text)

    def ends(self, outcome: Outcome) -> None:
        link = (outcome.node.stage, outcome.node.key)
        self.outcomes.by_link[link] = outcome
        self._listener.node_ended(outcome, *self._place(link))
        for cell in self._cells_of.get(link, ()):
            self._left[cell.id] -= 1
            if not self._left[cell.id] and self.outcomes.cell_fault(cell) is None:
                self._finished.append(cell)

    def reuses(self, store: Store) -> set[Link]:
        """End the nodes that are in the store, and return them."""
        there = {link: node for link, node in self.plan.nodes.items() if store.has(*link)}
        for node in there.values():
            self.ends(Outcome(node, "reused", "same key"))
        return set(there)

    def blocks(self, links: Iterable[Link]) -> None:
        """End nodes, in the order of the plan, of which an input has failed or is blocked."""
        known = self.outcomes.by_link
        for link in links:
            node = self.plan.nodes[link]
            ended = [each for each in node.inputs.values() if each in known]
            stage, key = next(each for each in ended if known[each].status not in DONE)
            self.ends(Outcome(node, "blocked", f"its input {stage} {key[:8]} is missing"))

    def finished(self, on_cell: Callable[[Cell], None]) -> None:
        """Hand over the cells that were finished since the last call."""
        cells, self._finished = self._finished, []
        for cell in cells:
            on_cell(cell)

    def _place(self, link: Link) -> tuple[int, int]:
        return self._numbers.setdefault(link, len(self._numbers) + 1), len(self.plan.nodes)
