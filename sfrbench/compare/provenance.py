"""The shape of a report's provenance.json, which may come from anybody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from sfrbench.errors import InputError
from sfrbench.files.atomic import parse_state, read_file
from sfrbench.files.formats import unreadable

Link = Annotated[str, Field(pattern=r"^\w+/\w[\w.-]*$")]  # stage/key


class _Git(BaseModel):
    commit: str
    dirty: bool


class _Empty(BaseModel, extra="forbid"):
    """What stands for the state of the code in an installed package."""


class _Node(BaseModel):
    inputs: list[Link]
    git: _Git | _Empty | None = None
    version: str | None = None
    started: str | None = None
    seconds: float | None = None
    device: str | None = None


class _Cell(BaseModel):
    arm: str
    label: str
    axes: dict[str, Any]
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)]
    score: str


class _Side(BaseModel):
    """What the number of one arm stands on."""

    arm: str = ""
    cells: dict[str, str] | list[str] = {}
    missing: dict[str, str] = {}
    evaluate: list[str] = []
    select: list[str] = []
    models: list[str] = []


class _Row(_Side):
    row: str
    paper: str = ""
    match: dict[str, str]
    reason: str = ""
    sides: list[_Side] = []

    @property
    def every_cell(self) -> Iterator[str]:
        for side in (self, *self.sides):
            yield from side.cells.values() if isinstance(side.cells, dict) else side.cells


class _Provenance(BaseModel):
    format: int = 1
    experiment: str
    profile: str
    protocol: dict[str, Any] = {}
    spec: str = ""
    spec_sha256: str = ""
    set: list[str] = []
    cells: dict[str, _Cell]
    nodes: dict[str, dict[str, Link]]
    records: dict[str, _Node]
    shown: dict[str, list[_Row]]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        named = {cell for rows in self.shown.values() for row in rows for cell in row.every_cell}
        lost = sorted((named | self.cells.keys()) - self.nodes.keys())
        if lost:
            raise ValueError(f"nothing is said of the nodes of cell '{lost[0]}'")
        return self


def read_provenance(file: Path) -> Mapping[str, Any]:
    """What a provenance.json holds. Raises ``InputError`` where it is none, or lacks what is asked of it."""
    try:
        text = read_file(file)
    except OSError as error:
        hint = "give the folder of a report, as 'sfrbench report' prints it"
        raise InputError(f"no report here: {error.strerror}", where=str(file), hint=hint) from error
    held = parse_state(text, dict[str, Any]) or {}
    later = unreadable(held.get("format", 1), "provenance.json", str(file))
    if later is not None:
        raise InputError.of([later])
    try:
        known = _Provenance.model_validate_json(text)
    except ValidationError as error:
        fault = error.errors()[0]
        at = ".".join(map(str, fault["loc"]))
        said = fault["msg"].removeprefix("Value error, ")
        what = f"this provenance.json does not hold what is needed: {f'{at}: ' if at else ''}{said}"
        hint = "write the report again with 'sfrbench report'"
        raise InputError(what, where=str(file), hint=hint) from error
    defaults = {
        "protocol": known.protocol,
        "spec": known.spec,
        "spec_sha256": known.spec_sha256,
        "set": known.set,
    }
    return {**defaults, **held}
