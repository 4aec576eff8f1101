"""The content-addressed store: what a node left behind, atomic or absent.

Layout under ``<workspace>/store``::

    <stage>/<key>/            an artefact: its files and record.json, published by one rename
    partial/<stage>-<key>/    checkpoints of a node that has not finished; survives a kill
    failed/<stage>-<key>/     error.json and log.txt of the last failure
    work/<stage>-<digest>     the key of the first node that did this work
    locks/                    one lock file per key
    tmp/<name>/               files/ of an artefact being written, and the lock of the process that writes it
    keys.json                 how the keys of what is written here are made
    damaged/<stage>-<key>…/   an artefact with missing or damaged files, whose place a new one has taken
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfrbench.errors import StoreError, problem_of
from sfrbench.files.atomic import fsync, read_file, read_state, same_mode, write_atomic
from sfrbench.files.formats import FORMATS, unreadable
from sfrbench.store.artefact import RECORD as RECORD
from sfrbench.store.artefact import Artefact as Artefact
from sfrbench.store.artefact import damage_of, digest_of, files_in, read_record
from sfrbench.store.locks import LOCK, abandoned, is_held, taken

if TYPE_CHECKING:
    from filelock import BaseFileLock

log = logging.getLogger(__name__)

_KEYS = {"keys": 2}  # 1, without a file: components were known by the module that they stood in


class _Damaged(StoreError):
    """An artefact that is to be made anew."""

    def __init__(self, stage: str, key: str, damage: str, folder: Path) -> None:
        hint = "'sfrbench run' sets it aside and makes it anew"
        super().__init__(f"{stage} {key[:12]}: {damage}", where=str(folder), hint=hint)
        self.damage = damage


class Busy(Exception):
    """Another process holds ``lock``, the stage and key of a lock."""

    def __init__(self, lock: tuple[str, str]) -> None:
        super().__init__(" ".join(lock))
        self.lock = lock


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
        """Whether there is an artefact with a sound record, whose files are there and of their size."""
        try:
            return self._find(stage, key) is not None
        except StoreError:
            return False

    def get(self, stage: str, key: str) -> Artefact:
        """The artefact of a key. Raises ``StoreError`` where there is none or it is damaged."""
        found = self._find(stage, key)
        if found is None:
            folder = self.folder(stage, key)
            what = f"no readable record of {stage} {key[:12]}"
            raise StoreError(what, where=str(folder), hint=f"move the folder {folder} away and run again")
        return found

    def check(self, stage: str, key: str) -> None:
        """Raises ``StoreError`` if an artefact exists and cannot be read, so that it is not replaced."""
        with contextlib.suppress(_Damaged):
            self._find(stage, key)

    def damage(self, stage: str, key: str) -> str:
        """What is wrong with an artefact that lies there, so that it is made anew; empty: nothing."""
        try:
            self._find(stage, key)
        except _Damaged as error:
            return error.damage
        except StoreError:
            return ""
        return ""

    def _find(self, stage: str, key: str) -> Artefact | None:
        """An absent artefact is one whose record is missing, cut short or of another shape."""
        if (stage, key) not in self._open:
            record = self._record(stage, key)
            if record is None:
                return None
            folder = self.folder(stage, key)
            try:
                damage = damage_of(folder, record)
            except OSError as error:
                raise StoreError.of([problem_of(error)]) from error
            if damage:
                raise _Damaged(stage, key, damage, folder)
            self._open[stage, key] = Artefact(stage, key, folder, record)
        return self._open[stage, key]

    def _record(self, stage: str, key: str) -> dict[str, Any] | None:
        folder = self.folder(stage, key)
        try:
            record = read_record(read_file(folder / RECORD))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.EINVAL:  # a pipe
                return None
            raise StoreError.of([problem_of(error)]) from error
        except StoreError as error:
            raise _Damaged(stage, key, error.problems[0].what, folder) from error
        fault = unreadable(record.get("format", 1), RECORD, str(folder)) if record else None
        if fault is not None:  # it is sound, and stays
            raise StoreError.of([fault])
        return record

    def records(self, stage: str, most: int | None = None) -> Iterator[Mapping[str, Any]]:
        """The sound records of the artefacts of a stage, oldest first; of the newest artefacts, where
        ``most`` says how many."""
        folder = self.root / stage
        found: list[tuple[float, str]] = []
        for path in folder.iterdir() if folder.is_dir() else ():
            with contextlib.suppress(OSError):
                found.append(((path / RECORD).stat().st_mtime, path.name))
        found.sort()
        for _, key in found if most is None else found[-most:]:
            with contextlib.suppress(StoreError):
                record = self._record(stage, key)
                if record is not None:
                    yield record

    @property
    def marked(self) -> bool:
        """Whether a run of this version, or of one with the same keys, has written here."""
        return read_state(self.root / "keys.json", dict[str, int]) == _KEYS

    def open(self) -> None:
        """Make the folders that a run writes to, and remove what killed runs left of artefacts being written.

        Raises ``OSError`` where the place is none to write to.
        """
        for name in ("locks", "tmp"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self.discard(self.new_folder())
        if not self.marked:
            write_atomic(self.root / "keys.json", json.dumps(_KEYS))
        for folder in abandoned(self.root / "tmp"):
            shutil.rmtree(folder, ignore_errors=True)

    def forget(self) -> None:
        """Look at the disk again for what was seen before."""
        self._open.clear()

    @contextmanager
    def lock(self, stage: str, key: str, *, wait: bool = True) -> Iterator[None]:
        """Hold the one lock of a key; waits for another process that holds it, or raises ``Busy``."""
        from filelock import FileLock

        path = self.lock_path(stage, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        if wait:
            with FileLock(path):
                yield
            return
        with taken(path) as mine:
            if not mine:
                raise Busy((stage, key))
            yield

    def lock_path(self, stage: str, key: str) -> Path:
        return self.root / "locks" / f"{stage}-{key}.lock"

    def is_locked(self, stage: str, key: str) -> bool:
        """Whether another process seems to be working on a key right now."""
        return is_held(self.lock_path(stage, key))

    def new_folder(self) -> Path:
        """An empty folder on the store's file system, to be published or discarded."""
        from filelock import FileLock

        around = self.root / "tmp" / uuid.uuid4().hex
        around.mkdir(parents=True)
        lock = FileLock(around / LOCK)
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
            key = read_file(self._work(stage, work)).decode()
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
        files = files_in(folder)
        for name in files:
            fsync(folder / name)
        whole = {
            "format": FORMATS[RECORD],
            **record,
            "files": files,
            "bytes": sum(entry["bytes"] for entry in files.values()),
        }
        whole = json.loads(json.dumps(whole, default=str))
        whole["sha256"] = digest_of(whole)
        write_atomic(folder / RECORD, json.dumps(whole, indent=1, sort_keys=True))
        same_mode(folder, folder / RECORD)
        fsync(folder)
        target = self.folder(stage, key)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._set_aside(stage, key)
        os.rename(folder, target)
        fsync(target.parent)
        self.discard(folder)
        shutil.rmtree(self.scratch(stage, key), ignore_errors=True)
        shutil.rmtree(self.failure_folder(stage, key), ignore_errors=True)
        self._open.pop((stage, key), None)
        if work and "equal_to" not in record:
            write_atomic(self._work(stage, work), key)
        return self.get(stage, key)

    def _set_aside(self, stage: str, key: str) -> None:
        """Move away what lies in the place of a new artefact: it may be what somebody wants to look at."""
        target = self.folder(stage, key)
        if target.is_dir() and not any(target.iterdir()):
            target.rmdir()
        if not target.exists():
            return
        aside = self.root / "damaged" / f"{stage}-{key[:12]}-{uuid.uuid4().hex[:6]}"
        aside.parent.mkdir(exist_ok=True)
        damage = self.damage(stage, key) or f"it has no sound {RECORD}"
        os.rename(target, aside)
        log.warning("%s %s: %s; it is set aside as %s and made anew", stage, key[:8], damage, aside)

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
        """Why the node failed last time, where it did; or what is wrong with its artefact."""
        try:
            self._find(stage, key)
        except _Damaged as error:
            return f"{error.damage}; 'sfrbench run' makes it anew"
        except StoreError as error:
            return str(error)
        noted = read_state(self.failure_folder(stage, key) / "error.json", dict[str, str])
        return None if noted is None else noted.get("reason") or "for a reason that was not noted"
