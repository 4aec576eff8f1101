"""What a user sees while a plan runs: a live bar with time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sfrbench.files.terminal import clean, echo, roomy
from sfrbench.plan.build import Plan
from sfrbench.plan.graph import Node
from sfrbench.run.outcomes import Listener, Outcome


def named(node: Node) -> str:
    """A node as users read it, such as ``retrain 81aa2c03 mean_teacher seed 1``."""
    return clean(node.title)


class PlainListener:
    """One line for each event, for logs and pipes."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self._last: dict[str, float] = {}

    def node_waits(self, node: Node, whom: str, index: int, total: int) -> None:
        say(f"{self.prefix}{waits_line(node, whom, index, total)}")

    def node_starts(self, node: Node, reason: str, index: int, total: int) -> None:
        self._last[node.key] = time.monotonic()
        say(f"{self.prefix}[{index}/{total}] run {named(node)}  {reason}")

    def node_progress(self, node: Node, done: int, total: int, values: dict[str, float]) -> None:
        now = time.monotonic()
        if now - self._last.get(node.key, now) >= 20:
            self._last[node.key] = now
            which = f"{named(node)}  " if len(self._last) > 1 else ""
            say(f"{self.prefix}        {which}{done}/{total}{_values(values)}")

    def node_again(self, node: Node, reason: str, index: int, total: int) -> None:
        self._last.pop(node.key, None)
        say(f"{self.prefix}{again_line(node, reason, index, total)}")

    def node_ended(self, outcome: Outcome, index: int, total: int) -> None:
        self._last.pop(outcome.node.key, None)
        say(self.prefix + ended_line(outcome, index, total))

    def says(self, text: str) -> None:
        say(f"{self.prefix}{text}")


def waits_line(node: Node, whom: str, index: int, total: int) -> str:
    return f"[{index}/{total}] wait {named(node)}  {clean(whom)} is working on it"


def again_line(node: Node, reason: str, index: int, total: int) -> str:
    return f"[{index}/{total}] again {named(node)}  {clean(reason)}"


def ended_line(outcome: Outcome, index: int, total: int) -> str:
    place = f"[{index}/{total}]"
    if outcome.status == "ran":
        return f"{place} done {named(outcome.node)}  {outcome.seconds:.1f} s"
    if outcome.status in ("reused", "elsewhere"):
        word = "reuse" if outcome.status == "reused" else "elsewhere"
        return f"{place} {word} {named(outcome.node)}  {outcome.reason}"
    word = "FAILED" if outcome.status == "failed" else outcome.status
    text = f"{place} {word} {named(outcome.node)}  {outcome.reason}"
    return f"{text}\n        log: {outcome.log}" if outcome.log else text


class RichListener:
    """A bar for the plan, and one for each node that runs."""

    def __init__(self, progress: Any, total: int) -> None:
        self.progress = progress
        self.whole = progress.add_task("plan", total=total)
        self.parts: dict[str, Any] = {}

    def node_waits(self, node: Node, whom: str, index: int, total: int) -> None:
        self._say(waits_line(node, whom, index, total))

    def node_starts(self, node: Node, reason: str, index: int, total: int) -> None:
        self._say(f"[{index}/{total}] run {named(node)}  {reason}")
        self._end(node)
        self.parts[node.key] = self.progress.add_task(named(node), total=None)

    def node_progress(self, node: Node, done: int, total: int, values: dict[str, float]) -> None:
        if node.key in self.parts:
            described = f"{named(node)}{_values(values)}"
            self.progress.update(self.parts[node.key], completed=done, total=total, description=described)

    def node_again(self, node: Node, reason: str, index: int, total: int) -> None:
        self._end(node)
        self._say(again_line(node, reason, index, total))

    def node_ended(self, outcome: Outcome, index: int, total: int) -> None:
        self._end(outcome.node)
        self.progress.advance(self.whole)
        self._say(ended_line(outcome, index, total))

    def says(self, text: str) -> None:
        self._say(text)

    def _end(self, node: Node) -> None:
        part = self.parts.pop(node.key, None)
        if part is not None:
            self.progress.remove_task(part)

    def _say(self, line: str) -> None:
        self.progress.console.print(clean(line), markup=False, highlight=False)


@contextmanager
def listener(plan: Plan) -> Iterator[Listener]:
    """The listener that fits where the output goes."""
    if not roomy(sys.stdout):
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
