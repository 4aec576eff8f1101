"""Every error that a user can cause: what is wrong, where, and how to mend it.

The command line prints these as one message and never as a traceback; any other exception is a defect
of sfrbench itself and keeps its traceback in the node's log.
"""

from __future__ import annotations

import difflib
import errno
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

_LONGEST = 80  # characters of what a user wrote that a message repeats


@dataclass(frozen=True)
class Problem:
    """One fault. ``where`` is ``file:line:column`` or a case id, ``hint`` says how to mend it."""

    where: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        what = shorter(self.what, 1000)
        text = f"{self.where}  {what}" if self.where else what
        return f"{text}\n    {self.hint}" if self.hint else text


_PLACE = re.compile(r"(?P<file>.*?):(?P<line>\d+)(?::(?P<column>\d+))?")


def by_place(problems: Iterable[Problem]) -> list[Problem]:
    """Each problem once, in the order of a file's lines; what names no line comes last, in its turn."""

    def order(problem: Problem) -> tuple[bool, str, int, int]:
        place = _PLACE.fullmatch(problem.where)
        if place is None:
            return (True, "", 0, 0)
        return (False, place["file"], int(place["line"]), int(place["column"] or 0))

    return sorted(dict.fromkeys(problems), key=order)


class SfrbenchError(Exception):
    """Base of the errors that are shown to a user as they are."""

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.problems: tuple[Problem, ...] = (Problem(where, what, hint),)
        super().__init__(str(self.problems[0]))

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> SfrbenchError:
        """One error that carries several problems, so that all are shown at once."""
        error = cls("")
        error.problems = tuple(problems)
        error.args = ("\n".join(map(str, problems)),)
        return error


class InputError(SfrbenchError):
    """A specification, a card, an option or a name is wrong (exit 2)."""


class NotReadyError(SfrbenchError):
    """The input is sound, but this machine lacks data, weights or a device for it (exit 2)."""


class DataError(SfrbenchError):
    """A volume, a label map or a list file is broken; ``where`` names the case and the file."""


class StoreError(SfrbenchError):
    """An artefact is missing, damaged or locked."""


class CheckpointError(StoreError):
    """The checkpoint of a node cannot be read; the node can start again without it."""

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what, where=where, hint=hint)
        self.path = where


class LeakError(SfrbenchError):
    """Code asked for labels that its stage must not see."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint such as ``did you mean 'grid'?   known: grid, shuffled``; empty when nothing is known."""
    names = sorted(known)
    close = difflib.get_close_matches(name[:_LONGEST], names, n=1, cutoff=0.5)
    parts = [f"did you mean '{close[0]}'?"] if close else []
    if names:
        parts.append("known: " + ", ".join(names))
    return "   ".join(parts)


_ELSEWHERE = "name another place, or move what is there"
_RIGHTS = "ask its owner for the right, or use a place of your own (--workspace, --out)"
#: What to do about faults of the operating system.
_REMEDIES = {
    errno.ENOSPC: "free some space (df -h) or some files (df -i); the same command goes on from there",
    errno.EDQUOT: "your quota is used up: free some space; the same command goes on from there",
    errno.EFBIG: "a limit on the size of files is set: see ulimit -f",
    errno.EMFILE: "raise the limit of open files: ulimit -n 4096",
    errno.ENFILE: "the machine has too many open files: close some programs",
    errno.ENOMEM: "free some memory, or lower the batch size or the number of workers",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: "the file system is read only: use another place (--workspace, --out)",
    errno.ENOTDIR: f"a file lies where a folder is needed: {_ELSEWHERE}",
    errno.EEXIST: f"a file lies where a folder is needed: {_ELSEWHERE}",
    errno.EISDIR: f"a folder lies where a file is needed: {_ELSEWHERE}",
    errno.ENOENT: "make it first, or name another place",
    errno.ENAMETOOLONG: "shorten the name",
    errno.ELOOP: "a link leads back to itself: remove it, or name another place",
    errno.EIO: "the disk or the network file system has a fault",
}


