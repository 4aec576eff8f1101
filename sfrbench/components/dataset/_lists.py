"""Which cases train and which test: list files of the user, or the lists that are shipped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sfrbench.errors import DataError, NotReadyError


def needed(root: Path | None, name: str, what: str) -> Path:
    """The data folder; raises ``NotReadyError`` where it is not known."""
    if root is None:
        raise NotReadyError(
            f"the folder of the {what} is not known",
            hint=f"give --data {name}=DIR, or put it at $SFRBENCH_DATA/{name}",
        )
    return root


def list_files(root: Path, pairs: Sequence[tuple[str, str]]) -> tuple[Path, Path] | None:
    """The user's list files, the first pair of which one is there (``read_list`` reports the other)."""
    for train, test in pairs:
        if (root / train).is_file() or (root / test).is_file():
            return root / train, root / test
    return None


def read_list(path: Path, hint: str) -> list[str]:
    """Ids, one per line; what follows a comma is dropped, as the community's lists carry such lines."""
    if not path.is_file():
        raise DataError("the list file is missing", where=str(path), hint=hint)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"the list is not UTF-8 text: {error.reason}"
        raise DataError(what, where=str(path), hint="save it as UTF-8") from error
    ids = [line.split(",")[0].strip() for line in text.splitlines()]
    return [case for case in ids if case]


def first_file(root: Path, names: Sequence[str]) -> Path:
    """The first of these files below ``root`` that is there, else the first name (for the message)."""
    return next((root / name for name in names if (root / name).is_file()), root / names[0])
