"""What SLURM says of jobs, and what it is told: squeue, sacct, scancel, scontrol."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from sfrbench.errors import NotReadyError, SfrbenchError, shorter

log = logging.getLogger("sfrbench")

_PATIENCE_S = 60.0
_LIVE = (
    *("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD"),
    *("REQUEUE_FED", "RESIZING", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED", "RESV_DEL_HOLD"),
)
_MANY = 200  # ids that are named in one command

#: ``unmet``: what it waited for ended badly. ``preempted``: others took its machine, and SLURM will not put
#: it back into the queue.
Fate = Literal["live", "ended", "crashed", "cancelled", "unmet", "preempted"]


class SlurmError(SfrbenchError):
    """SLURM does not answer, or refuses."""


@dataclass(frozen=True)
class Seen:
    """A job as SLURM shows it."""

    state: str
    reason: str = ""
    comment: str = ""

    @property
    def stuck(self) -> bool:
        """Whether it waits for what will never be, and stays where SLURM is not told to drop it."""
        return self.state == "PENDING" and self.reason == "DependencyNeverSatisfied"

    @property
    def fate(self) -> Fate:
        if self.reason == "DependencyNeverSatisfied":
            return "unmet"
        word = self.state.partition(" ")[0]
        if word in _LIVE:
            return "live"
        if word == "CANCELLED":  # sacct says by whom, where it was somebody
            return "unmet" if self.reason == "Dependency" and " by " not in self.state else "cancelled"
        if word in ("PREEMPTED", "REVOKED"):
            return "preempted"
        return "ended" if word == "COMPLETED" else "crashed"


def queue() -> dict[str, Seen]:
    """The user's jobs, by id (``12`` or ``12_3``): those that wait or run, and those that ended minutes ago.

    Raises ``SlurmError`` where SLURM does not answer, or says something else: no jobs are not none.
    """
    said = _told("squeue", "-h", "-r", "-t", "all", "-u", str(os.getuid()), "-o", "%i|%T|%r|%k")
    listed = _fields(said, 4)
    if said.strip() and not listed:
        raise SlurmError(f"squeue lists no jobs, it says: {shorter(said.strip().splitlines()[0])}")
    return {job: Seen(state, reason, comment) for job, state, reason, comment in listed}


def _fields(said: str, count: int) -> list[list[str]]:
    """The lines of an answer that have so many fields. Others are a site's greeting, or the rest of a comment
    of several lines."""
    fields = [line.split("|", count - 1) for line in said.splitlines()]
    return [each for each in fields if len(each) == count]


def past(jobs: Collection[str]) -> dict[str, Seen]:
    """What accounting knows of jobs that have left the queue; nothing where there is none."""
    found: dict[str, Seen] = {}
    wanted = sorted(jobs)
    for start in range(0, len(wanted), _MANY):
        some = ",".join(wanted[start : start + _MANY])
        with contextlib.suppress(SlurmError):
            said = _told("sacct", "-X", "-n", "-P", "-j", some, "-o", "jobid,state,reason")
            found |= {job: Seen(state, reason) for job, state, reason in _fields(said, 3)}
    return found


class Watch:
    """Asks after jobs from time to time; that SLURM does not answer is said once, until it does again."""

    def __init__(self) -> None:
        self._silent = False

    def look(self, jobs: Collection[str]) -> dict[str, Seen] | None:
        """All that ``queue`` shows, and what accounting knows of those of ``jobs`` that have left it; none:
        there was no answer."""
        try:
            seen = queue()
        except SfrbenchError as error:
            if not self._silent:
                log.warning("%s\n    it is asked again; jobs go on", error)
            self._silent = True
            return None
        self._silent = False
        lost = [job for job in jobs if job not in seen]
        return {**seen, **past(lost)} if lost else seen


def cancel(jobs: Sequence[str]) -> None:
    """Have jobs end; those that have ended already are no fault. Raises ``SlurmError``."""
    for start in range(0, len(jobs), _MANY):
        _told("scancel", "-Q", *jobs[start : start + _MANY])


def put_back(job: str) -> bool:
    """Have this job, which runs and is about to end, queued again.

    Only while SLURM counts it as running: else it has been cancelled, or queued again, by somebody, and
    asking for it would undo a cancellation. Returns false where it is refused.
    """
    try:
        if _told("squeue", "-h", "-j", job, "-o", "%T").strip() != "RUNNING":
            return True
        _told("scontrol", "requeue", job)
    except SlurmError:
        return False
    return True


def _told(*command: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=_PATIENCE_S, check=False
        )
    except FileNotFoundError as error:
        raise no_slurm(command[0]) from error
    except OSError as error:  # a part of an installation
        raise SlurmError(f"{command[0]} cannot be started: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise SlurmError(f"{command[0]} does not answer") from error
    if done.returncode:
        lines = [re.sub(rf"^{command[0]}: (error|fatal): ", "", line) for line in done.stderr.splitlines()]
        said = "; ".join(filter(None, lines)) or f"it ended with status {done.returncode}"
        raise SlurmError(f"{command[0]}: {said}")
    return done.stdout


def no_slurm(command: str) -> NotReadyError:
    hint = "call it on a login node of the cluster, or use --executor local"
    return NotReadyError(f"there is no '{command}' here", where="--executor slurm", hint=hint)
