"""Numbers of the formats that outlive a version. docs/explanation/formats.md says what each number means.

A file of before there were numbers is of format 1. A field that readers can do without is no new number; one
that goes, or comes to mean something else, is, and the page says what becomes of files of before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sfrbench.errors import InputError, Problem
from sfrbench.files.atomic import read_state

#: File -> the format in which this version writes it, and up to which it reads.
FORMATS: Mapping[str, int] = {
    "record.json": 1,  # of an artefact
    "journal": 1,  # of the last run of an experiment
    "provenance.json": 1,  # of a report
    "config.json": 1,  # of an exported model
}


def unreadable(number: Any, name: str, where: str = "") -> Problem | None:
    """Why a file that gives this as its format is not read, and what to do; None where this version reads
    it."""
    known = FORMATS[name]
    if type(number) is not int or number < 1:
        what = f"{str(number)[:20]!r} is no format of {name}: a number from 1 to {known} is needed"
        return Problem(where, what, "something has changed the file: take it from a copy, or make it anew")
    if number <= known:
        return None
    told = f"format {number!s:.20} of {name}, and this one reads {known}"
    what = f"written by a later version of sfrbench: {told}"
    return Problem(where, what, "read it with that version or a newer one")


def unreadable_file(path: Path, name: str) -> Problem | None:
    """The same of a JSON file; None also where that is missing or broken, which others say."""
    return unreadable(_format_of(path), name, str(path))


def check_replaced(path: Path, name: str) -> None:
    """Raises ``InputError`` where a file lies that a later version wrote, and that would be written over."""
    number = _format_of(path)
    fault = unreadable(number, name, str(path))
    if fault is not None and type(number) is int and number > FORMATS[name]:
        hint = "use that version or a newer one, or write elsewhere (--workspace), or move this folder away"
        raise InputError(f"{fault.what}; it is not replaced", where=fault.where, hint=hint)


def _format_of(path: Path) -> Any:
    """What a JSON file gives as its format; 1 of one that gives none, is missing or broken."""
    return (read_state(path, dict[str, Any]) or {}).get("format", 1)


def readable(name: str) -> Callable[[int], int]:
    """Checks the field ``format`` of a model. Raises ``ValueError`` for one that is not read here."""

    def check(number: int) -> int:
        fault = unreadable(number, name)
        if fault is not None:
            raise ValueError(fault.what)
        return number

    return check
