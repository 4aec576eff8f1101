"""Which executor a run takes, and its pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sfrbench.errors import InputError
from sfrbench.machine.needs import Machine, cards_seen
from sfrbench.run.executors.drive import Pool
from sfrbench.run.executors.ray.settings import Joined, RaySettings, named_cluster
from sfrbench.run.executors.settings import LocalSettings, settings_of
from sfrbench.run.signs import Signs
from sfrbench.store.store import Store

Name = Literal["inline", "local", "slurm", "ray"]


@dataclass(frozen=True)
class How:
    """What a user says of where a run runs; nothing here changes what it computes."""

    executor: Name | None = None
    workers: int | None = None
    gpus: tuple[str, ...] = ()
    detach: bool = False  # submit, and leave

    def __post_init__(self) -> None:
        if self.detach and self.executor != "slurm":
            hint = "only --executor slurm goes on without this process"
            raise InputError("nothing would run", where="--detach", hint=hint)
        if self.executor == "slurm" and (self.workers or self.gpus):
            hint = "see 'executors: slurm:' of the configuration file"
            raise InputError("jobs say themselves what they take", where="--executor slurm", hint=hint)
        if self.executor == "inline" and (self.workers or 1) > 1:
            hint = "leave --executor out, or say --executor local"
            raise InputError("executor 'inline' is one process", where=f"--workers {self.workers}", hint=hint)


@dataclass(frozen=True)
class Chosen:
    """An executor, and what its processes have."""

    executor: Name
    machine: Machine
    workers: int | None = None
    cards: tuple[str, ...] = ()
    cluster: Joined | None = None


def computes_here(how: How) -> bool:
    """Whether it is this machine that needs a GPU, where a plan insists on one."""
    return how.executor != "slurm" and (how.executor != "ray" or named_cluster() is None)


def choose(how: How, machine: Machine, insists: bool = False) -> Chosen:
    """What was asked for; else several processes where more than one GPU is seen, and this one otherwise.
    ``insists``: the profile wants a GPU, unless a user wants none."""
    if how.executor == "slurm":
        return Chosen("slurm", machine)
    cluster = named_cluster() if how.executor == "ray" else None
    if cluster is not None:
        return _elsewhere(how, machine, insists, cluster)
    cards = _cards(how, machine)
    wanted = how.executor
    if wanted is None:
        wanted = (
            "local"
            if how.gpus or (how.workers or 1) > 1 or (not how.workers and len(cards) > 1)
            else "inline"
        )
    if wanted == "inline":
        return Chosen(wanted, machine)
    if cards:
        machine = replace(machine, device="cuda")
    return Chosen(wanted, machine, how.workers, tuple(cards))


def _elsewhere(how: How, machine: Machine, insists: bool, cluster: Joined) -> Chosen:
    device = machine.device
    if how.gpus or device.startswith("cuda:"):
        where = "--gpus" if how.gpus else f"--device {device}"
        hint = (
            "leave it out; 'executors: ray: gpus_per_task' of the configuration file says what a task takes"
        )
        raise InputError("a Ray cluster gives its cards by itself", where=where, hint=hint)
    if insists and device == "auto":
        machine = replace(machine, device="cuda")
    return Chosen("ray", machine, how.workers, cluster=cluster)


def _cards(how: How, machine: Machine) -> Sequence[str]:
    if machine.device == "cpu":
        if how.gpus:
            raise InputError("--device cpu uses no GPU", where="--gpus", hint="leave one of the two out")
        return ()
    if machine.device.startswith("cuda:"):
        return (machine.device.partition(":")[2],)
    seen = cards_seen()
    unknown = [card for card in how.gpus if card not in seen]
    if unknown:
        what = f"no GPU {', '.join(unknown)} is seen here"
        raise InputError(what, where="--gpus", hint=f"seen: {', '.join(seen) or 'none'}")
    return how.gpus or seen


def open_pool(chosen: Chosen, store: Store, profile: str, signs: Signs) -> Pool:
    """The pool of a run. Raises ``NotReadyError`` where a device is not there."""
    if chosen.executor == "local":
        from sfrbench.run.executors.local import LocalPool, Task, places

        settings = settings_of("local", LocalSettings)
        task = Task(chosen.machine, store.root, profile, signs.run)
        return LocalPool(task, places(chosen.machine, chosen.workers, chosen.cards, settings))
    if chosen.executor == "ray":
        from sfrbench.run.executors.local import Task
        from sfrbench.run.executors.ray.pool import open_ray

        machine = replace(chosen.machine, workspace=chosen.machine.workspace.absolute())
        task = Task(machine, store.root.absolute(), profile, signs.run)
        asked = settings_of("ray", RaySettings)
        return open_ray(task, chosen.cluster, asked, chosen.workers, chosen.cards)
    from sfrbench.run.executors.inline import InlinePool
    from sfrbench.run.executors.node import Worker

    worker = Worker.of(store, chosen.machine, profile)
    signs.computes_on(worker.device)
    return InlinePool(worker, signs)
