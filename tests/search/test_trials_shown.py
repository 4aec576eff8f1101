"""A trial says what it works on while it runs."""

from __future__ import annotations

import os
from pathlib import Path

from sfrbench.plan.graph import Node
from sfrbench.run.outcomes import Outcome
from sfrbench.run.standing import Run, standing
from sfrbench.search.options import Options
from sfrbench.search.trials import work
from tests.support.searches import opened


class Looks:
    """A listener that looks where the workspace stands as each node begins."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Run]] = []

    def node_waits(self, node: Node, whom: str, index: int, total: int) -> None: ...
    def node_starts(self, node: Node, reason: str, index: int, total: int) -> None:
        (run,) = standing(Path("runs")).runs
        self.seen.append((node.title, run))

    def node_progress(self, node: Node, done: int, total: int, values: dict[str, float]) -> None: ...
    def node_again(self, node: Node, reason: str, index: int, total: int) -> None: ...
    def node_ended(self, outcome: Outcome, index: int, total: int) -> None: ...
    def says(self, text: str) -> None: ...


def test_a_trial_says_what_it_works_on(folder: Path) -> None:
    looks = Looks()
    work(opened(), Options(tracking_uri="none", trials=1), lambda number: looks, lambda text: None)
    assert looks.seen
    for title, run in looks.seen:
        assert (run.board.trial, run.driver, run.board.pid) == (0, "alive", os.getpid())
        assert [(sign.title, sign.pid, sign.device) for sign in run.working] == [(title, os.getpid(), "cpu")]
    assert [run.counts.get("done", 0) for _, run in looks.seen] == list(range(len(looks.seen)))
    assert standing(Path("runs")).runs == []
