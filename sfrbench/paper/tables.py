"""The paper's Tables I to XV as printed, from ``reports/published/table01.yaml`` and so on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ValidationError

from sfrbench.catalog.faults import form_problem
from sfrbench.errors import InputError, Problem, did_you_mean
from sfrbench.files.roots import shipped
from sfrbench.files.yamlio import Document, load
from sfrbench.paper.form import (
    Column,
    Erratum,
    Gain,
    RecipeFile,
    Setting,
    TableFile,
    Told,
    column_faults,
    group_faults,
)

#: The names of the tables; that of number n stands at n - 1.
ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII", "XIV", "XV")
File = TypeVar("File", RecipeFile, TableFile)


@dataclass(frozen=True)
class Value:
    """One printed number, in the unit of its column."""

    number: float
    unit: Literal["%", "voxel", "M"]
    found: bool = True  #: False for ``0*``: every pixel of the organ was predicted as something else
    erratum: Erratum | None = None

    @property
    def text(self) -> str:
        """As printed."""
        if not self.found:
            return "0*"
        return f"{self.number:g}" if self.unit == "M" else f"{self.number:.2f}"


@dataclass(frozen=True)
class PaperRow:
    """A method in a setting, with what the paper prints for it by column (none: nothing)."""

    method: str
    setting: Setting
    values: Mapping[str, Value | None]
    gains: Gain | None = None

    def named(self, name: str) -> bool:
        """Whether ``name`` means this row: its method, or its label."""
        return name in (self.method, self.label)

    @property
    def label(self) -> str:
        """The method with its setting, such as ``MT (16/64)`` or ``V-Net (LB, 16/0)``."""
        if self.method.endswith(")"):
            return f"{self.method[:-1]}, {self.setting.text})"
        return f"{self.method} ({self.setting.text})"


@dataclass(frozen=True)
class Published:
    """One table; rows and columns in the paper's order."""

    table: str
    title: str
    source: str
    test_cases: Mapping[str, int | None]
    protocol: Mapping[str, Told]
    columns: Mapping[str, Column]
    rows: tuple[PaperRow, ...]
    errata: tuple[Erratum, ...]
    notes: tuple[str, ...]

    def dataset_of(self, column: str) -> str | None:
        """The dataset that a column is about; None for sizes of models in a table of several datasets."""
        own = self.columns[column].dataset
        return own or (next(iter(self.test_cases)) if len(self.test_cases) == 1 else None)

    def named(self, name: str) -> list[PaperRow]:
        """The rows that a method's name or a row's label means."""
        return [row for row in self.rows if row.named(name)]

    @property
    def names(self) -> list[str]:
        """What rows are called: every method, and where one has several rows, every label."""
        methods = [row.method for row in self.rows]
        several = [row.label for row in self.rows if methods.count(row.method) > 1]
        return list(dict.fromkeys([*methods, *several]))

    def find(self, label: str, column: str, *, labeled: int | None = None) -> Value | None:
        """The number in ``column`` of the row that ``label`` names, with or without its setting.

        ``labeled`` tells rows of one method apart by their labelled volumes. None where the table has no
        such row or prints nothing there. Raises ``InputError`` for an unknown column and for several rows.
        """
        if column not in self.columns:
            raise InputError(
                f"Table {self.table} has no column '{column}'", hint=did_you_mean(column, self.columns)
            )
        rows = self.named(label)
        if labeled is not None:
            rows = [row for row in rows if labeled in row.setting.counts(self.dataset_of(column))]
        if len(rows) > 1:
            raise InputError(
                f"Table {self.table} has several rows '{label}'",
                hint="take one of: " + ", ".join(row.label for row in rows),
            )
        return rows[0].values[column] if rows else None


#: What specifications call the tables: ``table01`` and so on, the names of their files.
TABLES = tuple(f"table{number:02}" for number in range(1, len(ROMAN) + 1))


@cache
def published(number: int) -> Published:
    """Table ``number`` (1 to 15) of the paper. Raises ``InputError`` with the places of all faults."""
    if not 1 <= number <= len(ROMAN):
        raise InputError(f"the paper has no table {number}", hint=f"it has 1 to {len(ROMAN)}")
    path = shipped("reports") / "published" / f"{TABLES[number - 1]}.yaml"
    table = read_table(path)
    if table.table != ROMAN[number - 1]:
        raise InputError(f"holds Table {table.table}, not {ROMAN[number - 1]}", where=str(path))
    return table


def published_as(name: str) -> Published:
    """The table of a name in ``TABLES``."""
    if name not in TABLES:
        raise InputError(f"no table '{name}' of the paper", hint=did_you_mean(name, TABLES))
    return published(TABLES.index(name) + 1)


@cache
def recipe() -> Mapping[str, Told]:
    """What the paper and its code tell of SFR's own training. Raises ``InputError`` as ``published``."""
    return _read(shipped("reports") / "published" / "recipe.yaml", RecipeFile)[1].protocol


def _read(path: Path, form: type[File]) -> tuple[Document, File]:
    document = load(path)
    try:
        return document, form.model_validate(document.data)
    except ValidationError as error:
        raise InputError.of([form_problem(document, fault, (), form) for fault in error.errors()]) from error


def read_table(path: Path) -> Published:
    """A file of one table. Raises ``InputError`` with file, line and column of all faults."""
    document, file = _read(path, TableFile)
    problems = [*column_faults(document, file), *group_faults(document, file)]
    if not problems:  # errata point into sound rows
        problems += _erratum_faults(document, file)
    if problems:
        raise InputError.of(problems)
    return Published(
        table=file.table,
        title=file.title,
        source=file.source,
        test_cases=file.test_cases,
        protocol=file.protocol,
        columns=file.columns,
        rows=tuple(_rows(file)),
        errata=tuple(file.errata),
        notes=tuple(file.notes),
    )


def _rows(file: TableFile) -> Iterator[PaperRow]:
    wrong = {(erratum.row, erratum.column): erratum for erratum in file.errata if erratum.what == "value"}
    for group in file.groups:
        for method, cells in group.rows.items():
            row = PaperRow(method, group.setting, {}, group.gains.get(method))
            values: dict[str, Value | None] = dict.fromkeys(file.columns)
            for (name, column), cell in zip(file.columns.items(), cells, strict=True):
                if cell is not None:
                    erratum = wrong.get((method, name)) or wrong.get((row.label, name))
                    number = 0.0 if cell == "0*" else cell
                    values[name] = Value(number, column.unit, cell != "0*", erratum)
            yield replace(row, values=values)


def _erratum_faults(document: Document, file: TableFile) -> Iterator[Problem]:
    rows = list(_rows(file))
    for index, erratum in enumerate(file.errata):
        where = document.where("errata", index)
        if erratum.what == "text":
            if not erratum.place or erratum.row or erratum.column:
                yield Problem(where, "an erratum of the text has a 'place', and neither row nor column")
            continue
        hits = [row for row in rows if row.named(str(erratum.row))]
        if len(hits) != 1 or erratum.column not in file.columns or erratum.place:
            yield Problem(where, "an erratum names one row and one column of the table, and no 'place'")
            continue
        if erratum.what in ("value", "gain") and erratum.recomputed is None:
            yield Problem(where, "'recomputed' is missing")
        value, gains = hits[0].values[erratum.column], hits[0].gains
        shown = value.number if value else None
        if erratum.what == "gain":
            shown = gains.by.get(erratum.column) if gains else None
        if erratum.printed != shown:
            yield Problem(where, f"printed: {erratum.printed} is not the table's {shown}")
