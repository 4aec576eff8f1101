"""A pool of the tasks of a Ray cluster: one for each node that runs, as many as the cluster has room for."""

from __future__ import annotations

import logging
import os
import pickle
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from sfrbench.plan.graph import Link, Node
from sfrbench.run.executors.attempt import Began, Ended, Hear, Step
from sfrbench.run.executors.drive import ACCELERATED, HOST, lane_of
from sfrbench.run.executors.local import Place, Task
from sfrbench.run.executors.ray.cluster import Cluster, Lost, join
from sfrbench.run.executors.ray.settings import Joined, RaySettings, Size, gpus_of, have_room, task_size
from sfrbench.run.executors.ray.task import Order, Report, work
from sfrbench.run.signs import forget, working
from sfrbench.stages.finder import recipe_of, recipes

log = logging.getLogger("sfrbench")

LOOK_S = 5.0  # between two looks at what machines there are
LISTEN_S = 0.5  # between two looks at the workers' signs
PATIENT_S = 60.0  # a task waits so long for a machine before that is said


@dataclass
class _Running:
    """A task that Ray has, as its driver knows it."""

    node: Node
    size: Size
    since: float
    began: bool = False
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
        self._look()
        self._gpus = gpus_of(task.machine.device, settings, self._machines)
        if self._gpus:
            self._task = replace(task, machine=replace(task.machine, device="cuda"))
        self._order = pickle.dumps(Order(self._task, os.getcwd()))

    def room(self) -> Collection[str]:
        if self._workers is not None and len(self._running) >= self._workers:
            return ()
        if not self._running or (self._shared and self._workers is not None):
            return (ACCELERATED, HOST)
        if time.monotonic() - self._looked >= LOOK_S:
            self._look()
        taken = [each.size for each in self._running.values()]
        return [lane for lane in (ACCELERATED, HOST) if have_room(self._largest(lane), self._machines, taken)]

    def start(self, node: Node) -> None:
        size = self._size(recipe_of(node.stage).needs.cores, lane_of(node))
        place = Place("cuda" if size.gpus else "cpu", int(size.cpus))
        ref = self._cluster.launch(work, node.title, size, self._order, node, place)
        self._running[ref] = _Running(node, size, time.monotonic())

    def wait(self, hear: Hear, seconds: float) -> None:
        if not self._running:
            time.sleep(seconds)
            return
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
            forget(self._task.machine.workspace, self._task.run, running.link)
            hear(Ended(running.link, "lost", report.why))
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

    def _look(self) -> None:
        self._machines = self._cluster.machines()
        self._looked = time.monotonic()

    def _largest(self, lane: str) -> Size:
        needs = [recipe.needs for recipe in recipes().values()]
        wanted = [each.cores for each in needs if each.accelerator == (lane == ACCELERATED)]
        return self._size(max(wanted, default=1), lane)

    def _size(self, cores: int, lane: str) -> Size:
        gpus = self._gpus if lane == ACCELERATED else 0.0
        return task_size(cores, gpus, self._settings, self._machines, None if self._shared else self._workers)
