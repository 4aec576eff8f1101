"""A report takes the place of the one before: made whole beside it, then moved."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sfrbench.files.atomic import atomic_file, read_state
from sfrbench.report.render import style, tables
from sfrbench.store.locks import LOCK, abandoned, taken

#: Folder -> the files in it of each table or figure, by their endings.
_ENDINGS = {"tables": tuple(tables.RENDERERS), "figures": style.ENDINGS}


class Before(BaseModel):
    """What a report that was written says of --set, and what it shows."""

    set: list[str] = []
    shown: dict[str, Any] = {}


def deliver(folder: Path, out: Path, shown: Iterable[str]) -> None:
    """Move all files to where they are looked for. The provenance, by which the next report knows what this
    one leaves, comes when nothing is left of the report before, and the page last."""
    last = ["provenance.json", "index.html"]
    found = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    paths = [path for path in found if path.as_posix() not in (LOCK, *last)]
    for path in (*paths, *map(Path, last)):  # what cannot be is found out before anything is replaced
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        if (out / path).is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(out / path))
    before = read_state(out / "provenance.json", Before)
    for path in paths:
        _move(folder / path, out / path)
    if before is not None:
        _take_away(before.shown.keys() - shown, out)
    for name in last:
        _move(folder / name, out / name)


def _move(path: Path, place: Path) -> None:
    """Put a finished file in its place. A link there is followed, also to another disk."""
    try:
        os.replace(path, os.path.realpath(place))
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with atomic_file(place, durable=True) as file:
            shutil.copyfile(path, file)


@contextlib.contextmanager
def workshop(out: Path) -> Iterator[Path]:
    """A new folder within ``out``, so on the same disk, to make files in; taken away in the end, as is what
    reports that were killed left."""
    around = out / ".making"
    for left in abandoned(around):
        shutil.rmtree(left, ignore_errors=True)
    folder = around / uuid.uuid4().hex
    try:
        folder.mkdir(parents=True)
        with taken(folder / LOCK):
            yield folder
    except OSError as error:
        if isinstance(error.filename, str):
            error.filename = error.filename.replace(str(folder), str(out))
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another is made there
            around.rmdir()


def _take_away(names: Iterable[str], out: Path) -> None:
    """Remove the tables and figures of these names."""
    own = [name for name in names if Path(name).name == name]
    for folder, endings in _ENDINGS.items():
        for name, ending in product(own, endings):
            (out / folder / f"{name}.{ending}").unlink(missing_ok=True)