#: Words of the dynamic linker, of torch, of CUDA's libraries and of Python.
_NO_MEMORY = (
    "failed to map segment",
    "annot allocate memory",
    "an't allocate memory",
    "an't start new thread",
    "unable to allocate",
    "out of memory",
    "_STATUS_ALLOC_FAILED",
)


#: How libraries write the number of a fault of the operating system into a text: Rust's, Python's, HDF5's.
_NUMBER = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]|errno = (\d+)")
#: What others say of it.
_SAID = {
    "No space left on device": errno.ENOSPC,
    "database or disk is full": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "Too many open files": errno.EMFILE,
    r"\d requested and \d+ written": errno.ENOSPC,  # numpy
}


def problem_of(error: OSError) -> Problem:
    """A fault of the operating system as one message: the place, what is wrong, what to do."""
    where = "" if error.filename is None else str(error.filename)
    if error.errno is None and (short := short_of(error)) is not None:  # of a library's making
        return replace(short, where=where)
    return Problem(where, error.strerror or _said(error), _REMEDIES.get(error.errno or 0, ""))


def _said(error: BaseException) -> str:
    """What an error says. ``str`` of an ``OSError`` without a number says nothing once that has a place."""
    numberless = isinstance(error, OSError) and error.errno is None
    return " ".join(map(str, error.args)) if numberless else str(error)


def told(error: BaseException) -> str:
    """The message for an error that ends a node or a command."""
    if isinstance(error, SfrbenchError):
        return str(error)
    if isinstance(error, OSError):
        return str(problem_of(error))
    short = short_of(error)
    return str(short) if short is not None else f"{type(error).__name__}: {error}"


def short_of(error: BaseException) -> Problem | None:
    """What the machine is short of or refuses, where a library says it in its own way; none elsewhere."""
    for number in _numbers(error):
        if number in _REMEDIES and number != errno.ENOENT:
            return Problem("", os.strerror(number), _REMEDIES[number])
    if short_of_memory(error):
        return Problem("", "there is not enough memory", _REMEDIES[errno.ENOMEM])
    return None


def _numbers(error: BaseException) -> list[int]:
    """The numbers of the operating system's faults that the text of an error tells."""
    text = _said(error)
    numbers = [int(next(filter(None, found))) for found in _NUMBER.findall(text)]
    return numbers + [number for words, number in _SAID.items() if re.search(words, text)]


def no_room(error: BaseException) -> bool:
    """Whether a disk is full, or a quota used up."""
    numbers = {number for each in chain(error) for number in _numbers(each)}
    numbers |= {each.errno for each in chain(error) if isinstance(each, OSError) and each.errno}
    return not numbers.isdisjoint({errno.ENOSPC, errno.EDQUOT})


def short_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is not enough memory, of the machine or of its GPU."""
    said = isinstance(error, ImportError | RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
    return said or isinstance(error, MemoryError)


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was made of, and so on: libraries, when they tidy up, hide one behind another."""
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__ or each.__context__


def stopped(error: BaseException) -> bool:
    """Whether an error is what a library made of the user's wish to stop: torch, stopped while it writes a
    checkpoint, ends in an error of its file."""
    return any(isinstance(each, KeyboardInterrupt) for each in chain(error))


def few(names: Sequence[str]) -> str:
    """The first of many names, and whether there are more."""
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")


def shorter(text: str, most: int = _LONGEST) -> str:
    """A text of the user's as messages repeat it: never longer than ``most`` characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def first_line(error: BaseException, most: int | None = 120) -> str:
    """The beginning of what a library says, or the name of its error where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0][:most]


def shown(value: Any) -> str:
    """A value that the user gave, as messages show it."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list) and len(value) > 10:
        return f"a list of {len(value)}"
    if isinstance(value, str):
        return f"'{shorter(value)}'"
    return shorter(json.dumps(value, default=str, ensure_ascii=False))
