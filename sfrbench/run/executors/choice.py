"""Which executor a run takes, and its pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sfrbench.errors import InputError, NotReadyError
from sfrbench.machine import accelerator, driver
from sfrbench.machine.accelerator import Answer, Card
from sfrbench.machine.needs import Machine
from sfrbench.machine.refusal import UNTESTED, Wish, fallback, refusal
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
        if self.executor == "inline" and len(self.gpus) > 1:
            hint = "leave --executor out, or say --executor local"
            raise InputError(
                "executor 'inline' has one card", where=f"--gpus {','.join(self.gpus)}", hint=hint
            )


@dataclass(frozen=True)
class Chosen:
    """An executor, and what its processes have; ``notes``: what a user should know of it."""

    executor: Name
    machine: Machine
    workers: int | None = None
    cards: tuple[str, ...] = ()  # of several processes, as CUDA_VISIBLE_DEVICES names them
    cluster: Joined | None = None
    notes: tuple[str, ...] = ()
    gpu: str = ""  # torch's name here of the (first) one that computes; empty: none of this machine


def computes_here(how: How) -> bool:
    """Whether it is this machine that needs a GPU, where a plan insists on one."""
    return how.executor != "slurm" and (how.executor != "ray" or named_cluster() is None)


def choose(how: How, machine: Machine, profile: str = "") -> Chosen:
    """What was asked for; else one process for each GPU that is seen and one for what needs none, where there
    are several or the run needs one; and this process otherwise.

    ``profile``: of a run that needs an accelerator. Asks torch where one is wanted or may be here. Raises
    ``NotReadyError`` with what is missing of what is wanted; jobs of a cluster ask on their own machines.
    """
    if how.executor == "slurm":
        return Chosen("slurm", machine)
    cluster = named_cluster() if how.executor == "ray" else None
    if cluster is not None:
        return _elsewhere(how, machine, bool(profile), cluster)
    if machine.device == "cpu" and how.gpus:
        raise InputError("--device cpu uses no GPU", where="--gpus", hint="leave one of the two out")
    wish = Wish(machine.device, profile, how.gpus)
    if not wish.insists and (wish.device == "cpu" or not driver.may_be_here()):
        return _chosen(how, machine, ())
    answer = accelerator.ask()
    problem = refusal(answer, wish)
    if problem is not None:
        raise NotReadyError.of([problem])
    cards = _cards(answer, wish)
    if cards:
        return _chosen(how, machine, cards, insists=bool(profile))
    if not wish.insists:
        return _chosen(how, machine, (), fallback(answer))
    return _chosen(how, replace(machine, device="mps"), (), UNTESTED)


def _chosen(how: How, machine: Machine, cards: Sequence[Card], *notes: str, insists: bool = False) -> Chosen:
    """The executor of these cards, each of which one process of several has. With one card, too: beside its
    trainings another process evaluates."""
    beside = len(cards) > 1 or (len(cards) == 1 and insists)
    several = how.gpus or (how.workers or 1) > 1 or (not how.workers and beside)
    executor = how.executor or ("local" if several else "inline")
    gpu = f"cuda:{cards[0].index}" if cards else "mps" if machine.device == "mps" else ""
    if executor == "inline":
        machine = replace(machine, device=gpu if how.gpus else machine.device)
        return Chosen(executor, machine, notes=notes, gpu=gpu)
    if cards:
        machine = replace(machine, device="cuda")
    named = tuple(card.visible for card in cards)
    return Chosen(executor, machine, how.workers, named, notes=notes, gpu=gpu)


def _cards(answer: Answer, wish: Wish) -> Sequence[Card]:
    """The cards of a run that is not refused them; none: it has another device."""
    if wish.gpus:
        return [card for name in wish.gpus for card in answer.cards if card.visible == name]
    if wish.device.startswith("cuda:"):
        return [card for card in [answer.card(wish.device)] if card is not None]
    return () if wish.device == "mps" else answer.usable


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
