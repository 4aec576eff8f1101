"""Submits the nodes of a run: which ones a job carries, and what it has to know."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from sfrbench.machine.needs import Machine
from sfrbench.plan.graph import Node
from sfrbench.run.executors.slurm import notes, sbatch
from sfrbench.run.executors.slurm.job import Task, work
from sfrbench.run.executors.slurm.settings import Shape, SlurmSettings
from sfrbench.stages.finder import recipe_of
from sfrbench.stages.recipe import Link


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

    def submit(self, shape: Shape, wanted: Sequence[Wanted], after: Collection[str]) -> notes.Submission:
        """One job, or an array of several, that starts once the jobs ``after`` have ended well.

        Raises ``Refused`` with what sbatch says.
        """
        carried = [
            notes.Carried(links=[(node.stage, node.key) for node in each.nodes], crashed=each.crashed)
            for each in wanted
        ]
        submission = notes.new(self.experiment, self.profile, carried)
        task = self._task(shape, submission, wanted)
        calls = [(task, list(each.nodes), set(each.waited)) for each in wanted]
        head = wanted[0].nodes[0].stage
        sbatch.submit(self.machine.workspace, self.settings, shape, submission, head, work, calls, after)
        return submission

    def _task(self, shape: Shape, submission: notes.Submission, wanted: Sequence[Wanted]) -> Task:
        stages = {node.stage for each in wanted for node in each.nodes}
        accelerated = any(recipe_of(stage).needs.accelerator for stage in stages)
        machine = self.machine
        return Task(
            sent=sbatch.Sent.by(submission),
            machine=Machine(machine.workspace, machine.data, machine.device if accelerated else "cpu"),
            store=self.store,
            profile=self.profile,
            run=self.run,
            threads=shape.cpus,
            hours=shape.hours,
            wants_gpu=self.wants_gpu and accelerated,
        )
