"""Workers of a search as tasks of a Ray cluster: all are asked for, however many fit at once."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from threading import Event
from typing import Any

from sfrbench.errors import NotReadyError
from sfrbench.run.executors.local import ended_by
from sfrbench.run.executors.ray.cluster import Cluster, Lost
from sfrbench.run.executors.ray.settings import Size
from sfrbench.run.executors.ray.task import enter, stopping
from sfrbench.search.workers.order import Gone, Order, attend
from sfrbench.search.workers.tail import Tail

_LOOK_S = 0.5


def serve(order: bytes, workspace: Path, name: str) -> int | NotReadyError:
    """In a task: a worker, from its beginning to its end; returns its status. ``order`` is pickled."""
    told: Order = pickle.loads(order)
    try:
        enter(told.version, told.place, workspace)
    except NotReadyError as error:
        return error
    ending = Event()
    with stopping(ending):
        more = ["--within=ray", "--job", "", str(_output(workspace, name))]
        return attend(told, _output(workspace, name), ending.is_set, more)


def _output(workspace: Path, name: str) -> Path:
    return workspace / "ray" / f"{name}.out"


class RayCrew:
    """The tasks of one search, each of the same ``size``. ``token``: names their files."""

    def __init__(
        self,
        order: Order,
        workspace: Path,
        token: str,
        cluster: Cluster,
        size: Size,
        show: Callable[[str], None],
    ) -> None:
        self._order = pickle.dumps(order)
        self._workspace = workspace
        self._token = token
        self._cluster = cluster
        self._size = size
        self._tail = Tail(show)
        self._there: dict[Any, str] = {}
        self._count = 0

    def come_back(self) -> Collection[str]:
        return ()  # they end with who has started them

    def start(self, count: int) -> Collection[str]:
        started = {}
        for _ in range(count):
            self._count += 1
            name = f"{self._token}-{self._count}"
            ref = self._cluster.launch(serve, name, self._size, self._order, self._workspace, name)
            self._tail.follow(_output(self._workspace, name))
            started[ref] = name
        self._there |= started
        return list(started.values())

    def wait(self, seconds: float) -> Sequence[Gone]:
        until = time.monotonic() + seconds
        while not (gone := self._gone()) and time.monotonic() < until:
            continue
        return gone

    def _gone(self) -> list[Gone]:
        done = self._cluster.done(list(self._there), _LOOK_S)
        self._tail.look()
        return [self._end(ref) for ref in done]

    def _end(self, ref: Any) -> Gone:
        name, status = self._there.pop(ref), self._cluster.outcome(ref)
        self._tail.remove(_output(self._workspace, name))
        return (
            Gone(name, None, status.why) if isinstance(status, Lost) else Gone(name, status, ended_by(status))
        )

    def close(self) -> None:
        try:
            self._cluster.end(list(self._there))
            for name in self._there.values():
                self._tail.remove(_output(self._workspace, name))
        finally:
            self._there.clear()
            self._cluster.leave()
