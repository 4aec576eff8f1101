"""A pool of one worker: this process."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from sfrbench.plan.graph import Node
from sfrbench.run.executors.attempt import Began, Ended, Event, Hear, Step, attempt
from sfrbench.run.executors.drive import ACCELERATED, HOST

if TYPE_CHECKING:
    from sfrbench.run.executors.node import Worker
    from sfrbench.run.signs import Signs


class InlinePool:
    """Runs a node in ``wait``. ``signs``: where it says what it works on."""

    def __init__(self, worker: Worker, signs: Signs | None = None) -> None:
        self._worker = worker
        self._signs = signs
        self._node: Node | None = None

    def room(self) -> Collection[str]:
        return (ACCELERATED, HOST) if self._node is None else ()

    def start(self, node: Node) -> None:
        self._node = node

    def wait(self, hear: Hear, seconds: float) -> None:
        """Raises ``KeyboardInterrupt`` where this process has to end: so does its run."""
        node, self._node = self._node, None
        if node is None:
            time.sleep(seconds)
        else:
            hear(signed(self._worker, node, hear, self._signs))
        if self._worker.stopping():
            raise KeyboardInterrupt

    def close(self) -> None:
        """Nothing runs outside ``wait``."""


def signed(worker: Worker, node: Node, hear: Hear, signs: Signs | None) -> Ended:
    """One attempt, and signs of life while it lasts."""
    if signs is None:
        return attempt(worker, node, hear)

    def heard(event: Event) -> None:
        if isinstance(event, Began):
            signs.begins(node)
        elif isinstance(event, Step):
            signs.progress(event.done, event.total, event.values)
        hear(event)

    try:
        return attempt(worker, node, heard)
    finally:
        signs.rests()
