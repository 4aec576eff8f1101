"""What a site says of its executors: the section ``executors`` of the user's configuration file.

Nothing here is in a specification, and nothing of it in a key.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sfrbench.errors import InputError, Problem, did_you_mean
from sfrbench.places.locations import config_file

S = TypeVar("S", bound="ExecutorSettings")


class ExecutorSettings(BaseModel):
    """The fields of one executor."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class LocalSettings(ExecutorSettings):
    """``executors: {local: {...}}``."""

    workers_per_gpu: int = Field(1, ge=1, le=16, description="trainings that share one card")
    host_workers: int | None = Field(
        None, ge=0, le=256, description="processes for stages without a GPU; default: 1 where cards are used"
    )


#: Executor -> its fields; others stand beside their executors.
NAMES = ("local", "slurm", "ray")


def settings_of(name: str, kind: type[S]) -> S:
    """The settings of one executor; defaults where file or section is absent.

    Raises ``InputError`` with all that is wrong, by file and line.
    """
    path = config_file()
    if not path.is_file():
        return kind()
    from sfrbench.files.yamlio import load

    document = load(path)
    section = document.data.get("executors") or {}
    if not isinstance(section, dict):
        hint = "executors: {local: {workers_per_gpu: 2}}"
        raise InputError("'executors' must be a mapping", where=document.where("executors"), hint=hint)
    problems = [
        Problem(document.where("executors", each), f"no executor '{each}'", did_you_mean(str(each), NAMES))
        for each in section
        if each not in NAMES
    ]
    try:
        found = kind.model_validate(section.get(name) or {})
    except ValidationError as error:
        for fault in error.errors():
            at = [part for part in fault["loc"] if isinstance(part, str | int)]
            unknown = fault["type"] == "extra_forbidden"
            what = f"no field '{at[-1]}'" if unknown else fault["msg"]
            hint = did_you_mean(str(at[-1]), kind.model_fields) if unknown and len(at) == 1 else ""
            problems.append(Problem(document.where("executors", name, *at), what, hint))
    if problems:
        raise InputError.of(problems)
    return found
