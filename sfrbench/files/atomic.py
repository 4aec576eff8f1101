"""Small files: written whole or not at all, read without trust."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
import uuid
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

Shape = TypeVar("Shape")


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def canonical(value: Any) -> str:
    """One text for equal JSON values, whatever the order of their keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def nearest(path: Path) -> Path:
    """A path that is there: this one, or the nearest folder above it."""
    path = path.absolute()
    return next(part for part in (path, *path.parents) if os.path.lexists(part))


def fsync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A new file beside ``path``, with its ending, that takes its place where the block ends well.

    Folders are made. A link is followed, and what is no file (a pipe, a terminal) is written to as it is.
    With ``durable`` a pipe is replaced, too, and the content is on the disk before it has the name. An
    ``OSError`` of the block that names no place, or the temporary file, names ``path``.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{uuid.uuid4().hex[:8]}{''.join(target.suffixes[-2:])}")
    try:
        if target.exists() and not target.is_file() and not (durable and target.is_fifo()):
            yield target
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            if durable:
                fsync(temporary)
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):  # the first fault is the one to tell
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        if error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise


def write_atomic(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` so that a reader sees the old or the new text, never a part."""
    with atomic_file(path, durable=True) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def read_state(path: Path, shape: type[Shape]) -> Shape | None:
    """What a small JSON file holds; None if it is missing, unreadable, cut short or of another shape.

    ``shape`` is a type as pydantic knows it, such as ``dict[str, list[int]]``; types are not converted.
    """
    try:
        return parse_state(read_file(path), shape)
    except OSError:
        return None


def state_files(folder: Path) -> list[Path]:
    """The JSON files of a folder, but for those that are just being written and have no name yet; none where
    the folder is not there or cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".json" and path.name[0] != ".")
    except OSError:
        return []


def read_states(folder: Path, shape: type[Shape]) -> dict[Path, Shape]:
    """The state files of a folder that can be read, and what they hold."""
    found = {path: read_state(path, shape) for path in state_files(folder)}
    return {path: state for path, state in found.items() if state is not None}


def read_file(path: Path) -> bytes:
    """The content of a file. Raises ``OSError`` for a folder, and for a pipe, which would be waited for."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "this is no file", str(path))
        return stream.read()


def parse_state(text: bytes, shape: type[Shape]) -> Shape | None:
    """The value of a JSON text that has this shape; None if it has not."""
    try:
        return cast(Shape, _adapter(cast(Hashable, shape)).validate_json(text, strict=True))
    except ValueError:
        return None


@lru_cache(maxsize=64)
def _adapter(shape: Hashable) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(cast(Any, shape))


def same_mode(folder: Path, like: Path) -> None:
    """Give all files below ``folder`` the permissions of ``like``: some libraries let only their user read
    them."""
    mode = like.stat().st_mode & 0o777
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_mode & 0o777 != mode:
            with contextlib.suppress(PermissionError):  # a link to a colleague's file
                path.chmod(mode)
