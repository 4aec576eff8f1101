"""The runs of a workspace, as anybody sees them: who drives each, and its nodes.

``<workspace>/running/<run>.json`` is written by the driver of a run, and gone when the run ends. Nothing of a
result depends on it; a file that cannot be read is absent.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel

from sfrbench.errors import problem_of
from sfrbench.files.atomic import read_states, write_atomic
from sfrbench.files.units import now
from sfrbench.plan.build import Plan
from sfrbench.plan.graph import Link
from sfrbench.run.alive import is_alive
from sfrbench.run.signs import Count, Finite, Name, Pid, Sign, working

log = logging.getLogger(__name__)


class Wanted(BaseModel):
    """One node of a run: what it is called, what it waits for, how long it may take."""

    stage: Name
    key: Name
    title: str
    inputs: list[tuple[Name, Name]] = []
    seconds: Finite | None = None
    job: str = ""

    @property
    def link(self) -> Link:
        return self.stage, self.key


class Board(BaseModel):
    """One run: who drives it, and its nodes in the order of the plan."""

    run: str
    experiment: str
    profile: str
    executor: str
    host: str
    pid: Pid
    started: str
    beat: str = ""
    detached: bool = False
    trial: Count | None = None  # of a search
    nodes: list[Wanted] = []

    @property
    def name(self) -> str:
        """The experiment in its profile, as a journal is called."""
        return f"{self.experiment}-{self.profile}"

    def driven(self, signs: Iterable[Sign]) -> bool:
        """Whether its driver is there."""
        mine = [sign for sign in signs if (sign.run, sign.host, sign.pid) == (self.run, self.host, self.pid)]
        return is_alive(self.host, self.pid, min((sign.age_s for sign in mine), default=float("inf")))


def board_of(plan: Plan, executor: str, seconds: Mapping[Link, float], trial: int | None = None) -> Board:
    """What this process drives, for others to see."""
    host, pid = socket.gethostname(), os.getpid()
    nodes = [
        Wanted(
            stage=node.stage,
            key=node.key,
            title=node.title,
            inputs=list(node.inputs.values()),
            seconds=seconds[link],
        )
        for link, node in plan.nodes.items()
    ]
    name, profile = plan.spec.name, plan.spec.profile.name
    return Board(
        run=f"{name}-{profile}-{host}-{pid}",
        experiment=name,
        profile=profile,
        executor=executor,
        host=host,
        pid=pid,
        started=now(),
        trial=trial,
        nodes=nodes,
    )


def running(workspace: Path) -> list[Board]:
    """The runs of a workspace that have not ended, or whose driver was killed or left."""
    return list(read_states(workspace / "running", Board).values())


@contextmanager
def shown(workspace: Path, board: Board) -> Iterator[None]:
    """A board, for as long as its run is driven; one that is left detached stays."""
    _replace_killed(workspace, board)
    show(workspace, board)
    try:
        yield
    finally:
        if board.detached:
            show(workspace, board)
        else:
            hide(workspace, board)


def show(workspace: Path, board: Board) -> None:
    """Write a board, anew where it has changed."""
    board.beat = now()
    try:
        write_atomic(workspace / "running" / f"{board.run}.json", board.model_dump_json())
    except OSError as error:
        log.warning("what this run does cannot be noted: %s", problem_of(error))


def hide(workspace: Path, board: Board) -> None:
    with contextlib.suppress(OSError):
        (workspace / "running" / f"{board.run}.json").unlink()


def _replace_killed(workspace: Path, board: Board) -> None:
    """Remove the boards of runs of the same kind whose driver was killed: this one goes on with them."""
    kind, signs = (board.name, board.trial is None), working(workspace)
    for path, old in read_states(workspace / "running", Board).items():
        if old.detached or (old.name, old.trial is None) != kind or old.driven(signs):
            continue
        with contextlib.suppress(OSError):
            path.unlink()
