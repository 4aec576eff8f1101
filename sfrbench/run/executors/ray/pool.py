"""A pool of the tasks of a Ray cluster: one for each node that runs, as many as the cluster has room for."""

from __future__ import annotations

import logging
import os
import pickle
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from sfrbench.errors import NotReadyError
from sfrbench.plan.graph import Link, Node
from sfrbench.run.executors.attempt import Began, Ended, Hear, Step
from sfrbench.run.executors.drive import ACCELERATED, HOST, lane_of
from sfrbench.run.executors.local import Place, Task
from sfrbench.run.executors.ray.cluster import MACHINE_GONE, Cluster, Lost, join, silence
from sfrbench.run.executors.ray.settings import Joined, RaySettings, Size, gpus_of, have_room, task_size
from sfrbench.run.executors.ray.task import Order, Report, work
from sfrbench.run.signs import forget, working
from sfrbench.stages.finder import recipe_of, recipes

log = logging.getLogger("sfrbench")

LOOK_S = 5.0  # between two looks at what machines there are
LISTEN_S = 0.5  # between two looks at the workers' signs
PATIENT_S = 60.0  # a task waits so long for a machine before that is said
HEADLESS_S = 30.0  # a head may be silent for so long: Ray ends this process after 60 s


@dataclass
class _Running:
    """A task that Ray has, as its driver knows it."""

    node: Node
    size: Size
    since: float
    began: bool = False
    machine: str = ""  # Ray's id of the one that it runs on, once that is known
    heard: tuple[int, int] = (0, 0)

    @property
    def link(self) -> Link:
        return self.node.stage, self.node.key


def open_ray(
    task: Task, named: Joined | None, settings: RaySettings, workers: int | None, cards: tuple[str, ...]
) -> RayPool:
    """Join a cluster, or make one. Raises ``NotReadyError`` where there is none, or none with a GPU for a run
    that wants one."""
    cluster = join(named, workers, cards)
    try:
        return RayPool(task, cluster, settings, workers, shared=named is not None)
    except BaseException:
        cluster.leave()
        raise


class RayPool:
    """Tasks of a cluster. Of ``shared`` ones ``workers`` are asked for even where there is no room yet, so
    that a cluster that grows by itself grows; of one of this machine they share the cores."""

    def __init__(
        self, task: Task, cluster: Cluster, settings: RaySettings, workers: int | None, *, shared: bool
    ) -> None:
        self._task = task
        self._cluster = cluster
        self._settings = settings
        self._workers = workers
        self._shared = shared
        self._running: dict[Any, _Running] = {}
        self._listened = 0.0
        self._patient = True
        self._looked = self._answered = time.monotonic()
        self._head = cluster.address()
        self._machines = cluster.machines()
        self._gpus = gpus_of(task.machine.device, settings, self._sizes)
        if self._gpus:
            self._task = replace(task, machine=replace(task.machine, device="cuda"))
        self._order = pickle.dumps(Order(self._task, os.getcwd()))

    def room(self) -> Collection[str]:
        if self._workers is not None and len(self._running) >= self._workers:
            return ()
        if not self._running or (self._shared and self._workers is not None):
            return (ACCELERATED, HOST)
        taken, sizes = [each.size for each in self._running.values()], self._sizes
        return [lane for lane in (ACCELERATED, HOST) if have_room(self._largest(lane), sizes, taken)]

    def start(self, node: Node) -> None:
        size = self._size(recipe_of(node.stage).needs.cores, lane_of(node))
        place = Place("cuda" if size.gpus else "cpu", int(size.cpus))
        ref = self._cluster.launch(work, node.title, size, self._order, node, place)
        self._running[ref] = _Running(node, size, time.monotonic())

    def wait(self, hear: Hear, seconds: float) -> None:
        if self._running:
            self._wait(hear, seconds)
        else:
            time.sleep(seconds)
        if time.monotonic() - self._looked >= LOOK_S:
            self._look(hear)

    def _wait(self, hear: Hear, seconds: float) -> None:
        done = self._cluster.done(list(self._running), seconds)
        if time.monotonic() - self._listened >= LISTEN_S:
            self._listen(hear)
        for ref in done:
            self._ended(ref, hear)

    def close(self) -> None:
        """Have all tasks leave their checkpoints and end; those that do not are killed."""
        try:
            self._cluster.end(list(self._running))
        finally:
            self._running.clear()
            self._cluster.leave()

    def _ended(self, ref: Any, hear: Hear) -> None:
        running = self._running.pop(ref)
        report: Report | Lost = self._cluster.outcome(ref)
        if isinstance(report, Lost):
            self._lost(running, report.why, hear)
            return
        for text in report.said:
            log.warning("%s", text)
        if report.began and not running.began:
            hear(Began(running.link))
        hear(report.ended)

    def _listen(self, hear: Hear) -> None:
        """Tell of starts and steps, as the workers note them."""
        self._listened = time.monotonic()
        signs = {
            sign.link: sign
            for sign in working(self._task.machine.workspace)
            if sign.run == self._task.run and sign.stage
        }
        for running in self._running.values():
            sign = signs.get(running.link)
            if sign is None:
                self._say_waits(running)
                continue
            running.machine = sign.machine
            if not running.began:
                running.began = True
                hear(Began(running.link))
            if sign.total and (sign.done, sign.total) != running.heard:
                running.heard = sign.done, sign.total
                hear(Step(running.link, sign.done, sign.total, sign.values))

    def _say_waits(self, running: _Running) -> None:
        if self._patient and self._listened - running.since > PATIENT_S:
            self._patient = False
            log.warning("the Ray cluster has no room yet for %s: %s", running.node.title, running.size)

    def _look(self, hear: Hear) -> None:
        """See which machines there are. Ray finds out of one that falls silent, as without power, but goes on
        waiting for what it has asked of it: tasks there, or maybe on their way there, are given up here."""
        self._looked = time.monotonic()
        if not self._head_answers():
            return
        before, self._machines = self._machines, self._cluster.machines()
        gone = before.keys() - self._machines.keys()
        if not gone:
            return
        self._cluster.ask_anew()
        for ref, running in list(self._running.items()):
            if running.machine and running.machine not in gone:
                continue
            del self._running[ref]
            self._cluster.cancel(ref)
            if running.machine:
                self._lost(running, MACHINE_GONE, hear)
            else:
                hear(Ended(running.link, "stopped"))

    def _head_answers(self) -> bool:
        """Whether the head is there. Raises ``NotReadyError`` where it has been silent for long."""
        fault = silence(self._head)
        if not fault:
            self._answered = self._looked
            return True
        if self._looked - self._answered > HEADLESS_S:
            hint = "once there is a cluster again, the same command goes on from here"
            raise NotReadyError(f"the head of the Ray cluster is gone: {fault}", where=self._head, hint=hint)
        return False

    def _lost(self, running: _Running, why: str, hear: Hear) -> None:
        forget(self._task.machine.workspace, self._task.run, running.link)
        hear(Ended(running.link, "lost", why))

    @property
    def _sizes(self) -> list[Size]:
        return list(self._machines.values())

    def _largest(self, lane: str) -> Size:
        needs = [recipe.needs for recipe in recipes().values()]
        wanted = [each.cores for each in needs if each.accelerator == (lane == ACCELERATED)]
        return self._size(max(wanted, default=1), lane)

    def _size(self, cores: int, lane: str) -> Size:
        gpus = self._gpus if lane == ACCELERATED else 0.0
        return task_size(cores, gpus, self._settings, self._sizes, None if self._shared else self._workers)
