"""A worker of a search: a process with a command of its own, wherever it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from sfrbench.files.children import PARENT
from sfrbench.files.urls import STORAGE
from sfrbench.version import __version__

#: Exit statuses of a worker that did not die: what it was told is wrong, its studies were removed (its
#: starter says so, once for all), it was interrupted.
WRONG, REMOVED, INTERRUPTED = 2, 3, 130
_LOOK_S = 0.3


@dataclass(frozen=True)
class Order:
    """What every worker of a search is told. The address of the studies is no argument, as everybody on a
    machine sees those of its processes."""

    arguments: tuple[str, ...]  # of sfrbench
    storage: str | None
    place: Path  # that relative paths start from
    version: str = __version__

    def start(
        self,
        more: Sequence[str],
        environment: Mapping[str, str] | None = None,
        output: IO[bytes] | None = None,
    ) -> subprocess.Popen[bytes]:
        """A process that ends with this one."""
        told = {STORAGE: self.storage or "", PARENT: str(os.getpid())}
        return subprocess.Popen(
            [sys.executable, "-m", "sfrbench", *self.arguments, *more],
            env={**os.environ, **(environment or {}), **told},
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
        )


@dataclass(frozen=True)
class Gone:
    """A worker that has come to its end. ``status``: of its process, negative for a signal; none: it went
    with the job or the machine that it was in. ``why``: for people."""

    name: str
    status: int | None
    why: str

    @property
    def died(self) -> bool:
        return self.status is None or self.status < 0 or (self.status > 128 and self.status != INTERRUPTED)


class Crew(Protocol):
    """Workers of one search, in one kind of place."""

    def come_back(self) -> Collection[str]:
        """The workers that an earlier call has left, by their names."""

    def start(self, count: int) -> Collection[str]:
        """So many workers more, by their names."""

    def wait(self, seconds: float) -> Sequence[Gone]:
        """Those that have come to their end since the last call; waits so long at most for one."""

    def close(self) -> None:
        """End those that still run, so that others can take up their trials at once."""


def attend(order: Order, output: Path, ending: Callable[[], bool], more: Sequence[str]) -> int:
    """Run a worker to its end, which is asked for once ``ending`` says so; returns its status."""
    output.parent.mkdir(parents=True, exist_ok=True)
    told = False
    with output.open("ab") as stream:
        process = order.start(more, output=stream)
        while True:
            try:
                return process.wait(_LOOK_S)
            except subprocess.TimeoutExpired:
                if not told and ending():
                    told = True
                    process.terminate()
