"""The loop of a run: gives nodes whose inputs are there to a pool of workers, until nothing is left to do.

A pool is what an executor is: this process, processes of this machine, or tasks of a cluster.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from sfrbench.files.units import now
from sfrbench.plan.build import Cell, Plan
from sfrbench.plan.graph import Link, Node
from sfrbench.plan.reasons import Reasons
from sfrbench.plan.schedule import Queue, inputs_of
from sfrbench.run.executors.attempt import Began, Ended, Event, Hear, Step
from sfrbench.run.outcomes import DONE, Book, Outcome
from sfrbench.run.signs import who_has
from sfrbench.stages.finder import recipe_of
from sfrbench.store.store import Store

POLL_S = 0.5  # the longest between two looks at what others work on
AGAIN_S = 1.0  # between two looks at one node of another process
ATTEMPTS = 3  # processes that may die of one node

#: Stages that a GPU makes faster, and the others.
ACCELERATED, HOST = "accelerated", "host"


class Pool(Protocol):
    """Workers that run nodes, one each at a time."""

    def room(self) -> Collection[str]:
        """The lanes in which another node can be started now."""

    def start(self, node: Node) -> None:
        """Have a node run."""

    def wait(self, hear: Hear, seconds: float) -> None:
        """Tell what has happened since the last call; waits so long at most for something to happen. A pool
        that does the work itself does it here."""

    def close(self) -> None:
        """End what still runs, so that it can go on later."""


def lane_of(node: Node) -> str:
    return ACCELERATED if recipe_of(node.stage).needs.accelerator else HOST


def drive(
    plan: Plan,
    store: Store,
    pool: Pool,
    book: Book,
    on_cell: Callable[[Cell], None],
    seconds: Mapping[Link, float],
) -> None:
    """Run what is missing; ``on_cell`` is called with each finished cell. ``seconds``: how long each node may
    take, for their order.

    One failed node does not stop the others. A node that is pruned ends the run: nobody wants the rest of it.
    """
    run = _Run(plan, store, pool, book, seconds)
    try:
        while not run.over:
            run.fill()
            book.finished(on_cell)
            if not run.over:
                pool.wait(run.hear, POLL_S)
        book.finished(on_cell)
    finally:
        pool.close()


@dataclass
class _Other:
    """A node that another process works on."""

    lock: Link
    looked: float
    said: bool = False


@dataclass
class _Run:
    plan: Plan
    store: Store
    pool: Pool
    book: Book
    seconds: Mapping[Link, float]
    _running: dict[Link, str] = field(default_factory=dict)  # link -> why it runs
    _others: dict[Link, _Other] = field(default_factory=dict)
    _deaths: dict[Link, list[str]] = field(default_factory=dict)  # when and how its processes ended
    _pruned: bool = False

    def __post_init__(self) -> None:
        nodes = self.plan.nodes
        there = self.book.reuses(self.store)
        lanes = {link: lane_of(node) for link, node in nodes.items()}
        self._queue = Queue(inputs_of(nodes), self.seconds, there, lanes)
        self._reasons = Reasons(self.store)

    @property
    def over(self) -> bool:
        return self._pruned or not len(self._queue)

    def fill(self) -> None:
        """Start what can be started."""
        self._look_at_others()
        while (lanes := self.pool.room()) and (link := self._queue.take(lanes)) is not None:
            if not self._elsewhere(link):
                node = self.plan.nodes[link]
                self._running[link] = self._reasons.why(node)
                self.pool.start(node)
        if not self._running:
            self._say_whom()

    def hear(self, event: Event) -> None:
        link = event.link
        if isinstance(event, Began):
            self.book.starts(link, self._running[link])
        elif isinstance(event, Step):
            self.book.progress(link, event.done, event.total, dict(event.values))
        else:
            self._ended(event, self._running.pop(link))

    def _ended(self, event: Ended, reason: str) -> None:
        link = event.link
        if event.status == "busy":
            self._others[link] = _Other(event.lock, time.monotonic())
        elif event.status == "stopped":
            self._queue.put(link)
        elif event.status == "lost":
            self._lost(event)
        elif event.status == "ran":
            self._ends(event, "ran", reason)
        else:
            self._ends(event, event.status, event.reason)

    def _lost(self, event: Ended) -> None:
        """A process died of a node: it is started again, or has failed like one that says so itself."""
        link, deaths = event.link, self._deaths.setdefault(event.link, [])
        deaths.append(f"{now()}  {event.reason}\n")
        if len(deaths) < ATTEMPTS:
            self.book.again(link, event.reason)
            self._queue.put(link)
            return
        reason = f"{event.reason}, {ATTEMPTS} times"
        log = self.store.note_failure(*link, reason, "".join(deaths))
        self._ends(replace(event, log=str(log or "")), "failed", reason)

    def _ends(self, event: Ended, status: str, reason: str) -> None:
        node = self.plan.nodes[event.link]
        rest = (event.seconds, event.log, event.host, event.job, event.no_room)
        self.book.ends(Outcome(node, status, reason, *rest))  # type: ignore[arg-type]
        if status in DONE:
            self._queue.done(event.link)
        elif status == "failed":
            self.book.blocks(self._queue.lost(event.link))
        else:
            self._pruned = True

    def _elsewhere(self, link: Link) -> bool:
        """Whether another process has made a node since this run began."""
        if not self.store.has(*link):
            return False
        self._ends(Ended(link, "elsewhere"), "elsewhere", "another process has made it")
        return True

    def _look_at_others(self) -> None:
        """Take up what others have left."""
        moment = time.monotonic()
        for link, other in list(self._others.items()):
            if moment - other.looked < AGAIN_S:
                continue
            other.looked = moment
            if self._elsewhere(link):
                del self._others[link]
            elif not self.store.is_locked(*other.lock):
                del self._others[link]
                self._queue.put(link)

    def _say_whom(self) -> None:
        """Nothing is left but what others work on."""
        for link, other in self._others.items():
            if not other.said:
                other.said = True
                self.book.waits(link, who_has(self._workspace, link))

    @property
    def _workspace(self) -> Path:
        return self.store.root.parent
