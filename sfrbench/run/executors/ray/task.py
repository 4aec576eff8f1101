"""One node as a task of Ray: what runs in a worker process of the cluster, which keeps what it has loaded."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from sfrbench.errors import NotReadyError, told
from sfrbench.plan.graph import Node
from sfrbench.run.executors.attempt import Began, Ended, Event
from sfrbench.run.executors.inline import signed
from sfrbench.run.executors.local import Place, Task, Told, Working, called
from sfrbench.run.signs import Signs
from sfrbench.version import __version__

#: Set where the task of this process is to end: Ray gives a process one at a time.
ENDING = threading.Event()


@dataclass(frozen=True)
class Order:
    """What every task of a run is told."""

    task: Task
    folder: str  # that relative paths start from
    version: str = __version__


@dataclass(frozen=True)
class Report:
    """What a task has done, and the warnings that its driver has to show."""

    ended: Ended
    began: bool
    said: tuple[str, ...] = ()


def work(order: bytes, node: Node, place: Place) -> Report | NotReadyError:
    """Make a node. ``order`` is an ``Order``, pickled: one process prepares itself once for a run.

    Returns an error, where no task can run like this.
    """
    began, said = False, list[str]()

    def hear(event: Event) -> None:
        nonlocal began
        began = began or isinstance(event, Began)

    with _told_to(said), stopping(ENDING):
        try:
            task, working = _prepared(order, place)
        except Exception as error:  # none can start, then
            worker = f"a Ray worker on {socket.gethostname()} cannot start"
            if not isinstance(error, NotReadyError):
                return NotReadyError(f"{worker}: {told(error)}")
            fault = error.problems[0]
            return NotReadyError(f"{fault.where}  {fault.what}".strip(), where=worker, hint=fault.hint)
        with Signs(task.machine.workspace, task.run, device=called(place), machine=_machine()) as signs:
            ended = signed(working.worker, node, hear, signs)
    return Report(replace(ended, host=socket.gethostname()), began, tuple(said))


def _machine() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


@lru_cache(maxsize=2)
def _prepared(order: bytes, place: Place) -> tuple[Task, Working]:
    told: Order = pickle.loads(order)
    enter(told.version, Path(told.folder), told.task.store)
    return told.task, Working.of(told.task, place, ENDING)


def enter(version: str, folder: Path, shared: Path) -> None:
    """In a worker process: be where its driver is. Raises ``NotReadyError`` where this machine has another
    ``version`` of the package, or does not see a ``shared`` folder."""
    here = socket.gethostname()
    if version != __version__:
        what = f"{here} has sfrbench {__version__}, and the machine of its driver {version}"
        raise NotReadyError(what, hint="install the same version on every machine of the cluster")
    if not shared.is_dir():
        hint = "a workspace must lie on a file system that all machines of the cluster see, at the same place"
        raise NotReadyError(f"{here} does not see the workspace", where=str(shared), hint=hint)
    if folder.is_dir():
        os.chdir(folder)


@contextmanager
def stopping(ending: threading.Event) -> Iterator[None]:
    """Ray interrupts a task that its driver has cancelled: it ends at its next step, with a checkpoint. Not
    in the middle of loading torch: that cannot be loaded again, and the process has other tasks to come."""
    ending.clear()
    before = signal.signal(signal.SIGINT, lambda *_: ending.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _told_to(said: list[str]) -> Iterator[None]:
    """Keep what is logged for the driver."""
    logger, handler = logging.getLogger("sfrbench"), Told(said.append)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
