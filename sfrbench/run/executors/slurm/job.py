"""One job of a cluster: runs its nodes one after another, and is queued again where it has to stop."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sfrbench.errors import NotReadyError, told
from sfrbench.files.atomic import read_state, write_atomic
from sfrbench.files.terminal import echo
from sfrbench.machine.needs import Machine
from sfrbench.plan.graph import Node
from sfrbench.run.executors.attempt import Ended, Event, Step
from sfrbench.run.executors.inline import signed
from sfrbench.run.executors.slurm import ask, notes
from sfrbench.run.executors.slurm.sbatch import Sent
from sfrbench.run.outcomes import Status
from sfrbench.stages.recipe import Link
from sfrbench.store.store import Store

if TYPE_CHECKING:
    from sfrbench.run.executors.node import Worker
    from sfrbench.run.signs import Signs

AGAIN_S = 2.0  # between two looks at a node that another process works on
SAY_S = 30.0  # between two lines of progress in the log
AGAIN = 75  # the exit status of a job that could not be queued again (EX_TEMPFAIL)


@dataclass(frozen=True)
class Task:
    """What every job of a submission is told. All places are absolute."""

    sent: Sent
    machine: Machine
    store: Path
    profile: str
    run: str
    threads: int
    hours: float
    wants_gpu: bool  # the profile is for one, and nobody insisted on a device


def work(task: Task, nodes: Sequence[Node], waited: Collection[Link]) -> None:
    """Run ``nodes``. The job ends badly, so that no other job starts for nothing, where one of those that
    others wait for (``waited``) is not there in the end."""
    ending = Ending()
    task.sent.enter()
    job = _Job(task, ending)
    if not job.run(nodes):
        raise SystemExit(job.put_back())
    store = Store(task.store)
    if not all(store.has(*link) for link in waited):
        raise SystemExit(1)


class Ending:
    """Whether this process was told to end: by SLURM before the time is up (SIGUSR2), or by whoever takes the
    machine (SIGTERM)."""

    def __init__(self) -> None:
        self.told = 0
        for number in (signal.SIGUSR2, signal.SIGTERM):
            signal.signal(number, self._hear)
        signal.signal(signal.SIGCONT, signal.SIG_DFL)  # comes with the other

    def _hear(self, number: int, _: Any) -> None:
        self.told = self.told or number

    def is_near(self) -> bool:
        return self.told != 0


class _Job:
    def __init__(self, task: Task, ending: Ending) -> None:
        self.task = task
        self.ending = ending
        self.id = job_id(os.environ)
        workspace = task.machine.workspace
        self._path = notes.report_path(workspace, task.sent.token, self.id)
        self._log = notes.log_path(workspace, task.sent.token, self.id)
        before = read_state(self._path, notes.Report)
        self._report = notes.Report(host=host_name(), nodes=[] if before is None else before.nodes)
        self._said = 0.0

    def run(self, nodes: Sequence[Node]) -> bool:
        """Whether it has come to the end of its nodes."""
        from sfrbench.run.signs import Signs

        say(f"job {self.id} on {self._report.host}: {len(nodes)} nodes, {self.task.threads} threads")
        self._write()
        try:
            worker = self._worker()
        except NotReadyError as error:  # the same on the next try
            for node in nodes:
                self._fail(node, told(error))
            self._write(over=True)
            return True
        with Signs(
            self.task.machine.workspace,
            self.task.run,
            device=worker.device,
            job=self.id,
            log=str(self._log),
        ) as signs:
            over = self._all(worker, list(nodes), signs)
        self._write(over=over)
        return over

    def _worker(self) -> Worker:
        import torch

        from sfrbench.run.executors.node import Worker

        torch.set_num_threads(self.task.threads)
        task = self.task
        try:
            worker = Worker.of(Store(task.store), task.machine, task.profile, task.wants_gpu)
        except NotReadyError as error:
            fault = error.problems[0]
            hint = f"{fault.hint}; see 'gres' and 'setup' of executors.slurm"
            where = f"job {self.id} on {self._report.host}"
            raise NotReadyError(f"{fault.where}: {fault.what}", where=where, hint=hint) from error
        return replace(worker, stopping=self.ending.is_near)

    def _all(self, worker: Worker, left: list[Node], signs: Signs) -> bool:
        first = True
        while left:
            before = len(left)
            for node in list(left):
                if self.ending.told:
                    return False
                status = self._one(worker, node, left, signs)
                if status == "stopped":
                    return first and self._too_short(worker, node)
                if status != "waits":
                    left.remove(node)
                    first = False
            if len(left) == before:
                time.sleep(AGAIN_S)
        return True

    def _one(self, worker: Worker, node: Node, left: Sequence[Node], signs: Signs) -> str:
        """What became of one node: ``waits`` where another process works on it or on an input of it."""
        store = worker.store
        waiting = {(each.stage, each.key) for each in left}
        missing = [link for link in node.inputs.values() if not store.has(*link)]
        if any(link in waiting for link in missing):
            return "waits"
        if missing:  # its maker has failed
            return "blocked"
        ended = signed(worker, node, self._hear, signs)
        if ended.status == "busy":
            return "waits"
        took = f"{ended.seconds:.1f} s" if ended.status == "ran" else ended.reason
        say(f"{ended.status} {node.title}  {took}")
        if ended.status not in ("stopped", "lost"):
            self._note(ended)
        return ended.status

    def _too_short(self, worker: Worker, node: Node) -> bool:
        """Whether a node had all the time of a job and left nothing to go on from: it would never end."""
        scratch = worker.store.scratch(node.stage, node.key)
        if self.ending.told != signal.SIGUSR2 or any(path.is_file() for path in scratch.rglob("*")):
            return False
        what = f"the time limit of {self.task.hours:g} h is too short for it"
        self._fail(node, f"{what}\n    raise executors.slurm.stages.{node.stage}.hours")
        return True

    def _fail(self, node: Node, reason: str) -> None:
        log_file = Store(self.task.store).note_failure(node.stage, node.key, reason, reason)
        self._note(Ended((node.stage, node.key), "failed", reason, log=str(log_file or "")))
        say(f"failed {node.title}  {reason}")

    def _hear(self, event: Event) -> None:
        moment = time.monotonic()
        if isinstance(event, Step) and moment - self._said > SAY_S:
            self._said = moment
            values = "".join(f"  {name} {value:.4g}" for name, value in event.values.items())
            say(f"{event.link[0]} {event.link[1][:8]}  {event.done}/{event.total}{values}")

    def _note(self, ended: Ended) -> None:
        entry = notes.Ending(
            stage=ended.link[0],
            key=ended.link[1],
            status=cast(Status, ended.status),
            reason=ended.reason,
            seconds=ended.seconds,
            log=ended.log,
        )
        kept = [each for each in self._report.nodes if each.link != ended.link]
        self._report = self._report.model_copy(update={"nodes": [*kept, entry]})
        self._write()

    def _write(self, **changes: bool) -> None:
        self._report = self._report.model_copy(update=changes)
        try:
            write_atomic(self._path, self._report.model_dump_json())
        except OSError as error:  # the store tells the driver most of it
            say(f"what became of its nodes cannot be noted: {told(error)}")

    def put_back(self) -> int:
        """Have the job queued again, and return its exit status."""
        if not put_back(self.id, self.ending):
            self._write(stopped=True)
        return AGAIN


def put_back(job: str, ending: Ending) -> bool:
    """Have this job, which was told to end, queued again; returns false where it is refused."""
    name = signal.Signals(ending.told).name if ending.told else "no signal"
    say(f"stopped by {name}; what was being trained has left a checkpoint")
    return ask.put_back(job)


def job_id(environment: Mapping[str, str]) -> str:
    """The id of this job as squeue writes it."""
    array = environment.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{environment['SLURM_ARRAY_TASK_ID']}" if array else environment["SLURM_JOB_ID"]


def host_name() -> str:
    """The machine of this job, as SLURM calls it."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def say(text: str) -> None:
    """A line of the job's log; where it cannot be written, the work goes on."""
    try:
        echo(f"{time.strftime('%F %T')}  {text}")
    except OSError:
        return
