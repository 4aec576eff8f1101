"""What workers elsewhere print, shown here as they print it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


class Tail:
    """Whole lines of files that grow."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._read: dict[Path, int] = {}

    def follow(self, path: Path, *, old: bool = False) -> None:
        """``old``: what is there by now was shown to somebody before."""
        try:
            self._read[path] = path.stat().st_size if old else 0
        except OSError:
            self._read[path] = 0

    def look(self) -> None:
        """Show what is new."""
        for path, read in self._read.items():
            try:
                with path.open("rb") as stream:
                    stream.seek(read)
                    new = stream.read()
            except OSError:  # not there yet
                continue
            whole, newline, _ = new.rpartition(b"\n")
            self._read[path] = read + len(whole) + len(newline)
            for line in whole.splitlines():
                self._show(line.decode("utf-8", "replace"))

    def remove(self, path: Path) -> None:
        """Show the rest of a file, and remove it."""
        self.look()
        del self._read[path]
        path.unlink(missing_ok=True)
