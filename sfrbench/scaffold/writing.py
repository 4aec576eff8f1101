"""New files are written all or none, and never in the place of others."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Mapping
from pathlib import Path

from sfrbench.errors import InputError, Problem, problem_of


def write_new(folder: Path, files: Mapping[str, str]) -> None:
    """Write texts by their paths below ``folder``, which is made where it is missing.

    Raises ``InputError`` where some are there already, and where the folder cannot be written to; then
    nothing is left behind.
    """
    there = [path for path in files if (folder / path).exists() or (folder / path).is_symlink()]
    if there:
        raise InputError.of([_taken(folder / path) for path in there])
    made: list[Path] = []
    try:
        for path, text in files.items():
            _make_folder((folder / path).parent, made)
            with (folder / path).open("x", encoding="utf-8", newline="") as stream:
                made.append(folder / path)
                stream.write(text)
    except OSError as error:
        _take_back(made)
        found = problem_of(error)
        place = Path(found.where or folder)
        if isinstance(error, FileExistsError) and not place.is_dir():  # another one was quicker
            raise InputError.of([_taken(place)]) from error
        refused = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        remedy = "--into DIR: a folder that you may write to" if refused else found.hint
        raise InputError(found.what, where=str(place), hint=f"{remedy}; nothing was written") from error
    except BaseException:
        _take_back(made)
        raise


def _taken(path: Path) -> Problem:
    hint = "choose another NAME, or --into another folder; nothing was written"
    return Problem(str(path), "the file exists", hint)


def _make_folder(folder: Path, made: list[Path]) -> None:
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another one was quicker; it is not ours to take back
            place.mkdir()
            made.append(place)


def _take_back(made: list[Path]) -> None:
    for path in reversed(made):
        with contextlib.suppress(OSError):  # the first fault is the one to tell
            path.rmdir() if path.is_dir() else path.unlink()
