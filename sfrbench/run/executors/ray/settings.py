"""What a site says of its Ray cluster, and what a task asks of it: pure, without Ray."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from sfrbench.errors import InputError, NotReadyError
from sfrbench.files.units import counted
from sfrbench.places.locations import config_file
from sfrbench.run.executors.settings import ExecutorSettings, settings_of

#: Where Ray itself looks for a cluster.
VARIABLE = "RAY_ADDRESS"
_NEAR = 1e-6  # fractions of a GPU add up to this


class RaySettings(ExecutorSettings):
    """``executors: {ray: {...}}``."""

    address: str = Field(
        "", description="host:port of the head of a cluster, or auto; else a cluster of this machine is made"
    )
    gpus_per_task: float = Field(1.0, gt=0, le=1, description="a half: two trainings share one card")
    cpus_per_task: int | None = Field(
        None, ge=1, le=1024, description="cores and threads of a task; default: what its stage keeps busy"
    )


@dataclass(frozen=True)
class Joined:
    """The cluster that somebody has named, and where."""

    address: str
    where: str


def named_cluster() -> Joined | None:
    """The existing cluster to use; none: one is made for the run. The environment goes before the file."""
    given = os.environ.get(VARIABLE, "")
    joined = Joined(given, f"{VARIABLE}={given}")
    if not given:
        given = settings_of("ray", RaySettings).address
        joined = Joined(given, f"{config_file()}  executors: ray: address: {given}")
    if given in ("", "local"):
        return None
    if given.startswith("ray://"):
        hint = "start sfrbench on a machine of the cluster, and give host:port of its head, or auto"
        raise InputError("an address of a Ray client is of no use here", where=joined.where, hint=hint)
    if given != "auto" and not given.rpartition(":")[2].isdigit():
        raise InputError("no address of a Ray cluster", where=joined.where, hint="host:port, or auto")
    return joined


@dataclass(frozen=True)
class Size:
    """What a machine of a cluster has, or a task takes."""

    cpus: float
    gpus: float = 0.0

    def __str__(self) -> str:
        cpus = counted(self.cpus, "CPU")
        return f"{cpus} and {counted(self.gpus, 'GPU')}" if self.gpus else cpus

    def holds(self, other: Size) -> int:
        """How many of the others it has room for."""
        count = int(self.cpus // other.cpus)
        return min(count, int((self.gpus + _NEAR) // other.gpus)) if other.gpus else count

    def less(self, others: Sequence[Size]) -> Size:
        """What is left beside the others."""
        cpus = self.cpus - sum(other.cpus for other in others)
        return Size(cpus, self.gpus - sum(other.gpus for other in others))


def size_of(cores: int, gpus: float, machines: Sequence[Size]) -> Size:
    """What a task takes that keeps so many ``cores`` busy: no more than there are, and with GPUs no more than
    its share of a machine that is fully used."""
    able = [machine for machine in machines if machine.holds(Size(1, gpus))]
    if not able:  # it waits for a machine that comes
        return Size(cores, gpus)
    if not gpus:
        return Size(min(cores, max(int(machine.cpus) for machine in able)))
    shares = [int(machine.cpus // int((machine.gpus + _NEAR) // gpus)) for machine in able]
    return Size(min(cores, max(1, min(shares))), gpus)


def task_size(
    cores: int, gpus: float, settings: RaySettings, machines: Sequence[Size], sharing: int | None
) -> Size:
    """The same with what the site says; ``sharing``: so many tasks have all of the cluster's cores."""
    if settings.cpus_per_task is not None:
        cores = settings.cpus_per_task
    elif sharing is not None:
        whole = sum(machine.cpus for machine in machines)
        cores = min(cores, max(1, int(whole // sharing)))
    return size_of(cores, gpus, machines)


def gpus_of(device: str, settings: RaySettings, machines: Sequence[Size]) -> float:
    """What a task of an accelerated stage takes, with this ``--device``. Raises ``NotReadyError`` where no
    machine has a card and one is wanted."""
    if device == "cpu":
        return 0.0
    if any(machine.gpus for machine in machines):
        return settings.gpus_per_task
    if device != "auto":
        hint = "use --device cpu, or add machines with GPUs"
        raise NotReadyError("the Ray cluster has no GPU", where=f"--device {device}", hint=hint)
    return 0.0


def have_room(size: Size, machines: Sequence[Size], taken: Sequence[Size]) -> bool:
    """Whether one more task fits beside those that have ``taken`` their part."""
    whole = Size(sum(machine.cpus for machine in machines), sum(machine.gpus for machine in machines))
    alike = sum(other == size for other in taken)
    return bool(whole.less(taken).holds(size)) and alike < sum(machine.holds(size) for machine in machines)
