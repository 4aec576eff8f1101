"""The experiments that come with sfrbench, by name; reads no more of them than their titles."""

from __future__ import annotations

import re
from pathlib import Path

from sfrbench.files.roots import shipped

#: What the name of a specification's file ends with.
ENDINGS = (".yaml", ".yml")
_TITLE = re.compile(r"^title: *(.*?) *$", re.MULTILINE)


def experiments() -> dict[str, Path]:
    """The file of each."""
    return {path.stem: path for path in sorted(shipped("experiments").glob("*.yaml"))}


def profiles() -> list[str]:
    """The names of the profiles."""
    return sorted(path.stem for path in shipped("experiments").glob("profiles/*.yaml"))


def title(path: Path) -> str:
    """What an experiment is called; empty where that is not said in a line of its own."""
    found = _TITLE.search(path.read_text(encoding="utf-8", errors="replace"))
    return found[1].strip("\"'") if found else ""
