"""Workers of a search as jobs of a SLURM cluster: an array of as many jobs as there are to be workers."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from sfrbench.files.atomic import read_state, write_atomic
from sfrbench.run.executors.local import GRACE_S, ended_by
from sfrbench.run.executors.slurm import ask, notes, sbatch
from sfrbench.run.executors.slurm.drive import PATIENCE_S
from sfrbench.run.executors.slurm.fleet import still_there
from sfrbench.run.executors.slurm.job import AGAIN, Ending, host_name, job_id, put_back, say
from sfrbench.run.executors.slurm.settings import Shape, SlurmSettings
from sfrbench.search.workers.order import INTERRUPTED, REMOVED, WRONG, Gone, Order, attend
from sfrbench.search.workers.tail import Tail

log = logging.getLogger("sfrbench")

LOOK_S = 1.0  # between two looks into the workspace


@dataclass(frozen=True)
class Task:
    """What every job is told. ``workspace`` is absolute."""

    sent: sbatch.Sent
    order: Order
    workspace: Path


def work(task: Task) -> None:
    """In a job: a worker, from its beginning to its end. A job that is preempted or near its time limit is
    queued again, and another worker takes up its trial meanwhile."""
    ending = Ending()
    task.sent.enter()
    job = job_id(os.environ)
    output = _output(task.workspace, task.sent.token, job)
    report = notes.Report(host=host_name())
    path = notes.report_path(task.workspace, task.sent.token, job)
    write_atomic(path, report.model_dump_json())
    say(f"job {job} on {report.host}: a worker, which prints to {output}")
    more = ["--within=slurm", "--job", job, str(output)]
    report.status = attend(task.order, output, lambda: ending.told != 0, more)
    if ending.told and report.status not in (0, WRONG, REMOVED):
        if not put_back(job, ending):
            report.stopped = True
            write_atomic(path, report.model_dump_json())
        raise SystemExit(AGAIN)
    write_atomic(path, report.model_dump_json())
    if report.status:
        raise SystemExit(1)


def _output(workspace: Path, token: str, job: str) -> Path:
    return notes.report_path(workspace, token, job).with_name(f"{job}_worker.out")


@dataclass
class _Live:
    submission: notes.Submission
    report: Path
    since: float  # when SLURM was last known to have it


class SlurmCrew:
    """The jobs of one search. ``study``: by which a later call knows them again."""

    def __init__(
        self,
        order: Order,
        workspace: Path,
        about: tuple[str, str],  # experiment and profile
        study: str,
        settings: SlurmSettings,
        shape: Shape,
        show: Callable[[str], None],
    ) -> None:
        self._order = order
        self._workspace = workspace
        self._about = about
        self._study = study
        self._settings = settings
        self._shape = shape
        self._tail = Tail(show)
        self._there: dict[str, _Live] = {}
        self._asked = time.monotonic()
        self._watch = ask.Watch()
        sbatch.ready()
        notes.sweep(workspace)

    def come_back(self) -> Collection[str]:
        """Take up the jobs of an earlier call."""
        known = [each for each in notes.submissions(self._workspace) if each.study == self._study]
        for submission, places in still_there(self._workspace, known):
            for at in places:
                self._take(submission, at, old=True)
        return list(self._there)

    def start(self, count: int) -> Collection[str]:
        """Raises ``Refused`` where SLURM does not take them."""
        if not count:
            return ()
        submission = notes.new(*self._about, [notes.Carried(links=[])] * count, self._study)
        task = Task(sbatch.Sent.by(submission), self._order, self._workspace)
        calls = [(task,)] * count
        sbatch.submit(self._workspace, self._settings, self._shape, submission, "search", work, calls)
        self._asked = time.monotonic()
        return [self._take(submission, at) for at in range(count)]

    def _take(self, submission: notes.Submission, at: int, *, old: bool = False) -> str:
        job = submission.job(at)
        report = notes.report_path(self._workspace, submission.token, job)
        self._there[job] = _Live(submission, report, time.monotonic())
        self._tail.follow(_output(self._workspace, submission.token, job), old=old)
        return job

    def wait(self, seconds: float) -> Sequence[Gone]:
        until = time.monotonic() + seconds
        while not (gone := self._gone()) and time.monotonic() < until:
            time.sleep(min(LOOK_S, seconds))
        return gone

    def _gone(self) -> list[Gone]:
        self._tail.look()
        found = [gone for job, live in self._there.items() if (gone := _said(job, live)) is not None]
        if not found and time.monotonic() - self._asked >= self._settings.poll:
            self._asked = time.monotonic()
            found = self._ask()
        for gone in found:
            self._release(gone.name)
        return found

    def _ask(self) -> list[Gone]:
        """Those that SLURM has no more, and that said nothing of their end."""
        seen = self._watch.look(self._there)
        if seen is None:
            return []
        states = {job: seen.get(job, ask.Seen("")) for job in self._there}
        return [gone for job, state in states.items() if (gone := self._fate(job, state)) is not None]

    def _fate(self, job: str, state: ask.Seen) -> Gone | None:
        live = self._there[job]
        if state.fate == "live":
            live.since = time.monotonic()
            return None
        said = _said(job, live)
        if said is not None:
            return said
        if state.fate == "cancelled":
            return Gone(job, INTERRUPTED, "its job was cancelled")
        if state.fate == "ended" and time.monotonic() - live.since < PATIENCE_S:
            return None  # by way of a network, what it says is not seen yet
        return Gone(job, None, f"SLURM says {state.state or 'nothing'} of its job")

    def close(self) -> None:
        """Raises ``SlurmError`` where SLURM does not answer: the jobs go on, then."""
        left = list(self._there)
        ask.cancel(left)
        until = time.monotonic() + GRACE_S
        while left and time.monotonic() < until:
            seen = ask.queue()
            left = [job for job in left if job in seen and seen[job].fate == "live"]
            self._tail.look()
            time.sleep(LOOK_S if left else 0.0)
        for job in list(self._there):
            self._release(job)

    def _release(self, job: str) -> None:
        submission = self._there.pop(job).submission
        if all(live.submission is not submission for live in self._there.values()):
            notes.forget(self._workspace, submission)


def _said(job: str, live: _Live) -> Gone | None:
    """What a job has said of its worker's end."""
    report = read_state(live.report, notes.Report)
    if report is None or (report.status is None and not report.stopped):
        return None
    if report.stopped or report.status is None:
        return Gone(job, None, "it was stopped, and SLURM does not queue it again")
    return Gone(job, report.status, ended_by(report.status))
