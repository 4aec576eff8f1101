"""The code blocks of README.md and of the pages of docs/, and what is to be done with each.

======================================  ======================================================================
a block                                 what becomes of it
======================================  ======================================================================
```` ```yaml title="mine.yaml" ````     written to that file, below the page's folder (``python`` likewise)
```` ```yaml ````                       read as YAML
```` ```sh ````                         run by bash in the page's folder, with ``sfrbench`` on the PATH
```` ```python ````                     run as a script there
```` ```text ````, ```` ``` ````        output, or a drawing: nothing
======================================  ======================================================================

The line before a fence may be ``<!-- run: suite -->`` (it takes seconds: the tests run it, too) or
``<!-- run: never, REASON -->``. ``<!-- page: needs hippocampus, lite_medsam -->`` names data and weights
without which the whole page is left aside.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sfrbench.errors import InputError
from sfrbench.files.yamlio import read_value

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = ("yaml", "python", "sh", "text", "")
FENCE = re.compile(r"^(?P<indent>\s*)(?P<fence>`{3,}|~{3,})\s*(?P<language>[\w.+-]*)(?P<more>.*)$")
NOTE = re.compile(r"^\s*<!--\s*(?P<what>run|page):\s*(?P<said>.*?)\s*-->\s*$")
ODD = re.compile(r"^\s*<!--\s*(run|page|needs)s?\b", re.IGNORECASE)  # meant for one, and would say nothing
TITLE = re.compile(r'\btitle="([^"]+)"')


@dataclass(frozen=True)
class Block:
    """One fenced block; ``line`` is that of its fence. ``file``: what it is written to, "" if it is not."""

    page: str
    line: int
    language: str
    file: str
    note: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def never(self) -> str:
        """Why it is not run, where it could be."""
        return self.note.partition(",")[2].strip() if self.note.partition(",")[0] == "never" else ""

    @property
    def in_suite(self) -> bool:
        return self.note == "suite"

    @property
    def runs(self) -> bool:
        return self.language in ("sh", "python") and not self.file and not self.never

    def faults(self) -> Iterator[str]:
        """What is wrong with it as it stands."""
        if self.language not in LANGUAGES:
            known = ", ".join(LANGUAGES[:-1])
            yield f"{self.where}: '{self.language}' is none of {known}"
        if self.note and not (self.in_suite or self.never):
            yield f"{self.where}: 'run: {self.note}' is neither 'suite' nor 'never, REASON'"
        if self.in_suite and not self.runs:
            yield f"{self.where}: this is not run, so 'run: suite' says nothing"
        path = Path(self.file)
        if self.file and (path.is_absolute() or ".." in path.parts or not path.name):
            yield f'{self.where}: title "{self.file}" leads out of the page\'s folder'
        try:
            if self.language == "yaml":
                read_value(self.text, self.where)
            elif self.language == "python":
                ast.parse(self.text)
        except (InputError, SyntaxError) as error:
            yield f"{self.where}: {error}"


@dataclass(frozen=True)
class Page:
    """A page's blocks in order, and the data and weights that it needs. ``stray``: notes before no fence."""

    path: Path
    blocks: tuple[Block, ...]
    needs: tuple[str, ...]
    stray: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix() if self.path.is_relative_to(ROOT) else str(self.path)

    @property
    def of_suite(self) -> bool:
        return any(block.in_suite for block in self.blocks)

    def faults(self) -> list[str]:
        return [*self.stray, *(fault for block in self.blocks for fault in block.faults())]

    def lacks(self) -> str:
        """What of its needs is not on this machine; empty: nothing."""
        return ", ".join(name for name in self.needs if not _is_here(name))


def pages() -> list[Page]:
    """README.md and the written pages of docs/."""
    written = sorted(path for path in (ROOT / "docs").rglob("*.md"))
    return [read(path) for path in (ROOT / "README.md", *written)]


def read(path: Path) -> Page:
    """One page. Raises ``ValueError`` for a fence that is not closed."""
    name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    blocks, needs, stray, note = [], [], [], ""
    for number, line in lines:
        if found := FENCE.match(line):
            text = _body(lines, found, f"{name}:{number}")
            title = TITLE.search(found["more"])
            file = title[1] if title else ""
            if "title" in found["more"] and not file:
                stray.append(f'{name}:{number}: a title is written title="FILE"')
            blocks.append(Block(name, number, found["language"], file, note, text))
            note = ""
            continue
        if note:
            stray.append(f"{name}:{number - 1}: 'run: {note}' does not stand right before a block")
            note = ""
        if said := NOTE.match(line):
            if said["what"] == "run":
                note = said["said"]
            elif said["said"].startswith("needs "):
                needs += [each.strip() for each in said["said"].removeprefix("needs ").split(",")]
            else:
                stray.append(f"{name}:{number}: 'page: {said['said']}' is not 'page: needs NAME, NAME'")
        elif ODD.match(line):
            stray.append(f"{name}:{number}: a note is <!-- run: ... --> or <!-- page: ... -->, on one line")
    if note:
        stray.append(f"{name}: 'run: {note}' does not stand right before a block")
    return Page(path, tuple(blocks), tuple(needs), tuple(stray))


def _body(lines: Iterator[tuple[int, str]], fence: re.Match[str], where: str) -> str:
    """What stands up to the closing fence, without the indentation of the opening one."""
    found: list[str] = []
    for _, line in lines:
        if line.strip() == fence["fence"]:
            return "".join(f"{each.removeprefix(fence['indent'])}\n" for each in found)
        found.append(line)
    raise ValueError(f"{where}: this block is not closed")


def _is_here(name: str) -> bool:
    """Whether data of a card, or a weight file, are found as sfrbench finds them."""
    from sfrbench.catalog.cards import Catalog
    from sfrbench.components.base import Dataset
    from sfrbench.errors import NotReadyError
    from sfrbench.places import locations, weights
    from sfrbench.places.weight_files import CATALOGUE

    if name in CATALOGUE:
        try:
            return weights.find(name).is_file()
        except NotReadyError:
            return False
    dataset = Catalog.read().card("dataset", name).component({})
    assert isinstance(dataset, Dataset)
    return not dataset.needs_root or locations.data_root(name, dataset.folder, {}) is not None
