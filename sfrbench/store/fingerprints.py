"""Content hashes of data files, remembered from one command to the next."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from sfrbench.files.atomic import read_state, sha256_of, write_atomic


class Fingerprints:
    """Content hashes of data files, remembered by size and modification time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # only a memory: one that cannot be read is made anew
        self._known = read_state(path, dict[str, tuple[int, int, str]]) or {}
        self._changed = False

    def of(self, files: list[Path], base: Path) -> str:
        """One digest over the names (below ``base``) and contents of ``files``."""
        digest = hashlib.sha256()
        for path in sorted(files):
            digest.update(f"{path.relative_to(base).as_posix()}\0{self.hash_of(path)}\n".encode())
        self.save()
        return digest.hexdigest()

    def hash_of(self, path: Path) -> str:
        """The hash of one file's content; ``save`` keeps it."""
        stat = path.stat()
        entry = self._known.get(str(path))
        if entry is None or entry[:2] != (stat.st_size, stat.st_mtime_ns):
            entry = (stat.st_size, stat.st_mtime_ns, sha256_of(path))
            self._known[str(path)] = entry
            self._changed = True
        return entry[2]

    def save(self) -> None:
        """Keep what was learnt for the next command."""
        if self._changed:
            with contextlib.suppress(OSError):  # a workspace to read only: files are hashed again next time
                write_atomic(self.path, json.dumps(self._known))
            self._changed = False
