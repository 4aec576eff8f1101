"""The one way to a terminal. What a specification, a card or a file's name holds cannot move its cursor,
colour it or turn its text around."""

from __future__ import annotations

import re
import sys

#: All control codes but tab and line feed, marks that turn the direction of text, and halves of characters.
_CODES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def clean(text: str) -> str:
    """``text`` with such codes as escapes, ``\\x1b`` for ESC."""
    return _CODES.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def echo(text: object = "", *, err: bool = False, end: str = "\n") -> None:
    """Print one message, at once; what the stream cannot encode stands as an escape, too."""
    stream = sys.stderr if err else sys.stdout
    known = stream.encoding or "utf-8"
    said = clean(str(text)).encode(known, "backslashreplace").decode(known)
    print(said, file=stream, end=end, flush=True)
