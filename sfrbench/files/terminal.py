"""The one way to a terminal. What a specification, a card or a file's name holds cannot move its cursor,
colour it or turn its text around."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import textwrap
from typing import TextIO

#: All control codes but tab and line feed, marks that turn the direction of text, and halves of characters.
_CODES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

#: Columns of a terminal below which lines are not broken here, and there are no tables and no bars.
_NARROW = 40


def clean(text: str) -> str:
    """``text`` with such codes as escapes, ``\\x1b`` for ESC."""
    return _CODES.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


class _Clean(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return clean(super().format(record))


def clean_log() -> None:
    """Have warnings that go to the terminal, for want of another place, cleaned as well."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Clean())


def echo(text: object = "", *, err: bool = False, end: str = "\n", fold: bool = True) -> None:
    """Print one message, at once; what the stream cannot encode stands as an escape, too.

    On a terminal lines that are too long are broken between words. Not so without ``fold``: for what is
    copied or read by programs.
    """
    stream = sys.stderr if err else sys.stdout
    known = stream.encoding or "utf-8"
    said = clean(str(text)).encode(known, "backslashreplace").decode(known)
    if fold and stream.isatty():
        said = folded(said, _columns(stream))
    print(said, file=stream, end=end, flush=True)


def roomy(stream: TextIO) -> bool:
    """Whether a stream leads to a terminal that is wide enough for tables and bars."""
    return stream.isatty() and _columns(stream) >= _NARROW


def folded(text: str, columns: int) -> str:
    """``text`` with lines of at most so many characters, but for words that are longer; what goes on from a
    line stands two characters further in. Narrow terminals break lines as they like."""
    if columns < _NARROW:
        return text
    return "\n".join(part for line in text.split("\n") for part in _parts(line, columns))


def _parts(line: str, columns: int) -> list[str]:
    if len(line) <= columns:
        return [line]
    indent = " " * (len(line) - len(line.lstrip(" ")) + 2)
    return textwrap.wrap(
        line, columns, subsequent_indent=indent, expand_tabs=False, replace_whitespace=False,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _columns(stream: TextIO) -> int:
    """The width of the terminal that a stream leads to; $COLUMNS, where that is set."""
    if os.environ.get("COLUMNS", "").isdecimal():
        return shutil.get_terminal_size().columns
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except OSError:
        return shutil.get_terminal_size().columns
