"""Submits jobs by submitit: a call of sbatch each, with what the jobs ask for and wait for."""

from __future__ import annotations

import io
import logging
import math
import os
import shutil
import sys
from collections.abc import Collection, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfrbench.errors import NotReadyError, SfrbenchError
from sfrbench.machine.needs import Machine
from sfrbench.places.locations import config_file
from sfrbench.plan.graph import Node
from sfrbench.run.executors.local import THREADS
from sfrbench.run.executors.slurm import notes
from sfrbench.run.executors.slurm.ask import no_slurm
from sfrbench.run.executors.slurm.job import Task, work
from sfrbench.run.executors.slurm.settings import Shape, SlurmSettings
from sfrbench.stages.finder import recipe_of
from sfrbench.stages.recipe import Link

#: What jobs take along from the driver's environment. Addresses that may hold a password stay behind.
_LEFT = ("SFRBENCH_TRACKING_URI", "SFRBENCH_STORAGE")


class Refused(SfrbenchError):
    """sbatch does not take a job."""


@dataclass(frozen=True)
class Wanted:
    """A job to submit: its nodes, those that others wait for, and how often it has crashed before."""

    nodes: Sequence[Node]
    waited: Collection[Link]
    crashed: int = 0


@dataclass(frozen=True)
class Submitter:
    """What all jobs of a run share. ``machine``: with absolute places; ``wants_gpu``: the profile does."""

    machine: Machine
    store: Path
    experiment: str
    profile: str
    run: str
    settings: SlurmSettings
    wants_gpu: bool

    def ready(self) -> None:
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

    def submit(self, shape: Shape, wanted: Sequence[Wanted], after: Collection[str]) -> notes.Submission:
        """One job, or an array of several, that starts once the jobs ``after`` have ended well.

        Raises ``Refused`` with what sbatch says.
        """
        workspace = self.machine.workspace
        carried = [
            notes.Carried(links=[(node.stage, node.key) for node in each.nodes], crashed=each.crashed)
            for each in wanted
        ]
        submission = notes.new(self.experiment, self.profile, carried)
        executor = self._executor(shape, submission, wanted[0].nodes[0].stage, after)
        task = self._task(shape, submission, wanted)
        notes.note(workspace, submission)
        try:
            with redirect_stderr(io.StringIO()), executor.batch():
                jobs = [executor.submit(work, task, list(each.nodes), set(each.waited)) for each in wanted]
        except Exception as error:
            notes.forget(workspace, submission, logs=True)
            raise _refused(error) from error
        submission.id = str(jobs[0].job_id).partition("_")[0]
        notes.note(workspace, submission)
        return submission

    def _executor(
        self, shape: Shape, submission: notes.Submission, stage: str, after: Collection[str]
    ) -> Any:
        import submitit

        logging.getLogger("submitit").setLevel(logging.CRITICAL)  # what is wrong is raised as well
        executor = submitit.SlurmExecutor(
            notes.folder(self.machine.workspace) / submission.token, python=self.settings.python
        )
        more: dict[str, Any] = {"requeue": True, **dict(shape.options)}
        if after:
            more |= {"dependency": f"afterok:{':'.join(sorted(after))}", "kill-on-invalid-dep": "yes"}
        executor.update_parameters(
            job_name=f"{self.experiment} {stage}",
            comment=notes.comment(self.machine.workspace, submission.token),
            partition=shape.partition,
            account=shape.account,
            qos=shape.qos,
            gres=shape.gres,
            time=max(1, math.ceil(shape.hours * 60)),
            mem=f"{math.ceil(shape.memory * 1024)}M",
            nodes=1,
            ntasks_per_node=1,
            cpus_per_task=shape.cpus,
            signal_delay_s=self.settings.lead,
            array_parallelism=self.settings.at_once,
            setup=[*_exports(shape.cpus), *self.settings.setup],
            srun_args=[f"--cpus-per-task={shape.cpus}"],  # srun no longer takes it from sbatch
            stderr_to_stdout=True,
            wckey=None,
            additional_parameters=more,
        )
        return executor

    def _task(self, shape: Shape, submission: notes.Submission, wanted: Sequence[Wanted]) -> Task:
        stages = {node.stage for each in wanted for node in each.nodes}
        accelerated = any(recipe_of(stage).needs.accelerator for stage in stages)
        machine = self.machine
        return Task(
            machine=Machine(machine.workspace, machine.data, machine.device if accelerated else "cpu"),
            store=self.store,
            profile=self.profile,
            run=self.run,
            token=submission.token,
            threads=shape.cpus,
            hours=shape.hours,
            wants_gpu=self.wants_gpu and accelerated,
            place=Path.cwd(),
            environment={
                name: value
                for name, value in os.environ.items()
                if (name.startswith("SFRBENCH_") or name == "XDG_CONFIG_HOME") and name not in _LEFT
            },
        )


def _exports(cpus: int) -> list[str]:
    """Lines of shell that give a job the driver's modules, the user's own among them, and its threads."""
    import shlex

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
