"""What driver and jobs leave each other in the workspace: which job carries which nodes, and what became of
them.

``<workspace>/slurm/<token>.json``: one call of sbatch, noted before it is made, so that a driver that comes
back knows its jobs; beside it a folder ``<token>/`` with the logs of its jobs and, for each, what it says of
its nodes. A file that cannot be read is absent: its nodes are submitted again, and the locks of the store see
to it that nothing is done twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
import uuid
from pathlib import Path

from pydantic import BaseModel

from sfrbench.files.atomic import read_states, write_atomic
from sfrbench.files.units import now
from sfrbench.run.outcomes import Status
from sfrbench.stages.recipe import Link

FOLDER = "slurm"
_KEPT_S = 30 * 24 * 3600.0  # logs of jobs that have ended
_END = 100_000  # bytes of a log that are its end


class Carried(BaseModel):
    """The nodes of one job, in its order, and how often a job with its first one has crashed before."""

    links: list[tuple[str, str]]
    crashed: int = 0


class Submission(BaseModel):
    """One call of sbatch: a job, or an array of them."""

    token: str
    experiment: str
    profile: str
    submitted: str
    study: str = ""  # whose trials its jobs run, where they carry no nodes
    id: str = ""  # that SLURM gave; empty where the driver was killed before it could note it
    jobs: list[Carried]

    def job(self, at: int) -> str:
        """The id of one of its jobs, as squeue writes it."""
        return f"{self.id}_{at}" if len(self.jobs) > 1 else self.id


class Ending(BaseModel):
    """What became of a node in a job."""

    stage: str
    key: str
    status: Status
    reason: str = ""
    seconds: float = 0.0
    log: str = ""

    @property
    def link(self) -> Link:
        return self.stage, self.key


class Report(BaseModel):
    """What a job says of itself. ``over``: it has come to the end of its nodes. ``stopped``: it was told to
    stop before that, and could not be put back into the queue. ``status``: that its worker of a search ended
    with."""

    host: str
    status: int | None = None
    nodes: list[Ending] = []
    over: bool = False
    stopped: bool = False


def folder(workspace: Path) -> Path:
    return workspace / FOLDER


def new(experiment: str, profile: str, jobs: list[Carried], study: str = "") -> Submission:
    return Submission(
        token=uuid.uuid4().hex[:12],
        experiment=experiment,
        profile=profile,
        submitted=now(),
        study=study,
        jobs=jobs,
    )


def comment(workspace: Path, token: str) -> str:
    """What squeue shows of a job, by which it is known again: of which workspace it is, and of which call."""
    return f"{comment_start(workspace)}{token}"


def comment_start(workspace: Path) -> str:
    place = hashlib.sha256(str(workspace.resolve()).encode()).hexdigest()[:16]
    return f"sfrbench:{place}:"


def note(workspace: Path, submission: Submission) -> None:
    write_atomic(folder(workspace) / f"{submission.token}.json", submission.model_dump_json())


def forget(workspace: Path, submission: Submission, *, logs: bool = False) -> None:
    """Its jobs have ended; ``logs``: there never was one."""
    with contextlib.suppress(OSError):
        (folder(workspace) / f"{submission.token}.json").unlink()
    if logs:
        shutil.rmtree(folder(workspace) / submission.token, ignore_errors=True)


def submissions(workspace: Path) -> list[Submission]:
    """Those whose jobs may still be there, oldest first."""
    found = read_states(folder(workspace), Submission).values()
    return sorted(found, key=lambda each: (each.submitted, each.token))


def sweep(workspace: Path) -> None:
    """Remove logs of jobs that nobody has asked about for long."""
    known = {each.token for each in submissions(workspace)}
    for path in folder(workspace).iterdir() if folder(workspace).is_dir() else ():
        with contextlib.suppress(OSError):
            if path.is_dir() and path.name not in known and time.time() - path.stat().st_mtime > _KEPT_S:
                shutil.rmtree(path, ignore_errors=True)


def report_path(workspace: Path, token: str, job: str) -> Path:
    return folder(workspace) / token / f"{job}.json"


def log_path(workspace: Path, token: str, job: str) -> Path:
    """Where the output of a job goes: the place that submitit gives it."""
    return folder(workspace) / token / f"{job}_0_log.out"


def end_of(log: Path) -> str:
    """The last part of a log; nothing where it is not to be seen from here."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _END))
            return stream.read().decode(errors="replace")
    except OSError:
        return ""
