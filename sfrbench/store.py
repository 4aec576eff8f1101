"""The content-addressed store: what a node left behind, atomic or absent.

Layout under ``<workspace>/store``::

    <stage>/<key>/            an artefact: its files and record.json, published by one rename
    partial/<stage>-<key>/    checkpoints of a node that has not finished; survives a kill
    failed/<stage>-<key>/     error.json and log.txt of the last failure
    work/<stage>-<digest>     the key of the first node that did this work
    locks/                    one lock file per key
    tmp/                      artefacts being written
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sfrbench.errors import StoreError

RECORD = "record.json"


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def canonical(value: Any) -> str:
    """One text for equal JSON values, whatever the order of their keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def write_atomic(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` so that a reader sees the old or the new text, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)


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

    def folder(self, stage: str, key: str) -> Path:
        return self.root / stage / key

    def scratch(self, stage: str, key: str) -> Path:
        """Where a node keeps what survives a kill."""
        return self.root / "partial" / f"{stage}-{key}"

    def failure_folder(self, stage: str, key: str) -> Path:
        return self.root / "failed" / f"{stage}-{key}"

    def has(self, stage: str, key: str) -> bool:
        return (stage, key) in self._open or (self.folder(stage, key) / RECORD).is_file()

    def get(self, stage: str, key: str) -> Artefact:
        """The artefact of a key. Raises ``StoreError`` where there is none or its record is unreadable."""
        if (stage, key) not in self._open:
            folder = self.folder(stage, key)
            try:
                record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise StoreError(
                    f"no readable record of {stage} {key[:12]}: {error}",
                    where=str(folder),
                    hint=f"delete the folder {folder} and run again",
                ) from error
            self._open[stage, key] = Artefact(stage, key, folder, record)
        return self._open[stage, key]

    def records(self, stage: str) -> Iterator[Mapping[str, Any]]:
        """The records of every artefact of a stage, oldest first."""
        folder = self.root / stage
        if folder.is_dir():
            found = [path for path in folder.iterdir() if (path / RECORD).is_file()]
            for path in sorted(found, key=lambda path: (path / RECORD).stat().st_mtime):
                yield self.get(stage, path.name).record

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
        folder = self.root / "tmp" / uuid.uuid4().hex
        folder.mkdir(parents=True)
        return folder

    def twin(self, stage: str, work: str) -> Artefact | None:
        """The artefact of another key that came of the same work, where there is one."""
        path = self._work(stage, work)
        key = path.read_text(encoding="utf-8") if path.is_file() else ""
        return self.get(stage, key) if key and self.has(stage, key) else None

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
            _fsync(path)
            files[path.relative_to(folder).as_posix()] = {
                "sha256": sha256_of(path),
                "bytes": path.stat().st_size,
            }
        whole = {**record, "files": files, "bytes": sum(entry["bytes"] for entry in files.values())}
        write_atomic(folder / RECORD, json.dumps(whole, indent=1, sort_keys=True, default=str))
        _fsync(folder)
        target = self.folder(stage, key)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():  # left by hand without a record, or damaged: ours is whole
            shutil.rmtree(target)
        os.rename(folder, target)
        _fsync(target.parent)
        shutil.rmtree(self.scratch(stage, key), ignore_errors=True)
        shutil.rmtree(self.failure_folder(stage, key), ignore_errors=True)
        self._open.pop((stage, key), None)
        if work and "equal_to" not in record:
            write_atomic(self._work(stage, work), key)
        return self.get(stage, key)

    def note_failure(self, stage: str, key: str, reason: str, log: str) -> Path:
        """Keep why a node failed; returns the log's path."""
        folder = self.failure_folder(stage, key)
        write_atomic(folder / "error.json", json.dumps({"stage": stage, "key": key, "reason": reason}))
        write_atomic(folder / "log.txt", log)
        return folder / "log.txt"

    def failure(self, stage: str, key: str) -> str | None:
        """Why the node failed last time, where it did."""
        path = self.failure_folder(stage, key) / "error.json"
        return json.loads(path.read_text(encoding="utf-8"))["reason"] if path.is_file() else None


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Fingerprints:
    """Content hashes of data files, remembered by size and modification time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, list[Any]] = {}
        if path.is_file():
            try:
                self._known = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:  # only a cache: a damaged one is made anew
                self._known = {}
        self._changed = False

    def of(self, files: list[Path], base: Path) -> str:
        """One digest over the names (below ``base``) and contents of ``files``."""
        digest = hashlib.sha256()
        for path in sorted(files):
            stat = path.stat()
            entry = self._known.get(str(path))
            if entry is None or entry[:2] != [stat.st_size, stat.st_mtime_ns]:
                entry = [stat.st_size, stat.st_mtime_ns, sha256_of(path)]
                self._known[str(path)] = entry
                self._changed = True
            digest.update(f"{path.relative_to(base).as_posix()}\0{entry[2]}\n".encode())
        self._save()
        return digest.hexdigest()

    def _save(self) -> None:
        if self._changed:
            write_atomic(self.path, json.dumps(self._known))
            self._changed = False
