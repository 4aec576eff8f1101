"""What a simulated user said of one case, from the artefact of the stage ``interact``."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BaseModel, Field

from sfrbench.components.base_prompts import Said
from sfrbench.errors import DataError
from sfrbench.files.atomic import read_state
from sfrbench.store.store import Artefact

Shape = TypeVar("Shape")
Whole = Annotated[int, Field(ge=0, lt=2**31)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Said(BaseModel):
    """``Said.told``, as it may come from anybody."""

    clicks: list[tuple[Whole, Whole, Whole, Whole]] = []
    boxes: list[tuple[Whole, Whole, Whole, Whole, Whole, Whole]] = []
    absent: list[Whole] = []
    span: tuple[Whole, Whole] | None = None


class _Object(BaseModel):
    said: list[_Said]
    seconds: list[Seconds]


def file_of(artefact: Artefact, file: str, shape: type[Shape]) -> Shape:
    """A small file of an artefact. Raises ``DataError`` where it holds something else."""
    found = read_state(artefact.path(file), shape)
    if found is None:
        what = f"{file} of {artefact.stage} {artefact.key[:12]} does not hold what it should"
        raise DataError(what, hint=f"delete the folder {artefact.folder} and run again")
    return found


def talk_of(artefact: Artefact, case: str) -> dict[str, _Object]:
    """The talk about one case, by class. Raises ``DataError`` where the file holds none."""
    return file_of(artefact, f"said/{case}.json", dict[str, _Object])


def said_until(artefact: Artefact, case: str, rounds: int) -> list[Said]:
    """What was said of all objects of a case in the first ``rounds`` rounds."""
    talk = talk_of(artefact, case).values()
    return [Said.of(said.model_dump()) for own in talk for said in own.said[:rounds]]


def seconds_until(artefact: Artefact, case: str, rounds: int) -> float:
    """How long the model took for its answers in the first ``rounds`` rounds."""
    return float(sum(sum(own.seconds[:rounds]) for own in talk_of(artefact, case).values()))
