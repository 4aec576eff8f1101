"""Which workers a search has: processes of this machine, jobs of SLURM, or tasks of Ray."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from sfrbench.errors import InputError
from sfrbench.files.urls import has_password, masked
from sfrbench.run.executors.choice import Chosen, How, computes_here
from sfrbench.run.executors.local import places
from sfrbench.run.executors.ray.settings import RaySettings, gpus_of, task_size
from sfrbench.run.executors.settings import LocalSettings, settings_of
from sfrbench.run.executors.slurm.settings import heaviest_first, read_settings, shape_of
from sfrbench.run.experiment import Experiment
from sfrbench.search.ready import Ready
from sfrbench.search.studies import sample_plan, study_name
from sfrbench.search.workers.local import LocalCrew
from sfrbench.search.workers.order import Crew, Order
from sfrbench.search.workers.ray import RayCrew
from sfrbench.search.workers.slurm import SlurmCrew
from sfrbench.stages.finder import recipe_of

Executor = Literal["local", "slurm", "ray"]


@dataclass(frozen=True)
class Where:
    """What a user says of where the workers of a search run."""

    executor: Executor = "local"
    workers: int = 1
    detach: bool = False  # submit, and leave

    def __post_init__(self) -> None:
        self.how  # noqa: B018  (raises what is wrong)

    @property
    def how(self) -> How:
        """The same as a run has it; a search says of jobs how many they are."""
        return How(self.executor, None if self.executor == "slurm" else self.workers, detach=self.detach)

    @property
    def here(self) -> bool:
        """Whether this machine computes, and this one alone."""
        return computes_here(self.how)

    def check_studies(self, url: str) -> str:
        """What to know of a database of studies; empty where nothing. Raises ``InputError`` for an address
        that must not go to other processes than our own."""
        if self.executor != "local" and has_password(url):
            hint = "leave it to ~/.pgpass of the machines that compute: jobs and tasks are kept in files"
            raise InputError("its password would be kept there", where=f"--storage {masked(url)}", hint=hint)
        if self.here or not url.startswith("sqlite"):
            return ""
        return (
            "SQLite is for one machine: where workers run on several, give them PostgreSQL (--storage "
            "postgresql://..., pip install 'sfrbench[postgres]')"
        )


def open_crew(where: Where, here: Ready, order: Order, show: Callable[[str], None]) -> Crew:
    """The workers, none of them started. ``show``: prints a line of those whose output does not come here.

    Raises ``NotReadyError`` and ``InputError``.
    """
    experiment, chosen = here.experiment, here.chosen
    if where.executor == "local":
        own = settings_of("local", LocalSettings).model_copy(update={"host_workers": 0})
        at = places(chosen.machine, where.workers, chosen.cards, own)
        return LocalCrew(_on(order, chosen.machine.device), at)
    if where.executor == "ray":
        return _ray(where, chosen, experiment, order, show)
    settings, stages = read_settings(), heaviest_first({stage for stage, _ in sample_plan(experiment).nodes})
    device = experiment.machine.device
    return SlurmCrew(
        _on(order, device),
        experiment.machine.workspace.resolve(),
        (experiment.name, experiment.profile),
        study_name(experiment),
        settings,
        shape_of(stages, settings, gpu=device != "cpu"),
        show,
    )


def _ray(
    where: Where, chosen: Chosen, experiment: Experiment, order: Order, show: Callable[[str], None]
) -> RayCrew:
    """Joins a cluster, or makes one of this machine. A task takes what the heaviest stage wants."""
    from sfrbench.run.executors.ray.cluster import join

    needs = [recipe_of(stage).needs for stage in {stage for stage, _ in sample_plan(experiment).nodes}]
    settings, sharing = settings_of("ray", RaySettings), None if chosen.cluster else where.workers
    cluster = join(chosen.cluster, where.workers, chosen.cards)
    try:
        machines, device = list(cluster.machines().values()), chosen.machine.device
        gpus = gpus_of(device, settings, machines) if any(need.accelerator for need in needs) else 0.0
        size = task_size(max(need.cores for need in needs), gpus, settings, machines, sharing)
    except BaseException:
        cluster.leave()
        raise
    order = _on(order, "cuda" if gpus else device)
    workspace = experiment.machine.workspace.resolve()
    return RayCrew(order, workspace, uuid.uuid4().hex[:8], cluster, size, show)


def _on(order: Order, device: str) -> Order:
    return replace(order, arguments=(*order.arguments, f"--device={device}"))
