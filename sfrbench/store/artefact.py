"""What a node left behind: its record, its files, and what is wrong with them."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sfrbench.errors import StoreError
from sfrbench.files.atomic import parse_state, sha256_of

RECORD = "record.json"
MARK = "damaged"  # in the folder of an artefact: the name of a file that was found damaged when it was read
#: Files that are hashed before an artefact counts as there. Of others, such as volumes, the size must fit.
_TEXTS, _TEXT_BYTES = (".csv", ".json"), 4_000_000


class _File(BaseModel):
    sha256: str
    bytes: int


class _Record(BaseModel):
    """The shape of ``record.json``: what every record has, and what a node's has beside."""

    files: dict[str, _File]
    bytes: int
    sha256: str | None = None  # of the rest; records of before 0.2 have none
    stage: str = ""
    key: str = ""
    seconds: float = 0.0
    notes: dict[str, Any] = {}


@dataclass(frozen=True)
class Artefact:
    """A published node. ``path`` checks a file against its recorded hash on first use."""

    stage: str
    key: str
    folder: Path
    record: Mapping[str, Any]
    verified: set[str] = field(default_factory=set, compare=False, repr=False)

    def path(self, name: str) -> Path:
        """The path of one file of the artefact. Raises ``StoreError`` where it is missing or damaged."""
        path = self.folder / name
        known = self.record["files"].get(name)
        if known is None:
            raise StoreError(f"{self.stage} {self.key} holds no file '{name}'", where=str(self.folder))
        if name not in self.verified:
            if (
                not path.is_file()
                or path.stat().st_size != known["bytes"]
                or sha256_of(path) != known["sha256"]
            ):
                with contextlib.suppress(OSError):  # a file system to read only
                    (self.folder / MARK).write_text(name, encoding="utf-8")
                raise StoreError(
                    f"'{name}' of {self.stage} {self.key[:12]} is missing or damaged",
                    where=str(path),
                    hint="run again: its folder is set aside, and the node is made anew",
                )
            self.verified.add(name)
        return path

    def read_json(self, name: str) -> Any:
        """One JSON file of the artefact."""
        return json.loads(self.path(name).read_text(encoding="utf-8"))


def digest_of(record: Mapping[str, Any]) -> str:
    """The hash of a record, without the entry that holds it."""
    rest = {name: value for name, value in record.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_record(text: bytes) -> dict[str, Any] | None:
    """A record; None if it is cut short or of another shape. Raises ``StoreError`` where its hash is not
    that of its content."""
    if parse_state(text, _Record) is None:
        return None
    record: dict[str, Any] = json.loads(text)
    if record.get("sha256") not in (None, digest_of(record)):
        raise StoreError(f"{RECORD} is damaged: its hash is another")
    return record


def damage_of(folder: Path, record: Mapping[str, Any]) -> str:
    """Which file of an artefact is missing or damaged, by names, sizes and the hashes of small text files;
    empty if none is."""
    if (folder / MARK).is_file() and MARK not in record["files"]:
        return f"{(folder / MARK).read_text(encoding='utf-8', errors='replace')} is damaged"
    for name, known in record["files"].items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        small = path.suffix in _TEXTS and known["bytes"] <= _TEXT_BYTES
        if path.stat().st_size != known["bytes"] or (small and sha256_of(path) != known["sha256"]):
            return f"{name} is damaged"
    return ""


def files_in(folder: Path) -> dict[str, dict[str, Any]]:
    """What a record says of the files below a folder: hash and size, by path."""
    return {
        path.relative_to(folder).as_posix(): {"sha256": sha256_of(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
