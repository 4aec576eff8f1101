"""The content-addressed store: what a node left behind, atomic or absent.

Layout under ``<workspace>/store``::

    <stage>/<key>/            an artefact: its files and record.json, published by one rename
    partial/<stage>-<key>/    checkpoints of a node that has not finished; survives a kill
    failed/<stage>-<key>/     error.json and log.txt of the last failure
    work/<stage>-<digest>     the key of the first node that did this work
    locks/                    one lock file per key
    tmp/<name>/               files/ of an artefact being written, and the lock of the process that writes it
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from sfrbench.errors import StoreError, problem_of
from sfrbench.files.atomic import fsync, parse_state, read_state, same_mode, sha256_of, write_atomic

if TYPE_CHECKING:
    from filelock import BaseFileLock

log = logging.getLogger(__name__)

RECORD = "record.json"
_JUST_MADE_S = 60.0  # a folder so young may not have its lock yet
_UNKNOWN_S = 7 * 24 * 3600.0  # one without a lock is an older version's, which may still be running


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
                raise StoreError(
                    f"'{name}' of {self.stage} {self.key[:12]} is missing or damaged",
                    where=str(path),
                    hint=f"delete the folder {self.folder} and run again: the node is made anew",
                )
            self.verified.add(name)
        return path

    def read_json(self, name: str) -> Any:
        """One JSON file of the artefact."""
        return json.loads(self.path(name).read_text(encoding="utf-8"))


class Store:
    """Artefacts by stage and key. Safe with several processes on one file system."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._open: dict[tuple[str, str], Artefact] = {}
        self._owned: dict[Path, BaseFileLock] = {}

    def folder(self, stage: str, key: str) -> Path:
        return self.root / stage / key

    def scratch(self, stage: str, key: str) -> Path:
        """Where a node keeps what survives a kill."""
        return self.root / "partial" / f"{stage}-{key}"

    def failure_folder(self, stage: str, key: str) -> Path:
        return self.root / "failed" / f"{stage}-{key}"

    def has(self, stage: str, key: str) -> bool:
        """Whether there is an artefact with a sound record."""
        try:
            return self._find(stage, key) is not None
        except StoreError:
            return False

    def get(self, stage: str, key: str) -> Artefact:
        """The artefact of a key. Raises ``StoreError`` where there is none or its record is damaged."""
        found = self._find(stage, key)
        if found is None:
            folder = self.folder(stage, key)
            what = f"no readable record of {stage} {key[:12]}"
            raise StoreError(what, where=str(folder), hint=f"delete the folder {folder} and run again")
        return found

    def check(self, stage: str, key: str) -> None:
        """Raises ``StoreError`` where an artefact lies there whose record is damaged or may not be read: it
        is not to be replaced. One without a record, or with a part of one, is."""
        self._find(stage, key)

    def _find(self, stage: str, key: str) -> Artefact | None:
        """An absent artefact is one whose record is missing, cut short or of another shape."""
        if (stage, key) not in self._open:
            folder = self.folder(stage, key)
            try:
                text = (folder / RECORD).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None
            except OSError as error:
                raise StoreError.of([problem_of(error)]) from error
            if parse_state(text, _Record) is None:
                return None
            record = json.loads(text)
            if record.get("sha256") not in (None, _digest(record)):
                raise StoreError(
                    f"the record of {stage} {key[:12]} is damaged: its hash is another",
                    where=str(folder / RECORD),
                    hint=f"delete the folder {folder} and run again: the node is made anew",
                )
            self._open[stage, key] = Artefact(stage, key, folder, record)
        return self._open[stage, key]

    def records(self, stage: str) -> Iterator[Mapping[str, Any]]:
        """The sound records of the artefacts of a stage, oldest first."""
        folder = self.root / stage
        if folder.is_dir():
            found = [path for path in folder.iterdir() if self.has(stage, path.name)]
            for path in sorted(found, key=lambda path: (path / RECORD).stat().st_mtime):
                yield self.get(stage, path.name).record

    def open(self) -> None:
        """Make the folders that a run writes to, and remove what killed runs left of artefacts being written.

        Raises ``OSError`` where the place is none to write to.
        """
        for name in ("locks", "tmp"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self.discard(self.new_folder())
        for folder in (self.root / "tmp").iterdir():
            if folder.is_dir() and not self._is_owned(folder):
                shutil.rmtree(folder, ignore_errors=True)

    def _is_owned(self, folder: Path) -> bool:
        """Whether a process may be writing into a folder of ``tmp``: whoever does holds its lock."""
        from filelock import FileLock, Timeout

        lock = folder / "lock"
        age = time.time() - folder.stat().st_mtime
        if age < _JUST_MADE_S or (not lock.exists() and age < _UNKNOWN_S):
            return True
        try:
            with FileLock(lock, timeout=0):
                return False
        except (Timeout, OSError):
            return True

    @contextmanager
    def lock(self, stage: str, key: str) -> Iterator[None]:
        """Hold the one lock of a key; waits for another process that holds it."""
        from filelock import FileLock

        path = self.root / "locks" / f"{stage}-{key}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path):
            yield

    def new_folder(self) -> Path:
        """An empty folder on the store's file system, to be published or discarded."""
        from filelock import FileLock

        around = self.root / "tmp" / uuid.uuid4().hex
        around.mkdir(parents=True)
        lock = FileLock(around / "lock")
        lock.acquire()
        folder = around / "files"
        folder.mkdir()
        self._owned[folder] = lock
        return folder

    def discard(self, folder: Path) -> None:
        """Remove what is left of a folder of ``new_folder``."""
        lock = self._owned.pop(folder, None)
        if lock is not None:
            shutil.rmtree(folder.parent, ignore_errors=True)
            lock.release()

    def twin(self, stage: str, work: str) -> Artefact | None:
        """The artefact of another key that came of the same work, where there is one."""
        try:
            key = self._work(stage, work).read_text(encoding="utf-8")
        except (OSError, ValueError):  # what it leads to is made anew
            return None
        return self.get(stage, key) if key.isalnum() and self.has(stage, key) else None

    def _work(self, stage: str, work: str) -> Path:
        return self.root / "work" / f"{stage}-{work}"

    def publish(
        self, stage: str, key: str, folder: Path, record: Mapping[str, Any], work: str = ""
    ) -> Artefact:
        """Make ``folder`` the artefact of ``key``, all at once; the checkpoints of the node are dropped.

        ``work``: the digest of what was done, under which later nodes find it.
        """
        files: dict[str, dict[str, Any]] = {}
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            fsync(path)
            files[path.relative_to(folder).as_posix()] = {
                "sha256": sha256_of(path),
                "bytes": path.stat().st_size,
            }
        whole = {**record, "files": files, "bytes": sum(entry["bytes"] for entry in files.values())}
        whole = json.loads(json.dumps(whole, default=str))
        whole["sha256"] = _digest(whole)
        write_atomic(folder / RECORD, json.dumps(whole, indent=1, sort_keys=True))
        same_mode(folder, folder / RECORD)
        fsync(folder)
        target = self.folder(stage, key)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():  # left by hand without a record, or damaged: ours is whole
            shutil.rmtree(target)
        os.rename(folder, target)
        fsync(target.parent)
        self.discard(folder)
        shutil.rmtree(self.scratch(stage, key), ignore_errors=True)
        shutil.rmtree(self.failure_folder(stage, key), ignore_errors=True)
        self._open.pop((stage, key), None)
        if work and "equal_to" not in record:
            write_atomic(self._work(stage, work), key)
        return self.get(stage, key)

    def note_failure(self, stage: str, key: str, reason: str, log_text: str) -> Path | None:
        """Keep why a node failed; returns the log's path, or none where it cannot be written."""
        folder = self.failure_folder(stage, key)
        try:
            write_atomic(folder / "error.json", json.dumps({"stage": stage, "key": key, "reason": reason}))
            write_atomic(folder / "log.txt", log_text)
        except OSError as error:  # the run goes on, and says the reason itself
            log.warning("why %s %s failed cannot be noted: %s", stage, key[:8], problem_of(error))
            return None
        return folder / "log.txt"

    def failure(self, stage: str, key: str) -> str | None:
        """Why the node failed last time, where it did; or what is wrong with its record."""
        try:
            self.check(stage, key)
        except StoreError as error:
            return str(error)
        noted = read_state(self.failure_folder(stage, key) / "error.json", dict[str, str])
        return None if noted is None else noted.get("reason") or "for a reason that was not noted"


def _digest(record: Mapping[str, Any]) -> str:
    """The hash of a record, without the entry that holds it."""
    rest = {name: value for name, value in record.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
