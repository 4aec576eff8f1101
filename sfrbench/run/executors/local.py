"""A pool of processes of this machine, each with a device or a share of the cores.

Each has as many threads as every other one, so that what it computes on a CPU are the bits of one process
with that many. None outlives the process that started it; one that dies is replaced, and its node goes on
from its checkpoint.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sfrbench.errors import NotReadyError, told
from sfrbench.files.children import end_with_parent
from sfrbench.files.units import counted
from sfrbench.machine.accelerator import alone
from sfrbench.machine.needs import Machine, cores
from sfrbench.plan.graph import Node
from sfrbench.run.executors.attempt import Ended, Event, Hear
from sfrbench.run.executors.drive import ACCELERATED, HOST, lane_of
from sfrbench.run.executors.inline import signed
from sfrbench.run.executors.settings import LocalSettings
from sfrbench.store.store import Store

if TYPE_CHECKING:
    from sfrbench.run.executors.node import Worker

log = logging.getLogger("sfrbench")

GRACE_S = 20.0  # to reach the next step and write a checkpoint, once a process is told to end
#: What libraries read, once, of how many threads they may use.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True)
class Place:
    """What one process has: a device, the one card that it sees, threads, and the lanes that it is for."""

    device: str
    threads: int
    lanes: tuple[str, ...] = (ACCELERATED, HOST)
    card: str | None = None


def places(
    machine: Machine, workers: int | None, cards: Sequence[str], settings: LocalSettings
) -> list[Place]:
    """The processes of a run: one for each card, or several where the configuration says so, and some for
    what needs none; without cards ``workers`` that share the cores."""
    if not cards:
        count, device = workers or 1, "mps" if machine.device == "mps" else "cpu"
        return [Place(device, max(1, cores() // count))] * count
    count = workers or len(cards) * settings.workers_per_gpu
    host = 1 if settings.host_workers is None else settings.host_workers
    threads = max(1, cores() // (count + host))
    shared = [Place("cuda", threads, (ACCELERATED, HOST), cards[each % len(cards)]) for each in range(count)]
    if host:
        shared = [replace(place, lanes=(ACCELERATED,)) for place in shared]
    return shared + [Place("cpu", threads, (HOST,))] * host


@dataclass(frozen=True)
class Task:
    """What every process of a run is told."""

    machine: Machine
    store: Path  # its root
    profile: str
    run: str


class LocalPool:
    """Processes at these places, each started when there is work for it."""

    def __init__(self, task: Task, places: Sequence[Place]) -> None:
        self._task = task
        self._places = list(places)
        self._processes: list[_Process | None] = [None] * len(places)

    def room(self) -> Collection[str]:
        return {lane for place, _ in self._free() for lane in self._places[place].lanes}

    def start(self, node: Node) -> None:
        fits = [
            (place, process) for place, process in self._free() if lane_of(node) in self._places[place].lanes
        ]
        place, process = min(fits, key=lambda pair: (pair[1] is None, pair[0]))  # one that stands, first
        if process is None:
            process = self._processes[place] = _Process(self._task, self._places[place])
        process.give(node)

    def wait(self, hear: Hear, seconds: float) -> None:
        busy = {process.pipe: place for place, process in self._running() if process.node is not None}
        for pipe in wait(list(busy), seconds) if busy else _sleep(seconds):
            place = busy[cast(Connection, pipe)]
            process = cast(_Process, self._processes[place])
            try:
                while pipe.poll():  # type: ignore[union-attr]
                    self._said(process, hear)
            except (EOFError, OSError):
                self._processes[place] = None
                lost = cast(Node, process.node)
                hear(Ended((lost.stage, lost.key), "lost", process.buried()))

    def close(self) -> None:
        """Have all processes leave their checkpoints and end; those that do not are killed."""
        for _, process in self._running():
            process.tell_to_end()
        try:
            for _, process in self._running():
                process.join()
        except KeyboardInterrupt:  # once more: without a checkpoint, then
            for _, process in self._running():
                process.join(grace_s=0.0)
            raise
        finally:
            self._processes = [None] * len(self._places)

    def _said(self, process: _Process, hear: Hear) -> None:
        word = process.pipe.recv()
        if isinstance(word, str):
            log.warning("%s", word)
        elif isinstance(word, NotReadyError):
            raise word
        else:
            if isinstance(word, Ended):
                process.node = None
            hear(word)

    def _free(self) -> Iterator[tuple[int, _Process | None]]:
        for place, process in enumerate(self._processes):
            if process is None or process.node is None:
                yield place, process

    def _running(self) -> Iterator[tuple[int, _Process]]:
        for place, process in enumerate(self._processes):
            if process is not None:
                yield place, process


def _sleep(seconds: float) -> list[Any]:
    threading.Event().wait(seconds)
    return []


class _Process:
    """One worker process, as its starter sees it."""

    def __init__(self, task: Task, place: Place) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.node: Node | None = None
        self._process = context.Process(target=_serve, args=(theirs, os.getpid(), task, place))
        with _environment(place):
            self._process.start()
        theirs.close()

    def give(self, node: Node) -> None:
        self.node = node
        try:
            self.pipe.send(node)
        except OSError:  # it has just died; ``wait`` finds that out
            return

    def tell_to_end(self) -> None:
        if self.node is None:
            self._close()
        elif self._process.is_alive():
            self._process.terminate()

    def join(self, grace_s: float = GRACE_S) -> None:
        self._process.join(grace_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._close()

    def buried(self) -> str:
        """How a process ended that should not have, for people."""
        self.join()
        return ended_by(self._process.exitcode or 0)

    def _close(self) -> None:
        self.pipe.close()


def ended_by(code: int) -> str:
    """What ended a process, by its exit status or, negative, the number of a signal; for people."""
    if code >= 0:
        return f"its process ended with status {code}"
    name = signal.Signals(-code).name
    often = ": often a lack of memory" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{often}"


def environment_of(place: Place) -> dict[str, str]:
    """What a process reads before it does anything: its threads, and the one card that it sees."""
    wanted = dict.fromkeys(THREADS, str(place.threads))
    if place.card is not None:
        wanted |= alone(place.card)
    return wanted


@contextmanager
def _environment(place: Place) -> Iterator[None]:
    """What a process that is started here inherits."""
    wanted = environment_of(place)
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class Told(logging.Handler):
    """Sends what is logged to the process that shows it."""

    def __init__(self, send: Any) -> None:
        super().__init__(logging.WARNING)
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._send(self.format(record))
        except OSError:  # nobody is there to read it
            return


def _serve(pipe: Any, parent: int, task: Task, place: Place) -> None:
    """Run nodes until there is nobody to ask."""
    ending = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver, which tells us
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    end_with_parent(parent, signal.SIGKILL)
    logging.getLogger("sfrbench").addHandler(Told(pipe.send))
    logging.getLogger("sfrbench").propagate = False
    from sfrbench.run.signs import Signs

    try:
        worker = Working.of(task, place, ending).worker
    except Exception as error:  # none can start, then
        what = f"a worker process cannot start: {told(error)}"
        pipe.send(error if isinstance(error, NotReadyError) else NotReadyError(what))
        return

    def hear(event: Event) -> None:
        pipe.send(event)

    with Signs(task.machine.workspace, task.run, device=called(place)) as signs:
        while not ending.is_set():
            try:
                node = pipe.recv()
            except (EOFError, OSError):
                return
            pipe.send(signed(worker, node, hear, signs))


@dataclass(frozen=True)
class Working:
    """A worker of a run, and what tells it to end."""

    worker: Worker
    ending: threading.Event

    @classmethod
    def of(cls, task: Task, place: Place, ending: threading.Event | None = None) -> Working:
        import torch

        from sfrbench.run.executors.node import Worker

        ending = ending or threading.Event()
        torch.set_num_threads(place.threads)
        device = "cpu" if place.device == "cpu" else task.machine.device
        worker = Worker.of(Store(task.store), replace(task.machine, device=device), task.profile)
        return cls(replace(worker, stopping=ending.is_set), ending)


def called(place: Place) -> str:
    return f"GPU {place.card}" if place.card is not None else counted(place.threads, "thread")
