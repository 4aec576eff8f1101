"""Numbers of the formats that outlive a version. docs/explanation/formats.md says what each number means.

A file of before there were numbers is of format 1. A field that readers can do without is no new number; one
that goes, or comes to mean something else, is, and the page says what becomes of files of before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

#: File -> the format in which this version writes it, and up to which it reads.
FORMATS: Mapping[str, int] = {
    "record.json": 1,  # of an artefact
    "journal": 1,  # of the last run of an experiment
    "provenance.json": 1,  # of a report
    "config.json": 1,  # of an exported model
}
HINT = "read it with that version or a newer one"


def later(number: Any, name: str) -> str:
    """What is wrong with a file that gives this as its format; empty where this version reads it."""
    known = FORMATS[name]
    if type(number) is int and 1 <= number <= known:
        return ""
    if type(number) is not int or number < 1:
        return f"{str(number)[:20]!r} is no format of {name}: a number from 1 to {known} is needed"
    told = f"format {number!s:.20} of {name}, and this one reads {known}"
    return f"written by a later version of sfrbench: {told}"


def readable(name: str) -> Callable[[int], int]:
    """Checks the field ``format`` of a model. Raises ``ValueError`` for a later one."""

    def check(number: int) -> int:
        fault = later(number, name)
        if fault:
            raise ValueError(fault)
        return number

    return check
