"""What a run that has not ended wants, noted from its first moment until its journal says it.

journal/<experiment>-<profile>.<eight digits>.begun   the nodes of the plan; of a killed run it stays
journal/<experiment>-<profile>.<eight digits>.lock    held by the run for as long as it lives
store/workspaces/<digest>                             of a workspace that has its store by a link
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel

from sfrbench.errors import problem_of
from sfrbench.files.atomic import write_atomic
from sfrbench.files.units import now
from sfrbench.stages.recipe import Link
from sfrbench.store.locks import is_held
from sfrbench.store.removal import gate
from sfrbench.store.store import Store

log = logging.getLogger(__name__)

ENDING, PLACES = ".begun", "workspaces"


@contextmanager
def begun(workspace: Path, store: Store, name: str, nodes: Iterable[Link]) -> Iterator[Callable[[], None]]:
    """Note what a run wants, so that ``clean`` leaves it; the function that it gives takes the note back.

    A run that ends without calling it is one that the same command goes on with. Notes of earlier runs of
    this name go: the last run counts. Where the workspace is to be read only, a warning is all.
    """
    from filelock import FileLock

    note = workspace / "journal" / f"{name}.{uuid.uuid4().hex[:8]}{ENDING}"
    lock = FileLock(note.with_suffix(".lock"))
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        with gate(store):
            _drop_earlier(note)
            _note_link(workspace, store)
            entries = [{"stage": stage, "key": key} for stage, key in nodes]
            write_atomic(note, json.dumps({"started": now(), "nodes": entries}))
    except OSError as error:
        log.warning("what this run needs cannot be noted for 'sfrbench clean': %s", problem_of(error))
    try:
        yield lambda: _unlink(note)
    finally:
        lock.release()
        _unlink(note.with_suffix(".lock"))


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):  # clean keeps too much then, and nothing is lost
        path.unlink(missing_ok=True)


def _drop_earlier(note: Path) -> None:
    """Remove the notes of earlier runs of the same name that have ended, however they did."""
    name = name_of(note)
    for other in note.parent.glob(f"*{ENDING}"):
        lock = other.with_suffix(".lock")
        if name_of(other) == name and not is_held(lock):
            _unlink(other)
            _unlink(lock)


def name_of(note: Path) -> str:
    return note.name.rsplit(".", 2)[0]


class Place(BaseModel):
    """A workspace that uses a store which lies elsewhere."""

    workspace: str


def _note_link(workspace: Path, store: Store) -> None:
    """Have a store that this workspace reaches by a link know of it."""
    here, root = workspace.resolve(), store.root.resolve()
    if root.parent == here:
        return
    entry = root / PLACES / hashlib.sha256(str(here).encode()).hexdigest()[:16]
    if not entry.is_file():
        write_atomic(entry, Place(workspace=str(here)).model_dump_json())
