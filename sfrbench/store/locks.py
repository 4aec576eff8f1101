"""Whose locks are held. A lock belongs to a process and goes with it, however that ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = "lock"  # in a folder that is being written: that of the process which writes
_JUST_MADE_S = 60.0  # a folder so young may not have its lock yet
_UNKNOWN_S = 7 * 24 * 3600.0  # one without a lock is an older version's, which may still be running


def is_held(path: Path) -> bool:
    """Whether a process holds a lock right now. Makes no file; one that cannot be tried counts as free."""
    if not path.exists():
        return False
    try:
        with taken(path) as mine:
            return not mine
    except OSError:  # whoever needs the lock says what is wrong with it
        return False


@contextmanager
def taken(path: Path) -> Iterator[bool]:
    """Hold a lock where nobody else does; says whether. Raises ``OSError`` where it cannot be tried."""
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def abandoned(around: Path) -> list[Path]:
    """The folders below ``tmp`` whose process is gone: whoever writes into one holds the ``LOCK`` in it."""
    folders = [path for path in around.iterdir() if path.is_dir()] if around.is_dir() else []
    return [folder for folder in folders if not _is_owned(folder)]


def _is_owned(folder: Path) -> bool:
    lock = folder / LOCK
    try:
        age = time.time() - folder.stat().st_mtime
        if age < _JUST_MADE_S or not lock.exists():
            return age < _UNKNOWN_S
        with taken(lock) as mine:
            return not mine
    except OSError:
        return True
