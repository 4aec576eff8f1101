"""Texts in CSV files that a spreadsheet must not take for formulas."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = re.compile(r"'*[=+\-@\t\r＝＋－＠]")


def guarded(value: Any) -> Any:
    """A text that begins like a formula, with an apostrophe before it; numbers, and all else, as they are."""
    if not isinstance(value, str) or not _FORMULA.match(value):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def unguarded(value: Any) -> Any:
    """The text that ``guarded`` was given."""
    if isinstance(value, str) and value.startswith("'") and _FORMULA.match(value):
        return value[1:]
    return value


def csv_of(frame: pd.DataFrame) -> str:
    """A frame as CSV, with texts guarded against being run as formulas by a spreadsheet."""
    safe = frame.copy()
    for name in safe.columns:
        if safe[name].dtype.kind not in "biufc":
            safe[name] = safe[name].map(guarded)
    return str(safe.rename(columns=guarded).to_csv(index=False))


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame read from such a file, its texts as they were."""
    safe = frame.rename(columns=unguarded)
    for name in safe.columns:
        if safe[name].dtype.kind not in "biufc":
            safe[name] = safe[name].map(unguarded)
    return safe
