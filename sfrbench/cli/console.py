"""What a user sees while a plan runs: a live bar with time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sfrbench.files.terminal import clean, echo
from sfrbench.plan.build import Plan
from sfrbench.plan.graph import Node
from sfrbench.run.executors.inline import Listener, Outcome
from sfrbench.stages.finder import recipe_of


def named(node: Node) -> str:
    """A node as users read it, such as ``retrain 81aa2c03 mean_teacher seed 1``."""
    main = recipe_of(node.stage).told_by
    parts = [node.stage, node.key[:8]]
    if main in node.components:
        parts.append(node.components[main].card.name)
    if node.seed is not None:
        parts.append(f"seed {node.seed}")
    return clean(" ".join(parts))


class PlainListener:
    """One line for each event, for logs and pipes."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self._last = 0.0

    def node_waits(self, node: Node, index: int, total: int) -> None:
        say(f"{self.prefix}{waits_line(node, index, total)}")

    def node_starts(self, node: Node, reason: str, index: int, total: int) -> None:
        self._last = time.monotonic()
        say(f"{self.prefix}[{index}/{total}] run {named(node)}  {reason}")

    def node_progress(self, node: Node, done: int, total: int, values: dict[str, float]) -> None:
        now = time.monotonic()
        if now - self._last >= 20:
            self._last = now
            say(f"{self.prefix}        {done}/{total}{_values(values)}")

    def node_ended(self, outcome: Outcome, index: int, total: int) -> None:
        say(self.prefix + ended_line(outcome, index, total))


def waits_line(node: Node, index: int, total: int) -> str:
    return f"[{index}/{total}] wait {named(node)}  another process is working on it"


def ended_line(outcome: Outcome, index: int, total: int) -> str:
    place = f"[{index}/{total}]"
    if outcome.status == "ran":
        return f"{place} done {named(outcome.node)}  {outcome.seconds:.1f} s"
    if outcome.status == "reused":
        return f"{place} reuse {named(outcome.node)}  {outcome.reason}"
    word = "FAILED" if outcome.status == "failed" else outcome.status
    text = f"{place} {word} {named(outcome.node)}  {outcome.reason}"
    return f"{text}\n        log: {outcome.log}" if outcome.log else text


class RichListener:
    """Two bars: the plan and the node that runs."""

    def __init__(self, progress: Any, total: int) -> None:
        self.progress = progress
        self.whole = progress.add_task("plan", total=total)
        self.part: Any = None

    def node_waits(self, node: Node, index: int, total: int) -> None:
        self._say(waits_line(node, index, total))

    def node_starts(self, node: Node, reason: str, index: int, total: int) -> None:
        self._say(f"[{index}/{total}] run {named(node)}  {reason}")
        self.part = self.progress.add_task(named(node), total=None)

    def node_progress(self, node: Node, done: int, total: int, values: dict[str, float]) -> None:
        self.progress.update(
            self.part, completed=done, total=total, description=f"{named(node)}{_values(values)}"
        )

    def node_ended(self, outcome: Outcome, index: int, total: int) -> None:
        if self.part is not None:
            self.progress.remove_task(self.part)
            self.part = None
        self.progress.update(self.whole, completed=index)
        self._say(ended_line(outcome, index, total))

    def _say(self, line: str) -> None:
        self.progress.console.print(clean(line), markup=False, highlight=False)


@contextmanager
def listener(plan: Plan) -> Iterator[Listener]:
    """The listener that fits where the output goes."""
    if not sys.stdout.isatty():
        yield PlainListener()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns) as progress:
        yield RichListener(progress, len(plan.nodes))


def say(line: str) -> None:
    echo(line)


def _values(values: dict[str, float]) -> str:
    return "".join(f"  {name} {value:.4g}" for name, value in values.items())
