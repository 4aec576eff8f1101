"""Removes what a store does not need, beside processes that use it, so that an artefact is whole or absent.

What is removed is first renamed into a folder of ``tmp``, under the lock of its key and, for an artefact that
others may take for the same work, of that work; then it is deleted. A process that is killed in between
leaves a folder that the next run or the next ``clean`` deletes.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sfrbench.errors import problem_of
from sfrbench.files.atomic import write_atomic
from sfrbench.store.artefact import RECORD
from sfrbench.store.contents import Contents, Item, Link
from sfrbench.store.locks import LOCK, taken
from sfrbench.store.store import Store

#: The reason for which something is not needed; empty for what is.
Reason = Callable[[Item], str]


@contextmanager
def gate(store: Store) -> Iterator[None]:
    """One process at a time: one that notes what it wants, or one that takes away what nobody wants.

    A run looks at the store after it has noted what it wants: what it then sees, stays.
    """
    from filelock import FileLock

    path = store.root / "locks" / "clean.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        store.forget()
        yield


@dataclass
class Removed:
    """What was taken away, what another process works on, and what could not be removed or deleted."""

    items: list[Item] = field(default_factory=list)
    busy: list[Item] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def remove(store: Store, items: Sequence[Item], ask: Callable[[], tuple[Contents, Reason]]) -> Removed:
    """Remove those of ``items`` for which there is still a reason.

    ``ask`` is called once nobody can want anything new: it says what is there then, and the reasons. Raises
    ``OSError`` where the place is none to write to.
    """
    removed = Removed()
    trash = store.new_folder()
    try:
        with gate(store):
            contents, reason = ask()
            there = set(contents.items)
            mover = _Mover(store, trash, reason, contents, _heirs(contents, items))
            for item in items:
                if item in there:
                    mover.handle(item, removed)
        removed.faults += _delete(trash.iterdir())
    finally:
        store.discard(trash)
    return removed


def _heirs(contents: Contents, leaving: Sequence[Item]) -> dict[Link, str]:
    """For artefacts with twins that stay, one of these."""
    gone = set(leaving)
    stay = [item for item in contents.artefacts.values() if item not in gone]
    return {(item.stage, item.equal_to): item.key for item in stay if item.equal_to}


@dataclass
class _Mover:
    """Takes single things away, each under its locks."""

    store: Store
    trash: Path
    reason: Reason
    contents: Contents
    heirs: dict[Link, str]

    def __post_init__(self) -> None:
        self._works: dict[Link, list[Path]] = {}
        for item in self.contents.items:
            if item.kind == "work":
                self._works.setdefault(item.link, []).append(item.path)

    def handle(self, item: Item, removed: Removed) -> None:
        try:
            with ExitStack() as stack:
                if not all(stack.enter_context(taken(path)) for path in self._locks(item)):
                    removed.busy.append(item)
                elif self.reason(item) and self._take(item, removed):
                    removed.items.append(item)
        except OSError as error:
            if error.errno == errno.EROFS:
                raise
            if not os.path.lexists(item.path):  # its owner has just removed it
                return
            removed.faults.append(str(problem_of(error)))

    def _locks(self, item: Item) -> list[Path]:
        """What a process holds that works on a thing, or that may take it for its own work."""
        if item.kind == "damaged":
            return []
        if item.kind == "temporary":
            return [item.path / LOCK]
        if item.kind == "work":
            return [self._work_lock(item.path)]
        works = self._works.get(item.link, []) if item.kind == "artefact" else []
        return [self.store.lock_path(*item.link), *map(self._work_lock, works)]

    def _work_lock(self, path: Path) -> Path:
        return self.store.lock_path("work", path.name.partition("-")[2])

    def _take(self, item: Item, removed: Removed) -> bool:
        if item.kind == "lock":
            if self._remains(item):
                return False
            item.path.unlink()
        elif item.kind == "work":
            item.path.unlink()
        else:
            if item.kind == "artefact":
                for path in self._works.get(item.link, []):
                    self._pass_on(path, self.heirs.get(item.link))
            self._move(item.path, removed)
        return True

    def _remains(self, item: Item) -> bool:
        """Whether something of a node is there still."""
        return any(
            os.path.lexists(place(*item.link))
            for place in (self.store.folder, self.store.scratch, self.store.failure_folder)
        )

    def _move(self, path: Path, removed: Removed) -> None:
        try:
            os.rename(path, self.trash / str(len(removed.items)))
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            (path / RECORD).unlink(missing_ok=True)  # a disk of its own is mounted here: absent from now on
            removed.faults += _delete([path])

    def _pass_on(self, path: Path, heir: str | None) -> None:
        """Have an entry of ``work`` lead to a twin, which has the same files, or remove it."""
        if heir is None:
            path.unlink(missing_ok=True)
        else:
            write_atomic(path, heir)


def _delete(paths: Iterable[Path]) -> list[str]:
    """Delete files, links and folders; says what could not be."""
    faults = []
    for path in paths:
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError as error:
            faults.append(str(problem_of(error)))
    return faults
