"""Submits calls of a function as jobs, by submitit: one call of sbatch for a job, or for an array of them."""

from __future__ import annotations

import io
import logging
import math
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfrbench.errors import NotReadyError, SfrbenchError
from sfrbench.files.urls import ADDRESSES
from sfrbench.places.locations import config_file
from sfrbench.run.executors.local import THREADS
from sfrbench.run.executors.slurm import notes
from sfrbench.run.executors.slurm.ask import no_slurm
from sfrbench.run.executors.slurm.settings import Shape, SlurmSettings


class Refused(SfrbenchError):
    """sbatch does not take a job."""


@dataclass(frozen=True)
class Sent:
    """What every job has of the call that submits it."""

    token: str
    place: Path  # where the driver was called, for relative paths of the environment
    environment: Mapping[str, str]

    @classmethod
    def by(cls, submission: notes.Submission) -> Sent:
        taken = {
            name: value
            for name, value in os.environ.items()
            if (name.startswith("SFRBENCH_") or name == "XDG_CONFIG_HOME") and name not in ADDRESSES
        }
        return cls(submission.token, Path.cwd(), taken)

    def enter(self) -> None:
        """In the job: what its driver's process had."""
        os.environ.update(self.environment)
        if self.place.is_dir():
            os.chdir(self.place)
        logging.getLogger("sfrbench").addHandler(logging.StreamHandler(sys.stdout))


def ready() -> None:
    """Raises ``NotReadyError`` where submitit or SLURM is not here."""
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        hint = "pip install 'sfrbench[slurm]'"
        where = "--executor slurm"
        raise NotReadyError("submitit is not installed", where=where, hint=hint) from error
    for command in ("sbatch", "srun"):
        if shutil.which(command) is None:
            raise no_slurm(command)


def submit(
    workspace: Path,
    settings: SlurmSettings,
    shape: Shape,
    submission: notes.Submission,
    what: str,
    function: Callable[..., None],
    calls: Sequence[Sequence[Any]],
    after: Collection[str] = (),
) -> None:
    """A job for each of the ``calls`` (arguments of ``function``) that start once the jobs ``after`` have
    ended well. ``what`` names them, beside the experiment.

    The submission is noted, and gets the id that SLURM gives. Raises ``Refused`` with what sbatch says.
    """
    executor = _executor(workspace, settings, shape, submission, what, after)
    notes.note(workspace, submission)
    try:
        with redirect_stderr(io.StringIO()), executor.batch():
            jobs = [executor.submit(function, *arguments) for arguments in calls]
    except Exception as error:
        notes.forget(workspace, submission, logs=True)
        raise _refused(error) from error
    submission.id = str(jobs[0].job_id).partition("_")[0]
    notes.note(workspace, submission)


def _executor(
    workspace: Path,
    settings: SlurmSettings,
    shape: Shape,
    submission: notes.Submission,
    what: str,
    after: Collection[str],
) -> Any:
    import submitit

    logging.getLogger("submitit").setLevel(logging.CRITICAL)  # what is wrong is raised as well
    executor = submitit.SlurmExecutor(notes.folder(workspace) / submission.token, python=settings.python)
    more: dict[str, Any] = {"requeue": True, **dict(shape.options)}
    if after:
        more |= {"dependency": f"afterok:{':'.join(sorted(after))}", "kill-on-invalid-dep": "yes"}
    executor.update_parameters(
        job_name=f"{submission.experiment} {what}",
        comment=notes.comment(workspace, submission.token),
        partition=shape.partition,
        account=shape.account,
        qos=shape.qos,
        gres=shape.gres,
        time=max(1, math.ceil(shape.hours * 60)),
        mem=f"{math.ceil(shape.memory * 1024)}M",
        nodes=1,
        ntasks_per_node=1,
        cpus_per_task=shape.cpus,
        signal_delay_s=settings.lead,
        array_parallelism=settings.at_once,
        setup=[*_exports(shape.cpus), *settings.setup],
        srun_args=[f"--cpus-per-task={shape.cpus}"],  # srun no longer takes it from sbatch
        stderr_to_stdout=True,
        wckey=None,
        additional_parameters=more,
    )
    return executor


def _exports(cpus: int) -> list[str]:
    """Lines of shell that give a job the driver's modules, the user's own among them, and its threads."""
    installed = (sys.prefix, sys.base_prefix, sys.exec_prefix)
    own = [os.path.abspath(part) for part in sys.path if not part.endswith(".zip")]
    own = [part for part in dict.fromkeys(own) if os.path.isdir(part) and not part.startswith(installed)]
    lines = [f"export {name}={cpus}" for name in THREADS]
    return [*lines, f"export PYTHONPATH={shlex.quote(os.pathsep.join(own))}"] if own else lines


def _refused(error: Exception) -> Refused:
    """What sbatch says, in one message."""
    lines = [line.strip() for line in str(error).splitlines() if "sbatch: error:" in line]
    said = "; ".join(dict.fromkeys(line.partition("error:")[2].strip() for line in lines)) or str(error)
    hint = f"see 'executors: slurm:' in {config_file()}"
    return Refused(f"sbatch: {said}", where="--executor slurm", hint=hint)
