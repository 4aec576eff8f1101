"""The form of the files of published tables: strict models, and what a model alone cannot check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from sfrbench.components.base import Settings
from sfrbench.errors import Problem, did_you_mean
from sfrbench.files.yamlio import Document, Where


def _cell(value: object) -> object:
    """One message for what is none of the three, where a union would give one for each."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    if number or value is None or value == "0*":
        return value
    raise ValueError(f"a cell is a number, 0* or ~ (nothing printed), not {value!r}")


#: A printed number, ``0*`` for an organ that was never found, or none where the paper prints nothing.
Cell = Annotated[float | Literal["0*"] | None, BeforeValidator(_cell)]


class _Strict(Settings):
    model_config = ConfigDict(strict=True)


class Column(_Strict):
    """What a column measures; a value of an organ, of all foreground, or the mean over the organs."""

    metric: Literal["dice", "jaccard", "asd", "hd95", "params"]
    unit: Literal["%", "voxel", "M"]
    dataset: str | None = Field(None, description="where a table spans several; else that of the table")
    organ: str | None = None
    average: bool = Field(False, description="the mean over the organs")
    printed: str = Field("", description="the heading, where it is misspelt")


class Setting(_Strict):
    """Volumes with and without labels, per dataset where a table spans several; or how much was prompted."""

    annotations: Literal["moderate", "scarce"] | None = Field(None, description="where the table says so")
    labeled: int | dict[str, int] | None = None
    unlabeled: int | dict[str, int] | None = None
    prompt: str = Field("", description="'click', where the table says that a model was prompted")
    number: int | None = Field(None, description="of prompts, under the heading Number")
    frequency: int | None = Field(None, description="of prompts, under the heading Frequency")

    @property
    def prompts(self) -> int | None:
        """Number or frequency; none where nothing was prompted."""
        return self.number if self.frequency is None else self.frequency

    @property
    def text(self) -> str:
        """Such as ``16/64``, ``moderate``, ``click, number 2`` or ``click, frequency 2``."""
        if self.prompt:
            return f"{self.prompt}, {'number' if self.frequency is None else 'frequency'} {self.prompts}"
        parts = (self.labeled, self.unlabeled)
        return self.annotations or "/".join(str(part) for part in parts if part is not None)

    @model_validator(mode="after")
    def _one_of_two(self) -> Setting:
        if [self.number, self.frequency].count(None) != (1 if self.prompt else 2):
            raise ValueError("'prompt' has either a number or a frequency, and these need it")
        return self

    def counts(self, dataset: str | None) -> set[int]:
        """Numbers of labelled volumes: on ``dataset``, or on every dataset if it is None."""
        if not isinstance(self.labeled, Mapping):
            return set() if self.labeled is None else {self.labeled}
        return {count for name, count in self.labeled.items() if dataset in (None, name)}


class Gain(_Strict):
    """The numbers after an arrow: how far a row lies above (or, negative, below) another of its group."""

    over: str
    by: dict[str, float] = Field(min_length=1, description="column -> difference")


class Group(_Strict):
    setting: Setting
    rows: dict[str, list[Cell]] = Field(min_length=1, description="method -> one cell per column")
    gains: dict[str, Gain] = {}


class Erratum(_Strict):
    """Where the paper contradicts itself. ``value`` and ``gain`` contradict other cells of the table."""

    what: Literal["value", "gain", "emphasis", "text"]
    row: str | None = None
    column: str | None = None
    place: str = Field("", description="'text' only: where in the paper")
    printed: float | str
    recomputed: float | None = None
    note: str = Field(min_length=1)

    @property
    def where(self) -> str:
        return self.place or f"{self.row}, {self.column}"


class Told(_Strict):
    """What paper, code or others say of one point of the protocol, by source; or that none does."""

    text: str = Field("", description="the paper itself")
    code: str = Field(
        "", description="the authors' released code, where the text is silent or says otherwise"
    )
    other: str = Field("", description="another source, which it names")
    unstated: str = Field("", description="what nobody tells")

    @model_validator(mode="after")
    def _something(self) -> Told:
        if not any((self.text, self.code, self.other, self.unstated)):
            raise ValueError("give at least one of text, code, other, unstated")
        return self

    @property
    def said(self) -> list[str]:
        """What is told, by whoever tells it."""
        return [" ".join(part.split()) for part in (self.text, self.code, self.other) if part]

    @property
    def shown(self) -> str:
        """All of it, each part marked with who tells it."""
        parts = [f"{part} ({by})" for part, by in ((self.text, "text"), (self.code, "code")) if part]
        parts += [self.other] if self.other else []
        parts += [f"unstated: {self.unstated}"] if self.unstated else []
        return " ".join("; ".join(parts).split())


class RecipeFile(_Strict):
    """What paper and code say of SFR's own training; it holds for every table."""

    source: str
    protocol: dict[str, Told] = Field(min_length=1)


class TableFile(_Strict):
    table: str
    title: str
    source: str
    test_cases: dict[str, int | None] = Field(min_length=1, description="dataset -> n, none where unstated")
    protocol: dict[str, Told]
    columns: dict[str, Column] = Field(min_length=1)
    groups: list[Group] = Field(min_length=1)
    errata: list[Erratum] = []
    legend: list[str] = Field([], description="how the cells are read")
    notes: list[str] = Field([], description="what else is told of the table")


def column_faults(document: Document, file: TableFile) -> Iterator[Problem]:
    """Columns with the unit of another metric, or of no dataset of the table."""
    units = {"dice": "%", "jaccard": "%", "asd": "voxel", "hd95": "voxel", "params": "M"}
    for name, column in file.columns.items():
        where = document.where("columns", name)
        if column.unit != units[column.metric]:
            yield Problem(where, f"{name}: {column.metric} has unit '{units[column.metric]}'")
        if column.dataset is None and len(file.test_cases) > 1 and column.metric != "params":
            yield Problem(where, f"{name}: 'dataset' is missing; the table spans several")
        if column.dataset not in (None, *file.test_cases):
            hint = did_you_mean(str(column.dataset), file.test_cases)
            yield Problem(where, f"{name}: no dataset '{column.dataset}' in test_cases", hint)


def group_faults(document: Document, file: TableFile) -> Iterator[Problem]:
    """Rows that do not fit the columns or stand twice, and gains of rows that are not there."""
    known: set[tuple[str, str]] = set()
    for index, group in enumerate(file.groups):
        at: Where = ("groups", index)
        for method, cells in group.rows.items():
            where = document.where(*at, "rows", method)
            if (method, group.setting.text) in known:
                yield Problem(where, f"a second row '{method}' of setting {group.setting.text}")
            known.add((method, group.setting.text))
            if len(cells) != len(file.columns):
                yield Problem(where, f"{method}: {len(cells)} cells for {len(file.columns)} columns")
            for name, cell in zip(file.columns, cells, strict=False):
                if file.columns[name].unit == "%" and isinstance(cell, float) and cell > 100:
                    yield Problem(where, f"{method}: {cell:g} in column {name} is above 100 %")
        for method, gain in group.gains.items():
            where = document.where(*at, "gains", method)
            for name in (method, gain.over):
                if name not in group.rows:
                    yield Problem(where, f"no row '{name}' in this group", did_you_mean(name, group.rows))
            for name in gain.by:
                if name not in file.columns:
                    yield Problem(where, f"no column '{name}'", did_you_mean(name, file.columns))
