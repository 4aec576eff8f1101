"""Weight files that users add under names of their own: a folder for each, whole or not there at all.

``FOLDER/added/NAME`` holds the file, or a link to it, and ``entry.json``, which says what it is. Light:
whoever adds a file says how it is looked into.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from sfrbench.errors import InputError, shorter
from sfrbench.files.atomic import fsync, read_state, write_atomic
from sfrbench.places.weight_files import LAYOUTS, WeightFile

FOLDER, ENTRY = "added", "entry.json"
#: What a name may be: it is that of a folder, and stands in specifications.
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
#: What the weights of such a file were trained on.
UNKNOWN = "data that are not known here"
#: What a copy that was killed leaves behind is deleted after so many seconds.
_STALE = 86_400


class Facts(BaseModel):
    """What is in a weight file."""

    fits: str  # one of ``LAYOUTS``
    tensors: int = Field(ge=1)
    values: int = Field(ge=1)
    own_head: bool  # SAM's own four mask tokens are there, so that it can be prompted
    remarks: list[str] = []


class Entry(BaseModel):
    """``entry.json``."""

    file: Literal["weights.pth", "weights.safetensors"]
    original: str  # the name that the file had
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    facts: Facts

    def weight(self, name: str) -> WeightFile:
        """The entry as a line of the catalogue."""
        facts = self.facts
        return WeightFile(
            name,
            f"{FOLDER}/{name}/{self.file}",
            self.bytes,
            self.sha256,
            f"yours, {LAYOUTS.get(facts.fits, 'unknown')}",
            f"'{self.original}', a file that was added",
            fits=facts.fits,
            holds=(facts.tensors, facts.values),
            added=True,
            trained_on=UNKNOWN,
        )


def entries(folders: Sequence[Path]) -> dict[str, tuple[Path, Entry]]:
    """Name -> (folder, what it holds); of equal names the first folder's."""
    found: dict[str, tuple[Path, Entry]] = {}
    for folder in folders:
        with contextlib.suppress(OSError):  # a folder that is not there, or is not to be read
            for place in sorted((folder / FOLDER).iterdir()):
                if place.name in found or not re.fullmatch(NAME, place.name):
                    continue
                entry = read_state(place / ENTRY, Entry)
                if entry is not None:
                    found[place.name] = place, entry
    return found


def put(name: str, source: Path, folder: Path, look: Callable[[Path], Facts], *, link: bool) -> Entry:
    """Copy ``source``, or link to it, as ``name`` into a folder of weights, in one step.

    ``look`` is shown what is to be kept. Raises what it raises, and ``InputError`` where the name is taken
    meanwhile; then nothing is left behind.
    """
    shelf = folder / FOLDER
    shelf.mkdir(parents=True, exist_ok=True)
    _sweep(shelf)
    scratch = Path(tempfile.mkdtemp(dir=shelf, prefix=".add-"))
    try:
        file: Literal["weights.pth", "weights.safetensors"] = (
            "weights.safetensors" if source.suffix == ".safetensors" else "weights.pth"
        )
        kept = scratch / file
        if link:
            kept.symlink_to(source.resolve())
        sha256 = hash_of(source) if link else _copied(source, kept)
        size = kept.stat().st_size
        entry = Entry(file=file, original=source.name, bytes=size, sha256=sha256, facts=look(kept))
        write_atomic(scratch / ENTRY, entry.model_dump_json(indent=1))
        scratch.chmod(0o755)
        fsync(scratch)
        _named(scratch, shelf / name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    fsync(shelf)
    return entry


def drop(place: Path) -> None:
    """Delete an added file; of a link only the link."""
    gone = place.with_name(f".gone-{uuid.uuid4().hex[:8]}")
    place.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def hash_of(path: Path, onto: Callable[[bytes], object] = len) -> str:
    """The sha256 of a file, which is read once; ``onto`` is given each piece."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 22):
            digest.update(piece)
            onto(piece)
    return digest.hexdigest()


def _copied(source: Path, target: Path) -> str:
    """Copy a file; returns its sha256."""
    try:
        with target.open("wb") as out:
            sha256 = hash_of(source, out.write)
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        if error.filename is None:  # of a full disk
            error.filename = str(target.parents[2])
        raise
    return sha256


def _named(scratch: Path, place: Path) -> None:
    """Give a finished folder its name."""
    try:
        scratch.rename(place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        hint = f"unless another command adds it now, it is damaged: sfrbench weights remove {place.name}"
        raise InputError(f"the name '{place.name}' is taken", where=str(place), hint=hint) from error


def _sweep(shelf: Path) -> None:
    """Delete what commands that were killed left long ago."""
    for place in [*shelf.glob(".add-*"), *shelf.glob(".gone-*")]:
        with contextlib.suppress(OSError):
            if time.time() - place.stat().st_mtime > _STALE:
                shutil.rmtree(place, ignore_errors=True)


def check_name(name: str) -> None:
    """Raises ``InputError`` for what is no name."""
    if not re.fullmatch(NAME, name):
        hint = "up to 64 letters, digits, '_', '-' and '.', the first a letter or a digit"
        raise InputError(f"'{shorter(name)}' cannot be the name of a weight file", where="NAME", hint=hint)
