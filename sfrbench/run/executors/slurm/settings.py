"""What a site says of its SLURM: the section ``executors: {slurm: ...}`` of the configuration file.

What it leaves open comes from the needs that the stages state.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from sfrbench.errors import did_you_mean, shown
from sfrbench.run.executors.settings import ExecutorSettings, settings_of
from sfrbench.stages.finder import recipe_of, recipes

T = TypeVar("T")

_OURS = (
    *("array", "chdir", "comment", "dependency", "error", "job-name", "kill-on-invalid-dep", "no-requeue"),
    *("nodes", "ntasks", "open-mode", "output", "parsable", "requeue", "test-only", "wait", "wrap"),
)
#: Options of sbatch that are fields here, or that the jobs' bookkeeping rests on.
_TAKEN: Mapping[str, str] = {
    **{name: f"use '{name}'" for name in ("partition", "account", "qos", "gres")},
    "cpus-per-task": "use 'cpus'",
    "mem": "use 'memory'",
    "time": "use 'hours'",
    "signal": "use 'lead'",
    **dict.fromkeys(_OURS, "it is set for every job"),
}
_GB = {"small": 4.0, "medium": 16.0, "large": 64.0}
_HOURS = {"seconds": 0.5, "minutes": 2.0, "hours": 24.0}


class Resources(ExecutorSettings):
    """What is asked for the jobs of one stage, or of all."""

    partition: str | None = Field(None, min_length=1)
    account: str | None = Field(None, min_length=1)
    qos: str | None = Field(None, min_length=1)
    gres: str | None = Field(
        None, description="of stages that a GPU makes faster, as in gpu:a100:1; default gpu:1, '' for none"
    )
    cpus: int | None = Field(None, ge=1, le=1024, description="cores of a job")
    memory: float | None = Field(None, gt=0, description="GB of a job")
    #: A training goes on in the job that is queued again, so that this may be less than it takes.
    hours: float | None = Field(None, gt=0, le=8760, description="time limit of a job")
    options: dict[str, str | int | float | bool] = Field({}, description="further options of sbatch")

    @field_validator("options")
    @classmethod
    def _free(cls, options: dict[str, Any]) -> dict[str, Any]:
        for name, value in options.items():
            if not re.fullmatch(r"[a-z][a-z-]*", name):
                said = {"name": shown(name)}
                text = "{name} is no option: give the long form, without dashes before it"
                raise PydanticCustomError("option", text, said)
            if name in _TAKEN:
                said = {"name": name, "remedy": _TAKEN[name]}
                raise PydanticCustomError("option", "'{name}' is not free: {remedy}", said)
            if "\n" in str(value):
                raise PydanticCustomError("option", "'{name}' has more than one line", {"name": name})
        return options


class SlurmSettings(Resources):
    """``executors: {slurm: {...}}``."""

    setup: list[str] = Field([], description="lines of shell before the work, as in 'module load cuda'")
    python: str | None = Field(None, description="interpreter on the cluster; default: the one in use")
    retries: int = Field(2, ge=0, le=100, description="how often a job that crashed is submitted again")
    lead: int = Field(120, ge=1, le=3600, description="seconds before the time limit at which a job saves")
    most: int = Field(500, ge=1, le=100_000, description="jobs that are in the queue at once")
    poll: float = Field(10, ge=0.2, le=600, description="seconds between two questions to SLURM")
    at_once: int = Field(256, ge=1, le=100_000, description="jobs of one array that run at once")
    array: int = Field(1000, ge=1, le=100_000, description="jobs of one array (MaxArraySize)")
    stages: dict[str, Resources] = Field({}, description="stage -> what differs for it")

    @field_validator("stages")
    @classmethod
    def _known(cls, stages: dict[str, Resources]) -> dict[str, Resources]:
        for name in stages:
            if name not in recipes():
                hint = did_you_mean(name, recipes())
                raise PydanticCustomError(
                    "stage", "no stage {name}: {hint}", {"name": shown(name), "hint": hint}
                )
        return stages


@dataclass(frozen=True)
class Shape:
    """What one job asks for. Jobs of equal shape may be one array."""

    partition: str | None
    account: str | None
    qos: str | None
    gres: str | None
    cpus: int
    memory: float  # GB
    hours: float
    options: tuple[tuple[str, str | int | float | bool], ...]


def read_settings() -> SlurmSettings:
    """Raises ``InputError`` with all that is wrong."""
    return settings_of("slurm", SlurmSettings)


def heaviest_first(stages: Iterable[str]) -> list[str]:
    """Stages in the order of what they want, for a job that does the work of all of them."""
    needs = {stage: recipe_of(stage).needs for stage in sorted(stages)}

    def weight(stage: str) -> tuple[float, bool, float, int]:
        need = needs[stage]
        return _HOURS[need.duration], need.accelerator, _GB[need.memory], need.cores

    return sorted(needs, key=weight, reverse=True)


def shape_of(stages: Sequence[str], settings: SlurmSettings, *, gpu: bool) -> Shape:
    """What a job of these stages asks for: of cores, memory and hours the most that one of them wants, the
    rest as for the first, which heads it. ``gpu``: whether the work is to use one at all."""
    own = [settings.stages.get(stage, Resources()) for stage in stages]
    needs = [recipe_of(stage).needs for stage in stages]

    def said(pick: Callable[[Resources], T | None], each: Resources) -> T | None:
        value = pick(each)
        return pick(settings) if value is None else value

    def most(pick: Callable[[Resources], float | None], defaults: Sequence[float]) -> float:
        given = [said(pick, each) for each in own]
        return max(
            value if value is not None else least for value, least in zip(given, defaults, strict=True)
        )

    wanted = [each for each, need in zip(own, needs, strict=True) if need.accelerator and gpu]
    gres = ["gpu:1" if (given := said(lambda one: one.gres, each)) is None else given for each in wanted]
    return Shape(
        partition=said(lambda each: each.partition, own[0]),
        account=said(lambda each: each.account, own[0]),
        qos=said(lambda each: each.qos, own[0]),
        gres=next(filter(None, gres), None),
        cpus=int(most(lambda each: each.cpus, [need.cores for need in needs])),
        memory=most(lambda each: each.memory, [_GB[need.memory] for need in needs]),
        hours=most(lambda each: each.hours, [_HOURS[need.duration] for need in needs]),
        options=tuple(sorted({**settings.options, **own[0].options}.items())),
    )
