"""Names of files and ids of cases, and how the letters in them are written."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

ENDINGS = (".nii.gz", ".nii")
_CASE_ID = re.compile(r"\w[\w .+-]*")
_ALLOWED = re.compile(r"[\w .+-]")


def stem(name: str) -> str:
    """A file's name without folder and ending, in composed Unicode (NFC)."""
    base = composed(name.rpartition("/")[2])
    return next((base.removesuffix(ending) for ending in ENDINGS if base.endswith(ending)), base)


def without_channel(name: str) -> str:
    """A name without nnU-Net's channel, ``CASE`` of ``CASE_0000``."""
    return re.sub(r"_\d{4}$", "", name)


def composed(text: str) -> str:
    """Each letter in one character with its marks (NFC), as in ids: macOS writes "e" and a mark for "é"."""
    return unicodedata.normalize("NFC", text)


def spelled(root: Path, path: str) -> str:
    """A path below ``root`` in the spelling of the disk, where that differs only in how marks are written."""
    if path.isascii() or os.path.lexists(root / path):
        return path
    here = ""
    for part in path.split("/"):
        try:
            names = sorted(os.listdir(root / here))
        except (OSError, ValueError):  # there is no such folder: the file is missed where it is read
            return path
        fits = [name for name in names if composed(name) == composed(part)]
        here = os.path.join(here, part if part in fits or not fits else fits[0])
    return here


def is_case_id(text: str) -> bool:
    """Whether an id is a plain name, and no path."""
    return _CASE_ID.fullmatch(text) is not None and ".." not in text


def odd_character(text: str) -> str:
    """Which character an id may not have, in words; empty where that is plain to see."""
    odd = next((each for each in text if not _ALLOWED.fullmatch(each)), None)
    if odd is None or (odd.isascii() and odd.isprintable()):
        return ""
    said = f": it holds U+{ord(odd):04X} {unicodedata.name(odd, '')}".rstrip()
    if not unicodedata.category(odd).startswith("M"):
        return said
    if composed(text) != text and all(map(_ALLOWED.fullmatch, composed(text))):
        return f"{said}, a mark apart from its letter; write both in one character (NFC)"
    return f"{said}, a mark that no single character has together with its letter"
