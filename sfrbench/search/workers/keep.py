"""Who starts workers of a search: keeps as many at work as asked for, until the budget is spent."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from sfrbench.errors import SfrbenchError, few
from sfrbench.files.databases import cut_off
from sfrbench.run.experiment import Experiment
from sfrbench.run.signs import sweep
from sfrbench.run.tracking.mlflow_log import Tracker
from sfrbench.search.opening import Opened
from sfrbench.search.storage import MAX_RETRY, StudiesRemoved, faults_of
from sfrbench.search.studies import view
from sfrbench.search.workers.choice import Where
from sfrbench.search.workers.order import REMOVED, Crew

log = logging.getLogger("sfrbench")

POLL_S = 2.0
LOOK_S = 10.0  # between two looks into the study, for MLflow


@dataclass
class Progress:
    """What the starter sees of the study. It alone writes to MLflow."""

    experiment: Experiment
    opened: Opened
    tracker: Tracker | None
    finished: int = 0  # trials
    _looked: float = 0.0

    def __post_init__(self) -> None:
        self.finished = len(view(self.experiment, self.opened.study).finished)

    def look(self, *, now: bool = False) -> bool:
        """Log trials that are finished; whether there are more than at the last look."""
        if not now and time.monotonic() - self._looked < LOOK_S:
            return False
        self._looked = time.monotonic()
        try:
            with faults_of(self.opened.url):
                study = view(self.experiment, self.opened.study)
        except Exception as error:
            if not cut_off(error):
                raise
            return False
        if self.tracker and study.finished:
            self.tracker.log_study(self.experiment.plan, study)
        before, self.finished = self.finished, len(study.finished)
        return self.finished > before


def keep(crew: Crew, where: Where, progress: Progress, say: Callable[[str], None]) -> bool:
    """Have workers spend the budget; returns false where they are left to do that by themselves.

    Raises ``StudiesRemoved`` where a worker found the studies removed.
    """
    workspace, left = progress.experiment.machine.workspace, False
    sweep(workspace)
    try:
        back = list(crew.come_back())
        if back:
            say(f"{few(back)} of an earlier call: {len(back)} workers that are there")
        there = {*back, *crew.start(max(0, where.workers - len(back)))}
        if where.detach:
            say("the jobs go on by themselves; 'sfrbench status' shows them, this command comes back")
            left = True
            return False
        _tend(crew, there, where.workers, progress, say)
    finally:
        if not left:
            crew.close()
    progress.look(now=True)
    sweep(workspace)  # of workers that died
    return True


def _tend(crew: Crew, there: set[str], count: int, progress: Progress, say: Callable[[str], None]) -> None:
    """Until no worker is there. One that dies is replaced, unless they die one after another without any
    trial coming to its end."""
    deaths, most, removed = 0, count * (MAX_RETRY + 2), False
    while there:
        for gone in crew.wait(POLL_S):
            there.discard(gone.name)
            removed = removed or gone.status == REMOVED
            if gone.died and not removed:
                deaths = 1 if progress.look(now=True) else deaths + 1
                again = deaths <= most
                say(f"worker {gone.name}: {gone.why}" + ("; another one takes its place" if again else ""))
                there |= _another(crew, there) if again else set()
            elif gone.status not in (0, REMOVED):
                say(f"worker {gone.name}: {gone.why}")
        if not removed:
            progress.look()
    if removed:
        raise StudiesRemoved.at(progress.opened.url)


def _another(crew: Crew, there: Collection[str]) -> set[str]:
    """One more worker. Where none is to be had, those that are there go on without it."""
    try:
        return set(crew.start(1))
    except SfrbenchError as error:
        if not there:
            raise
        log.warning("%s", error)
        return set()
