"""The driver of a run on SLURM: submits what is missing, watches, and submits again what crashed.

It may leave and come back: what it knows of jobs stands in the workspace (``notes``), and what is done in the
store. A node that failed by its own fault blocks those that need it; a job that crashed, or was never started
because another one crashed, is submitted again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from sfrbench.files.atomic import read_state
from sfrbench.plan.build import Cell, Plan
from sfrbench.plan.reasons import Reasons
from sfrbench.plan.schedule import Queue
from sfrbench.run.executors.slurm import ask, notes
from sfrbench.run.executors.slurm.fleet import Fleet, Live, named
from sfrbench.run.executors.slurm.sbatch import Refused
from sfrbench.run.executors.slurm.submit import Submitter
from sfrbench.run.outcomes import DONE, Book, Outcome, Status
from sfrbench.run.signs import working
from sfrbench.stages.recipe import Link
from sfrbench.store.store import Store

log = logging.getLogger("sfrbench")

LOOK_S = 1.0  # between two looks into the workspace
PATIENCE_S = 60.0  # for files of a job that ended well to be seen here, by way of a network's file system
REFUSED_S = 60.0  # until a job that was refused while others run is tried again
_BEFORE = "submitted by an earlier call"


@dataclass
class Driver:
    """One run. ``jobs_changed`` is told which node is carried by which job."""

    plan: Plan
    store: Store
    submitter: Submitter
    book: Book
    seconds: Mapping[Link, float]
    jobs_changed: Callable[[Mapping[Link, str]], None] = lambda jobs: None
    _started: set[Link] = field(default_factory=set)
    _reasons: dict[Link, str] = field(default_factory=dict)  # why a node runs, as it was submitted
    _stopped: dict[str, Link] = field(default_factory=dict)  # processes that are gone; their signs may stay
    _asked: float = 0.0
    _watch: ask.Watch = field(default_factory=ask.Watch)
    _not_before: float = 0.0

    def __post_init__(self) -> None:
        self._fleet = Fleet(self.plan.nodes, self.submitter)
        there = self.book.reuses(self.store)
        self._queue = Queue(self._fleet.inputs, self.seconds, there)
        self._why = Reasons(self.store)

    def submit(self) -> None:
        """Come back to the jobs that are there, and submit the rest.

        Raises ``Refused`` where SLURM does not take one; those of this call are cancelled then.
        """
        notes.sweep(self._fleet.workspace)
        back = self._fleet.come_back(self._queue)
        if back:
            self.book.says(f"{named(back)} of an earlier call: waiting for what they make")
            self.jobs_changed(self._fleet.carrier)
        try:
            self._fill()
        except BaseException:
            self._fleet.cancel(set(self._fleet.jobs) - set(back))
            raise

    def watch(self, on_cell: Callable[[Cell], None]) -> None:
        """Until every node is made or lost; ``on_cell`` is called with each finished cell."""
        try:
            while len(self._queue):
                time.sleep(LOOK_S)
                self._look()
                self.book.finished(on_cell)
                self._fill_again()
        except KeyboardInterrupt:
            if self._fleet.jobs:
                self.book.says(
                    f"{named(self._fleet.jobs)} go on without this process; 'sfrbench cancel' ends them"
                )
            raise
        self.book.finished(on_cell)
        mine = self.submitter.experiment
        self._fleet.cancel(  # what waits for what will never be, or was made by another process
            [
                job
                for job, live in self._fleet.jobs.items()
                if live.submission.experiment == mine and not set(live.carried.links) - self.plan.nodes.keys()
            ]
        )

    def _fill_again(self) -> None:
        if time.monotonic() < self._not_before:
            return
        try:
            self._fill()
        except Refused as error:
            if not self._fleet.jobs:
                raise
            log.warning("%s\n    tried again as other jobs end", error)
            self._not_before = time.monotonic() + REFUSED_S

    def _fill(self) -> None:
        """Submit what no job carries, as far as there is room."""
        fleet = self._fleet
        todo = [link for link in fleet.inputs if link in self._queue and link not in fleet.carrier]
        for link in todo:
            if self.store.has(*link):
                self._ends(link, "elsewhere", "another process has made it")
        left = {link for link in todo if link in self._queue}
        if not left or fleet.room <= 0:
            return
        ids, later = fleet.submit(left)
        if not ids:
            return
        self._asked = time.monotonic()
        carried = [link for link in todo if fleet.carrier.get(link) in ids]
        for link in carried:
            self._reasons[link] = self._why.why(self.plan.nodes[link])
        rest = f"; {later} more as these end" if later else ""
        self.book.says(f"{named(ids)} submitted for {len(carried)} nodes{rest}")
        self.jobs_changed(fleet.carrier)

    # What becomes of them

    def _look(self) -> None:
        for job in list(self._fleet.jobs):
            self._read(job)
        self._look_at_signs()
        if self._fleet.jobs and time.monotonic() - self._asked >= self.submitter.settings.poll:
            self._asked = time.monotonic()
            self._ask()

    def _look_at_signs(self) -> None:
        """Show what jobs work on."""
        for sign in working(self._fleet.workspace):
            live = self._fleet.jobs.get(sign.job)
            if live is None or sign.link not in self._queue or sign.worker in self._stopped:
                continue
            if sign.link not in self._started:
                self._started.add(sign.link)
                if sign.link in self._stopped.values():
                    self._reasons[sign.link] = self._why.why(self.plan.nodes[sign.link])
                where = f"job {sign.job} on {live.host or sign.host}"
                self.book.starts(sign.link, f"{self._reasons.get(sign.link, _BEFORE)}  ({where})")
            if sign.total:
                self.book.progress(sign.link, sign.done, sign.total, sign.values)

    def _read(self, job: str) -> bool:
        """Take what a job says of its nodes; returns whether it says that it has come to its end."""
        live = self._fleet.jobs[job]
        try:
            state = live.report.stat()
        except OSError:
            return False
        if (state.st_mtime_ns, state.st_size) == live.read:
            return False
        report = read_state(live.report, notes.Report)
        if report is None:
            return False
        live.read, live.host = (state.st_mtime_ns, state.st_size), report.host
        for entry in report.nodes:
            self._says(live, entry)
        unseen = [each for each in report.nodes if each.status in DONE and each.link in self._queue]
        if unseen and time.time() - state.st_mtime < PATIENCE_S:  # by way of a network, not yet
            live.read = (0, 0)
        elif report.over:
            self._let_go(job, "ended", "")
        return report.over

    def _says(self, live: Live, entry: notes.Ending) -> None:
        if entry.link not in self._queue:
            return
        if entry.status == "failed":
            self._ends(entry.link, "failed", entry.reason, entry.seconds, entry.log, live)
        elif entry.status in DONE and self.store.has(*entry.link):
            self._ends(entry.link, entry.status, entry.reason, entry.seconds, live=live)

    def _ask(self) -> None:
        """See which jobs SLURM has no more."""
        jobs = self._fleet.jobs
        seen = self._watch.look(jobs)
        if seen is None:
            return
        for job in list(jobs):
            state = seen.get(job, ask.Seen(""))
            if state.fate == "live":
                jobs[job].gone = None
                if state.state == "PENDING":
                    self._queued_again(jobs[job])
            else:
                self._gone(job, state)
        ask.cancel([job for job, state in seen.items() if job in jobs and state.stuck])

    def _queued_again(self, live: Live) -> None:
        """Say so of what such a job was working on: it was preempted, or near its time limit, or its machine
        failed."""
        for sign in working(self._fleet.workspace):
            if sign.job == live.id:
                self._stopped[sign.worker] = sign.link
        for link in self._started.intersection(live.carried.links):
            if link in self._queue:
                self._started.discard(link)
                self.book.again(link, f"its job {live.id} was stopped{live.where} and is queued again")

    def _gone(self, job: str, state: ask.Seen) -> None:
        live = self._fleet.jobs[job]
        live.gone = live.gone or time.monotonic()
        patient = state.fate == "ended" and time.monotonic() - live.gone < PATIENCE_S
        if self._read(job) or patient:
            return
        # one that ended well says so, or else its report is lost
        self._let_go(job, "crashed" if state.fate == "ended" else state.fate, state.state)

    def _let_go(self, job: str, fate: ask.Fate, state: str) -> None:
        """A job has ended: each of its nodes is made, lost, or to be submitted again."""
        mine = [link for link, carrier in self._fleet.carrier.items() if carrier == job]
        live = self._fleet.release(job)
        report = read_state(live.report, notes.Report)
        crashed = fate == "crashed" and not (report is not None and report.stopped)
        for link in mine:
            if link not in self._queue:
                continue
            if self.store.has(*link):
                seconds = self.store.get(*link).record["seconds"]
                self._ends(link, "ran", "", seconds, live=live)
            elif fate == "cancelled":
                self._fails(link, f"its job {job} was cancelled", live)
            elif crashed:
                self._again(link, mine, live, state)

    def _again(self, link: Link, mine: Collection[Link], live: Live, state: str) -> None:
        """A node whose job crashed; those that come after it in the job are not to blame."""
        fleet = self._fleet
        if any(source in mine and source in self._queue for source in fleet.inputs[link]):
            return
        fleet.crashed[link] += 1
        times = fleet.crashed[link]
        what = f"its job {live.id} ended as {state or 'unknown to SLURM'}{live.where}"
        self._started.discard(link)
        if times <= self.submitter.settings.retries:
            self.book.again(link, f"{what}; log: {live.log}")
            return
        often = f", {times} times" if times > 1 else ""
        self._fails(link, f"{what}{often}", live)

    def _fails(self, link: Link, reason: str, live: Live) -> None:
        """A node is lost with its job, which could not say so itself."""
        self.store.note_failure(*link, reason, f"{live.log}:\n{notes.end_of(live.log)}")
        self._ends(link, "failed", reason, 0.0, str(live.log), live)

    def _ends(
        self,
        link: Link,
        status: Status,
        reason: str,
        seconds: float = 0.0,
        log_file: str = "",
        live: Live | None = None,
    ) -> None:
        host, job = (live.host, live.id) if live else ("", "")
        if status == "ran":
            reason, log_file = self._reasons.get(link, _BEFORE), str(live.log) if live else ""
        self._fleet.carrier.pop(link, None)
        self.book.ends(Outcome(self.plan.nodes[link], status, reason, seconds, log_file, host, job))
        if status in DONE:
            self._queue.done(link)
        else:
            lost = self._queue.lost(link)
            for each in lost:
                self._fleet.carrier.pop(each, None)
            self.book.blocks(lost)
